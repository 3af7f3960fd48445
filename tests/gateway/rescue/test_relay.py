"""The relay between two sockets: a client on one side, a stand-in for Envoy's inner listener on the other."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kajitori.gateway.rescue import legs
from kajitori.gateway.rescue.relay import Relay
from tests.gateway.rescue.test_stories import chunk

DONE = b"data: [DONE]\n\n"
BODY = {"model": "m", "messages": [{"role": "user", "content": "?"}], "stream": True}


def head(kind: str = "text/event-stream", status: str = "200 OK", extra: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n{extra}\r\n".encode()


def piece(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Inner:
    """Plays one script a leg: bytes to send, then the connection is cut unless they end the body."""

    def __init__(self) -> None:
        self.scripts: list[bytes] = []
        self.asked: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.hold: asyncio.Event | None = None
        self.cut = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            text = (await reader.readuntil(b"\r\n\r\n")).decode()
            headers = {
                name.lower(): value
                for name, _, value in (line.partition(": ") for line in text.split("\r\n")[1:])
            }
            self.asked.append((headers, json.loads(await reader.readexactly(int(headers["content-length"])))))
            writer.write(self.scripts.pop(0))
            await writer.drain()
            if self.hold is not None:
                with contextlib.suppress(asyncio.IncompleteReadError):
                    await reader.readexactly(1)
                self.cut.set()
        finally:
            writer.close()


@pytest.fixture
async def inner() -> AsyncIterator[Inner]:
    yield Inner()


@pytest.fixture
async def ask(inner: Inner) -> AsyncGenerator[Callable[..., Any]]:
    folder = Path(tempfile.mkdtemp(prefix="relay-", dir="/tmp"))
    server = await asyncio.start_unix_server(inner.serve, str(folder / "inner.sock"))
    relay = Relay(folder / "relay.sock", folder / "inner.sock")
    connector = aiohttp.UnixConnector(str(folder / "relay.sock"))
    async with relay.running(), aiohttp.ClientSession(connector=connector) as session:

        async def asking(mode: str, path: str = "/v1/chat/completions") -> tuple[int, bytes]:
            headers = {legs.MODE: mode, legs.ID: "r1", legs.ROUTE: "ai/x"}
            async with session.post(f"http://x{path}", json=BODY, headers=headers) as answer:
                return answer.status, await answer.read()

        asking.session = session  # type: ignore[attr-defined]
        yield asking
    server.close()
    shutil.rmtree(folder)


async def test_a_whole_stream_passes_byte_for_byte(ask: Any, inner: Inner) -> None:
    events = chunk("a") + b": ping\n\n" + chunk("b") + DONE
    inner.scripts = [head() + b"".join(piece(bytes([one])) for one in events) + b"0\r\n\r\n"]
    assert await ask("Error") == (200, events)
    headers, body = inner.asked[0]
    assert (headers[legs.LEG], headers[legs.ID], headers[legs.ROUTE]) == ("1", "r1", "ai/x")
    assert body == BODY


async def test_a_stream_that_breaks_off_ends_with_an_error_event(ask: Any, inner: Inner) -> None:
    inner.scripts = [head() + piece(chunk("a")) + piece(chunk("half")[:20])]
    status, text = await ask("Error")
    assert status == 200
    assert text.startswith(chunk("a") + b"data: ")
    error = json.loads(text[len(chunk("a")) :].removeprefix(b"data: "))["error"]
    assert error["code"] == "stream_interrupted" and "backend 1 broke off" in error["message"]
    assert len(inner.asked) == 1


async def test_a_stream_that_ends_without_saying_so_is_an_error_too(ask: Any, inner: Inner) -> None:
    inner.scripts = [head() + piece(chunk("a")) + b"0\r\n\r\n"]
    assert b"ended the stream too early" in (await ask("Error"))[1]


async def test_another_backend_goes_on_from_the_text_so_far(ask: Any, inner: Inner) -> None:
    told = "x-kajitori-cluster: ai/default/a\r\n"
    inner.scripts = [
        head(extra=told) + piece(chunk("Hello")),
        head() + piece(chunk(", world", role="assistant")) + piece(DONE) + b"0\r\n\r\n",
    ]
    status, text = await ask("Continue")
    assert status == 200
    assert text.endswith(DONE) and b": kajitori: interrupted (backend 1 broke off), continued" in text
    headers, body = inner.asked[1]
    assert (headers[legs.LEG], headers[legs.ID]) == ("2", "r1~2")
    assert headers[legs.EXCLUDED] == "ai/default/a"
    assert body["messages"][-1] == {"role": "assistant", "content": "Hello"}


async def test_what_nobody_can_go_on_from_is_an_error_with_the_reason(ask: Any, inner: Inner) -> None:
    inner.scripts = [head() + piece(chunk(tool_calls=[{"index": 0}]))]
    assert b"a tool call was cut" in (await ask("Continue"))[1]
    assert len(inner.asked) == 1


async def test_legs_are_bounded_and_the_last_reason_is_told(ask: Any, inner: Inner) -> None:
    cut = head() + piece(chunk("x"))
    refused = head("application/json", "503 Service Unavailable") + piece(b"{}") + b"0\r\n\r\n"
    inner.scripts = [cut, refused, cut, cut]
    text = (await ask("Continue"))[1]
    assert len(inner.asked) == 3
    assert b"backend 3 broke off" in text and DONE not in text
    assert inner.asked[2][1]["messages"][-1]["content"] == "x"


async def test_what_is_no_stream_passes_as_it_is(ask: Any, inner: Inner) -> None:
    inner.scripts = [
        head("application/json", "429 Too Many Requests", "retry-after: 7\r\n") + piece(b"{}") + b"0\r\n\r\n"
    ]
    assert await ask("Continue") == (429, b"{}")


async def test_a_client_that_leaves_takes_the_leg_with_it(ask: Any, inner: Inner) -> None:
    inner.hold = asyncio.Event()
    inner.scripts = [head() + piece(chunk("a"))]
    async with ask.session.post("http://x/v1/chat/completions", json=BODY, headers={legs.ID: "r"}) as answer:
        assert await answer.content.readany() == chunk("a")
        answer.close()
    await asyncio.wait_for(inner.cut.wait(), 20)


async def test_a_connection_that_was_closed_while_it_was_idle_loses_no_request(
    ask: Any, inner: Inner
) -> None:
    kept = head().replace(b"connection: close\r\n", b"")
    events = chunk("a") + DONE
    inner.scripts = [kept + piece(events) + b"0\r\n\r\n", kept + piece(events) + b"0\r\n\r\n"]
    # It closes after each answer without having said so, and so perhaps after the next request was sent.
    assert await ask("Error") == (200, events)
    assert await ask("Error") == (200, events)
    assert len(inner.asked) == 2


async def test_a_client_that_is_slow_gets_all_of_a_large_answer(ask: Any, inner: Inner) -> None:
    events = chunk("x" * 200_000) * 20 + DONE
    inner.scripts = [
        head()
        + b"".join(piece(events[at : at + 50_000]) for at in range(0, len(events), 50_000))
        + b"0\r\n\r\n"
    ]
    got = bytearray()
    async with ask.session.post("http://x/v1/chat/completions", json=BODY, headers={legs.ID: "r"}) as answer:
        async for data in answer.content.iter_chunked(100_000):
            got += data
            await asyncio.sleep(0)
    assert bytes(got) == events


async def test_a_long_stream_is_gone_on_from_all_of_its_text(ask: Any, inner: Inner) -> None:
    words = [f"{number} " for number in range(2_000)]
    inner.scripts = [
        head() + piece(b"".join(chunk(word) for word in words)),
        head() + piece(chunk("end") + DONE) + b"0\r\n\r\n",
    ]
    assert (await ask("Continue"))[1].endswith(DONE)
    assert inner.asked[1][1]["messages"][-1]["content"] == "".join(words)
