"""What limits want of a request does not depend on what is remembered of those that were like it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.gateway.accounting.accountant_policy import (
    AccountantPolicy,
    KeyFacts,
    Price,
    RouteFacts,
    TargetFacts,
)
from kajitori.gateway.limits import matching
from kajitori.gateway.limits.limit import Limit, Selector, Window
from kajitori.gateway.limits.matching import Matcher
from kajitori.gateway.limits.request import Request, Verdict
from kajitori.gateway.limits.wants import Asked

FACTS = (
    "route",
    "rule",
    "model",
    "key",
    "tenant",
    "client",
    "method",
    "path",
    "backend",
    "backend_model",
    "header:team",
)
VALUES = ("default/r", "m", "n", "1", "default/k", "default/a", "POST", "/v1/x", "red", "10.0.0.1")
selectors = st.builds(
    Selector,
    fact=st.sampled_from(FACTS),
    kind=st.sampled_from(("Exact", "Distinct", "Present")),
    value=st.sampled_from(VALUES),
    invert=st.booleans(),
)
# A calendar window keeps more of the past while it is young, and says so until it is over.
windows = st.sampled_from((Window("Fixed", 60.0), Window("Fixed", 86_400.0), Window("Sliding", 60.0)))
limits = st.builds(
    Limit,
    name=st.sampled_from(("one", "two", "three", "four")),
    counts=st.sampled_from(("requests", "tokens", "usd")),
    amount=st.integers(0, 1000),
    window=windows,
    selectors=st.lists(selectors, max_size=2).map(tuple),
    strict=st.booleans(),
    deny_without_store=st.booleans(),
    shadow=st.booleans(),
    clip=st.booleans(),
    group=st.sampled_from(("", "g")),
    unpriced=st.sampled_from(("Allow", "Deny")),
)
requests = st.builds(
    Request,
    id=st.just("r"),
    route=st.sampled_from(("default/r", "default/s")),
    rule=st.sampled_from(("", "0", "1")),
    model=st.sampled_from(("", "m", "n", "unpriced")),
    key=st.sampled_from(("", "k", "strange")),
    tenant=st.sampled_from(("", "default/t")),
    client=st.sampled_from(("", "10.0.0.1")),
    method=st.sampled_from(("GET", "POST")),
    path=st.sampled_from(("/v1/x", "/v1/y")),
    headers=st.sampled_from(({}, {"team": "red"}, {"team": "blue"})),
    input_tokens=st.integers(0, 50),
    output_tokens=st.none() | st.integers(0, 50),
)
times = st.floats(0, 3 * 86_400)


def policy(of: list[Limit]) -> AccountantPolicy:
    targets = tuple(
        TargetFacts(rule, ref, f"default/{'ab'[ref]}", ("", "m")[ref]) for rule in (0, 1) for ref in (0, 1)
    )
    numbers = tuple(range(len(of)))
    return AccountantPolicy(
        routes={
            "default/r": RouteFacts((), numbers, targets),
            "default/s": RouteFacts((), numbers[:1], targets[:1]),
        },
        limits=tuple(of),
        keys={"k": KeyFacts("default/k", "default/t", budgets=("b",))},
        budgets={"b": 0} if of else {},
        prices=(Price("m", input_usd=1.0, output_usd=2.0), Price("n", input_usd=3.0)),
    )


def by_name(asked: Asked | Verdict | None) -> object:
    """Limits are equal if they are one and the same, so they are told by their names."""
    if not isinstance(asked, Asked):
        return asked
    return [each.limit for each in asked.limits], {
        name: getattr(asked, name) for name in Asked.__struct_fields__ if name != "limits"
    }


@given(
    st.lists(limits, max_size=4, unique_by=lambda limit: limit.name),
    st.lists(st.tuples(requests, times), min_size=1, max_size=12),
)
def test_a_request_is_asked_about_as_if_it_were_the_first(
    of: list[Limit], asked: list[tuple[Request, float]]
) -> None:
    remembering = Matcher(policy(of))
    for request, now in asked:
        assert by_name(remembering.ask(request, now)) == by_name(Matcher(policy(of)).ask(request, now))


def test_who_shared_a_count_for_want_of_room_has_one_of_his_own_as_soon_as_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(matching, "_MOST_DISTINCT", 1)
    by_model = Limit("one", "requests", 5, Window("Calendar", unit="Day"), (Selector("model", "Distinct"),))
    matcher = Matcher(policy([by_model]))

    def counter(model: str) -> str:
        asked = matcher.ask(Request(id="r", route="default/r", model=model), 0.0)
        assert isinstance(asked, Asked)
        return asked.holds[0].counter

    assert [counter("m"), counter("n"), counter("n")] == ["one|m", "one|others", "one|others"]
    monkeypatch.setattr(matching, "_MOST_DISTINCT", 2)
    assert [counter("n"), counter("m")] == ["one|n", "one|m"]
