"""A provider that misbehaves on the wire, each way in which a real one has: a stand-in that writes bytes itself.

It reads a request to the end before it does what it does, except where it fails to connect at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from tests.stand_ins import serving

_Before = Literal[
    "never accepts",
    "resets the connection",
    "resets at the first byte",
    "resets after the request",
    "closes after the request",
    "never answers",
    "closes its half and never answers",
    "answers nonsense",
]
_Within = Literal[
    "resets after the headers",
    "resets in the middle",
    "closes in the middle",
    "stops in the middle",
    "closes its half in the middle",
]
Way = Literal[_Before, _Within, "one byte at a time"]
FAILS_BEFORE_AN_ANSWER: tuple[_Before, ...] = get_args(_Before)
FAILS_IN_AN_ANSWER: tuple[_Within, ...] = get_args(_Within)
_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass
class MisbehavingProvider:
    """way: how it misbehaves. events: how many it sends before that. byte_seconds: between two bytes.

    asked: connections, or requests where it reads them.
    """

    way: Way
    port: int = 0
    events: int = 3
    byte_seconds: float = 0.01
    asked: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            if self.way == "resets the connection":
                self.asked += 1
                reset_connection(writer)
                return
            if self.way == "resets at the first byte":
                await reader.readexactly(1)
                reset_connection(writer)
                return
            await _read_request(reader)
            self.asked += 1
            await self._answer(writer)
        with contextlib.suppress(ConnectionError):
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        match self.way:
            case "resets after the request":
                reset_connection(writer)
            case "never answers":
                await asyncio.Event().wait()
            case "closes its half and never answers":
                writer.write_eof()
                await asyncio.Event().wait()
            case "answers nonsense":
                writer.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
                await writer.drain()
            case "one byte at a time":
                await self._drip(writer)
            case "resets after the headers" | "resets in the middle" | "closes in the middle":
                await self._begin(writer)
                if self.way != "closes in the middle":
                    reset_connection(writer)
            case "stops in the middle":
                await self._begin(writer)
                await asyncio.Event().wait()
            case "closes its half in the middle":
                await self._begin(writer)
                writer.write_eof()
                await asyncio.Event().wait()
            case _:
                pass

    async def _begin(self, writer: asyncio.StreamWriter) -> None:
        """Headers, and the first events of a stream."""
        writer.write(_STREAM)
        for number in range(0 if self.way == "resets after the headers" else self.events):
            writer.write(chunk(event(number)))
        await writer.drain()
        # What comes with a reset in one segment is lost with it.
        await asyncio.sleep(0.05)

    async def _drip(self, writer: asyncio.StreamWriter) -> None:
        whole = _STREAM + chunk(event(0)) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
        for at in range(len(whole)):
            writer.write(whole[at : at + 1])
            await writer.drain()
            await asyncio.sleep(self.byte_seconds)


def event(number: int) -> bytes:
    """One of a chat's stream."""
    return (
        b"data: "
        + json.dumps({"choices": [{"index": 0, "delta": {"content": f"{number} "}}]}).encode()
        + b"\n\n"
    )


def chunk(data: bytes) -> bytes:
    """As HTTP/1.1 parts a body of unknown length."""
    return b"%x\r\n%s\r\n" % (len(data), data)


async def _read_request(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
    await reader.readexactly(length)


def reset_connection(writer: asyncio.StreamWriter) -> None:
    """Closes with RST, as a process that was killed or a firewall that gave up does."""
    found: socket.socket = writer.get_extra_info("socket")
    found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.asynccontextmanager
async def misbehaving(way: Way, **more: int | float) -> AsyncIterator[MisbehavingProvider]:
    """Serves on a port of its own until the block ends."""
    provider = MisbehavingProvider(way, **more)  # type: ignore[arg-type]
    if way == "never accepts":
        with _full_port() as provider.port:
            yield provider
        return
    async with serving(provider.serve) as provider.port:
        yield provider


@contextlib.contextmanager
def _full_port() -> Iterator[int]:
    """A port whose queue of connections is full, so that the kernel answers nobody."""
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            caller = waiting.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
