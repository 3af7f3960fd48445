"""Sessions over WebSockets that are silent, killed, garbled, or that nobody asked for."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from kajitori.gateway.accounting.costs import Usage
from kajitori.gateway.accounting.records import RequestRecord
from tests.gateway.attacks.test_wire import exchange
from tests.gateway.security.objects import for_route
from tests.gateway.workbench import (
    Provider,
    Reply,
    Workbench,
    ai_route,
    backend,
    gateway,
    running_provider,
    running_workbench,
)
from tests.stand_ins import serving

PATH = "/v1/realtime?model=voice"
Talk = Callable[[web.WebSocketResponse, Any], Awaitable[None]]
Shared = tuple[Workbench, Provider]
pytestmark = pytest.mark.asyncio(loop_scope="module")


def documents(port: int, provider: int) -> list[dict[str, Any]]:
    return [gateway(port), *backend("a", provider), ai_route("r", "voice", {"name": "a"})]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Shared]:
    async with running_provider() as provider, running_workbench() as bench:
        await bench.apply(*documents(bench.port, provider.port))
        yield bench, provider


def done(count: int, pad: int = 0) -> str:
    usage = {"input_tokens": 10 * count, "output_tokens": 3 * count, "total_tokens": 13 * count}
    response = {"output": [{"transcript": "x" * pad, "usage": {"output_tokens": 1}}], "usage": usage}
    return json.dumps({"type": "response.done", "event_id": "e", "response": response})


def talking(talk: Talk) -> Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]:
    """A provider that speaks when it is spoken to."""

    async def answer(request: web.Request, body: bytes) -> web.StreamResponse:
        socket = web.WebSocketResponse(max_msg_size=0, autoping=False)
        await socket.prepare(request)
        async for message in socket:
            await talk(socket, message)
        return socket

    return answer


async def record_of(bench: Workbench, socket: aiohttp.ClientWebSocketResponse) -> RequestRecord:
    return await bench.record(Reply(101, dict(socket._response.headers), b""))


async def test_a_session_that_is_killed_half_way_is_booked(shared: Shared) -> None:
    bench, provider = shared

    async def talk(socket: web.WebSocketResponse, message: Any) -> None:
        await socket.send_str(done(int(message.data), pad=200_000 if message.data == "3" else 0))

    provider.answer = talking(talk)
    # By the client, without a word of goodbye.
    async with bench.session.ws_connect(bench.url + PATH, max_msg_size=0) as socket:
        for count in ("1", "2", "3"):
            await socket.send_str(count)
            assert (await socket.receive_json())["type"] == "response.done"
        transport = socket._conn.transport
        transport.abort()
    assert (await record_of(bench, socket)).usage == Usage(60, 18, 78)

    async def die(socket: web.WebSocketResponse, message: Any) -> None:
        await socket.send_str(done(4))
        assert socket._req is not None and socket._req.transport is not None
        socket._req.transport.abort()

    # By the provider.
    provider.answer = talking(die)
    async with bench.session.ws_connect(bench.url + PATH) as socket:
        await socket.send_str("x")
        while not socket.closed:
            await socket.receive()
    assert (await record_of(bench, socket)).usage == Usage(40, 12, 52)


async def test_binary_frames_pings_and_garbage_pass_and_usage_is_read_beside_them(shared: Shared) -> None:
    bench, provider = shared

    async def talk(socket: web.WebSocketResponse, message: Any) -> None:
        if message.type == aiohttp.WSMsgType.PING:
            await socket.pong(message.data)
        elif message.type == aiohttp.WSMsgType.BINARY:
            await socket.send_bytes(message.data)
            await socket.send_str(done(1))

    provider.answer = talking(talk)
    sounds = [os.urandom(size) for size in (0, 1, 125, 126, 65_535, 65_536, 300_000)]
    sounds.append(b'"response.done"' * 1000 + b'{"type":"response.done","response":{"usage":{"input_tokens":')
    async with bench.session.ws_connect(bench.url + PATH, max_msg_size=0, autoping=False) as socket:
        await socket.ping(b"there?")
        pong = await socket.receive()
        assert (pong.type, pong.data) == (aiohttp.WSMsgType.PONG, b"there?")
        for sound in sounds:
            await socket.send_bytes(sound)
            assert await socket.receive_bytes() == sound
            assert (await socket.receive_json())["type"] == "response.done"
    usage = (await record_of(bench, socket)).usage
    # Of the last one the text before it may be taken for its beginning.
    assert usage is not None
    assert usage.output_tokens in (3 * len(sounds), 3 * len(sounds) - 3)


async def test_what_is_no_frame_harms_nobody_on_either_side(shared: Shared) -> None:
    bench, provider = shared
    upgraded = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
    asking = (
        f"GET {PATH} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()
    masked = bytes([0x81, 0xFE, 0xFF, 0xFF]) + os.urandom(70_000)

    async def garble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(upgraded + masked + b'{"type":"response.done"' * 5_000 + done(1).encode())
        await reader.readexactly(50_000)

    async with serving(garble) as port:
        await bench.apply(*documents(bench.port, port))
        told = await exchange(bench.port, asking + os.urandom(50_000))
        assert told.startswith(b"HTTP/1.1 101 ")
        assert told.endswith(done(1).encode())
    await bench.apply(*documents(bench.port, provider.port))
    provider.answer = None
    assert (await bench.post({"model": "voice"})).status == 200


@pytest.mark.parametrize("more", [b"", b"upgrade: websocket\r\nconnection: upgrade\r\n", b"upgrade: h2c\r\n"])
async def test_a_change_of_protocol_that_nobody_asked_for_is_refused(shared: Shared, more: bytes) -> None:
    bench, provider = shared

    async def change(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nx-a: b\r\n" + more + b"\r\nabc")
        await writer.drain()
        if not more:  # then Envoy waits for the answer that follows, as after 100 and 103
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await reader.read()

    async with serving(change) as port:
        anthropic = backend("b", port, {"name": "Anthropic"})
        await bench.apply(
            *documents(bench.port, port), *anthropic, ai_route("claude", "claude", {"name": "b"})
        )
        reply = await bench.post({"model": "voice"})
        if more:
            assert reply.status == 502
            assert "answered 101" in reply.json["error"]["message"]
            reply = await bench.post({"model": "claude"}, "/v1/messages")
            assert (reply.status, reply.json["type"]) == (502, "error")
        else:
            assert reply.status in (200, 502)
    await bench.apply(*documents(bench.port, provider.port))


async def test_who_asks_for_a_session_without_an_upgrade_is_told_to_upgrade(shared: Shared) -> None:
    bench, provider = shared
    before = len(provider.seen)
    reply = await bench.get(PATH)
    assert reply.status == 426
    assert "WebSocket" in reply.json["error"]["message"]
    assert len(provider.seen) == before


@pytest.mark.parametrize("where", ["rule", "policy"])
async def test_a_silent_session_lives_on_by_pings_and_ends_without(shared: Shared, where: str) -> None:
    bench, provider = shared

    async def talk(socket: web.WebSocketResponse, message: Any) -> None:
        if message.type == aiohttp.WSMsgType.PING:
            await socket.pong(message.data)

    idle = {
        "kind": "BackendTrafficPolicy",
        "metadata": {"name": "idle"},
        "spec": {"targetRefs": [for_route("r")], "timeout": {"http": {"streamIdleTimeout": "1s"}}},
    }
    objects = documents(bench.port, provider.port)
    if where == "rule":
        objects[-1]["spec"]["rules"][0]["streamIdleTimeout"] = "1s"
    else:
        objects.append(idle)
    await bench.apply(*objects)
    provider.answer = talking(talk)
    async with bench.session.ws_connect(bench.url + PATH, autoping=False) as socket:
        begin = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() < begin + 2.5:
            await socket.ping()
            assert (await socket.receive()).type == aiohttp.WSMsgType.PONG
            await asyncio.sleep(0.1)
        await asyncio.wait_for(socket.receive(), 20)
        assert socket.closed
    assert (await record_of(bench, socket)).status == 101
    await bench.apply(*documents(bench.port, provider.port))
