"""What a request costs in US dollars: prices of PriceLists first, then a dated catalogue of list prices.

The catalogue (`prices.json`) says where its figures come from, and of which day. A model without a price costs
nothing that is known, which is told apart from 0. Money is counted in whole nano-dollars: a token of a cheap model is
75 of them, so sums are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import msgspec

from kajitori.gateway.accounting.accountant_policy import Price
from kajitori.gateway.accounting.costs import Usage

NANO_USD = 1_000_000_000
_MOST_REMEMBERED = 10_000
_REGIONS = ("us", "eu", "apac", "global", "jp", "au")


class Catalogue(msgspec.Struct, frozen=True):
    """Prices as the package brings them. date: of the figures, as YYYY-MM-DD."""

    source: str
    licence: str
    date: str
    prices: tuple[Price, ...]


@cache
def catalogue() -> Catalogue:
    """The catalogue of the package."""
    data = (files("kajitori.gateway.accounting") / "prices.json").read_bytes()
    return msgspec.json.decode(data, type=Catalogue)


class PriceBook:
    """Finds prices. own: come first, in their order."""

    def __init__(self, own: Sequence[Price] = ()) -> None:
        self._own = tuple(own)
        self._found: dict[tuple[str, str], Price | None] = {}

    def find(self, backend: str, model: str) -> Price | None:
        """The price of a model at a backend (namespace/name); None if none is known."""
        place = backend, model
        if place not in self._found:
            if len(self._found) >= _MOST_REMEMBERED:  # clients choose the names of models
                self._found.clear()
            self._found[place] = self._look_up(backend, model)
        return self._found[place]

    def nano_usd(self, backend: str, model: str, usage: Usage) -> int | None:
        """What a request costs; None if no price is known."""
        price = self.find(backend, model)
        return None if price is None else nano_usd(price, usage)

    def _look_up(self, backend: str, model: str) -> Price | None:
        for price in self._own:
            if _fits(price.backend or "*", backend) and _fits(price.model, model):
                return price
        known = _by_model()
        for name in _spellings(model):
            if name in known:
                return known[name]
        return None


def nano_usd(price: Price, usage: Usage) -> int:
    """By one price. Cached and cache-creation tokens are part of the input, reasoning tokens of the output."""
    cached, creation = usage.cached_input_tokens, usage.cache_creation_input_tokens
    reasoning = usage.reasoning_tokens
    if not (cached or creation or reasoning):
        total = max(usage.input_tokens, 0) * price.input_usd + max(usage.output_tokens, 0) * price.output_usd
        return round(total * 1_000) + round(price.request_usd * NANO_USD)
    total = max(usage.input_tokens - cached - creation, 0) * price.input_usd
    total += cached * _or(price.cached_input_usd, price.input_usd)
    total += creation * _or(price.cache_creation_input_usd, price.input_usd)
    total += max(usage.output_tokens - reasoning, 0) * price.output_usd
    total += reasoning * _or(price.reasoning_usd, price.output_usd)
    # Dollars for a million tokens are thousands of nano-dollars for one.
    return round(total * 1_000) + round(price.request_usd * NANO_USD)


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _fits(pattern: str, model: str) -> bool:
    return model.startswith(pattern[:-1]) if pattern.endswith("*") else model == pattern


@cache
def _by_model() -> dict[str, Price]:
    return {price.model: price for price in catalogue().prices}


def _spellings(model: str) -> list[str]:
    """The names under which a model may stand: its own, without a region of Bedrock, without a date or version."""
    name = model.lower()
    found = [model, name]
    head, dot, rest = name.partition(".")
    if dot and head in _REGIONS:
        name = rest
        found.append(name)
    bare = name.rpartition("/")[2]
    found.append(bare)
    parts = bare.split("-")
    while len(parts) > 1 and (parts[-1].isdigit() or parts[-1] in ("latest", "preview")):
        parts.pop()
        found.append("-".join(parts))
    return found
