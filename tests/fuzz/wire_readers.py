"""Who reads what Envoy, clients and providers send while a request is under way."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
from functools import cache
from typing import Any

import msgspec
from lupa import luajit21

from kajitori.gateway.accounting.admission_http2 import PREFACE, frame
from kajitori.gateway.accounting.admission_server import AdmissionServer
from kajitori.gateway.accounting.header_blocks import write_name, write_text
from kajitori.gateway.accounting.ledger import Ledger
from kajitori.gateway.accounting.log_format import (
    FIELD_SEPARATOR,
    LINE_START,
    REQUEST_FORMAT,
    REQUEST_VERSION,
)
from kajitori.gateway.accounting.metrics import GatewayMetrics
from kajitori.gateway.accounting.record_store import RecordStore
from kajitori.gateway.accounting.reported import answered_model, read_usage
from kajitori.gateway.limits.request import Request, Verdict
from kajitori.gateway.lua.scripts import COOLING_SCRIPT
from kajitori.gateway.rescue.connections import Request as RelayRequest
from kajitori.gateway.rescue.dialects import story_of
from kajitori.gateway.rescue.events import Splitter, data_of
from kajitori.gateway.rescue.rescued_request import RescuedRequest
from kajitori.gateway.rescue.wire import Body, Head, WireError, read_head
from tests.fuzz.registry import folder, loop, reads, text_of
from tests.gateway.lua.machine import answer, ask


@cache
def _ledger() -> Ledger:
    store = RecordStore(folder() / "requests.db")
    atexit.register(store.close)
    return Ledger(store, GatewayMetrics())


_FIELDS = len(REQUEST_FORMAT) - 1


@reads(
    "log lines",
    b"\x1er2\x1fid\x1f1795719036.05\x1fai/default/r/rule/0/match/0\x1fPOST\x1f200\x1f\x1fai/default/a",
    b"id\xff1795719036.05\xffai/default/r/rule/0/match/0\xffPOST\xff200\xff\xffai/default/a\xff1.2.3.4:5\xff1\xff1.1.1.1"
    b"\xff12\xff12000\xff10\xff20\xff30\xff5\xff6\xff12,7,19,0,0,0;m\xff||1|2|openai|chat|true\xff\xff\xff\xff/v1/x\xff/y\xffm",
    b"\x1ea1\x1fid\x1f429\x1f\x1fai/default/a\x1f1.2.3.4:5\x1f12\x1f30\x1f",
)
def log_lines(data: bytes) -> None:
    fields = [text_of(part) for part in data.split(b"\xff", _FIELDS)]
    fields += [""] * (_FIELDS - len(fields))
    made = FIELD_SEPARATOR.join([LINE_START + REQUEST_VERSION, *fields[:_FIELDS]])
    _ledger().take([made, *text_of(data).split("\n")])


@reads("usage", b"12,7,19,0,0,0;gpt-4o", b"~16,3,0,3,0,0,0", b"~1")
def usage(data: bytes) -> None:
    text = text_of(data)
    with contextlib.suppress(ValueError):
        found, _ = read_usage(text, text[-3:])
        assert found is None or found.total_tokens == found.total_tokens
    answered_model(text)


class _Everybody:
    def admit_at_once(self, request: Request) -> Verdict | None:
        return None

    async def admit(self, request: Request) -> Verdict:
        return Verdict(allowed=len(request.id) % 2 == 0, status=429, message=request.model, limit=request.key)


class _Transport:
    """What a connection writes, until it closes."""

    def __init__(self) -> None:
        self.written, self.closed = bytearray(), False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written += data

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol


class _AtOnce(_Everybody):
    def admit_at_once(self, request: Request) -> Verdict | None:
        return Verdict(allowed=len(request.id) % 2 == 0, status=429, message=request.model, limit=request.key)


_FACTS = "ai/default/r/rule/0|id|key|tenant|12|50|anthropic|chat||1.2.3.4|m"


async def _admitted(pieces: list[bytes]) -> tuple[bytes, bool]:
    connection = AdmissionServer(_Everybody())._connection()
    transport: Any = _Transport()
    connection.connection_made(transport)
    for piece in pieces:
        if not transport.closed:
            connection.data_received(piece)
            while connection._task is not None and not transport.closed:
                await asyncio.sleep(0)
    connection.connection_lost(None)
    return bytes(transport.written), transport.closed


@reads(
    "admission",
    f"POST /admit/v1/x HTTP/1.1\r\ncontent-length: 0\r\nx-kajitori-facts: {_FACTS}\r\n\r\n".encode() * 2,
    b"GET /healthz HTTP/1.1\r\ncontent-length: 3\r\n\r\nabcPOST /admit/ HTTP/1.1\r\n\r\n",
)
def admission(data: bytes) -> None:
    whole = loop().run_until_complete(_admitted([data]))
    cut = len(data) // 2
    assert loop().run_until_complete(_admitted([data[:cut], data[cut:]])) == whole
    if len(data) < 300:
        assert loop().run_until_complete(_admitted([data[at : at + 1] for at in range(len(data))])) == whole


def _admitted_in_http2(pieces: list[bytes]) -> tuple[bytes, bool]:
    transport: Any = _Transport()
    transport.protocol = AdmissionServer(_AtOnce())._connection()
    transport.protocol.connection_made(transport)
    for piece in pieces:
        if not transport.closed:
            transport.protocol.data_received(piece)
    transport.protocol.connection_lost(None)
    return bytes(transport.written), transport.closed


_BLOCK = b"\x83\x44\x0b/admit/v1/x\x86" + write_name(b"x-kajitori-facts") + write_text(_FACTS.encode())


@reads(
    "admission in http2",
    frame(4, 0, bytes(4), b"\0\1\0\0\0\0")
    + frame(1, 5, b"\0\0\0\1", _BLOCK)
    + frame(1, 5, b"\0\0\0\3", b"\x20" + _BLOCK),
    frame(1, 9, b"\0\0\0\1", b"\1\x83\0")
    + frame(9, 4, b"\0\0\0\1", b"\x82")
    + frame(8, 0, bytes(4), b"\0\0\0\1"),
    frame(6, 0, bytes(4), b"12345678") + frame(3, 0, b"\0\0\0\1", bytes(4)) + frame(7, 0, bytes(4), bytes(8)),
)
def admission_in_http2(data: bytes) -> None:
    whole = _admitted_in_http2([PREFACE + data])
    assert _admitted_in_http2([PREFACE, data[: len(data) // 2], data[len(data) // 2 :]]) == whole
    if len(data) < 300:
        assert _admitted_in_http2([PREFACE, *(data[at : at + 1] for at in range(len(data)))]) == whole


_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses")


@reads(
    "events",
    b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"a"}}]}\n\ndata: [DONE]\n\n',
    b'event: content_block_delta\r\ndata: {"type":"content_block_delta",\r\ndata: "delta":{"text":"a"}}\r\n\r\n',
    b'data:{"type":"response.completed","sequence_number":3}\r\r: comment\n\ndata: {"choices":[{"text":"a"}]}\n\n',
)
def events(data: bytes) -> None:
    splitter = Splitter()
    passed, whole = splitter.feed(data)
    assert passed + splitter.pending == data
    assert b"".join(whole) == passed
    if len(data) < 200:
        bytewise, found = Splitter(), list[bytes]()
        for at in range(len(data)):
            found += bytewise.feed(data[at : at + 1])[1]
        assert [data_of(event) for event in found] == [data_of(event) for event in whole]
    for path in _PATHS:
        story = story_of(path, engine_fields=True)
        for event in whole:
            story.adapted(event)
            story.read(event)
        msgspec.json.encode(story.continuation({"messages": [], "prompt": "", "max_tokens": 5}))
        assert story.error(story.text[:50]).endswith(b"\n\n")


@reads(
    "bodies of the relay",
    b'{"model":"m","messages":[{"role":"user","content":"a"}],"max_tokens":5,"stream":true}',
    b'{"prompt":"a","max_completion_tokens":1}',
)
def bodies_of_the_relay(data: bytes) -> None:
    for path in _PATHS:
        head = Head("", [("x-kajitori-rescue", "Continue")])
        rescue = RescuedRequest(RelayRequest("POST", path, head, data))
        rescue.leg = 1
        rescue.story.text = "a \ud7ff"
        made = rescue.next_body()
        assert made is None or isinstance(json.loads(made), dict)


@reads(
    "answers to the relay",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"5;x\r\nabcde\r\n",
)
def answers_to_the_relay(data: bytes) -> None:
    text, _, rest = data.partition(b"\r\n\r\n")
    with contextlib.suppress(WireError):
        Body(read_head(text), answer=True).feed(rest)
    chunked = Head("HTTP/1.1 200 OK", [("transfer-encoding", "chunked")])
    with contextlib.suppress(WireError):
        whole = Body(chunked, answer=True)
        found = whole.feed(data)
        bytewise = Body(chunked, answer=True)
        taken = b"".join(bytewise.feed(data[at : at + 1]) for at in range(len(data) - len(whole.rest)))
        assert (taken, bytewise.ended) == (found, whole.ended)


def _cut(data: bytes) -> list[bytes]:
    size = data[0] % 7 + 1 if data else 1
    return [data[at : at + size] for at in range(0, len(data), size)]


@reads(
    "answers in Lua",
    b'{"model":"m","usage":{"prompt_tokens":12,"completion_tokens":7,"total_tokens":19}}',
    b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\ndata: [DONE]\n\n',
    b'{"type":"response.done","response":{"usage":{"input_tokens":1,"output_tokens":2}}}',
)
def answers_in_lua(data: bytes) -> None:
    for kind in ("application/json", "text/event-stream"):
        if kind == "text/event-stream":
            # A stream that does not say that it is whole gets another end.
            early = answer([*_cut(data), b""], kind, operation="chat")[0]
            assert early == data or early.partition(b'data: {"error":')[0].rstrip(b"\n") in data
            data += b"\n\ndata: [DONE]\n\n"
        whole = answer([data, b""], kind)
        cut = answer([*_cut(data), b""], kind)
        assert (whole[0], cut[0]) == (data, data)
        for told in (whole[1], cut[1]):
            assert told is None or read_usage(told, "") is not None
        if kind == "application/json":
            assert whole == cut


@reads(
    "requests in Lua",
    b'{"model":"m","messages":[{"role":"user","content":"a"}],"stream":true,"max_tokens":5,"n":2}',
    b'{"stream_options":{"include_usage":false},"stream":true,"mod\\u0065l":"\\ud83d\\ude00"}',
)
def requests_in_lua(data: bytes) -> None:
    asked = ask("/v1/chat/completions", data)
    try:
        found = json.loads(data, object_pairs_hook=lambda pairs: pairs)
    except (ValueError, RecursionError):
        found = None
    if asked.status is not None:
        assert asked.status == "400"
        json.loads((asked.answer or "").encode("latin-1").decode("utf-8", "replace"))
    elif isinstance(found, list) and all(isinstance(pair, tuple) for pair in found):
        models = [value for key, value in found if key == "model"]
        assert len(models) == 1
        told = asked.headers["x-ai-eg-model"].encode("latin-1")
        assert told.decode("utf-8", "replace") == models[0].encode(
            "utf-8", "replace"
        ).decode() or "\ufffd" in text_of(told)


@reads(
    "retry-after in Lua", b"30", b"1.5", b"Thu, 26 Nov 2026 19:02:51 GMT", b"Fri, 30 Feb 0000 99:99:99 GMT"
)
def retry_after_in_lua(data: bytes) -> None:
    seconds = _asked_seconds()(data.decode("latin-1"), "")
    also = _asked_seconds()("", data.decode("latin-1"))
    for found in (seconds, also):
        assert found is None or found >= 0


@cache
def _asked_seconds() -> Any:
    runtime = luajit21.LuaRuntime(encoding="latin-1")
    ends = """
    return function(after, milliseconds)
      local given = { ['retry-after'] = after ~= '' and after or nil, ['retry-after-ms'] = milliseconds ~= '' and milliseconds or nil }
      return asked_seconds({ get = function(_, name) return given[name] end }, 1795719036)
    end
    """
    return runtime.execute(COOLING_SCRIPT + ends)
