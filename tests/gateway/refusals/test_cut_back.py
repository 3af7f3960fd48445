"""Requests run while a route table is cut, put together again, and served by a control plane that does not know that it was cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from kajitori.gateway.envoy.shards import shard_name
from kajitori.gateway.resources import ROUTES
from tests.gateway.test_shards import MANY, routes
from tests.gateway.workbench import Provider, Workbench, backend, gateway
from tests.waiting import eventually

KEPT = 100


@contextlib.asynccontextmanager
async def asking(bench: Workbench, statuses: list[int]) -> AsyncIterator[None]:
    """Clients without pause, for models that are there all the while; one sends the end of its body late."""
    done = asyncio.Event()

    async def ask() -> None:
        while not done.is_set():
            reply = await bench.post({"model": f"m{len(statuses) % KEPT}", "messages": []})
            statuses.append(reply.status)

    tasks = [asyncio.create_task(ask()) for _ in range(4)]
    try:
        yield
    finally:
        done.set()
        await asyncio.gather(*tasks)


async def slow(bench: Workbench, go_on: asyncio.Event, begun: asyncio.Event) -> int:
    """A request whose body ends when it is told to."""

    async def body() -> AsyncIterator[bytes]:
        yield b'{"model": "m7", "messages": ['
        await asyncio.sleep(0.1)
        begun.set()
        await go_on.wait()
        yield b"]}"

    async with bench.session.post(
        f"{bench.url}/v1/chat/completions", data=body(), headers={"content-type": "application/json"}
    ) as response:
        return response.status


async def test_no_request_is_lost_when_a_new_control_plane_puts_a_cut_table_together(
    bench: Workbench, first: Provider
) -> None:
    objects = [gateway(bench.port), *backend("a", first.port)]
    await bench.apply(*objects, *routes(MANY))
    assert shard_name(f"http/{bench.port}", 0) in bench.ads._snapshot.resources[ROUTES]
    await bench.apply(*objects, *routes(KEPT))
    statuses: list[int] = []
    begun, go_on = asyncio.Event(), asyncio.Event()
    async with asking(bench, statuses):
        late = asyncio.create_task(slow(bench, go_on, begun))
        await begun.wait()
        for _ in range(2):
            await bench.restart_control_plane()
            await bench.apply(*objects, *routes(KEPT))
            assert shard_name(f"http/{bench.port}", 0) not in bench.ads._snapshot.resources[ROUTES]
            await bench.apply(*objects, *routes(MANY))
            await bench.apply(*objects, *routes(KEPT))
            enough = len(statuses) + 20
            await eventually(lambda enough=enough: len(statuses) > enough)
        await bench.restart_control_plane()
        await bench.apply(*objects, *routes(KEPT))
        go_on.set()
        assert await late == 200
    assert set(statuses) == {200}
