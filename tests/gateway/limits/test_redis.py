"""Budgets that hold while Redis is shared, killed, and slow."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

import pytest
from redis.crc import key_slot

from kajitori.gateway.limits.engine import Engine
from kajitori.gateway.limits.limit import Limit
from kajitori.gateway.limits.redis_store import RedisStore
from kajitori.gateway.limits.request import Verdict
from kajitori.gateway.limits.store import StoreLost
from tests.gateway.limits.making import (
    ManualClock,
    RedisServer,
    counted,
    ended,
    limit,
    policy,
    request,
    running_redis,
)
from tests.waiting import eventually


def sharing(
    server: RedisServer, prefix: str, *limits: Limit, name: str = "one", timeout_seconds: float = 30.0
) -> tuple[Engine, RedisStore]:
    store = RedisStore(server.url, prefix=prefix, timeout_seconds=timeout_seconds, back_off_seconds=0.05)
    engine = Engine(store, ManualClock(time.time()), name=name)
    engine.configure(policy(*limits))
    return engine, store


async def swept(engine: Engine) -> bool:
    """Whether nothing is left to book, after one more try."""
    await engine.sweep()
    return not engine.pending


async def admit(engine: Engine, count: int, name: str = "") -> list[Verdict]:
    return list(await asyncio.gather(*(engine.admit(request(f"{name}{number}")) for number in range(count))))


async def test_two_gateways_on_one_redis_hold_a_budget_together(redis: RedisServer) -> None:
    prefix = uuid.uuid4().hex
    one, first = sharing(redis, prefix, limit(amount=100, counts="requests"))
    two, second = sharing(redis, prefix, limit(amount=100, counts="requests"), name="two")
    # The same ids at both: each gateway's reservations are its own.
    verdicts = await asyncio.gather(admit(one, 500), admit(two, 500))
    assert sum(each.allowed for each in [*verdicts[0], *verdicts[1]]) == 100
    await first.close()
    await second.close()


async def test_another_gateway_may_use_what_the_first_gave_back(redis: RedisServer) -> None:
    prefix = uuid.uuid4().hex
    one, first = sharing(redis, prefix, limit(amount=10))
    two, second = sharing(redis, prefix, limit(amount=10), name="two")
    assert (await one.admit(request("a", 2, 8))).allowed
    refused = await two.admit(request("b", 2, 8))
    assert refused.status == 429
    await one.settle([ended("a")])
    assert (await two.admit(request("b", 2, 8))).allowed
    await first.close()
    await second.close()


async def test_a_gateway_that_began_anew_settles_what_passed_before(redis: RedisServer) -> None:
    prefix = uuid.uuid4().hex
    before, first = sharing(redis, prefix, limit(amount=100))
    assert (await before.admit(request("a", 40, 50))).allowed
    await first.close()
    after, second = sharing(redis, prefix, limit(amount=100))
    await after.settle([ended("a", 3, 4)])
    assert await counted(second, [("Budget default/all", 0)]) == [7]
    await second.close()


async def test_every_name_lies_in_one_slot_of_a_cluster(redis: RedisServer) -> None:
    prefix = uuid.uuid4().hex
    engine, store = sharing(redis, prefix, limit(amount=100), limit("Budget default/{odd} name"))
    assert (await engine.admit(request("{a}"))).allowed
    names: list[bytes] = await store._ask(None, ("KEYS", f"*{prefix}*"))
    assert len(names) == 5
    assert len({key_slot(name) for name in names}) == 1
    await store.close()


async def test_every_name_is_forgotten_by_itself(redis: RedisServer) -> None:
    prefix = uuid.uuid4().hex
    engine, store = sharing(redis, prefix, limit(amount=100))
    assert (await engine.admit(request("a"))).allowed
    for name in await store._ask(None, ("KEYS", f"*{prefix}*")):
        left = await store._ask(None, ("TTL", name))
        assert left > 0 or name.endswith((b":open", b":names")), name
    await store.close()


async def test_without_a_store_each_limit_says_whether_requests_pass(redis: RedisServer) -> None:
    lost = RedisServer.__new__(RedisServer)
    lost.url = "redis://127.0.0.1:1/0"
    lenient, first = sharing(lost, "x", limit(amount=1))
    strict, second = sharing(
        lost, "x", limit(amount=1), limit("Budget default/sure", deny_without_store=True)
    )
    assert all(each.allowed for each in await admit(lenient, 5))
    refused = await admit(strict, 5)
    assert {(each.allowed, each.status, each.limit) for each in refused} == {
        (False, 503, "Budget default/sure")
    }
    assert refused[0].retry_after_seconds
    assert lenient.counts.passed_without_store == 5
    assert strict.counts.refused_without_store == 5
    await first.close()
    await second.close()


async def test_a_redis_that_is_killed_under_load_loses_no_usage_and_overruns_no_strict_budget(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with running_redis(tmp_path_factory.mktemp("killed"), "--appendfsync", "everysec") as server:
        engine, store = sharing(
            server,
            "killed",
            limit(amount=60, counts="requests", deny_without_store=True),
            limit("free", 10**9),
        )
        passed: list[str] = []
        stop = asyncio.Event()

        async def load(name: str) -> None:
            number = 0
            while not stop.is_set():
                number += 1
                id = f"{name}-{number}"
                if (await engine.admit(request(id, 1, 9))).allowed:
                    passed.append(id)
                    await engine.settle([ended(id, 1, 1)])
                await asyncio.sleep(0.005)

        tasks = [asyncio.create_task(load(str(number))) for number in range(8)]
        await eventually(lambda: len(passed) >= 20, "20 have passed", pause_seconds=0.001)
        await asyncio.to_thread(server.kill)
        await eventually(lambda: engine.counts.refused_without_store, "one is refused", pause_seconds=0.001)
        await asyncio.to_thread(server.start)
        refused = engine.counts.refused_without_store
        await eventually(
            lambda: len(passed) >= 60 or engine.counts.refused_without_store >= refused + 1000,
            "enough is asked",
        )
        stop.set()
        await asyncio.gather(*tasks)
        await eventually(lambda: swept(engine), "all is booked", 60)
        assert 20 <= len(passed) <= 60
        assert engine.pending == 0
        used = await counted(store, [("free", 0)])
        assert used[0] >= 2 * len(passed)
        await store.close()


async def test_what_ended_while_the_store_was_away_is_booked_when_it_is_back(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with running_redis(tmp_path_factory.mktemp("away")) as server:
        engine, store = sharing(server, "away", limit(amount=1000))
        assert (await engine.admit(request("before", 10, 10))).allowed
        await asyncio.to_thread(server.kill)
        assert (await engine.admit(request("during", 10, 10))).allowed
        await engine.settle([ended("before", 1, 2), ended("during", 3, 4)])
        assert engine.pending == 2
        await asyncio.to_thread(server.start)
        await eventually(lambda: swept(engine), "all is booked", 60)
        assert await counted(store, [("Budget default/all", 0)]) == [10]
        await store.close()


async def test_a_server_that_never_saw_the_scripts_learns_them(redis: RedisServer) -> None:
    prefix = uuid.uuid4().hex
    engine, store = sharing(redis, prefix, limit(amount=100))
    await store._ask(None, ("SCRIPT FLUSH",))
    assert all(each.allowed for each in await admit(engine, 10))
    await store.close()


async def test_in_a_cluster_the_node_that_has_the_slot_is_found(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folders = [tmp_path_factory.mktemp("node") for _ in range(2)]
    with (
        running_redis(folders[0], "--cluster-enabled", "yes") as one,
        running_redis(folders[1], "--cluster-enabled", "yes") as two,
    ):
        first, second = (RedisStore(each.url, timeout_seconds=30.0) for each in (one, two))
        await second._ask(None, ("CLUSTER", "ADDSLOTSRANGE", 0, 16383))
        await first._ask(None, ("CLUSTER", "MEET", "127.0.0.1", two.port, two.bus_port))
        for node in (first, second):

            async def joined(node: RedisStore = node) -> bool:
                return b"cluster_state:ok" in await node._ask(None, ("CLUSTER", "INFO"))

            await eventually(joined, "the cluster is whole", 60)
        engine = Engine(first, ManualClock(time.time()))
        engine.configure(policy(limit(amount=10, counts="requests")))
        verdicts = await admit(engine, 30)
        assert sum(each.allowed for each in verdicts) == 10
        assert await counted(second, [("Budget default/all", 0)]) == [10]
        await first.close()
        await second.close()


async def test_keys_of_others_in_a_shared_redis_are_not_looked_at(redis: RedisServer) -> None:
    prefix = uuid.uuid4().hex
    engine, store = sharing(redis, prefix, limit(amount=100), limit("Budget default/soft", strict=False))
    await store._ask(None, ("CONFIG", "RESETSTAT"))
    await store._ask(None, ("EVAL", f"for n = 1, 20000 do redis.call('SET', '{prefix}:' .. n, 1) end", 0))
    assert (await engine.admit(request("a"))).allowed
    await engine.settle([ended("a", 1, 1), ended("unasked", 2, 3)])
    assert await store.names() == ["Budget default/all", "Budget default/soft"]
    used: dict[str, object] = await store._ask(None, ("INFO", "commandstats"))
    assert {name for name in used if "scan" in name or "keys" in name} == {"cmdstat_zscan"}
    assert used["cmdstat_zscan"]["calls"] == 1  # type: ignore[index]
    await store._ask(None, ("EVAL", f"for n = 1, 20000 do redis.call('DEL', '{prefix}:' .. n) end", 0))
    await store.sweep(time.time() + 7200)
    assert await store.names() == []
    await store.close()


async def test_a_booking_that_was_not_answered_in_time_counts_once(redis: RedisServer) -> None:
    engine, store = sharing(redis, uuid.uuid4().hex, limit("Budget default/soft", 10**6, strict=False))
    book, lost = store.book, 2

    async def unanswered(*arguments: Any, **named: Any) -> None:
        nonlocal lost
        await book(*arguments, **named)
        if lost:
            lost -= 1
            raise StoreLost("it took too long")

    store.book = unanswered  # type: ignore[method-assign]
    late = time.time() + 10
    for number in range(4):
        await engine.settle([ended(f"{number}", 1, 1, began=late)], f"{number}".encode())
    assert await counted(store, [("Budget default/soft", 0)]) == [8]
    assert await engine.position() == b"3"
    await store.close()


async def test_a_gateway_that_begins_while_the_store_is_lost_waits_for_how_far_the_log_is_booked(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with running_redis(tmp_path_factory.mktemp("begins"), "--appendfsync", "always") as server:
        before, first = sharing(server, "begins", limit(amount=100))
        await before.settle([ended("a", 1, 1, began=time.time() + 60)], b"here")
        await first.close()
        await asyncio.to_thread(server.kill)
        after, second = sharing(server, "begins", limit(amount=100), timeout_seconds=1.0)
        position = asyncio.create_task(after.position())
        await eventually(lambda: after.counts.store_failures, what="it is asked in vain")
        await asyncio.to_thread(server.start)
        assert await position == b"here"
        await second.close()
