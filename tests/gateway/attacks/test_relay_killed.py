"""The relay of streams dies while streams pass it."""

from __future__ import annotations

import asyncio
import json

import aiohttp

from kajitori.gateway.rescue.relay import Relay
from tests.gateway.rescue.test_with_envoy import STREAM, Bench
from tests.gateway.workbench import Provider, running_provider, running_workbench
from tests.waiting import eventually

# The script in Envoy notes how many events came whenever there are so many more.
_COUNTED_TOGETHER = 16


async def test_who_listened_is_told_by_a_broken_connection_what_was_used_is_booked_and_others_are_served() -> (
    None
):
    endless = Provider(chunks=10**6, chunk_seconds=0.01)
    async with running_provider(endless) as a, running_provider() as b, running_workbench() as envoy:
        bench = Bench(envoy, a, b)
        relay = Relay(envoy.folder / "rescue.sock", envoy.folder / "inner.sock")
        seen: list[int] = []

        async def listen() -> str:
            answer = envoy.session.post(envoy.url + "/v1/chat/completions", data=json.dumps(STREAM))
            seen.append(0)
            mine = len(seen) - 1
            async with answer as response:
                try:
                    async for data in response.content.iter_any():
                        seen[mine] += data.count(b"data: ")
                except aiohttp.ClientError:
                    return response.headers["X-Request-ID"]
            raise AssertionError("a stream that was cut was taken for whole")

        async with relay.running():
            await bench.apply("Continue", {"name": "a"})
            tasks = [asyncio.create_task(listen()) for _ in range(5)]
            await eventually(lambda: len(seen) == 5 and min(seen) > 2 * _COUNTED_TOGETHER)
        identifiers = await asyncio.wait_for(asyncio.gather(*tasks), 20)
        await eventually(lambda: set(identifiers) <= envoy.records.keys(), what=envoy.log)
        for identifier in identifiers:
            usage = envoy.records[identifier].usage
            assert usage is not None
            assert usage.output_tokens >= _COUNTED_TOGETHER
        endless.chunks = 2
        reply = await envoy.post(STREAM)
        assert (reply.status, reply.body.strip()[-12:]) == (200, b"data: [DONE]")
