"""Limits that are changed, replicas whose clocks differ, stores that are lost: no overrun, and nothing reserved for ever."""

from __future__ import annotations

import asyncio
import random
import signal
import time
import uuid
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kajitori.gateway.limits.engine import Engine
from kajitori.gateway.limits.limit import Limit, Window
from kajitori.gateway.limits.matching import CompiledLimit
from kajitori.gateway.limits.memory_store import MemoryStore
from kajitori.gateway.limits.redis_store import RedisStore
from kajitori.gateway.limits.store import Store
from tests.gateway.limits.making import (
    ManualClock,
    RedisServer,
    ended,
    failed,
    limit,
    policy,
    request,
    running_redis,
)
from tests.waiting import eventually

WINDOWS = [
    Window("Fixed", 60.0),
    Window("Fixed", 3600.0),
    Window("Sliding", 60.0),
    Window("Sliding", 3600.0),
    Window("Calendar", unit="Day"),
]
NAME = "Budget default/all"
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(1, 12)),
        st.tuples(st.just("ask"), st.integers(1, 3)),
        st.tuples(st.just("end"), st.integers(0, 12)),
        st.tuples(st.just("wait"), st.sampled_from([1, 29, 30, 31, 59, 60, 61, 1800, 3600])),
        st.tuples(st.just("amount"), st.sampled_from([0, 10, 20, 100])),
        st.tuples(st.just("window"), st.integers(0, len(WINDOWS) - 1)),
        st.tuples(st.just("delete"), st.just(0)),
        st.tuples(st.just("other gateway"), st.just(0)),
    ),
    max_size=40,
)


async def used(store: Store, held: Limit, now: float) -> int:
    (slots,) = await store.amounts([NAME])
    assert all(amount >= 0 for amount in slots.values()), slots
    return CompiledLimit(held).window.at(now).used(slots)


async def play(store: Store, steps: list[tuple[str, int]], start: float, skew: float) -> None:
    """Two gateways whose clocks are apart share a store; their limit is changed while requests are under way."""
    clocks = [ManualClock(start), ManualClock(start + skew)]
    engines = [Engine(store, clock, name=f"{at}") for at, clock in enumerate(clocks)]
    held, exists, at = limit(NAME, 20), True, 0
    open_: list[tuple[int, str, int]] = []

    def configure() -> None:
        for engine in engines:
            engine.configure(policy(*([held] if exists else [])))

    configure()
    for number, (step, value) in enumerate(steps):
        if step == "ask":
            before = await used(store, held, clocks[at].time)
            verdict = await engines[at].admit(request(f"{number}", 0, value))
            room = not exists or before + value <= held.amount
            assert verdict.allowed is room
            if verdict.allowed:
                open_.append((at, f"{number}", value))
        elif step == "end" and open_:
            owner, id, reserved = open_.pop(0)
            await engines[owner].settle([ended(id, 0, min(value, reserved)) if value else failed(id)])
        elif step == "wait":
            for clock in clocks:
                clock.time += value
        elif step == "amount":
            held, exists = limit(NAME, value, window=held.window), True
        elif step == "window":
            held, exists = limit(NAME, held.amount, window=WINDOWS[value]), True
        elif step == "delete":
            exists = False
        elif step == "other gateway":
            at = 1 - at
        configure()
    for owner, id, _ in open_:
        await engines[owner].settle([failed(id)])
    assert [await store.find(f"{owner}/{number}") for owner in (0, 1) for number in range(len(steps))] == [
        None
    ] * (2 * len(steps))
    (slots,) = await store.amounts([NAME])
    assert all(amount >= 0 for amount in slots.values()), slots


# Of an hour, while a request of it is under way, to a minute and back.
TO_AND_FRO = [
    ("window", 1),
    ("ask", 10),
    ("window", 0),
    ("ask", 1),
    ("end", 3),
    ("window", 1),
    ("ask", 12),
    ("ask", 8),
]


