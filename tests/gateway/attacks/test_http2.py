"""Clients of HTTP/2 that reset, stall, flood, and break its rules: others are served, and what is booked fits what was used."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from kajitori.gateway.limits.reading import read_stands
from kajitori.gateway.plan import make_plan
from kajitori.gateway.resources import Resources
from tests.gateway.attacks.http2 import Http2Client, http2
from tests.gateway.authority import Authority
from tests.gateway.limits.limited_workbench import LimitedWorkbench, running_limited_workbench
from tests.gateway.limits.questions import budget
from tests.gateway.test_tls_listeners import https, secure_gateway
from tests.gateway.workbench import Provider, ai_route, backend, gateway, observe, running_provider
from tests.waiting import eventually

ASKED = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 50}
STREAM = {**ASKED, "stream": True}
# Used by one answer of the stand-in, as it says; or an event of each chunk of a stream that was cut.
_TOKENS = 19
pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Limited:
    bench: LimitedWorkbench
    provider: Provider

    def documents(self) -> list[dict[str, Any]]:
        budgeted = budget("all", {"tokens": 1_000_000})
        route = ai_route("r", "gpt-4o", {"name": "a"})
        return [gateway(self.bench.port), *backend("a", self.provider.port), route, budgeted]

    @contextlib.asynccontextmanager
    async def endless(self, chunk_seconds: float) -> AsyncIterator[None]:
        """The provider's streams do not end by themselves."""
        before = self.provider.chunks, self.provider.chunk_seconds
        self.provider.chunks, self.provider.chunk_seconds = 10**6, chunk_seconds
        self.provider.closed.clear()
        try:
            yield
        finally:
            self.provider.chunks, self.provider.chunk_seconds = before

    async def used(self) -> int:
        """Of the budget, with what is reserved of it."""
        assert self.bench.plan is not None
        store = self.bench.engine._store
        stands = await read_stands(store, self.bench.plan.policy.limits, time.time())
        return sum(stand.used for stand in stands)

    async def all_settled(self) -> None:
        """What is used is what the records of all requests say, and nothing is reserved."""

        async def fits() -> bool:
            booked = [record.usage.total_tokens for record in self.bench.records.values() if record.usage]
            return not self.bench.engine._open and await self.used() == sum(booked)

        await eventually(fits, lambda: (len(self.bench.records), self.bench.engine._open))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def limited() -> AsyncIterator[Limited]:
    async with (
        running_provider(Provider(chunk_seconds=0.01)) as provider,
        running_limited_workbench() as bench,
    ):
        found = Limited(bench, provider)
        await bench.apply(*found.documents())
        yield found
        assert bench.envoy is not None
        assert bench.envoy.poll() is None


async def test_a_hundred_streams_of_one_connection_are_answered_and_booked(limited: Limited) -> None:
    async with http2(limited.bench.port) as client:
        streams = [client.ask(STREAM if number % 2 else ASKED) for number in range(100)]
        answers = [await client.answer(stream) for stream in streams]
    assert {(answer.status, answer.ended) for answer in answers} == {(200, True)}
    assert {bytes(answer.body[-14:]) for answer in answers[1::2]} == {b"data: [DONE]\n\n"}
    assert len({answer.request_id for answer in answers}) == 100
    await eventually(lambda: {answer.request_id for answer in answers} <= limited.bench.records.keys())
    assert {limited.bench.records[answer.request_id].usage.total_tokens for answer in answers} == {_TOKENS}  # pyright: ignore
    await limited.all_settled()


