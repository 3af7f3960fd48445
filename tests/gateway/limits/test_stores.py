"""What a store means, held against both of ours: in memory with a journal, and Redis."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kajitori.gateway.limits.decision import Taken
from kajitori.gateway.limits.engine import Engine
from kajitori.gateway.limits.limit import Window
from kajitori.gateway.limits.memory_store import MemoryStore
from kajitori.gateway.limits.redis_store import RedisStore
from kajitori.gateway.limits.store import Store
from tests.gateway.limits.making import (
    ManualClock,
    RedisServer,
    counted,
    distinct,
    ended,
    failed,
    hold,
    limit,
    policy,
    request,
)

Make = Callable[[], Store]
_numbers = itertools.count()


@pytest.fixture(params=["memory", "redis"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Makes stores that are empty; each call another one."""
    if request.param == "memory":
        return lambda: MemoryStore(tmp_path / f"{next(_numbers)}.journal")
    server: RedisServer = request.getfixturevalue("redis")
    return lambda: RedisStore(server.url, prefix=uuid.uuid4().hex, timeout_seconds=30.0)


@pytest.fixture
async def store(make: Make) -> AsyncIterator[Store]:
    made = make()
    yield made
    await made.close()


def now() -> float:
    """Redis forgets by its own clock, so these tests run near the real time."""
    return float(int(time.time()))


async def take(
    store: Store, id: str, *holds: object, groups: list[int] | None = None, **fields: object
) -> bool:
    at = now()
    values = {"now": at, "expires": at + 600, **fields}
    count = len({each.group for each in holds})  # type: ignore[attr-defined]
    outcome = await store.reserve(id, "note", holds, groups or [-1] * count, [], **values)  # type: ignore[arg-type]
    return outcome.allowed


async def test_what_was_reserved_is_taken_until_it_is_settled(store: Store) -> None:
    assert await take(store, "a", hold(amount=7))
    assert not await take(store, "b", hold(amount=4))
    assert await store.settle("a", [2], now=now())
    assert await counted(store, [("c", 1)]) == [2]
    assert await take(store, "b", hold(amount=8))


async def test_all_or_nothing_is_taken(store: Store) -> None:
    assert not await take(store, "a", hold("one", 1), hold("two", 11, group=1))
    assert await counted(store, [("one", 1), ("two", 1)]) == [0, 0]
    assert not await store.settle("a", [1, 1], now=now())


async def test_a_request_is_settled_once(store: Store) -> None:
    assert await take(store, "a", hold(amount=5))
    assert await store.settle("a", [3], now=now())
    assert not await store.settle("a", [3], now=now())
    assert await counted(store, [("c", 1)]) == [3]


async def test_more_than_was_reserved_is_booked(store: Store) -> None:
    assert await take(store, "a", hold(amount=1))
    assert await store.settle("a", [25], now=now())
    assert await counted(store, [("c", 1)]) == [25]


async def test_a_reservation_is_given_back_after_its_time_and_still_settles(store: Store) -> None:
    at = now()
    assert await take(store, "a", hold(amount=9), expires=at + 5)
    await store.sweep(at + 6)
    assert await counted(store, [("c", 1)]) == [0]
    found = await store.find("a")
    assert found is not None
    assert found.holds[0].amount == 0
    assert await store.settle("a", [4], now=at + 7)
    assert await counted(store, [("c", 1)]) == [4]


async def test_a_reservation_that_is_never_settled_is_forgotten_in_the_end(store: Store) -> None:
    at = now()
    assert await take(store, "a", hold(amount=9), expires=at + 5)
    await store.sweep(at + 6)
    await store.sweep(at + 6 + 86_401)
    assert await store.find("a") is None


async def test_what_was_taken_frees_with_its_slot(store: Store) -> None:
    at = now()
    assert await take(store, "a", hold(amount=6, slot=1))
    assert await take(store, "b", hold(amount=3, slot=2))
    outcome = await store.reserve("x", "", [hold(amount=2, slot=3)], [-1], [], now=at, expires=at + 9)
    assert not outcome.allowed
    assert outcome.standings[0].used == 9
    assert outcome.standings[0].frees_slot == 1
    assert await take(store, "c", hold(amount=7, slot=3, oldest=2, keep=2))
    assert await counted(store, [("c", 2)]) == [10]


