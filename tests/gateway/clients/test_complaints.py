"""What users of other gateways complain of (11 and 17 of the survey behind the design), with the official client."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest
from aiohttp import web

from tests.gateway.workbench import Provider, Workbench, ai_route, backend, gateway
from tests.waiting import eventually


async def test_complaint_11_large_bodies_pass_in_both_directions(bench: Workbench, first: Provider) -> None:
    async def answer(request: web.Request, body: bytes) -> web.StreamResponse:
        content = json.loads(body)["messages"][0]["content"]
        message = {"role": "assistant", "content": content + content}
        return web.json_response(
            {"object": "chat.completion", "choices": [{"index": 0, "message": message}], "usage": first.usage}
        )

    first.answer = answer
    await bench.apply(gateway(bench.port), *backend("a", first.port), ai_route("route", "m", {"name": "a"}))
    prompt = "a long document " * (1 << 20)  # 16 MiB
    async with openai.AsyncOpenAI(base_url=bench.url + "/v1", api_key="any", max_retries=0) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="m", messages=[{"role": "user", "content": prompt}]
        )
    parsed = raw.parse()
    assert len(parsed.choices[0].message.content or "") == 2 * len(prompt)
    key = raw.headers["x-request-id"]
    await eventually(lambda: key in bench.records)
    usage = bench.records[key].usage
    assert usage is not None and usage.output_tokens == 7


@pytest.mark.timeout(300)
async def test_complaint_17_a_thousand_streams_at_once_are_carried_and_booked(
    bench: Workbench, first: Provider
) -> None:
    count, everybody, arrived = 1000, asyncio.Event(), 0

    async def answer(request: web.Request, body: bytes) -> web.StreamResponse:
        nonlocal arrived
        arrived += 1
        if arrived == count:
            everybody.set()
        await everybody.wait()
        return await first.stream(request, json.loads(body))

    first.answer = answer
    # Provider, clients and accountant are one process here, which may be slow to take a thousand connections.
    patient = {"request": "280s", "backendRequest": "280s"}
    await bench.apply(
        gateway(bench.port),
        *backend("a", first.port),
        ai_route("route", "m", {"name": "a"}, rule={"timeouts": patient}),
        {
            "kind": "BackendTrafficPolicy",
            "metadata": {"name": "patient"},
            "spec": {
                "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "route"}],
                "timeout": {"tcp": {"connectTimeout": "60s"}},
            },
        },
    )
    question: Any = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "x"}]}
    replies = await asyncio.gather(*(bench.post(question) for _ in range(count)))
    assert {reply.status for reply in replies} == {200}
    assert all(reply.body.endswith(b"data: [DONE]\n\n") for reply in replies)
    await eventually(lambda: len(bench.records) >= count, what=lambda: f"{len(bench.records)} records")
    assert all(record.usage and record.usage.output_tokens == 7 for record in bench.records.values())
