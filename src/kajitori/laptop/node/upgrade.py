"""A connection whose bytes are no longer HTTP: what follows an `Upgrade` that was granted.

A real API server speaks SPDY/3.1 to its kubelets, directly or inside a WebSocket. Either way it is a stream of
bytes in both directions, which is all that is seen of it here.

Source: kubernetes, `pkg/registry/core/pod/rest` (who translates what); the header `X-Stream-Protocol-Version`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from aiohttp import WSMsgType, web

SPDY = "SPDY/3.1"
PROTOCOL_HEADER = "X-Stream-Protocol-Version"
_UNREAD_BYTES = 256 << 10
_UNSENT_BYTES = 1 << 20


class ByteStream(Protocol):
    """Bytes to and from a peer. `send` raises ConnectionError once the peer is gone; `chunks` just ends."""

    async def send(self, data: bytes) -> None: ...
    def chunks(self) -> AsyncIterator[bytes]: ...
    async def close(self) -> None: ...
    async def closed_by_client(self) -> None: ...
    def response(self) -> web.StreamResponse: ...


def is_spdy(request: web.BaseRequest) -> bool:
    """Whether the client asks for SPDY rather than a WebSocket."""
    return request.headers.get("Upgrade", "").lower() == SPDY.lower()


async def accept_spdy(request: web.BaseRequest, protocols: Sequence[str]) -> ByteStream:
    """Answer a request for SPDY. protocols: what may go through it, the best first. Raises HTTPForbidden."""
    offered = [
        each.strip() for line in request.headers.getall(PROTOCOL_HEADER, ()) for each in line.split(",")
    ]
    chosen = next((each for each in protocols if each in offered), None)
    if chosen is None:
        raise web.HTTPForbidden(
            text=f"unable to upgrade: unable to negotiate protocol: client supports {offered}, "
            f"server accepts {list(protocols)}"
        )
    transport = request.transport
    if transport is None:
        raise ConnectionResetError
    head = ("HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", f"Upgrade: {SPDY}")
    transport.write("\r\n".join((*head, f"{PROTOCOL_HEADER}: {chosen}", "", "")).encode())
    return _Raw(request, transport)


class _Raw:
    """The connection itself, after its 101. Stands in the place of aiohttp's frame reader."""

    def __init__(self, request: web.BaseRequest, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._received = bytearray()
        self._ended = False
        self._arrived = asyncio.Event()
        self._gone = asyncio.Event()
        self._paused = False
        parser: Any = self
        request.protocol.set_parser(parser)

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._received += data
        self._arrived.set()
        if len(self._received) > _UNREAD_BYTES and not self._paused and not self._transport.is_closing():
            # A client that sends more than is taken waits.
            self._transport.pause_reading()
            self._paused = True
        return False, b""

    def feed_eof(self) -> None:
        self._ended = True
        self._arrived.set()
        self._gone.set()

    def set_exception(self, *_: object) -> None:
        self.feed_eof()

    async def chunks(self) -> AsyncIterator[bytes]:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            if self._received:
                data = bytes(self._received)
                self._received.clear()
                yield data
            if self._paused and not self._transport.is_closing():
                self._transport.resume_reading()
                self._paused = False
            if self._ended and not self._received:
                return

    async def send(self, data: bytes) -> None:
        if self._ended or self._transport.is_closing():
            raise ConnectionResetError("the client has gone")
        self._transport.write(data)
        while self._transport.get_write_buffer_size() > _UNSENT_BYTES:
            if self._transport.is_closing():
                raise ConnectionResetError("the client has gone")
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        self._transport.close()

    async def closed_by_client(self) -> None:
        await self._gone.wait()

    def response(self) -> web.StreamResponse:
        return _Answered()


class _Answered(web.Response):
    """Stands for an answer that has been sent already, byte by byte."""

    async def prepare(self, request: Any) -> Any:
        return None

    async def write_eof(self, data: Any = b"") -> None:
        return None


class InWebSocket:
    """Bytes inside the binary messages of a WebSocket."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def send(self, data: bytes) -> None:
        await self._socket.send_bytes(data)

    async def chunks(self) -> AsyncIterator[bytes]:
        async for message in self._socket:
            if message.type is not WSMsgType.BINARY:
                return
            yield message.data

    async def close(self) -> None:
        await self._socket.close()

    async def closed_by_client(self) -> None:
        """A WebSocket says its farewell itself."""

    def response(self) -> web.StreamResponse:
        return self._socket
