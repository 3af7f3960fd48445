"""Providers that speak HTTP/2 and fail in one of its phases; and failing ones of either protocol, asked for what is no chat."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from tests.gateway.http2_providers import (
    BEFORE_AN_ANSWER,
    IN_AN_ANSWER,
    Http2Provider,
    Way,
    misbehaving_by_http2,
)
from tests.gateway.providers import FAILS_BEFORE_AN_ANSWER, misbehaving
from tests.gateway.providers import Way as Http1Way
from tests.gateway.resilience.test_misbehaving_providers import STREAM, documents, hurried
from tests.gateway.workbench import Provider, Reply, Workbench, gateway, running_provider, running_workbench
from tests.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")
Shared = tuple[Workbench, Provider]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Shared]:
    async with running_provider() as second, running_workbench() as bench:
        yield bench, second


async def apply(shared: Shared, first: Http2Provider, silence: str = "400ms") -> None:
    bench, second = shared
    second.seen.clear()
    second.answer = None
    objects = documents(first.port, second, streamIdleTimeout=silence)
    objects[0]["spec"]["appProtocols"] = ["gateway.envoyproxy.io/h2c"]
    await bench.apply(gateway(bench.port), *objects)


@pytest.mark.parametrize("way", BEFORE_AN_ANSWER)
async def test_the_next_backend_is_asked_however_one_fails_that_speaks_http2(
    shared: Shared, way: Way
) -> None:
    bench, _ = shared
    async with misbehaving_by_http2(way) as first:
        await apply(shared, first)
        reply = await bench.post(STREAM)
        assert reply.status == 200
        assert reply.body.endswith(b"data: [DONE]\n\n")
        attempts = (await bench.record(reply)).attempts
        assert [item.backend for item in attempts] == ["default/a", "default/b"]
        assert attempts[0].outcome not in ("", "answered")
        assert first.asked <= 1


@pytest.mark.parametrize("way", IN_AN_ANSWER)
async def test_no_client_takes_a_stream_for_whole_that_broke_off(shared: Shared, way: Way) -> None:
    bench, second = shared
    async with misbehaving_by_http2(way) as first:
        await apply(shared, first)
        await hurried(bench)
        got, whole = b"", True
        async with bench.session.post(bench.url + "/v1/chat/completions", json=STREAM) as response:
            try:
                async for piece in response.content.iter_any():
                    got += piece
            except aiohttp.ClientError:
                whole = False
        assert (response.status, second.seen, first.asked) == (200, [], 1)
        assert b"[DONE]" not in got
        assert not whole or b"error" in got
        key = response.headers["x-request-id"]
        await eventually(lambda: key in bench.records)
        record = bench.records[key]
        assert record.backend == "default/a"
        assert record.outcome not in ("", "answered")


async def test_one_byte_at_a_time_by_http2_is_an_answer(shared: Shared) -> None:
    bench, second = shared
    async with misbehaving_by_http2("one byte at a time") as first:
        await apply(shared, first, "10s")
        reply = await bench.post(STREAM)
        assert (reply.status, second.seen) == (200, [])
        assert reply.body.endswith(b"data: [DONE]\n\n")


_FORM = (
    b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nm\r\n--b\r\ncontent-disposition: form-data; '
    b'name="file"; filename="a.wav"\r\n\r\n' + b"x" * 200_000 + b"\r\n--b--\r\n"
)
_MULTIPART = {"content-type": "multipart/form-data; boundary=b"}
_ASKED: dict[str, tuple[str, str, bytes | None, dict[str, str]]] = {
    "embeddings": ("POST", "/v1/embeddings", json.dumps({"model": "m", "input": "x" * 50_000}).encode(), {}),
    "audio": ("POST", "/v1/audio/transcriptions", _FORM, _MULTIPART),
    "a file": ("POST", "/v1/files", _FORM, _MULTIPART),
    "what is stored": ("GET", "/v1/files/f", None, {}),
}


async def echo(request: web.Request, body: bytes) -> web.StreamResponse:
    if "upgrade" not in request.headers:
        return web.json_response({"size": len(body)})
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(f"heard {message.data}")
    return socket


async def ask(bench: Workbench, what: str) -> Reply:
    """What came of it; of a session, after a word was said and answered."""
    if what == "a session":
        async with bench.session.ws_connect(bench.url + "/v1/realtime?model=m") as socket:
            await socket.send_str("a word")
            assert (await socket.receive_str()) == "heard a word"
            return Reply(101, dict(socket._response.headers), b"")
    method, path, body, headers = _ASKED[what]
    async with bench.session.request(method, bench.url + path, data=body, headers=headers) as response:
        return Reply(response.status, dict(response.headers), await response.read())


@pytest.mark.parametrize("way", [way for way in FAILS_BEFORE_AN_ANSWER if way != "never accepts"])
async def test_whatever_is_asked_the_next_backend_serves_it(shared: Shared, way: Http1Way) -> None:
    bench, second = shared
    second.answer = echo
    # Four of them: five failures in a row would have it left out. What is stored fails as what is read does.
    left = "what is stored" if way in ("resets the connection", "never answers") else "embeddings"
    async with misbehaving(way) as first:
        await bench.apply(gateway(bench.port), *documents(first.port, second, streamIdleTimeout="400ms"))
        for what in (*(name for name in _ASKED if name != left), "a session"):
            second.seen.clear()
            reply = await ask(bench, what)
            assert reply.status == (101 if what == "a session" else 200), what
            if (sent := _ASKED[what][2] if what in _ASKED else None) is not None:
                assert reply.json == {"size": len(sent)}
            record = await bench.record(reply)
            assert [item.backend for item in record.attempts] == ["default/a", "default/b"], what
            assert record.attempts[0].outcome not in ("", "answered", "no healthy host"), what
            assert (record.attempts[1].outcome, record.outcome) == ("answered", "answered"), what
