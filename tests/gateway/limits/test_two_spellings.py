"""The rules of a decision stand in Python and in Lua: whatever is asked of both stores, they answer the same."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from kajitori.gateway.limits.decision import Hold, Taken
from kajitori.gateway.limits.engine import Engine
from kajitori.gateway.limits.memory_store import MemoryStore
from kajitori.gateway.limits.redis_store import RedisStore
from kajitori.gateway.limits.request import Request
from kajitori.gateway.limits.store import Store
from tests.gateway.limits.making import (
    ManualClock,
    RedisServer,
    counted,
    distinct,
    limit,
    policy,
)

FORGET = int(time.time()) + 10**6
AMOUNTS = st.integers(0, 12)


@st.composite
def questions(draw: st.DrawFn) -> tuple[list[Hold], list[int], list[int]]:
    groups = draw(st.lists(st.integers(-1, 2), min_size=1, max_size=4))
    slot = draw(st.integers(3, 6))
    oldest = slot - 2  # a counter has one window, and a request one time
    holds: list[Hold] = []
    for group in range(len(groups)):
        for _ in range(draw(st.integers(1, 2))):
            kind: Any = draw(st.sampled_from(["strict", "clip", "soft", "shadow"]))
            holds.append(
                Hold(
                    draw(st.sampled_from(["a", "b|x", "c"])),
                    slot,
                    oldest,
                    slot + 1,
                    oldest - 1,
                    draw(AMOUNTS),
                    draw(st.sampled_from([0, 5, 20, 50])),
                    kind,
                    group,
                    FORGET,
                )
            )
    open_candidates = draw(st.lists(st.integers(0, 3), unique=True, max_size=2)) if max(groups) >= 0 else []
    return holds, groups, open_candidates


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), questions()),
        st.tuples(st.just("settle"), st.tuples(st.integers(0, 20), st.lists(AMOUNTS, max_size=8))),
        st.tuples(st.just("book"), st.tuples(st.sampled_from(["a", "b|x"]), st.integers(3, 6), AMOUNTS)),
        st.tuples(st.just("wait"), st.integers(0, 40)),
    ),
    max_size=25,
)


async def answers(store: Store, steps: list[tuple[str, Any]], now: float) -> list[Any]:
    found: list[Any] = []
    for number, (step, value) in enumerate(steps):
        if step == "reserve":
            holds, groups, open_candidates = value
            found.append(
                await store.reserve(
                    str(number), "note", holds, groups, open_candidates, now=now, expires=now + 60
                )
            )
        elif step == "settle":
            which, amounts = value
            found.append(await store.settle(str(which), amounts, now=now))
        elif step == "book":
            counter, slot, amount = value
            await store.book([Taken(counter, slot, amount, FORGET)], now=now)
        else:
            now += value
            await store.sweep(now)
        found.append(await counted(store, [(name, 4) for name in ("a", "b|x", "c")]))
        found.append(msgspec.to_builtins([await store.find(str(each)) for each in range(number + 1)]))
    return found


@settings(max_examples=50, deadline=None)
@given(steps=STEPS)
def test_python_and_lua_decide_alike(redis: RedisServer, steps: list[tuple[str, Any]]) -> None:
    async def run() -> None:
        store = RedisStore(redis.url, prefix=uuid.uuid4().hex, timeout_seconds=30.0)
        try:
            now = float(int(time.time()))
            expected = await answers(MemoryStore(), steps, now)
            assert await answers(store, steps, now) == expected
        finally:
            await store.close()

    asyncio.run(run())


TEXT = st.text(max_size=40)


@settings(max_examples=200, deadline=None)
@given(
    st.builds(
        Request,
        id=TEXT,
        route=st.sampled_from(["default/chat", "x", ""]),
        rule=st.sampled_from(["", "0", "9"]),
        model=TEXT,
        key=TEXT,
        tenant=TEXT,
        client=TEXT,
        method=TEXT,
        path=TEXT,
        headers=st.dictionaries(st.sampled_from(["a", "b"]), TEXT),
        input_tokens=st.integers(0, 10**18),
        output_tokens=st.none() | st.integers(0, 10**18),
        dialect=st.sampled_from(["openai", "anthropic", "cohere"]),
    )
)
def test_no_request_whatever_breaks_the_engine(request: Request) -> None:
    engine = Engine(MemoryStore(), ManualClock())
    limits = (
        limit("one", selectors=(distinct("header:a"), distinct("model"), distinct("client"))),
        limit("two", counts="usd", unpriced="Allow"),
        limit("three", counts="cel:total_tokens * 3u", clip=True, selectors=(distinct("backend"),)),
    )
    engine.configure(policy(*limits))
    verdict = asyncio.run(engine.admit(request))
    assert verdict.status in (200, 429)
    assert all(name.isascii() and value.isascii() for name, value in verdict.headers)
