"""Answers that stand still: whoever is to blame, they end; and no backend is left out for a client that takes nothing."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from kajitori.gateway.plan import make_plan
from kajitori.gateway.rescue.relay import Relay
from tests.gateway.providers import misbehaving
from tests.gateway.resilience.test_cooling import QUESTION, policy
from tests.gateway.resilience.test_misbehaving_providers import STREAM, documents, hurried, left_out
from tests.gateway.workbench import Provider, Workbench, gateway, observe
from tests.waiting import eventually

_CLIENTS = 12
_EVENT = b'data: {"choices":[{"delta":{"content":"' + b"x" * 10_000 + b'"}}]}\n\n'


class Flood:
    """A provider whose answer never ends, and which never stops sending. over: how many of them have been cut."""

    def __init__(self) -> None:
        self.begun = self.over = 0

    async def answer(self, request: web.Request, body: bytes) -> web.StreamResponse:
        if not json.loads(body).get("stream"):
            return web.json_response({"choices": []})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        self.begun += 1
        try:
            while True:
                await response.write(_EVENT)
        finally:
            self.over += 1


async def taking_nothing(port: int) -> socket.socket:
    """Asks for a stream, and then does not read."""
    body = json.dumps(STREAM).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", port))
    await loop.sock_sendall(client, head.encode() + body)
    return client


@pytest.fixture
async def rescuing(bench: Workbench) -> AsyncIterator[tuple[str, str]]:
    """The sockets of a relay beside the workbench's Envoy."""
    relay, inner = bench.folder / "rescue.sock", bench.folder / "inner.sock"
    async with Relay(relay, inner).running():
        yield str(relay), str(inner)


async def apply_rescued(bench: Workbench, sockets: tuple[str, str], *objects: dict[str, Any]) -> None:
    """Also what is hedged, whose attempts go by the same listener."""
    observed = observe(*objects, access_log=str(bench.access_log))
    settings = msgspec.structs.replace(observed.settings, rescue_sockets=sockets)
    plan = make_plan(msgspec.structs.replace(observed, settings=settings))
    bench.plan = plan
    bench.ledger.configure(plan.policy)
    bench.set_resources("gateway", plan.resources)
    await bench.settled()


async def nobody_is_left_out(bench: Workbench, flood: Flood, first: Provider) -> None:
    clients = [await taking_nothing(bench.port) for _ in range(_CLIENTS)]
    try:
        await eventually(
            lambda: flood.over == _CLIENTS, what=lambda: f"{flood.begun} begun, {flood.over} cut"
        )
    finally:
        for client in clients:
            client.close()
    assert await left_out(bench) == 0
    asked = len(first.seen)
    assert (await bench.post(QUESTION)).status == 200
    assert len(first.seen) == asked + 1
    await eventually(lambda: len(bench.records) == _CLIENTS + 1)
    told = [record for record in bench.records.values() if record.stream]
    assert {record.status for record in told} == {200}
    assert "answered" not in {record.outcome for record in told}


async def test_clients_that_take_nothing_put_no_backend_out(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    flood = Flood()
    first.answer = flood.answer
    await bench.apply(gateway(bench.port), *documents(first.port, second, streamIdleTimeout="400ms"))
    await hurried(bench)
    await nobody_is_left_out(bench, flood, first)


async def test_nor_where_streams_are_rescued(
    bench: Workbench, first: Provider, second: Provider, rescuing: tuple[str, str]
) -> None:
    flood = Flood()
    first.answer = flood.answer
    held = policy(streams={"onFailure": "Error", "idleTimeout": "4s"})
    await apply_rescued(bench, rescuing, gateway(bench.port), *documents(first.port, second), held)
    await nobody_is_left_out(bench, flood, first)


async def test_nor_where_requests_are_hedged(
    bench: Workbench, first: Provider, second: Provider, rescuing: tuple[str, str]
) -> None:
    flood = Flood()
    first.answer = flood.answer
    held = policy(streams={"idleTimeout": "400ms"}, hedging={"after": "30s"})
    await apply_rescued(bench, rescuing, gateway(bench.port), *documents(first.port, second), held)
    await hurried(bench)
    await nobody_is_left_out(bench, flood, first)


async def told_of(bench: Workbench) -> tuple[bytes, str]:
    """What came of a stream that was cut, and the id of its request."""
    got = b""
    async with bench.session.post(bench.url + "/v1/chat/completions", json=STREAM) as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            async for piece in response.content.iter_any():
                got += piece
        return got, response.headers["x-request-id"]


@pytest.mark.parametrize(
    "streams", [{"idleTimeout": "400ms"}, {"firstByteTimeout": "400ms", "idleTimeout": "1s"}]
)
async def test_a_backend_that_falls_silent_in_its_answer_ends_it_and_is_named_in_the_record(
    bench: Workbench, second: Provider, streams: dict[str, str]
) -> None:
    async with misbehaving("stops in the middle") as first:
        await bench.apply(gateway(bench.port), *documents(first.port, second), policy(streams=streams))
        await hurried(bench)
        got, request_id = await asyncio.wait_for(told_of(bench), 20)
        assert got.count(b"data: ") == first.events
        await eventually(lambda: request_id in bench.records)
        record = bench.records[request_id]
        assert (record.backend, record.status) == ("default/a", 200)
        assert [(item.backend, item.outcome) for item in record.attempts] == [
            ("default/a", "no progress for too long")
        ]


async def test_another_backend_goes_on_where_one_fell_silent(
    bench: Workbench, second: Provider, rescuing: tuple[str, str]
) -> None:
    async with misbehaving("stops in the middle") as first:
        for first_byte in ("100ms", "400ms"):
            streams = {"onFailure": "Continue", "idleTimeout": "400ms", "firstByteTimeout": first_byte}
            objects = [*documents(first.port, second), policy(streams=streams)]
            await apply_rescued(bench, rescuing, gateway(bench.port), *objects)
            reply = await asyncio.wait_for(bench.post(STREAM), 20)
            assert b"continued by another backend" in reply.body
            assert reply.body.endswith(b"data: [DONE]\n\n")


async def test_a_backend_that_is_silent_before_its_answer_is_left_out(
    bench: Workbench, second: Provider
) -> None:
    async with misbehaving("never answers") as first:
        await bench.apply(gateway(bench.port), *documents(first.port, second, streamIdleTimeout="200ms"))

        async def is_left_out() -> bool:
            assert (await bench.post(STREAM)).status == 200
            return await left_out(bench) == 1

        await eventually(is_left_out, "the backend is left out")
        assert first.asked == 5
