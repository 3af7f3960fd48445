"""Prices of models, and costs that know them."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.gateway.accounting.accountant_policy import (
    AccountantPolicy,
    CostRule,
    Price,
    RouteFacts,
    TargetFacts,
)
from kajitori.gateway.accounting.charges import Charger
from kajitori.gateway.accounting.costs import Usage
from kajitori.gateway.accounting.prices import PriceBook, catalogue, nano_usd

USAGE = Usage(input_tokens=1000, output_tokens=100, total_tokens=1100)


def test_the_catalogue_says_of_which_day_and_whose_it_is() -> None:
    found = catalogue()
    assert datetime.date.fromisoformat(found.date).year >= 2026
    assert "litellm" in found.source
    assert "MIT" in found.licence
    assert len(found.prices) > 100
    assert all(price.input_usd >= 0 and price.output_usd >= 0 for price in found.prices)


@pytest.mark.parametrize(
    ("model", "known_as"),
    [
        ("gpt-4o-mini", "gpt-4o-mini"),
        ("openai/gpt-4o-mini", "gpt-4o-mini"),
        ("GPT-4o-mini", "gpt-4o-mini"),
        ("gpt-4o-mini-2099-01-01", "gpt-4o-mini"),
        ("us.anthropic.claude-opus-4-5-20251101-v1:0", "anthropic.claude-opus-4-5-20251101-v1:0"),
    ],
)
def test_a_model_is_found_under_the_names_that_people_write(model: str, known_as: str) -> None:
    price = PriceBook().find("default/a", model)
    assert price is not None
    assert price.model == known_as


def test_a_model_that_nobody_knows_has_no_price() -> None:
    assert PriceBook().nano_usd("default/a", "my-own-model", USAGE) is None


def test_own_prices_come_first_and_hold_where_they_are_meant_to() -> None:
    book = PriceBook(
        [
            Price("gpt-4o*", "default/a", input_usd=1),
            Price("*", "team/*", input_usd=7),
            Price("local", input_usd=2),
        ]
    )
    assert book.find("default/a", "gpt-4o-mini").input_usd == 1  # type: ignore[union-attr]
    assert book.find("default/b", "gpt-4o-mini").input_usd == 0.15  # type: ignore[union-attr]
    assert book.find("team/x", "whatever").input_usd == 7  # type: ignore[union-attr]
    assert book.find("default/b", "local").input_usd == 2  # type: ignore[union-attr]


def test_cached_and_reasoning_tokens_have_prices_of_their_own_and_else_those_of_the_rest() -> None:
    usage = Usage(
        1000, 500, 1500, cached_input_tokens=400, cache_creation_input_tokens=100, reasoning_tokens=200
    )
    full = Price("m", "", 10.0, 20.0, 1.0, 12.5, 40.0, request_usd=0.5)
    assert (
        nano_usd(full, usage)
        == (500 * 10_000 + 400 * 1_000 + 100 * 12_500 + 300 * 20_000 + 200 * 40_000) + 500_000_000
    )
    plain = Price("m", "", 10.0, 20.0)
    assert nano_usd(plain, usage) == 1000 * 10_000 + 500 * 20_000


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), max_size=20))
def test_money_adds_up(usages: list[tuple[int, int]]) -> None:
    price = Price("m", "", 0.075, 0.3)
    parts = sum(nano_usd(price, Usage(input_, output)) for input_, output in usages)
    assert parts == nano_usd(price, Usage(sum(one for one, _ in usages), sum(two for _, two in usages)))


def charger(*costs: CostRule) -> Charger:
    facts = RouteFacts(
        costs=costs, targets=(TargetFacts(0, 0, "default/foo"), TargetFacts(0, 1, "default/bar", "m"))
    )
    return Charger(AccountantPolicy(routes={"default/r": facts}, prices=(Price("m", "", 1.0, 2.0),)))


@pytest.mark.parametrize(
    ("cel", "expected"),
    [
        ("backend == 'bar.default' ? 7u : 0u", 7),
        ("backend == 'default/bar/route/r/rule/0/ref/1' ? 7u : 0u", 7),
        ("route_name == 'default/r' ? 7u : 0u", 7),
        ("input_tokens * 0.0005", 1),  # 0.5 is rounded up
        ("uint(double(input_tokens) * 0.1) + output_tokens", 200),
        ("cost_usd * 1000000.0", 1200),
        ("uint(cost_usd * 1000000.0)", 1200),
    ],
)
def test_costs_know_documented_names_mixed_numbers_and_the_price(cel: str, expected: int) -> None:
    charge = charger(CostRule("c", "CEL", cel)).charge("default/r", 0, "default/bar", "m", USAGE)
    assert charge.costs == {"c": expected}
    assert charge.cost_usd == 0.0012


def test_every_type_of_cost_is_computed() -> None:
    usage = Usage(6, 5, 4, 3, 2, 1)
    kinds = (
        "InputToken",
        "OutputToken",
        "TotalToken",
        "CachedInputToken",
        "CacheCreationInputToken",
        "ReasoningToken",
    )
    costs = charger(*(CostRule(kind, kind) for kind in kinds)).charge("default/r", 0, "default/x", "?", usage)
    assert list(costs.costs.values()) == [6, 5, 4, 3, 2, 1]
    assert costs.cost_usd is None


def test_a_cost_that_fails_for_one_request_is_left_out_and_the_others_stay() -> None:
    found = charger(CostRule("bad", "CEL", "input_tokens / output_tokens"), CostRule("good", "InputToken"))
    assert found.charge("default/r", 0, "default/bar", "m", Usage(input_tokens=5)).costs == {"good": 5}
