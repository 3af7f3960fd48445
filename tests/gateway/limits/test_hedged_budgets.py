"""A Budget of a route whose requests are hedged: what one reserved is reserved until it has its answer, and no longer."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from tests.gateway.limits.limited_workbench import LimitedWorkbench
from tests.gateway.limits.questions import budget, question
from tests.gateway.resilience.test_cooling import pair, policy
from tests.gateway.resilience.test_hedging import HEDGED, Slow, apply
from tests.gateway.workbench import Provider, running_provider
from tests.waiting import eventually

ASKED = question(max_tokens=90)
Shared = tuple[LimitedWorkbench, Provider]
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_hedged_stream_holds_what_it_reserved_and_a_client_that_leaves_gives_it_back(
    shared: Shared,
) -> None:
    bench, first = shared
    slow = Slow(first)
    go = asyncio.Event()
    async with running_provider() as second:

        async def stream(request: web.Request, body: bytes) -> web.StreamResponse:
            answer = web.StreamResponse(headers={"content-type": "application/json"})
            await answer.prepare(request)
            await answer.write(b" ")
            await go.wait()
            usage = b'{"usage":{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30},"choices":[]}'
            await answer.write(usage)
            return answer

        second.answer = stream
        await apply(bench, *pair(first, second, policy(hedging=HEDGED)), budget("held", {"tokens": 150}))
        asked = asyncio.create_task(bench.post(ASKED))
        await eventually(lambda: slow.left == 1 and len(bench.records) == 1, "the first leg was overtaken")
        async with asyncio.timeout(30):  # if it passed, nobody would answer it
            assert (await bench.post(ASKED)).status == 429
        go.set()
        assert (await asked).status == 200
        await eventually(lambda: any(each.usage for each in bench.records.values()))
        gone, other = Slow(first), Slow(second)
        asked = asyncio.create_task(bench.post(ASKED))
        await eventually(lambda: len(second.seen) == 2, "both are asked")
        assert (await bench.post(ASKED)).status == 429
        asked.cancel()
        await eventually(lambda: gone.left == other.left == 1)
        gone.may_answer.set()
        await eventually(lambda: passes(bench), "what was reserved is free again")


async def passes(bench: LimitedWorkbench) -> bool:
    return (await bench.post(ASKED)).status == 200