MALFORMED: dict[str, dict[str, Any]] = {
    "an authority that is none": {"authority": "x/y"},
    "an authority with a user": {"authority": "a@b"},
    "no authority": {"authority": ""},
    "an authority of other letters": {"authority": "ü.test"},
    "no path": {"path": ""},
    "a path without a slash": {"path": "v1/chat/completions"},
    "an absolute path": {"path": "http://evil.test/v1/chat/completions"},
    "a tunnel": {"method": "CONNECT"},
    "a WebSocket by CONNECT": {"method": "CONNECT", "path": "/v1/realtime?model=m", "protocol": "websocket"},
    "a header in capitals": {"headers": [("X-Upper", "1")]},
    "a header of HTTP/1": {"headers": [("connection", "close")]},
    "chunks": {"headers": [("transfer-encoding", "chunked")]},
    "an upgrade": {"headers": [("upgrade", "websocket")]},
    "a line end": {"headers": [("x-a", "a\r\nx-kajitori-leg: 1")]},
    "a zero byte": {"headers": [("x-a", "a\0b")]},
    "a separator of the log": {"headers": [("agent-session-id", "a\x1er1\x1fb")]},
    "a header without a name": {"headers": [("", "a")]},
    "a length that is too short": {"headers": [("content-length", "3")]},
    "a length that is too long": {"headers": [("content-length", "3000")]},
    "a header of nobody": {"foo": "1"},
    "a path behind the headers": {"headers": [("x-a", "1"), (":path", "/evil")]},
    "300 headers": {"headers": [(f"x-{number}", "1") for number in range(300)]},
    "a header of 100 KB": {"headers": [("x-a", "a" * 100_000)]},
}  # fmt: skip


async def test_a_malformed_request_ends_alone_and_reaches_no_backend(limited: Limited) -> None:
    async with limited.endless(0.01), http2(limited.bench.port) as client:
        beside = client.ask(STREAM)
        await eventually(lambda: client.answers[beside].body)
        seen = len(limited.provider.seen)
        for name, asked in MALFORMED.items():
            answer = await client.answer(client.ask(ASKED, **asked))
            assert answer.reset is not None, (name, answer, client.closed)
        before = len(client.answers[beside].body)
        await eventually(lambda: len(client.answers[beside].body) > before)
        assert (client.answers[beside].over, client.closed) == (False, None)
        assert len(limited.provider.seen) == seen
        client.reset(beside)
    await limited.all_settled()


async def test_odd_headers_steer_nothing_and_errors_are_json(limited: Limited) -> None:
    served: list[dict[str, Any]] = [
        {"authority": "[::1]:99999"},
        {"authority": "a" * 5_000},
        {"scheme": "ftp"},
        {"headers": [("host", "evil.test"), ("x-kajitori-key", "victim"), ("x-ai-eg-model", "other")]},
        {"headers": [("x-kajitori-leg", "1"), ("x-request-id", "mine"), ("cookie", "a"), ("cookie", "b")]},
    ]
    refused: list[tuple[int, object, dict[str, Any]]] = [
        (400, None, {}),
        (400, b"{", {}),
        (404, {**ASKED, "model": "x"}, {}),
        (404, ASKED, {"path": "/v1/nothing"}),
        (405, None, {"method": "GET"}),
        (415, b"x", {"headers": [("content-encoding", "br")]}),
    ]
    async with http2(limited.bench.port) as client:
        for asked in served:
            answer = await client.answer(client.ask(ASKED, **asked))
            assert (answer.status, client.closed) == (200, None), asked
            last = limited.provider.seen[-1]
            assert not [name for name in last.headers if name.startswith(("x-kajitori-", "x-ai-eg-"))]
            assert (last.path, last.headers["x-request-id"]) == ("/v1/chat/completions", answer.request_id)
        for status, body, asked in refused:
            answer = await client.answer(client.ask(body, **asked))
            assert answer.status == status, asked
            assert json.loads(answer.body)["error"]["code"] == str(status)
        # Trailers are nobody's.
        stream = client.ask(ASKED, end=False)
        client.machine.send_headers(stream, [("x-kajitori-key", "victim")], end_stream=True)
        client.flush()
        assert (await client.answer(stream)).status == 200
        assert "x-kajitori-key" not in limited.provider.seen[-1].headers
        stream = client.ask(ASKED, end=False)
        client.machine.send_headers(stream, [(":path", "/evil")], end_stream=True)
        client.flush()
        assert (await client.answer(stream)).reset is not None


