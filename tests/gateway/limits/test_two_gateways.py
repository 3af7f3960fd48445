"""Two gateways, each with its Envoy and its accountant, that share one Redis."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from aiohttp import web

from kajitori.gateway.limits.store import StoreLost
from tests.gateway.limits.limited_workbench import LimitedWorkbench, running_limited_workbench
from tests.gateway.limits.making import RedisServer, counted, running_redis
from tests.gateway.limits.test_complaints import budget, question
from tests.gateway.limits.test_soft_limits import soft, used_up
from tests.gateway.workbench import Provider, ai_route, backend, gateway, running_provider
from tests.waiting import eventually

Two = tuple[LimitedWorkbench, LimitedWorkbench, Provider]
pytestmark = pytest.mark.asyncio(loop_scope="module")
# What a question reserves: 9 tokens of input as estimated, 7 of output as it asks for.
RESERVED = 16


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(redis: RedisServer) -> AsyncIterator[Two]:
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(running_limited_workbench(redis.url, "first"))
        second = await stack.enter_async_context(running_limited_workbench(redis.url, "second"))
        yield first, second, await stack.enter_async_context(running_provider())


async def test_of_a_thousand_requests_at_once_a_budget_of_a_hundred_lets_a_hundred_pass(two: Two) -> None:
    *benches, provider = two
    for bench in benches:
        await bench.apply(
            gateway(bench.port),
            *backend("a", provider.port),
            ai_route("thousand", "m", {"name": "a"}),
            budget("thousand", {"tokens": 100 * RESERVED}),
        )
    leave, arrived = asyncio.Event(), 0

    async def answer(request: web.Request, body: bytes) -> web.StreamResponse:
        nonlocal arrived
        arrived += 1
        await leave.wait()
        usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
        return web.json_response({"object": "chat.completion", "model": "m", "choices": [], "usage": usage})

    answered: list[int] = []

    async def ask(number: int) -> None:
        answered.append((await benches[number % 2].post(question())).status)

    async def at_once(count: int) -> None:
        answered.clear()
        await asyncio.gather(*(ask(number) for number in range(count)))

    provider.answer = answer
    try:
        asking = asyncio.create_task(at_once(1000))
        await eventually(
            lambda: len(answered) + arrived == 1000,
            what=lambda: f"{len(answered)} answered, {arrived} arrived",
        )
        # On a machine that has too much to do, a verdict may come too late, and the budget says to refuse then.
        assert arrived <= 100
        assert set(answered) <= {429, 503}
        assert arrived == 100 or 503 in answered
    finally:
        leave.set()
    await asking
    provider.answer = None
    assert answered.count(200) == arrived
    store, taken = benches[0].engine._store, 4 * arrived

    async def all_is_settled() -> bool:
        with contextlib.suppress(StoreLost):  # it took too long
            return await counted(store, [("Budget default/thousand", 0)]) == [taken]
        return False

    await eventually(all_is_settled, what=lambda: "what was reserved and not spent is there again")
    more = (100 * RESERVED - taken) // RESERVED
    provider.usage = {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16}
    await at_once(more + 50)
    assert answered.count(200) <= more
    assert answered.count(200) == more or 503 in answered


async def test_what_one_gateway_has_used_up_the_other_refuses(two: Two) -> None:
    first, second, provider = two
    for bench in (first, second):
        await bench.apply(
            gateway(bench.port),
            *backend("a", provider.port),
            ai_route("shared", "m", {"name": "a"}),
            soft("shared", {"requests": 5}),
        )
    # Each learns of a count when it books to it; the last that pass are all on one side.
    assert [(await first.post(question())).status for _ in range(3)] == [200] * 3
    store = first.engine._store

    async def are_booked(count: int) -> bool:
        return await counted(store, [("Budget default/shared", 0)]) == [count]

    await eventually(lambda: are_booked(3), what=lambda: "three are booked")
    assert (await second.post(question())).status == 200
    await eventually(
        lambda: second.engine.awaits, what=lambda: f"the second one knows: {vars(second.engine.soft_limits)}"
    )
    assert (await first.post(question())).status == 200
    for bench in (first, second):
        await used_up(bench, "Budget default/shared")
        assert (await bench.post(question())).status == 429


async def test_what_is_used_up_stays_so_when_the_store_is_lost(two: Two, redis: RedisServer) -> None:
    first, _, provider = two
    await first.apply(
        gateway(first.port),
        *backend("a", provider.port),
        ai_route("lost", "m", {"name": "a"}),
        soft("lost", {"requests": 1}),
        soft("open", {"requests": 3}),
    )
    assert (await first.post(question())).status == 200
    await used_up(first, "Budget default/lost")
    redis.kill()
    assert (await first.post(question())).status == 429
    await first.apply(
        gateway(first.port),
        *backend("a", provider.port),
        ai_route("lost", "m", {"name": "a"}),
        soft("open", {"requests": 3}),
    )

    async def passes() -> bool:
        return (await first.post(question())).status == 200

    await eventually(passes, what=lambda: "a limit that is gone holds nobody back")
    assert [await passes() for _ in range(3)] == [True] * 3
    await eventually(lambda: bool(first.engine.soft_limits._waiting), what=lambda: "they wait for the store")
    redis.start()
    await used_up(first, "Budget default/open")
    assert (await first.post(question())).status == 429