@pytest.mark.parametrize(
    "window", [Window("Fixed", 60.0), Window("Sliding", 60.0), Window("Calendar", unit="Day")]
)
async def test_what_a_clock_that_was_far_ahead_took_closes_no_window_of_now(
    make: Make, window: Window
) -> None:
    clock = ManualClock(now() + 400 * 86_400.0)
    engine = Engine(make(), clock)
    engine.configure(policy(limit(amount=10, counts="requests", window=window)))
    for number in range(11):
        assert (await engine.admit(request(f"ahead-{number}"))).allowed is (number < 10)
    clock.time = now()
    for number in range(11):
        assert (await engine.admit(request(f"now-{number}"))).allowed is (number < 10)
    await engine.close()


async def test_what_can_never_pass_is_told_so(store: Store) -> None:
    at = now()
    outcome = await store.reserve("x", "", [hold(amount=11)], [-1], [], now=at, expires=at + 9)
    assert not outcome.allowed
    assert outcome.standings[0].frees_slot is None


async def test_a_clipped_reservation_takes_what_is_left(store: Store) -> None:
    assert await take(store, "a", hold(amount=7, kind="clip"))
    assert await take(store, "b", hold(amount=7, kind="clip"))
    assert await counted(store, [("c", 1)]) == [10]
    assert not await take(store, "c", hold(amount=1, kind="clip"))


async def test_a_soft_limit_stops_nobody_before_it_is_used_up(store: Store) -> None:
    assert await take(store, "a", hold(amount=0, kind="soft"))
    assert await take(store, "b", hold(amount=0, kind="soft"))
    assert await store.settle("a", [10], now=now())
    assert not await take(store, "c", hold(amount=0, kind="soft"))


async def test_a_shadow_counts_and_never_refuses(store: Store) -> None:
    assert await take(store, "a", hold(amount=70, kind="shadow"))
    assert await counted(store, [("c", 1)]) == [70]


async def test_of_a_group_one_limit_with_room_is_enough_and_all_are_charged(store: Store) -> None:
    assert await take(store, "a", hold("full", 10), hold("other", 10, capacity=100))
    assert await take(store, "b", hold("full", 10), hold("other", 10, capacity=100))
    assert await counted(store, [("full", 1), ("other", 1)]) == [20, 20]


async def test_a_backend_without_room_is_left_out_and_the_last_one_refuses(store: Store) -> None:
    at = now()
    holds = [hold("one", 6, group=0), hold("two", 6, group=1, capacity=15)]
    first = await store.reserve("a", "", holds, [0, 1], [], now=at, expires=at + 9)
    assert (first.allowed, first.candidates) == (True, (0, 1))
    second = await store.reserve("b", "", holds, [0, 1], [], now=at, expires=at + 9)
    assert (second.allowed, second.candidates) == (True, (1,))
    assert await counted(store, [("one", 1), ("two", 1)]) == [6, 12]
    third = await store.reserve("c", "", holds, [0, 1], [], now=at, expires=at + 9)
    assert (third.allowed, third.candidates) == (False, ())
    fourth = await store.reserve("d", "", holds, [0, 1], [2], now=at, expires=at + 9)
    assert (fourth.allowed, fourth.candidates) == (True, (2,))


async def test_what_nobody_reserved_can_be_booked(store: Store) -> None:
    await store.book([Taken("c", 1, 5, int(now()) + 60), Taken("c", 2, 6, int(now()) + 60)], now=now())
    assert await counted(store, [("c", 1), ("c", 2)]) == [11, 6]


async def test_counters_are_known_by_name(store: Store) -> None:
    assert await take(store, "a", hold("Budget a/b|x*y", 1), hold("Budget [c]", 1, group=1))
    assert await store.names() == ["Budget [c]", "Budget a/b|x*y"]


async def test_what_is_reserved_is_told_from_what_is_spent(store: Store) -> None:
    assert await take(store, "spent", hold(amount=4))
    assert await store.settle("spent", [3], now=now())
    assert await take(store, "open", hold(amount=5))
    at = now()
    outcome = await store.reserve("more", "", [hold(amount=5)], [-1], [], now=at, expires=at + 9)
    assert [(each.used, each.open) for each in outcome.standings] == [(8, 5)]
    await store.sweep(at + 601)
    outcome = await store.reserve("more", "", [hold(amount=8)], [-1], [], now=at, expires=at + 9)
    assert [(each.used, each.open) for each in outcome.standings] == [(3, 0)]


async def test_large_amounts_are_counted_to_the_last_digit(store: Store) -> None:
    large = 9_007_199_254_740_001
    assert await take(store, "a", hold(amount=large, capacity=2**53))
    assert await store.settle("a", [large - 7], now=now())
    assert await counted(store, [("c", 1)]) == [large - 7]