async def test_resets_in_every_phase_give_back_what_was_reserved_and_book_what_was_seen(
    limited: Limited,
) -> None:
    async with limited.endless(0.002), http2(limited.bench.port) as client:
        # While the request comes, in the middle of a large one, and at once behind one that is whole.
        client.reset(client.ask(end=False))
        large = client.ask(end=False)
        await client.upload(large, b'{"model":"gpt-4o","prompt":"' + b"x" * 1_000_000)
        client.reset(large)
        for _ in range(50):
            client.reset(client.ask(STREAM))
        # While the answer comes.
        streams = [client.ask(STREAM) for _ in range(5)]
        await eventually(lambda: all(client.answers[stream].body.count(b"data: ") > 40 for stream in streams))
        for stream in streams:
            client.reset(stream)
        assert client.closed is None
        identifiers = {client.answers[stream].request_id for stream in streams}
        await eventually(lambda: identifiers <= limited.bench.records.keys())
        for identifier in identifiers:
            record = limited.bench.records[identifier]
            assert record.usage_estimated and record.usage is not None
            assert record.usage.output_tokens >= 24
        await eventually(limited.provider.closed.is_set)
    await limited.all_settled()


async def test_a_client_that_takes_its_leave_gets_its_answer(limited: Limited) -> None:
    async with http2(limited.bench.port) as client:
        stream = client.ask(STREAM)
        client.write_frames(GoAwayFrame(0, last_stream_id=0, error_code=0))
        answer = await client.answer(stream)
        assert (answer.status, answer.body[-14:]) == (200, b"data: [DONE]\n\n")
    await limited.all_settled()


_HEAD = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", "/v1/chat/completions")]
_FIRST = 1001


def _block(*headers: tuple[str, str]) -> bytes:
    return bytes(Encoder().encode([*_HEAD, *headers], huffman=False))


def _begin(stream: int = _FIRST) -> HeadersFrame:
    return HeadersFrame(stream, data=_block(), flags=["END_HEADERS"])


def _long(*names: str) -> bytes:
    return bytes(Encoder().encode([(name, "b" * 1000) for name in names], huffman=False))


# What comes first, and what comes again and again with the number of the round.
FLOODS: dict[str, tuple[list[Frame], Callable[[int], Frame]]] = {
    "headers without end": (
        [HeadersFrame(_FIRST, data=_block())],
        lambda _: ContinuationFrame(_FIRST, data=_long("x-a")),
    ),
    "empty continuations": (
        [HeadersFrame(_FIRST, data=_block())],
        lambda _: ContinuationFrame(_FIRST, data=b""),
    ),
    "empty data": ([_begin()], lambda _: DataFrame(_FIRST, data=b"")),
    "padding": ([_begin()], lambda _: DataFrame(_FIRST, data=b"", pad_length=200, flags=["PADDED"])),
    "pings": ([], lambda _: PingFrame(0, opaque_data=b"kajitori")),
    "settings": ([], lambda number: SettingsFrame(0, settings={4: 65_535 + number})),
    "priorities": ([], lambda number: PriorityFrame(_FIRST + 2 * number, depends_on=0, stream_weight=1)),
    "windows": ([], lambda _: WindowUpdateFrame(0, window_increment=1)),
    "streams that are not used": ([], lambda number: _begin(_FIRST + 2 * number)),
    "resets of what never was": ([], lambda number: RstStreamFrame(_FIRST + 2 * number, error_code=8)),
    "requests that are none": (
        [],
        lambda number: HeadersFrame(_FIRST + 2 * number, data=b"\x82", flags=["END_HEADERS", "END_STREAM"]),
    ),
}  # fmt: skip
_ROUNDS = 3_000


async def _flood(client: Http2Client, name: str) -> None:
    before, again = FLOODS[name]
    client.write_frames(*before)
    for number in range(0, _ROUNDS, 100):
        if client.closed:
            return
        client.write(b"".join(again(each).serialize() for each in range(number, number + 100)))
        await client.drained()
        await asyncio.sleep(0)


