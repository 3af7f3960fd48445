"""The channels of exec and attach: stdin, stdout, stderr, errors and sizes, over a WebSocket or over SPDY.

In a WebSocket (`v5.channel.k8s.io`) the first byte of a binary message is its channel, and 255 closes the one that
the second byte names. In SPDY each channel is a stream that the client opens, told apart by its header `streamtype`.

Source: Kubernetes, KEP-4006 "Transition from SPDY to WebSockets"; remote command protocol v4 and v5.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol

from aiohttp import WSMsgType, web

from kajitori.base import spdy
from kajitori.laptop.node.upgrade import ByteStream, accept_spdy, is_spdy

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
_STREAM_TYPES = {"stdin": STDIN, "stdout": STDOUT, "stderr": STDERR, "error": ERROR, "resize": RESIZE}
_STREAMS_SECONDS = 30.0
_FAREWELL_SECONDS = 2.0
_INVALID_STREAM = 1


class Wanted(NamedTuple):
    """What a client asks for in its query."""

    stdin: bool
    stdout: bool
    stderr: bool
    terminal: bool


def wanted_of(request: web.BaseRequest) -> Wanted:
    """The options by the names that a kubelet or the API server has for them."""

    def flag(*names: str) -> bool:
        return any(request.query.get(name) in ("1", "true") for name in names)

    return Wanted(flag("input", "stdin"), flag("output", "stdout"), flag("error", "stderr"), flag("tty"))


class Channels(Protocol):
    """One upgraded connection. sending: frames that the client has yet to make room for."""

    sending: int

    async def send(self, channel: int, data: bytes) -> None: ...
    def messages(self) -> AsyncIterator[tuple[int, bytes]]: ...
    async def close(self) -> None: ...
    def response(self) -> web.StreamResponse: ...


async def open_channels(request: web.Request, wanted: Wanted) -> Channels:
    """Grant the upgrade. Raises HTTPForbidden, HTTPBadRequest, ConnectionError."""
    if is_spdy(request):
        channels = _SpdyChannels(await accept_spdy(request, PROTOCOLS), wanted)
        await channels.open()
        return channels
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise web.HTTPBadRequest(text="Upgrade request required")
    socket = web.WebSocketResponse(protocols=PROTOCOLS, max_msg_size=1 << 22)
    await socket.prepare(request)
    return _WebSocketChannels(socket)


class _WebSocketChannels:
    def __init__(self, socket: web.WebSocketResponse) -> None:
        self.sending = 0
        self._socket = socket

    async def send(self, channel: int, data: bytes) -> None:
        self.sending += 1
        try:
            await self._socket.send_bytes(bytes([channel]) + data)
        finally:
            self.sending -= 1

    async def messages(self) -> AsyncIterator[tuple[int, bytes]]:
        async for message in self._socket:
            if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                continue
            data = message.data if isinstance(message.data, bytes) else message.data.encode()
            if data:
                yield data[0], data[1:]

    async def close(self) -> None:
        await self._socket.close(code=1000)

    def response(self) -> web.StreamResponse:
        return self._socket


class _SpdyChannels:
    def __init__(self, stream: ByteStream, wanted: Wanted) -> None:
        self.sending = 0
        self._stream = stream
        self._frames = self._read()
        self._writer = spdy.Writer()
        self._channels: dict[int, int] = {}
        self._early: list[tuple[int, bytes]] = []
        self._expected = {ERROR}
        self._expected |= {STDIN} if wanted.stdin else set[int]()
        self._expected |= {STDOUT} if wanted.stdout else set[int]()
        # A terminal has one output.
        self._expected |= {STDERR} if wanted.stderr and not wanted.terminal else set[int]()
        self._expected |= {RESIZE} if wanted.terminal else set[int]()

    async def open(self) -> None:
        """Until the client has opened its streams. Raises ConnectionError."""
        try:
            async with asyncio.timeout(_STREAMS_SECONDS):
                while not self._expected <= set(self._channels.values()):
                    try:
                        frame = await anext(self._frames)
                    except StopAsyncIteration:
                        raise ConnectionResetError("the client opened too few streams") from None
                    self._early += [message async for message in self._handle(frame)]
        except TimeoutError:
            await self._stream.close()
            raise ConnectionResetError("the client opened too few streams in time") from None

    async def _read(self) -> AsyncIterator[spdy.Frame]:
        reader = spdy.Reader()
        try:
            async for data in self._stream.chunks():
                for frame in reader.feed(data):
                    yield frame
        except spdy.MalformedSpdy:
            await self._stream.close()

    async def _handle(self, frame: spdy.Frame) -> AsyncIterator[tuple[int, bytes]]:
        if frame.type == spdy.SYN_STREAM:
            channel = _STREAM_TYPES.get((frame.headers or {}).get("streamtype", ""))
            if channel is None:
                await self._stream.send(spdy.reset_frame(frame.stream, _INVALID_STREAM))
                return
            self._channels[frame.stream] = channel
            await self._stream.send(self._writer.reply(frame.stream))
        elif frame.type == spdy.PING:
            await self._stream.send(spdy.ping_frame(frame.stream))
        elif frame.type == spdy.GOAWAY:
            await self._stream.close()
        channel = self._channels.get(frame.stream)
        if frame.type == spdy.DATA and channel is not None:
            if frame.data:
                for payload in _sizes(frame.data) if channel == RESIZE else (frame.data,):
                    yield channel, payload
            if frame.ends:
                yield CLOSE, bytes([channel])
        elif frame.type == spdy.RST_STREAM and channel is not None:
            yield CLOSE, bytes([channel])

    async def messages(self) -> AsyncIterator[tuple[int, bytes]]:
        for message in self._early:
            yield message
        async for frame in self._frames:
            async for message in self._handle(frame):
                yield message

    async def send(self, channel: int, data: bytes) -> None:
        stream = next((number for number, each in self._channels.items() if each == channel), None)
        if stream is None:
            return
        self.sending += 1
        try:
            await self._stream.send(spdy.data_frame(stream, data))
        finally:
            self.sending -= 1

    async def close(self) -> None:
        """End the outputs, the errors last: a client takes their end for the end of the command."""
        for stream, channel in sorted(self._channels.items(), key=lambda item: item[1]):
            if channel in (STDOUT, STDERR, ERROR):
                await self._stream.send(spdy.data_frame(stream, b"", end=True))
        # Closing at once could cut off what is on its way, if the client has sent something that nobody reads.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_SECONDS):
                await self._stream.closed_by_client()
        await self._stream.close()

    def response(self) -> web.StreamResponse:
        return self._stream.response()


def _sizes(data: bytes) -> list[bytes]:
    """The sizes in a piece of the resize stream, JSON documents one after the other."""
    found: list[bytes] = []
    text, position = data.decode(errors="replace"), 0
    decoder = json.JSONDecoder()
    while position < len(text):
        try:
            size, position = decoder.raw_decode(text, position)
        except ValueError:
            break
        found.append(json.dumps(size).encode())
        while position < len(text) and text[position].isspace():
            position += 1
    return found
