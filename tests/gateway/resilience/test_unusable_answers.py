"""What a provider sends in place of an answer: another protocol, a redirection, nothing, a gzip bomb."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.gateway.resilience.test_cooling import QUESTION
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

pytestmark = pytest.mark.asyncio(loop_scope="module")
Shared = tuple[Workbench, Provider]
_NO_LENGTH = ("101", "204", "304")
_DIALECTS = {
    "openai": ("/v1/chat/completions", "OpenAI"),
    "anthropic": ("/v1/messages", "Anthropic"),
    "cohere": ("/v2/rerank", "Cohere"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Shared]:
    async with running_provider() as second, running_workbench() as bench:
        yield bench, second


@contextlib.asynccontextmanager
async def answering(status: str, more: bytes = b"", body: bytes = b"moved") -> AsyncGenerator[int]:
    """The port of a provider that always answers so."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if status == "101":
            length = b"connection: upgrade\r\nupgrade: websocket\r\n"
        else:
            length = b"" if status in _NO_LENGTH else b"content-length: %d\r\n" % len(body)
        told = b"" if status in _NO_LENGTH else body
        head = b"HTTP/1.1 %s Odd\r\nlocation: http://127.0.0.1:1/\r\n" % status.encode()
        writer.write(head + more + length + b"\r\n" + told)
        await writer.drain()
        await reader.read()

    async with serving(answer) as port:
        yield port


def with_both(bench: Workbench, port: int, second: Provider) -> list[dict[str, Any]]:
    return [
        gateway(bench.port),
        *backend("a", port),
        *backend("b", second.port),
        ai_route("r", "m", {"name": "a"}, {"name": "b", "priority": 1}),
    ]


@pytest.mark.parametrize("status", ["101", "204", "205", "300", "301", "302", "304", "307", "308"])
async def test_the_next_backend_is_asked_after_what_is_no_answer(shared: Shared, status: str) -> None:
    bench, second = shared
    async with answering(status) as port:
        await bench.apply(*with_both(bench, port, second))
        reply = await bench.post(QUESTION)
        assert reply.status == 200
        assert reply.json["choices"][0]["message"]["content"] == str(second.port)
        attempts = (await bench.record(reply)).attempts
        assert [item.backend for item in attempts] == ["default/a", "default/b"]
        assert attempts[0].detail == f"unusable status {status}"


async def test_two_of_them_in_a_row_are_told_as_one(shared: Shared) -> None:
    bench, _ = shared
    async with answering("302") as port, answering("204") as other:
        await bench.apply(*with_both(bench, port, Provider(port=other)))
        reply = await bench.post(QUESTION)
        assert reply.status == 502
        assert "answered 204" in reply.json["error"]["message"]
        assert not [name for name in reply.headers if name.lower().startswith(("x-kajitori", "location"))]
        record = await bench.record(reply)
        assert (record.status, record.outcome) == (502, "unusable status 204")
        told = [item.detail for item in record.attempts]
        assert told == ["unusable status 302", "unusable status 204"]


@pytest.mark.parametrize("dialect", _DIALECTS)
@pytest.mark.parametrize("status", ["101", "204", "307"])
async def test_without_another_backend_it_is_502_in_the_dialect(
    shared: Shared, dialect: str, status: str
) -> None:
    bench, _ = shared
    path, schema = _DIALECTS[dialect]
    async with answering(status) as port:
        objects = [*backend("a", port, {"name": schema}), ai_route("r", "m", {"name": "a"})]
        await bench.apply(gateway(bench.port), *objects)
        reply = await bench.post(QUESTION, path)
        assert (reply.status, message_of(reply, dialect)[:21]) == (502, "a backend of AIGatewa")
        assert f"answered {status}, which is no answer" in message_of(reply, dialect)
        record = await bench.record(reply)
        assert (record.backend, record.outcome) == ("default/a", f"unusable status {status}")


def message_of(reply: Reply, dialect: str) -> str:
    return reply.json["message"] if dialect == "cohere" else reply.json["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/files/f/content", "302"), ("GET", "/v1/files", "304"), ("DELETE", "/v1/files/f", "204")],
)
async def test_who_asks_for_what_is_stored_may_be_led_elsewhere(
    shared: Shared, method: str, path: str, status: str
) -> None:
    bench, _ = shared
    async with answering(status) as port:
        await bench.apply(gateway(bench.port), *backend("a", port), ai_route("r", "m", {"name": "a"}))
        async with bench.session.request(method, bench.url + path, allow_redirects=False) as reply:
            assert reply.status == int(status)


@pytest.mark.parametrize("status", ["200", "302"])
async def test_a_session_is_refused_that_its_backend_does_not_begin(shared: Shared, status: str) -> None:
    bench, _ = shared
    async with answering(status) as port:
        await bench.apply(gateway(bench.port), *backend("a", port), ai_route("r", "m", {"name": "a"}))
        with pytest.raises(aiohttp.WSServerHandshakeError) as told:
            await bench.session.ws_connect(bench.url + "/v1/realtime?model=m")
        assert told.value.status == 502
        assert told.value.headers is not None
        record = await bench.record(Reply(502, {"X-Request-ID": told.value.headers["X-Request-ID"]}, b""))
        assert (record.backend, record.outcome) == ("default/a", f"unusable status {status}")


def compressed(text: bytes) -> tuple[bytes, bytes]:
    return b"content-type: application/json\r\ncontent-encoding: gzip\r\n", gzip.compress(text)


_USAGE = b'"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}'


@pytest.mark.parametrize("flaw", ["bomb", "broken", "no gzip"])
async def test_a_compressed_answer_that_cannot_be_inflated_is_told_in_the_record(
    shared: Shared, flaw: str
) -> None:
    bench, _ = shared
    head, body = compressed(b'{"x":"' + b"a" * 10_000_000 + b'",' + _USAGE)
    if flaw == "broken":
        _, body = compressed(b'{"x":"' + os.urandom(5_000).hex().encode() + b'",' + _USAGE)
        body = body[:2_000] + b"\0" * (len(body) - 2_000)
    elif flaw == "no gzip":
        body = b'{"x":"' + b"a" * 20_000 + b'",' + _USAGE
    async with answering("200", head, body) as port:
        await bench.apply(gateway(bench.port), *backend("a", port), ai_route("r", "m", {"name": "a"}))
        reply = await bench.post(QUESTION)
        assert reply.status == 200
        assert len(reply.body) <= 101 * len(body)
        with pytest.raises(ValueError):  # so no client takes it for whole
            json.loads(reply.body)
        record = await bench.record(reply)
        assert record.outcome == "answer not to be inflated"
        # A bomb's bytes are nobody's tokens.
        assert record.usage is None


async def test_a_compressed_answer_that_is_sound_is_read(shared: Shared) -> None:
    bench, _ = shared
    head, body = compressed(b'{"x":"' + os.urandom(200_000).hex().encode() + b'",' + _USAGE + b"\n")
    async with answering("200", head, body) as port:
        await bench.apply(gateway(bench.port), *backend("a", port), ai_route("r", "m", {"name": "a"}))
        reply = await bench.post(QUESTION)
        record = await bench.record(reply)
        assert record.usage is not None
        assert (record.outcome, record.usage.total_tokens) == ("answered", 3)