@example(TO_AND_FRO, 0.0)
@settings(max_examples=150, deadline=None)
@given(STEPS, st.sampled_from([0.0, 30.0, -30.0]))
def test_whatever_is_changed_under_load_no_strict_budget_is_exceeded_and_nothing_stays_reserved(
    steps: list[tuple[str, int]], skew: float
) -> None:
    store = MemoryStore()
    asyncio.run(play(store, steps, 1_800_000_000.0, skew))
    assert not any(counter.open for counter in store._counters.values())
    assert not store._open


@example(steps=TO_AND_FRO, skew=0.0)
@settings(max_examples=25, deadline=None)
@given(steps=STEPS, skew=st.sampled_from([0.0, 30.0, -30.0]))
def test_the_same_holds_in_redis(redis: RedisServer, steps: list[tuple[str, int]], skew: float) -> None:
    async def run() -> None:
        store = RedisStore(redis.url, prefix=uuid.uuid4().hex, timeout_seconds=30.0)
        try:
            # Redis forgets by its own clock.
            await play(store, steps, (time.time() // 86_400 + 2) * 86_400, skew)
            fields: dict[bytes, bytes] = await store._ask(None, ("HGETALL", store._counter(NAME)))
            assert all(int(value) == 0 for name, value in fields.items() if name.startswith(b"o"))
            assert await store._ask(None, ("ZCARD", store._open_key)) == 0
        finally:
            await store.close()

    asyncio.run(run())


async def test_two_replicas_whose_redis_is_lost_stopped_and_back_hold_a_strict_budget_together(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with running_redis(tmp_path_factory.mktemp("attacked"), "--appendfsync", "always") as server:
        sure = limit("Budget default/sure", 400, "requests", deny_without_store=True)
        soft = limit("Budget default/soft", 10**6, "requests", strict=False)
        stores = [
            RedisStore(server.url, prefix="a", timeout_seconds=0.3, back_off_seconds=0.05) for _ in "12"
        ]
        engines = [
            Engine(store, ManualClock(time.time() + 30 * at), name=f"{at}") for at, store in enumerate(stores)
        ]
        for engine in engines:
            engine.configure(policy(sure, soft))
        passed: list[str] = []
        stop, choose = asyncio.Event(), random.Random(7)

        async def load(engine: Engine, name: str) -> None:
            number = 0
            while not stop.is_set():
                number += 1
                id = f"{name}-{number}"
                if (await engine.admit(request(id))).allowed:
                    passed.append(id)
                    end: Any = ended(id, 1, 1) if choose.random() < 0.7 else failed(id)
                    await engine.settle([end], id.encode())
                await asyncio.sleep(0.002)

        tasks = [asyncio.create_task(load(engines[at % 2], f"{at}")) for at in range(8)]

        async def more(count: int) -> None:
            wanted = len(passed) + count
            await eventually(lambda: len(passed) >= wanted, what=lambda: f"{len(passed)} of {wanted}")

        await more(40)
        assert server._process is not None
        for _ in range(2):
            server._process.send_signal(signal.SIGSTOP)
            refused = engines[0].counts.refused_without_store
            await eventually(lambda before=refused: engines[0].counts.refused_without_store > before)
            server._process.send_signal(signal.SIGCONT)
            await more(20)
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(0)
        await asyncio.to_thread(server.start)
        await more(40)
        stop.set()
        await asyncio.gather(*tasks)

        async def is_over() -> bool:
            for engine in engines:
                await engine.sweep()
            return not any(engine.pending for engine in engines)

        await eventually(is_over, what="all is settled")
        # Failed requests count as well; the soft limit counts them all, of which none was asked about.
        fields: dict[bytes, bytes] = await stores[0]._ask(None, ("HGETALL", stores[0]._counter(sure.name)))
        counted = {name: int(value) for name, value in fields.items()}
        assert sum(value for name, value in counted.items() if name.startswith(b"o")) == 0, counted
        assert (
            len(passed) <= sum(value for name, value in counted.items() if not name.startswith(b"o")) <= 400
        )
        assert await stores[0]._ask(None, ("ZCARD", stores[0]._open_key)) == 0
        for engine in engines:
            await engine.close()
