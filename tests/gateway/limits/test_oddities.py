"""What must not cost counts, nor keep a limit closed: clocks put back, policies that change meanwhile, huge amounts, defects."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from kajitori.gateway.accountant import Accountant
from kajitori.gateway.accounting.accountant_policy import AccountantPolicy, CostRule
from kajitori.gateway.accounting.costs import Usage
from kajitori.gateway.accounting.places import Places
from kajitori.gateway.accounting.records import RequestRecord
from kajitori.gateway.limits import known_counts, soft_limits
from kajitori.gateway.limits.amounts import MOST
from kajitori.gateway.limits.decision import Taken
from kajitori.gateway.limits.limit import Limit, Window
from kajitori.gateway.limits.memory_store import MemoryStore
from kajitori.gateway.limits.redis_store import RedisStore
from kajitori.gateway.limits.request import Settlement
from kajitori.gateway.limits.store import StoreLost
from kajitori.gateway.limits.wants import Tag
from tests.gateway.limits.making import (
    ROUTE,
    RedisServer,
    counted,
    distinct,
    ended,
    engine,
    limit,
    policy,
    request,
)
from tests.gateway.limits.test_used_up_file import Pushed, soft
from tests.waiting import eventually


class SlowStore(MemoryStore):
    """Says how counts stood when it was asked, some time later."""

    remote = True

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()

    async def amounts(self, counters: Sequence[str]) -> list[dict[int, int]]:
        found = await super().amounts(counters)
        self.asked.set()
        await self.may_answer.wait()
        return found


async def test_what_a_clock_used_up_that_was_ahead_is_free_when_it_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soft_limits, "_DOUBT_SECONDS", 0.01)
    pushed = Pushed(tmp_path, soft(window=Window("Fixed", 60.0)))
    pushed.clock.time += 7200
    await pushed.end(ended("a"), ended("b"))
    assert len(pushed.lines("C")) == 1
    pushed.clock.time -= 7200
    running = asyncio.create_task(pushed.engine.soft_limits.run())
    await eventually(lambda: not pushed.lines("C"), what=lambda: str(pushed.lines("C")))
    running.cancel()


async def test_a_file_that_somebody_takes_away_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soft_limits, "_DOUBT_SECONDS", 0.01)
    pushed = Pushed(tmp_path, soft())
    await pushed.end(ended("a"), ended("b"))
    pushed.path.unlink()
    running = asyncio.create_task(pushed.engine.soft_limits.run())
    await eventually(lambda: pushed.lines("C"), what="the file")
    running.cancel()


async def test_a_count_that_was_near_its_limit_is_not_waited_for_when_its_window_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soft_limits, "_DOUBT_SECONDS", 0.01)
    monkeypatch.setattr(known_counts, "_READING_SECONDS", 0.01)
    pushed = Pushed(tmp_path, soft(amount=5))
    await pushed.end(*map(ended, "abcd"))
    assert pushed.engine.awaits
    pushed.clock.time += 3600
    running = asyncio.create_task(pushed.engine.soft_limits.run())
    await eventually(lambda: not pushed.engine.awaits, what=lambda: "something is awaited still")
    running.cancel()


@pytest.mark.parametrize(("amount", "awaited"), [(100, True), (1000, False)])
async def test_a_limit_that_will_be_used_up_by_the_next_reading_is_awaited(
    tmp_path: Path, amount: int, awaited: bool
) -> None:
    pushed = Pushed(tmp_path, soft(amount=amount))
    await pushed.end(*(ended(str(number)) for number in range(8)))  # in a tenth of a second, after a silence
    assert pushed.engine.awaits is awaited


async def test_a_limit_that_is_raised_while_the_store_is_asked_opens(tmp_path: Path) -> None:
    pushed = Pushed(tmp_path, soft())
    pushed.store = slow = SlowStore(tmp_path / "slow")
    pushed.begin()
    ending = asyncio.create_task(pushed.end(ended("a"), ended("b")))
    await slow.asked.wait()
    pushed.configure(policy(soft(amount=1000)))
    slow.may_answer.set()
    await ending
    await pushed.end()
    assert pushed.lines("C") == []


async def test_who_came_unasked_is_counted_where_it_should_have_been_asked_about(tmp_path: Path) -> None:
    pushed = Pushed(tmp_path, soft())
    began = pushed.clock.time
    strict = limit("Budget default/strict", amount=1000)
    pushed.configure(policy(soft(), strict))
    pushed.clock.time += 300
    await pushed.end(ended("a", 7, began=began), ended("b", 7, began=pushed.clock.time))
    assert await counted(pushed.store, [("Budget default/all", 0), (strict.name, 0)]) == [2, 14]


async def test_of_a_limit_with_very_many_counts_that_are_used_up_some_are_kept_and_all_others_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_counts, "_MOST_USED_UP", 3)
    pushed = Pushed(tmp_path, soft(amount=1, selectors=(distinct("client"),)))
    await pushed.end(*(ended(str(number), client=f"10.0.0.{number}") for number in range(10)))
    assert len(pushed.engine.soft_limits.used_up) == 3
    assert [line[1] for line in pushed.lines("C")] == ["10.0.0.0", "10.0.0.1", "10.0.0.2"]
    assert [line[1] for line in pushed.lines("L")] == ["1"]
    assert not (await pushed.engine.admit(request("a", client="10.0.0.9"))).allowed
    assert (await pushed.engine.admit(request("b", client="10.0.0.10"))).allowed
    pushed.clock.time += 3600
    await pushed.end(ended("c", client="10.0.1.1"))
    assert [line[1] for line in pushed.lines("L")] == ["0"]


def huge() -> Limit:
    return soft(name="Budget default/huge", counts="cost:huge", amount=1e18)


@pytest.mark.parametrize("expression", ["18446744073709551615u", "input_tokens * 17000000000000u"])
async def test_what_is_too_much_for_a_store_counts_as_much_as_there_can_be_and_takes_no_other_with_it(
    tmp_path: Path, expression: str
) -> None:
    made = policy(huge(), soft(amount=9), costs=[CostRule("huge", "CEL", expression)])
    pushed = Pushed(tmp_path, made=made)
    await pushed.end(ended("a", 10**6), ended("b", 10**6))
    await pushed.end(ended("c", 10**6))
    store = MemoryStore.read(tmp_path / "journal")
    assert await counted(store, [("Budget default/huge", 0), ("Budget default/all", 0)]) == [2 * MOST, 3]


async def test_a_count_at_its_end_in_redis_keeps_no_other_back_and_none_is_counted_again(
    redis: RedisServer,
) -> None:
    store = RedisStore(redis.url, prefix="end", timeout_seconds=30.0)
    forget = int(time.time()) + 3600
    for _ in range(3):
        full, other = Taken("full", 1, 2**62, forget), Taken("other", 1, 1, forget)
        await store.book([Taken("first", 1, 1, forget), full, other], now=time.time())
    assert await counted(store, [("first", 0), ("full", 0), ("other", 0)]) == [3, 2**62, 3]
    await store.close()


@pytest.mark.parametrize("remote", [False, True])
async def test_a_request_that_meets_a_defect_when_it_is_settled_takes_no_other_with_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, remote: bool
) -> None:
    store = MemoryStore()
    held, _ = engine(limit(amount=1000), store=store)
    monkeypatch.setattr(store, "remote", remote)
    for name in ("bad", "b", "c"):
        assert (await held.admit(request(name, 10, 10))).allowed
    real = held._settling._real

    def defect(tag: Tag, settlement: Settlement, *more: object) -> int:
        if settlement.id == "bad":
            raise RuntimeError("a defect")
        return real(tag, settlement, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(held._settling, "_real", defect)
    await held.settle([ended("bad", 1, 1), ended("b", 1, 1), ended("c", 1, 1)])
    assert await counted(store, [("Budget default/all", 0)]) == [20 + 2 + 2]
    assert "request bad cannot be settled" in caplog.text


async def test_a_request_that_meets_a_defect_when_it_is_counted_takes_no_other_with_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pushed = Pushed(tmp_path, soft())
    bad = msgspec.structs.replace(ended("bad"), began="yesterday")  # type: ignore[arg-type]
    for each in (bad, ended("a"), ended("b")):
        pushed.engine.soft_limits.charge(each)
    await pushed.engine.settle([])
    assert len(pushed.lines("C")) == 1
    assert "request bad cannot be counted" in caplog.text


async def test_what_passed_under_a_limit_is_settled_when_its_route_is_gone_meanwhile(tmp_path: Path) -> None:
    store = MemoryStore()
    held, _ = engine(limit(amount=1000), store=store)
    sockets = [tmp_path / name for name in ("log", "admission", "envoy", "rescue", "inner")]
    accountant = Accountant(Places(tmp_path, *sockets), lambda: pytest.fail("nobody connects"), held)
    assert (await held.admit(request("a", 100, 100))).allowed
    accountant.configure(AccountantPolicy(limits=(limit(amount=1000),)))
    record = RequestRecord(
        "a",
        1_800_000_000.0,
        ROUTE,
        0,
        "POST",
        "/",
        200,
        "answered",
        backend="default/a",
        usage=Usage(10, 5, 15),
    )
    await accountant._settle([record], b"")
    assert await counted(store, [("Budget default/all", 0)]) == [15]
    accountant._store.close()


async def test_a_limit_that_was_tight_is_awaited_until_all_is_settled_that_had_come_by_then() -> None:
    held, _ = engine(limit(amount=100))
    for name in "abc":
        assert (await held.admit(request(name, 10, 20))).allowed
    await held.settle([ended("a", 1, 1)])
    assert not (await held.admit(request("d", 20, 25))).allowed
    await held.settle([ended("c", 1, 1)])
    assert held.awaits
    await held.settle([ended("b", 1, 1)])
    assert not held.awaits


class _LateStore(MemoryStore):
    """Shared, and slow: it does what it is asked, and nobody hears of it."""

    remote = True
    late = True

    async def reserve(self, *arguments, **named):  # type: ignore[no-untyped-def]
        raise StoreLost("gone")

    async def book(self, *arguments, **named):  # type: ignore[no-untyped-def]
        await super().book(*arguments, **named)
        if self.late:
            raise StoreLost("late")


async def test_what_passed_without_a_store_that_is_slow_counts_once_however_often_it_is_told() -> None:
    store = _LateStore()
    held, _ = engine(limit("a"), limit("b", strict=False), store=store)
    assert (await held.admit(request("1"))).allowed
    await held.settle([ended("1", 3, 4)], b"here")
    for _ in range(3):
        await held.sweep()
    store.late = False
    await held.sweep()
    assert await counted(store, [("a", 0), ("b", 0)]) == [7, 7]
    assert await held.position() == b"here"
