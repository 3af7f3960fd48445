"""Budgets and PriceLists to limits and prices. Pure."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

from kajitori.base.duration import parse_duration_seconds
from kajitori.base.errors import UserError
from kajitori.gateway.accounting.accountant_policy import Price
from kajitori.gateway.limits.limit import COST_PREFIX, REQUESTS, TOKENS, USD, Limit, Selector, Window
from kajitori.gateway.limits.matching import CompiledLimit
from kajitori.gateway.limits.selectors import compile_selector
from kajitori.gateway.limits.windows import WindowClock

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from kajitori.api.kajitori_gateway.budget import (
        Budget,
        BudgetAmount,
        BudgetSelector,
        BudgetSpec,
        BudgetWindow,
    )
    from kajitori.api.kajitori_gateway.price_list import PriceEntry, PriceList

_KINDS: dict[str, Literal["Exact", "Regex", "Prefix", "Cidr", "Present"]] = {
    "Exact": "Exact",
    "RegularExpression": "Regex",
    "Prefix": "Prefix",
    "Cidr": "Cidr",
    "Present": "Present",
}


def budget_limit(budget: Budget, problems: list[str]) -> Limit | None:
    """The limit of a budget; None where it makes no sense, see problems."""
    spec = budget.spec
    counts, amount = _amount(spec.amount)
    selectors = [_selector(selector) for selector in spec.selectors]
    selectors += [Selector(fact, "Distinct") for fact in dict.fromkeys(map(_fact, spec.count_apart))]
    limit = Limit(
        name=f"Budget {budget.metadata.namespace}/{budget.metadata.name}",
        counts=counts,
        amount=amount,
        window=_window(spec.window),
        selectors=tuple(selectors),
        strict=spec.strict,
        deny_without_store=spec.on_store_loss == "Deny",
        shadow=spec.shadow,
        output_tokens=spec.max_reserved_output_tokens,
        unpriced=spec.unpriced,
    )
    wrong = _wrong_fields(spec, limit)
    problems += wrong
    return None if wrong else limit


def _wrong_fields(spec: BudgetSpec, limit: Limit) -> list[str]:
    """What makes no sense, each with its field."""
    window = "calendar.timeZone" if spec.window.calendar is not None else "sliding"
    checks: list[tuple[str, Callable[[], object]]] = [
        (f"spec.window.{window}", lambda: WindowClock(limit.window))
    ]
    for number, each in enumerate(spec.selectors):
        checks.append((f"spec.selectors[{number}]", partial(compile_selector, _selector(each))))
    for number, fact in enumerate(spec.count_apart):
        distinct = Selector(_fact(fact), "Distinct")
        checks.append((f"spec.countApart[{number}]", partial(compile_selector, distinct)))
    found = [told for field, check in checks if (told := _complaint(field, check))]
    if found:
        return found
    told = _complaint("spec", lambda: CompiledLimit(limit))
    return [told] if told else []


def _complaint(field: str, check: Callable[[], object]) -> str:
    try:
        check()
    except UserError as error:
        return f"{field}: {error}"
    return ""


def budget_routes(budget: Budget, known: Collection[str]) -> tuple[set[str], list[str]]:
    """The routes (namespace/name) that a budget names, and sentences about those that are not there."""
    namespace = budget.metadata.namespace or ""
    found: set[str] = set()
    missing: list[str] = []
    for number, name in enumerate(budget.spec.routes):
        if name == "*":
            found |= {route for route in known if route.startswith(f"{namespace}/")}
        elif f"{namespace}/{name}" in known:
            found.add(f"{namespace}/{name}")
        else:
            missing.append(f"spec.routes[{number}]: no route {namespace}/{name} serves")
    return found, missing


def _amount(amount: BudgetAmount) -> tuple[str, float]:
    if amount.usd is not None:
        return USD, float(amount.usd)
    if amount.tokens is not None:
        return TOKENS, float(amount.tokens)
    if amount.cost is not None:
        return f"{COST_PREFIX}{amount.cost.metadata_key}", float(amount.cost.units)
    return REQUESTS, float(amount.requests or 0)


def _window(window: BudgetWindow) -> Window:
    if window.calendar is not None:
        return Window("Calendar", unit=window.calendar.unit, zone=window.calendar.time_zone)
    return Window("Sliding", parse_duration_seconds(window.sliding or "0"))


def _selector(selector: BudgetSelector) -> Selector:
    return Selector(_fact(selector.fact), _KINDS[selector.type], selector.value, selector.invert)


def _fact(name: str) -> str:
    return name.lower() if name.startswith("header:") else name


def list_prices(prices: PriceList) -> list[Price]:
    """The prices of a list; they hold for the backends of its namespace."""
    namespace = prices.metadata.namespace or ""
    return [_price(entry, namespace) for entry in prices.spec.prices]


def _price(entry: PriceEntry, namespace: str) -> Price:
    return Price(
        model=entry.model,
        backend=f"{namespace}/{entry.backend or '*'}",
        input_usd=float(entry.input),
        output_usd=float(entry.output),
        cached_input_usd=_optional(entry.cached_input),
        cache_creation_input_usd=_optional(entry.cache_creation_input),
        reasoning_usd=_optional(entry.reasoning),
        request_usd=float(entry.request),
    )


def _optional(text: str | None) -> float | None:
    return None if text is None else float(text)
