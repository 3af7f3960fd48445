"""What the engine decides, in virtual time and in memory."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kajitori.base.clock import rfc3339
from kajitori.gateway.accounting.accountant_policy import (
    AccountantPolicy,
    CostRule,
    KeyFacts,
    Price,
    RouteFacts,
    TargetFacts,
)
from kajitori.gateway.accounting.costs import Usage
from kajitori.gateway.limits.engine import Engine
from kajitori.gateway.limits.limit import Selector, Window
from kajitori.gateway.limits.memory_store import MemoryStore
from kajitori.gateway.limits.request import Settlement
from kajitori.gateway.limits.store import StoreLost
from tests.gateway.limits.making import (
    ROUTE,
    ManualClock,
    counted,
    distinct,
    ended,
    engine,
    failed,
    limit,
    policy,
    request,
)

TWO = (TargetFacts(0, 0, "default/a", "large"), TargetFacts(0, 1, "default/b"))


def on_backend(name: str, backend: str, amount: float, **fields: object):
    return limit(name, amount=amount, selectors=(Selector("backend", "Exact", backend),), clip=True, **fields)


async def test_a_request_that_no_limit_holds_for_passes_without_a_word() -> None:
    held, _ = engine(limit(selectors=(Selector("model", "Exact", "other"),)))
    verdict = await held.admit(request("a", 1000, 1000))
    assert (verdict.allowed, verdict.headers) == (True, ())


async def test_the_message_names_the_limit_and_when_it_frees() -> None:
    held, clock = engine(limit("Budget team/hourly", amount=10, counts="requests"))
    for number in range(10):
        assert (await held.admit(request(str(number)))).allowed
    await held.settle([ended(str(number)) for number in range(10)])
    clock.time += 60
    verdict = await held.admit(request("late"))
    end = 3600 * (clock.time // 3600 + 1)
    assert verdict.status == 429
    assert verdict.limit == "Budget team/hourly"
    assert verdict.retry_after_seconds == end - clock.time
    wait = int(end - clock.time)
    assert verdict.message == (
        f"Budget team/hourly: 0 of 10 requests are left; it frees in {wait} s, at {rfc3339(end)}"
    )
    clock.time = end
    assert (await held.admit(request("later"))).allowed


async def test_a_request_that_can_never_pass_is_told_not_to_come_back() -> None:
    held, _ = engine(limit(amount=100))
    verdict = await held.admit(request("a", 10, 500))
    assert verdict.status == 429
    assert verdict.retry_after_seconds is None
    assert ("x-should-retry", "false") in verdict.headers
    assert "510 tokens" in verdict.message and "ask for fewer output tokens" in verdict.message


async def test_a_limit_of_nothing_forbids() -> None:
    held, _ = engine(limit(amount=0))
    verdict = await held.admit(request("a"))
    assert (verdict.status, verdict.message) == (429, "Budget default/all allows nothing at all")
    assert verdict.headers[-1] == ("x-should-retry", "false")


async def test_without_a_bound_of_its_own_a_request_reserves_that_of_the_limit() -> None:
    held, _ = engine(limit(amount=100, output_tokens=60))
    assert (await held.admit(request("a", 10, None))).allowed
    assert not (await held.admit(request("b", 10, None))).allowed
    await held.settle([ended("a", 10, 3)])
    assert (await held.admit(request("b", 10, None))).allowed


async def test_more_than_was_reserved_is_booked_when_it_is_known() -> None:
    held, _ = engine(limit(amount=100, output_tokens=10))
    assert (await held.admit(request("a", 10, 5000))).allowed
    await held.settle([ended("a", 10, 500)])
    verdict = await held.admit(request("b"))
    assert not verdict.allowed


async def test_an_answer_that_was_cut_books_what_was_seen_of_it() -> None:
    held, _ = engine(limit(amount=100))
    assert (await held.admit(request("a", 30, 70))).allowed
    cut = Settlement(
        id="a", route=ROUTE, model="gpt", answered=True, backend="default/a", output_tokens_seen=25
    )
    await held.settle([cut])
    assert not (await held.admit(request("b", 1, 45))).allowed
    assert (await held.admit(request("c", 1, 44))).allowed


async def test_a_stream_that_another_backend_went_on_with_books_both_legs() -> None:
    store = MemoryStore()
    held, _ = engine(
        limit("tokens", amount=1000),
        limit("requests", amount=10, counts="requests"),
        targets=TWO,
        store=store,
    )
    assert (await held.admit(request("id", 10, 100))).allowed
    await held.settle([ended("id", 10, 20, backend_model="large")])
    await held.settle([ended("id~2", 30, 40, backend="default/b")])
    assert await counted(store, [("tokens", 0), ("requests", 0)]) == [100, 1]
    await held.settle([ended("unknown~2", 30, 40)])  # whose first leg came while nobody could be asked
    assert await counted(store, [("tokens", 0), ("requests", 0)]) == [170, 1]


async def test_of_a_hedged_request_the_answer_is_booked_though_its_leg_ends_before_the_one_that_lost() -> (
    None
):
    store = MemoryStore()
    held, _ = engine(
        limit("tokens", amount=1000, selectors=(distinct("header:x-user"),)),
        limit("requests", amount=10, counts="requests", selectors=(distinct("header:x-user"),)),
        targets=TWO,
        store=store,
    )
    for number in range(1, 3):
        asked = request("id", 10, 100, headers={"x-user": "ann"})
        assert (await held.admit(asked)).allowed
        await held.settle([ended("id~2", 30, 40, backend="default/b")])
        await held.settle([Settlement(id="id", route=ROUTE, model="gpt", backend="default/a")])
        verdict = await held.admit(request(f"next{number}", 1, 1000 - 70 * number, headers={"x-user": "ann"}))
        assert not verdict.allowed
        verdict = await held.admit(request(f"last{number}", 1, 999 - 70 * number, headers={"x-user": "ann"}))
        assert verdict.allowed
        await held.settle([Settlement(id=f"last{number}", route=ROUTE, model="gpt")])


def overtaken(id: str) -> Settlement:
    return Settlement(id=id, route=ROUTE, model="gpt", backend="default/a", overtaken=True)


async def test_what_a_hedged_request_reserved_is_kept_until_the_leg_that_answers_has_ended() -> None:
    held, _ = engine(limit(amount=200))
    assert (await held.admit(request("id", 10, 100))).allowed
    await held.settle([overtaken("id")])
    assert not (await held.admit(request("next", 1, 149))).allowed
    await held.settle([ended("id~2", 10, 40)])
    assert not (await held.admit(request("next", 1, 150))).allowed
    assert (await held.admit(request("next", 1, 149))).allowed


@pytest.mark.parametrize("whole_first", [True, False])
async def test_it_is_given_back_when_the_client_has_left_all_legs(whole_first: bool) -> None:
    held, _ = engine(limit(amount=200))
    assert (await held.admit(request("id", 10, 100))).allowed
    if whole_first:
        held.note_over("id")
    await held.settle([overtaken("id"), overtaken("id~2")])
    if not whole_first:
        held.note_over("id")
        await held.sweep()
    assert (await held.admit(request("next", 1, 199))).allowed


async def test_a_leg_that_answers_ends_what_a_process_before_reserved_for_its_request() -> None:
    store = MemoryStore()
    held, clock = engine(limit(amount=200), store=store)
    assert (await held.admit(request("id", 10, 100))).allowed
    await held.settle([overtaken("id")])
    anew = Engine(store, clock)
    anew.configure(policy(limit(amount=200)))
    await anew.settle([ended("id~2", 10, 40, began=clock.now())])
    assert not (await anew.admit(request("next", 1, 150))).allowed
    assert (await anew.admit(request("next", 1, 149))).allowed


@pytest.mark.parametrize("tokens", [True, False])
async def test_a_leg_that_was_overtaken_ends_nothing_that_a_process_before_reserved(tokens: bool) -> None:
    store = MemoryStore()
    limits = limit(amount=200, counts="tokens" if tokens else "requests")
    held, clock = engine(limits, store=store)
    assert (await held.admit(request("id", 10, 100))).allowed
    anew = Engine(store, clock)
    anew.configure(policy(limits))
    await anew.settle([overtaken("id~2")])
    assert await counted(store, [("Budget default/all", 0)]) == [110 if tokens else 1]
    await anew.settle([ended("id", 10, 40, began=clock.now())])
    assert await counted(store, [("Budget default/all", 0)]) == [50 if tokens else 1]


async def test_each_distinct_value_has_the_whole_amount() -> None:
    held, _ = engine(limit(amount=1, counts="requests", selectors=(distinct("header:x-user"),)))
    for user in ("ann", "ben"):
        assert (await held.admit(request(f"{user}1", headers={"x-user": user}))).allowed
        assert not (await held.admit(request(f"{user}2", headers={"x-user": user}))).allowed
    assert (await held.admit(request("nobody"))).allowed


async def test_odd_values_do_not_run_into_one_another() -> None:
    both = (distinct("header:a"), distinct("header:b"))
    held, _ = engine(limit(amount=1, counts="requests", selectors=both))
    for number, (first, second) in enumerate(
        [("x|y", "z"), ("x", "y|z"), ("é" * 500, "1"), ("é" * 500, "2")]
    ):
        assert (await held.admit(request(str(number), headers={"a": first, "b": second}))).allowed


async def test_memory_for_distinct_values_is_bounded_and_the_limit_still_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kajitori.gateway.limits.matching._MOST_DISTINCT", 10)
    store = MemoryStore()
    held, clock = engine(limit(amount=1, counts="requests", selectors=(distinct("header:x"),)), store=store)
    passed = [
        (await held.admit(request(str(number), headers={"x": str(number)}))).allowed for number in range(50)
    ]
    assert passed == [True] * 11 + [False] * 39
    clock.time += 7200
    await held.sweep()
    assert (await held.admit(request("fresh", headers={"x": "fresh"}))).allowed
    assert len(store._counters) == 1


async def test_money_is_reserved_for_the_dearest_backend_and_booked_for_the_one_that_answered() -> None:
    prices = (
        Price("large", input_usd=10.0, output_usd=10.0),
        Price("gpt", input_usd=1.0, output_usd=1.0),
    )
    held, _ = engine(limit(amount=0.01, counts="usd"), targets=TWO, prices=prices)
    assert (await held.admit(request("a", 500, 500))).allowed
    refused = await held.admit(request("b", 500, 500))
    assert "$0.00 of $0.01 are left; requests under way have reserved $0.01" in refused.message
    await held.settle([ended("a", 500, 500, backend="default/b", backend_model="gpt")])
    assert (await held.admit(request("c", 500, 400))).allowed


async def test_a_model_without_a_price_passes_where_the_limit_says_so() -> None:
    held, _ = engine(limit(amount=1, counts="usd", unpriced="Allow"))
    assert (await held.admit(request("a", model="nobody-knows"))).allowed


async def test_a_model_without_a_price_is_not_free_where_nothing_is_reserved_either() -> None:
    held, _ = engine(limit(amount=1, counts="usd", strict=False))
    verdict = await held.admit(request("a", model="nobody-knows"))
    assert (verdict.status, verdict.limit) == (403, "Budget default/all")


async def test_requests_of_a_plain_route_take_neither_tokens_nor_money() -> None:
    limits = (
        limit("usd", amount=1, counts="usd"),
        limit("tokens", amount=1),
        limit("r", amount=1, counts="requests"),
    )
    held, _ = engine(*limits, targets=())
    assert (await held.admit(request("a", 0, None, model=""))).allowed
    assert (await held.admit(request("b", 0, None, model=""))).limit == "r"


async def test_a_request_that_names_no_model_reserves_no_output_and_no_money() -> None:
    held, _ = engine(limit("usd", amount=1, counts="usd"), limit("tokens", amount=100))
    assert (await held.admit(request("a", 50, None, model=""))).allowed
    assert (await held.admit(request("b", 51, None, model=""))).limit == "tokens"


async def test_costs_of_a_route_and_expressions_of_a_limit_are_counted() -> None:
    costs = (CostRule("weighted", "CEL", "input_tokens + output_tokens * 4u"),)
    held, _ = engine(
        limit("by key", amount=100, counts="cost:weighted"),
        limit("by expression", amount=1000, counts="cel:total_tokens * 10u"),
        costs=costs,
    )
    assert (await held.admit(request("a", 10, 20))).allowed
    await held.settle([ended("a", 10, 20)])
    assert (await held.admit(request("b", 2, 2))).allowed
    refused = await held.admit(request("c", 2, 2))
    assert refused.limit == "by key"
    assert "90" not in refused.message and "0 of 100 (cost weighted) are left" in refused.message


async def test_a_soft_limit_lets_what_is_under_way_overshoot_and_then_refuses() -> None:
    held, _ = engine(limit(amount=100, strict=False))
    for number in range(5):
        assert (await held.admit(request(str(number), 50, 5000))).allowed
    await held.settle([ended(str(number), 50, 50) for number in range(5)])
    assert not (await held.admit(request("late", 1, 1))).allowed


async def test_a_shadow_limit_counts_and_refuses_nobody() -> None:
    held, _ = engine(limit("shadow", amount=1, counts="requests", shadow=True))
    assert all([(await held.admit(request(str(number)))).allowed for number in range(3)])
    assert held.counts.shadowed == {"shadow": 2}


async def test_backends_that_are_exhausted_are_named_and_the_last_one_refuses() -> None:
    held, _ = engine(on_backend("a", "default/a", 50), on_backend("b", "default/b", 50), targets=TWO)
    first = await held.admit(request("1", 25, 25))
    assert (first.allowed, first.exhausted) == (True, {})
    await held.settle([ended("1", 25, 25, backend="default/a", backend_model="large")])
    second = await held.admit(request("2", 25, 25))
    assert (second.allowed, list(second.exhausted)) == (True, ["default/a"])
    assert 0 < second.exhausted["default/a"] <= 3600
    await held.settle([ended("2", 25, 25, backend="default/b", backend_model="gpt")])
    third = await held.admit(request("3", 25, 25))
    assert (third.allowed, third.status) == (False, 429)
    assert "no backend has any left" in third.message


async def test_what_another_backend_answered_is_not_charged_to_the_first() -> None:
    store = MemoryStore()
    held, _ = engine(on_backend("a", "default/a", 50), targets=TWO, store=store)
    assert (await held.admit(request("1", 25, 25))).allowed
    await held.settle([ended("1", 25, 25, backend="default/b", backend_model="gpt")])
    assert await counted(store, [("a", 0)]) == [0]


async def test_of_a_group_any_bucket_with_something_left_is_enough() -> None:
    held, _ = engine(
        on_backend("default", "default/a", 10, group="g"),
        on_backend("gold", "default/a", 100, group="g"),
        targets=TWO[:1],
    )
    assert (await held.admit(request("1", 5, 5))).allowed
    await held.settle([ended("1", 5, 5, backend_model="large")])
    assert (await held.admit(request("2", 5, 5))).allowed


async def test_a_shadow_bucket_does_not_stand_in_for_one_that_is_meant() -> None:
    held, _ = engine(
        on_backend("default", "default/a", 10, group="g"),
        on_backend("trial", "default/a", 100, group="g", shadow=True),
        targets=TWO[:1],
    )
    assert (await held.admit(request("1", 5, 5))).allowed
    await held.settle([ended("1", 5, 5, backend_model="large")])
    assert not (await held.admit(request("2", 5, 5))).allowed


async def test_a_key_is_charged_to_the_budgets_that_it_names_on_every_route() -> None:
    held, _ = engine()
    held.configure(
        AccountantPolicy(
            routes={ROUTE: RouteFacts(targets=TWO)},
            limits=(limit(amount=1, counts="requests"),),
            keys={
                "abc123": KeyFacts("default/ann", "default/red", ("default/all",)),
                "def456": KeyFacts("default/ben"),
            },
            budgets={"default/all": 0},
        )
    )
    assert (await held.admit(request("1", key="abc123"))).allowed
    assert not (await held.admit(request("2", key="abc123"))).allowed
    assert (await held.admit(request("3", key="def456"))).allowed


async def test_limits_select_by_the_name_of_a_key_and_by_its_tenant() -> None:
    held, _ = engine()
    facts = RouteFacts(limits=(0,), targets=TWO)
    selectors = (Selector("tenant", "Exact", "default/red"), distinct("key"))
    held.configure(
        AccountantPolicy(
            routes={ROUTE: facts},
            limits=(limit(amount=1, counts="requests", selectors=selectors),),
            keys={"abc123": KeyFacts("default/ann", "default/red")},
        )
    )
    assert (await held.admit(request("1", key="abc123"))).allowed
    assert not (await held.admit(request("2", key="abc123"))).allowed
    assert (await held.admit(request("3", key="unknown"))).allowed


async def test_a_request_waits_for_another_that_has_reserved_all_that_is_left_of_a_limit_that_clips() -> None:
    held, _ = engine(limit(amount=100, clip=True))
    assert (await held.admit(request("1", 10, 4000))).allowed
    second = asyncio.create_task(held.admit(request("2", 10, 4000)))
    await asyncio.sleep(0)
    await held.settle([ended("1", 10, 10)])
    assert (await second).allowed


async def test_a_request_id_that_comes_twice_counts_twice_and_settles_twice() -> None:
    store = MemoryStore()
    held, _ = engine(limit(amount=100), store=store)
    for _ in range(2):
        assert (await held.admit(request("same", 20, 20))).allowed
    assert await counted(store, [("Budget default/all", 0)]) == [80]
    await held.settle([ended("same", 1, 1)])
    await held.settle([ended("same", 2, 2)])
    assert await counted(store, [("Budget default/all", 0)]) == [6]
    await held.settle([ended("same", 3, 3)])  # came while nobody could be asked
    assert await counted(store, [("Budget default/all", 0)]) == [12]


async def test_a_change_of_limits_keeps_what_was_counted() -> None:
    held, _ = engine(limit(amount=100))
    assert (await held.admit(request("1", 40, 40))).allowed
    held.configure(policy(limit(amount=90)))
    assert not (await held.admit(request("2", 10, 10))).allowed
    await held.settle([ended("1", 40, 40)])
    assert not (await held.admit(request("3", 10, 10))).allowed


async def test_openai_and_anthropic_clients_are_told_in_their_own_headers() -> None:
    limits = (limit("requests", amount=10, counts="requests"), limit("tokens", amount=1000))
    held, clock = engine(*limits)
    clock.time = 3600.0 * 500_000 + 3600 - 90.5
    told = dict((await held.admit(request("1", 50, 50))).headers)
    assert told == {
        "x-ratelimit-limit": "10, 10;w=3600",
        "x-ratelimit-remaining": "9",
        "x-ratelimit-reset": "91",
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "9",
        "x-ratelimit-reset-requests": "1m31s",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "900",
        "x-ratelimit-reset-tokens": "1m31s",
    }
    told = dict((await held.admit(request("2", 50, 50, dialect="anthropic"))).headers)
    assert told["anthropic-ratelimit-requests-remaining"] == "8"
    assert told["anthropic-ratelimit-tokens-limit"] == "1000"
    assert told["anthropic-ratelimit-tokens-reset"] == rfc3339(3600.0 * 500_001)


async def test_a_limit_that_is_not_to_be_told_is_not_told() -> None:
    held, _ = engine(limit(headers=False))
    assert (await held.admit(request("1"))).headers == ()


class _LostStore(MemoryStore):
    lost = False

    async def reserve(self, *arguments, **named):  # type: ignore[no-untyped-def]
        if self.lost:
            raise StoreLost("gone")
        return await super().reserve(*arguments, **named)

    async def settle(self, *arguments, **named):  # type: ignore[no-untyped-def]
        if self.lost:
            raise StoreLost("gone")
        return await super().settle(*arguments, **named)


async def test_what_passed_without_the_store_is_booked_once_it_is_back() -> None:
    store = _LostStore()
    held, _ = engine(limit(amount=100), store=store)
    store.lost = True
    assert (await held.admit(request("1", 10, 10))).allowed
    await held.settle([ended("1", 3, 4)])
    assert held.pending == 1
    store.lost = False
    await held.sweep()
    assert held.pending == 0
    assert await counted(store, [("Budget default/all", 0)]) == [7]


async def test_a_journal_brings_back_counts_and_reservations_in_flight(tmp_path: Path) -> None:
    path = tmp_path / "limits.journal"
    clock = ManualClock()
    before, _ = engine(limit(amount=100), store=MemoryStore(path), clock=clock)
    assert (await before.admit(request("done", 10, 10))).allowed
    await before.settle([ended("done", 5, 5)])
    assert (await before.admit(request("open", 40, 40))).allowed
    # Nothing is closed: the process is gone.
    store = MemoryStore(path)
    after, _ = engine(limit(amount=100), store=store, clock=clock)
    assert not (await after.admit(request("more", 10, 10))).allowed
    await after.settle([ended("open", 1, 1)])
    assert await counted(store, [("Budget default/all", 0)]) == [12]


async def test_a_reservation_that_nobody_settles_after_a_crash_runs_out(tmp_path: Path) -> None:
    path = tmp_path / "limits.journal"
    clock = ManualClock(3600.0 * 500_000)
    day = Window("Calendar", unit="Day")
    before, _ = engine(limit(amount=100, window=day), store=MemoryStore(path), clock=clock)
    assert (await before.admit(request("lost", 50, 50))).allowed
    after, _ = engine(limit(amount=100, window=day), store=MemoryStore(path), clock=clock)
    assert not (await after.admit(request("1", 1, 1))).allowed
    clock.time += 3601
    assert (await after.admit(request("2", 1, 1))).allowed
    # It has ended after all: what it took is booked, though it was given back.
    await after.settle([ended("lost", 50, 48)])
    assert not (await after.admit(request("3", 1, 0))).allowed


async def test_a_limit_that_makes_no_sense_is_left_out_and_the_others_hold() -> None:
    odd = limit("odd", selectors=(Selector("colour", "Exact", "red"),))
    zone = limit("zone", window=Window("Calendar", unit="Day", zone="Nowhere/Land"))
    held, _ = engine(odd, zone, limit(amount=1, counts="requests"))
    assert (await held.admit(request("1"))).allowed
    assert not (await held.admit(request("2"))).allowed


async def test_usage_is_all_that_counts_when_a_request_ends_well() -> None:
    held, _ = engine(limit(amount=100))
    assert (await held.admit(request("1", 90, 10))).allowed
    usage = Usage(input_tokens=10, output_tokens=5, total_tokens=15)
    await held.settle([ended("1", usage=usage)])
    assert (await held.admit(request("2", 80, 5))).allowed
    await held.settle([failed("2")])
    assert (await held.admit(request("3", 80, 5))).allowed
    assert isinstance(held, Engine)


async def test_ends_are_awaited_only_where_they_may_let_somebody_pass() -> None:
    held, clock = engine(limit(amount=1000, clip=True))
    await held.settle([])
    assert (await held.admit(request("a", 100, 100))).allowed
    assert not held.awaits  # more than half is left
    assert (await held.admit(request("b", 100, 300))).allowed
    assert held.awaits
    await held.settle([ended("b", 100, 20)])
    assert held.awaits  # the end of the other one that had come by then
    await held.settle([ended("a", 100, 20)])
    assert not held.awaits
    assert (await held.admit(request("c", 100, 2000))).allowed
    await held.settle([])
    waiting = asyncio.create_task(held.admit(request("d", 100, 100)))
    await asyncio.sleep(0)
    assert held.awaits  # somebody waits, whatever was settled since
    await held.settle([ended("c", 10, 10)])
    assert (await waiting).allowed
    await held.settle([ended("d", 10, 10)])
    clock.time += 1
    assert (await held.admit(request("e", 10, 10))).allowed
    assert not held.awaits  # it came when there was enough