@pytest.mark.parametrize("name", FLOODS)
async def test_who_floods_one_connection_holds_up_nobody_else(limited: Limited, name: str) -> None:
    async with http2(limited.bench.port) as bad, http2(limited.bench.port) as good:
        assert (await bad.answer(bad.ask(ASKED))).status == 200
        await _flood(bad, name)
        answer = await good.answer(good.ask(STREAM))
        assert (answer.status, answer.ended) == (200, True)


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\x04\x08\0\0\0\0\0\x7f\xff\xff\xff" * 3,
        b"\0\0\0\x04\x01" + b"\0" * 4 + b"\0\0\x01\x04\0\0\0\0\0\xff",
        b"\0\xff\xff\x00\0\0\0\0\x01",
        b"\0\0\0\x01\x04" + b"\0" * 4,
        HeadersFrame(_FIRST, data=b"\xff" * 50, flags=["END_HEADERS"]).serialize(),
        HeadersFrame(_FIRST, data=_long("x-big")[:1100] + b"\xbe" * 15_000, flags=["END_HEADERS"]).serialize(),
        bytes(range(256)) * 20,
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
    ids=["windows", "settings", "length", "stream 0", "hpack", "hpack bomb", "anything", "HTTP/1"],
)  # fmt: skip
async def test_frames_that_are_none_end_their_connection_and_no_other(limited: Limited, data: bytes) -> None:
    async with http2(limited.bench.port) as bad, http2(limited.bench.port) as good:
        assert (await bad.answer(bad.ask(ASKED))).status == 200
        bad.write(data)
        await eventually(lambda: bad.closed is not None or bad.answers)
        assert (await good.answer(good.ask(ASKED))).status == 200


async def _hurried(limited: Limited) -> None:
    """With other times than a test can wait for."""
    plan = make_plan(observe(*limited.documents(), access_log=str(limited.bench.access_log)))
    text = json.dumps(plan.resources.by_type)
    for name, seconds in (("stream_flush_timeout", "300s"), ("idle_timeout", "300s")):
        assert f'"{name}": "{seconds}"' in text
        text = text.replace(f'"{name}": "{seconds}"', f'"{name}": "1s"')
    limited.bench.set_resources("gateway", Resources(json.loads(text)))
    await limited.bench.settled()


@pytest.mark.parametrize("size", [300_000, 10**9], ids=["a whole answer", "a stream without end"])
async def test_a_client_that_never_opens_its_window_is_cut_and_its_backend_freed(
    limited: Limited, size: int
) -> None:
    sent = 0
    over = asyncio.Event()

    async def much(request: web.Request, body: bytes) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        event = b'data: {"choices":[{"delta":{"content":"' + b"x" * 10_000 + b'"}}]}\n\n'
        try:
            while sent < size:
                await response.write(event)
                sent += len(event)
        finally:
            over.set()
        return response

    await _hurried(limited)
    limited.provider.answer = much
    try:
        async with http2(limited.bench.port, generous=False) as client:
            answer = await client.answer(client.ask(STREAM))
            assert (answer.status, answer.ended) == (200, False)
            assert answer.reset is not None
            await asyncio.wait_for(over.wait(), 20)
            # What Envoy keeps of it is bounded; the rest is in sockets.
            assert sent < 20_000_000
            await eventually(lambda: answer.request_id in limited.bench.records)
            usage = limited.bench.records[answer.request_id].usage
            assert usage is not None
            assert usage.output_tokens > 10
    finally:
        limited.provider.answer = None
        await limited.bench.apply(*limited.documents())
    await limited.all_settled()


async def test_over_tls_the_protocol_is_agreed_on_and_all_is_the_same(limited: Limited) -> None:
    authority = Authority()
    _, *others = limited.documents()
    listener = https("https", limited.bench.port, "x", "x.test")
    try:
        await limited.bench.apply(secure_gateway(listener), authority.secret("x", "x.test"), *others)
        async with http2(limited.bench.port, authority.client_context()) as client:
            streams = [client.ask(STREAM, authority="x.test", scheme="https") for _ in range(20)]
            assert {(await client.answer(stream)).status for stream in streams} == {200}
            answer = await client.answer(client.ask(ASKED, authority="y.test", scheme="https"))
            assert answer.status == 421
            assert json.loads(answer.body)["error"]["type"] == "MisdirectedRequest"
            answer = await client.answer(client.ask(ASKED, authority="x.test", path="nothing"))
            assert (answer.reset, client.closed) == (1, None)
    finally:
        await limited.bench.apply(*limited.documents())
    await limited.all_settled()
