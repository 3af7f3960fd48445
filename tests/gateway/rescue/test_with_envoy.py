"""Streams that die half-way, through a real Envoy and the relay."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import openai
import pytest
from aiohttp import web

from kajitori.gateway.plan import make_plan
from kajitori.gateway.rescue.relay import Relay
from tests.gateway.workbench import (
    Provider,
    Workbench,
    ai_route,
    backend,
    gateway,
    observe,
    running_provider,
    running_workbench,
)
from tests.waiting import eventually

STREAM = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "count"}]}


async def dying(request: web.Request, body: bytes) -> web.StreamResponse:
    """Two words, then the connection is gone."""
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for word in ("one ", "two "):
        event = {"id": "a", "choices": [{"index": 0, "delta": {"content": word}}]}
        await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
    await asyncio.sleep(0.05)
    assert request.transport is not None
    request.transport.abort()
    return response


def policy(ending: str) -> dict[str, Any]:
    target = {"group": "aigateway.envoyproxy.io", "kind": "AIGatewayRoute", "name": "r"}
    return {
        "kind": "AITrafficPolicy",
        "metadata": {"name": "p"},
        "spec": {"targetRefs": [target], "streams": {"onFailure": ending}},
    }


class Bench:
    """A workbench with a relay; `a` dies, `b` lives."""

    def __init__(self, envoy: Workbench, a: Provider, b: Provider) -> None:
        self.envoy, self.a, self.b = envoy, a, b
        self.sockets = (str(envoy.folder / "rescue.sock"), str(envoy.folder / "inner.sock"))

    async def apply(self, ending: str, *refs: dict[str, Any]) -> None:
        documents = [gateway(self.envoy.port), *backend("a", self.a.port), *backend("b", self.b.port)]
        observed = observe(
            *documents, ai_route("r", "m", *refs), policy(ending), access_log=str(self.envoy.access_log)
        )
        settings = msgspec.structs.replace(observed.settings, rescue_sockets=self.sockets)
        plan = make_plan(msgspec.structs.replace(observed, settings=settings))
        self.envoy.ledger.configure(plan.policy)
        self.envoy.set_resources("gateway", plan.resources)
        await self.envoy.settled()


FALLBACK = ({"name": "a"}, {"name": "b", "priority": 1})


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with (
        running_provider(Provider(answer=dying)) as a,
        running_provider() as b,
        running_workbench() as envoy,
    ):
        made = Bench(envoy, a, b)
        relay = Relay(envoy.folder / "rescue.sock", envoy.folder / "inner.sock")
        async with relay.running():
            yield made


async def test_a_stream_that_dies_ends_with_an_error_that_the_client_raises(bench: Bench) -> None:
    await bench.apply("Error", {"name": "a"})
    client = openai.AsyncOpenAI(api_key="x", base_url=f"{bench.envoy.url}/v1", max_retries=0)
    heard: list[str | None] = []
    with pytest.raises(openai.APIError, match="the answer was interrupted: backend 1 broke off"):
        chunks = await client.chat.completions.create(**STREAM)  # type: ignore[call-overload]
        async for chunk in chunks:
            heard.append(chunk.choices[0].delta.content)  # noqa: PERF401  what came before the error counts
    assert heard == ["one ", "two "]
    await client.close()


async def test_another_backend_goes_on_and_both_legs_are_booked(bench: Bench) -> None:
    await bench.apply("Continue", *FALLBACK)
    bench.b.seen.clear()
    reply = await bench.envoy.post(STREAM)
    text = reply.body.decode()
    assert reply.status == 200
    assert ": kajitori: interrupted (backend 1 broke off), continued by another backend" in text
    assert text.rstrip().endswith("data: [DONE]") and "usage" not in text
    assert bench.b.seen[0].json["messages"][-1] == {"role": "assistant", "content": "one two "}
    assert not [name for name in bench.b.seen[0].headers if name.startswith("x-kajitori-")]
    request_id = reply.headers["X-Request-ID"]
    await eventually(lambda: {request_id, f"{request_id}~2"} <= set(bench.envoy.records))
    first, second = bench.envoy.records[request_id], bench.envoy.records[f"{request_id}~2"]
    assert (first.backend, second.backend) == ("default/a", "default/b")
    # How much of it was seen is told every few events; the prompt is known at least.
    assert first.usage is not None and first.usage_estimated and first.usage.input_tokens > 0
    assert second.usage is not None and second.usage.output_tokens == 7


async def test_a_whole_stream_and_an_answer_at_once_are_as_without_a_relay(bench: Bench) -> None:
    await bench.apply("Error", {"name": "b"})
    reply = await bench.envoy.post(STREAM)
    assert reply.body.endswith(b"data: [DONE]\n\n") and b"error" not in reply.body
    record = await bench.envoy.record(reply)
    assert (record.backend, record.status, record.stream) == ("default/b", 200, True)
    assert record.usage is not None and record.usage.input_tokens == 12
    reply = await bench.envoy.post({**STREAM, "stream": False})
    assert reply.json["object"] == "chat.completion"


async def test_without_a_relay_requests_go_to_backends_directly() -> None:
    async with running_provider() as b, running_workbench() as envoy:
        bench = Bench(envoy, b, b)
        await bench.apply("Error", {"name": "b"})
        reply = await envoy.post(STREAM)
        assert reply.status == 200 and reply.body.endswith(b"data: [DONE]\n\n")
        record = await envoy.record(reply)
        assert record.backend == "default/b"