async def test_of_a_thousand_requests_at_once_a_budget_of_a_hundred_lets_a_hundred_pass(make: Make) -> None:
    store = make()
    engine = Engine(store, ManualClock(now()))
    engine.configure(policy(limit(amount=100, counts="requests")))
    verdicts = await asyncio.gather(*(engine.admit(request(str(number))) for number in range(1000)))
    assert sum(verdict.allowed for verdict in verdicts) == 100
    await store.close()


async def test_what_was_reserved_and_not_spent_can_be_used_again(make: Make) -> None:
    store = make()
    engine = Engine(store, ManualClock(now()))
    engine.configure(policy(limit(amount=100)))
    verdicts = [await engine.admit(request(str(number), 5, 15)) for number in range(20)]
    passed = [str(number) for number, verdict in enumerate(verdicts) if verdict.allowed]
    assert len(passed) == 5
    await engine.settle([ended(passed[0], 5, 5), *(failed(id) for id in passed[1:])])
    verdicts = [await engine.admit(request(f"again {number}", 5, 15)) for number in range(20)]
    assert sum(verdict.allowed for verdict in verdicts) == 4
    await store.close()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), st.integers(0, 2), st.integers(0, 8), st.integers(0, 8)),
        st.tuples(st.just("settle"), st.integers(0, 30), st.integers(0, 8), st.integers(0, 8)),
        st.tuples(st.just("fail"), st.integers(0, 30), st.just(0), st.just(0)),
        st.tuples(st.just("wait"), st.integers(0, 25), st.just(0), st.just(0)),
    ),
    max_size=40,
)
LIMITS = [
    limit("all", amount=30, window=Window("Sliding", 60.0)),
    limit("each", amount=12, selectors=(distinct("key"),), window=Window("Fixed", 60.0)),
    limit("count", amount=7, counts="requests", window=Window("Fixed", 60.0)),
]


async def play(store: Store, steps: list[tuple[str, int, int, int]]) -> None:
    """No limit is ever exceeded by what was asked for, and what is counted is the sum of what is open and what ended."""
    clock = ManualClock(now())
    engine = Engine(store, clock)
    engine.configure(policy(*LIMITS))
    taken: list[list[float]] = []  # when, key, tokens: of each request that passed
    open_: dict[str, int] = {}
    for number, (step, first, second, third) in enumerate(steps):
        if step == "admit":
            verdict = await engine.admit(request(str(number), second, third, key=str(first)))
            if verdict.allowed:
                open_[str(number)] = len(taken)
                taken.append([clock.time, first, second + third])
        elif step == "wait":
            clock.time += first
        elif open_:
            id = list(open_)[first % len(open_)]
            entry = taken[open_.pop(id)]
            used = min(second + third, entry[2]) if step == "settle" else 0
            entry[2] = used
            await engine.settle([ended(id, int(used)) if step == "settle" else failed(id)])
        fixed = [each for each in taken if each[0] // 60 == clock.time // 60]
        assert sum(each[2] for each in taken if each[0] > clock.time - 60) <= 30
        assert len(fixed) <= 7
        for key in range(3):
            assert sum(each[2] for each in fixed if each[1] == key) <= 12
        slot = int(clock.time // 60)
        used_each = await counted(store, [(f"each|{key}", slot) for key in range(3)] + [("count", slot)])
        assert used_each == [sum(each[2] for each in fixed if each[1] == key) for key in range(3)] + [
            len(fixed)
        ]


@settings(max_examples=150, deadline=None)
@given(steps=STEPS)
def test_no_interleaving_exceeds_a_limit_in_memory(steps: list[tuple[str, int, int, int]]) -> None:
    asyncio.run(play(MemoryStore(), steps))


@settings(max_examples=25, deadline=None)
@given(steps=STEPS)
def test_no_interleaving_exceeds_a_limit_in_redis(
    redis: RedisServer, steps: list[tuple[str, int, int, int]]
) -> None:
    async def run() -> None:
        store = RedisStore(redis.url, prefix=uuid.uuid4().hex, timeout_seconds=30.0)
        try:
            await play(store, steps)
        finally:
            await store.close()

    asyncio.run(run())


async def test_what_is_only_booked_stays_as_long_as_its_window_and_goes_when_that_is_over(
    store: Store,
) -> None:
    start = int(now())
    for number in range(400):
        keep = start + number - 120
        await store.book([Taken("c", start + number, 1, start + 2 + number, keep)], now=start)
    (slots,) = await store.amounts(["c"])
    assert sum(amount for slot, amount in slots.items() if slot >= start + 300) == 100
    assert len(slots) <= 257
    await asyncio.sleep(max(0.0, start + 2.5 - time.time()))  # the first of it is over
    (slots,) = await store.amounts(["c"])
    assert sum(amount for slot, amount in slots.items() if slot >= start + 300) == 100
