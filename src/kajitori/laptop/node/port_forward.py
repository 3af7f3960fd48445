"""Port-forwarding: SPDY streams, each pair of them one connection to a port of a pod.

A client opens an error stream and a data stream with the same `requestID` for every connection, in SPDY itself or,
as kubectl does, in SPDY inside a WebSocket. Pods have addresses on this machine, so the connection is made from
here, and closing one direction of it is carried over as such. The older `v4.channel.k8s.io`, one WebSocket for a
fixed list of ports, is understood as well.
"""

from __future__ import annotations

import asyncio
import struct

from aiohttp import WSMsgType, web

from kajitori.base.spdy import (
    DATA,
    GOAWAY,
    PING,
    RST_STREAM,
    SYN_STREAM,
    Frame,
    MalformedSpdy,
    Reader,
    Writer,
    data_frame,
    ping_frame,
    reset_frame,
)
from kajitori.laptop.node.upgrade import ByteStream, InWebSocket, accept_spdy, is_spdy

TUNNEL = "SPDY/3.1+portforward.k8s.io"
PROTOCOL = "portforward.k8s.io"
CHUNK_BYTES = 32 << 10
CONNECT_SECONDS = 10.0


class _Connection:
    """One forwarded connection: its two streams, and the socket to the pod once there is one."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.error_stream = 0
        self.data_stream = 0
        self.connected: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()


class Session:
    """All streams of one client."""

    def __init__(self, stream: ByteStream, address: str) -> None:
        self._stream = stream
        self._address = address
        self._reader = Reader()
        self._writer = Writer()
        self._by_request: dict[str, _Connection] = {}
        self._by_stream: dict[int, _Connection] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        try:
            async for data in self._stream.chunks():
                for frame in self._reader.feed(data):
                    await self._handle(frame)
        except (ConnectionError, MalformedSpdy):
            pass
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _handle(self, frame: Frame) -> None:
        if frame.type == SYN_STREAM:
            await self._open(frame)
        elif frame.type == DATA:
            await self._carry(frame)
        elif frame.type == PING:
            await self._stream.send(ping_frame(frame.stream))
        elif frame.type == RST_STREAM:
            self._drop(frame.stream)
        elif frame.type == GOAWAY:
            await self._stream.close()

    async def _open(self, frame: Frame) -> None:
        headers = frame.headers or {}
        kind, request = headers.get("streamtype"), headers.get("requestid", "")
        port = headers.get("port", "")
        if kind not in ("error", "data") or not port.isdigit() or not 0 < int(port) < 65_536:
            await self._stream.send(reset_frame(frame.stream, 1))
            return
        await self._stream.send(self._writer.reply(frame.stream))
        connection = self._by_request.setdefault(request, _Connection(int(port)))
        self._by_stream[frame.stream] = connection
        if kind == "error":
            connection.error_stream = frame.stream
        else:
            connection.data_stream = frame.stream
        if connection.error_stream and connection.data_stream:
            del self._by_request[request]
            task = asyncio.create_task(self._forward(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, frame: Frame) -> None:
        connection = self._by_stream.get(frame.stream)
        if connection is None or frame.stream != connection.data_stream:
            return
        try:
            writer = await asyncio.shield(connection.connected)
            if frame.data:
                writer.write(frame.data)
                await writer.drain()
            if frame.ends and writer.can_write_eof():
                writer.write_eof()
        except OSError:
            # The pod closed its side; its end is told by the task that reads from it.
            return

    def _drop(self, stream: int) -> None:
        connection = self._by_stream.pop(stream, None)
        if connection is not None and connection.connected.done() and not connection.connected.exception():
            connection.connected.result().close()

    async def _forward(self, connection: _Connection) -> None:
        """Connect to the pod and carry what comes from it until it ends."""
        send = self._stream.send
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection(self._address, connection.port)
        except (OSError, TimeoutError) as error:
            connection.connected.set_exception(OSError(str(error)))
            connection.connected.exception()
            text = f"failed to connect to port {connection.port} of the pod at {self._address}: {error}"
            await send(data_frame(connection.error_stream, text.encode(), end=True))
            await send(data_frame(connection.data_stream, b"", end=True))
            return
        connection.connected.set_result(writer)
        try:
            while piece := await reader.read(CHUNK_BYTES):
                await send(data_frame(connection.data_stream, piece))
        except OSError:
            pass
        finally:
            writer.close()
            self._by_stream.pop(connection.data_stream, None)
            self._by_stream.pop(connection.error_stream, None)
        await send(data_frame(connection.data_stream, b"", end=True))
        await send(data_frame(connection.error_stream, b"", end=True))


async def forward(request: web.Request, address: str) -> web.StreamResponse:
    """Serve one port-forwarding client. address: of the pod, empty if it has none yet."""
    if not address:
        raise web.HTTPBadRequest(text="the pod has no address yet: it is not running")
    if is_spdy(request):
        stream: ByteStream = await accept_spdy(request, (PROTOCOL,))
    elif request.headers.get("Upgrade", "").lower() != "websocket":
        raise web.HTTPBadRequest(text="Upgrade request required")
    elif TUNNEL not in request.headers.get("Sec-WebSocket-Protocol", ""):
        return await _forward_fixed(request, address)
    else:
        socket = web.WebSocketResponse(protocols=(TUNNEL,), max_msg_size=0, compress=False)
        await socket.prepare(request)
        stream = InWebSocket(socket)
    await Session(stream, address).run()
    await stream.close()
    return stream.response()


async def _forward_fixed(request: web.Request, address: str) -> web.StreamResponse:
    """Carry connections to ports of a pod: for each port a data channel and an error channel (v4.channel.k8s.io).

    Each channel begins with its port, two bytes in little-endian order.
    """
    ports = [int(port) for text in request.query.getall("port", []) for port in text.split(",")]
    if not ports:
        raise web.HTTPBadRequest(text="query parameter port is required")
    socket = web.WebSocketResponse(protocols=("v4.channel.k8s.io", PROTOCOL), max_msg_size=1 << 22)
    await socket.prepare(request)
    writers: dict[int, asyncio.StreamWriter] = {}
    pumps: list[asyncio.Task[None]] = []
    try:
        for index, port in enumerate(ports):
            head = struct.pack("<H", port)
            await socket.send_bytes(bytes([2 * index]) + head)
            await socket.send_bytes(bytes([2 * index + 1]) + head)
            try:
                reader, writers[2 * index] = await asyncio.open_connection(address, port)
            except OSError as error:
                message = f"failed to connect to {address}:{port}: {error.strerror or error}"
                await socket.send_bytes(bytes([2 * index + 1]) + message.encode())
                continue
            pumps.append(asyncio.ensure_future(_pump_connection(reader, socket, 2 * index)))
        async for message in socket:
            if message.type == WSMsgType.BINARY and message.data and message.data[0] in writers:
                writer = writers[message.data[0]]
                writer.write(message.data[1:])
                await writer.drain()
    except ConnectionError:
        pass
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for writer in writers.values():
            writer.close()
    return socket


async def _pump_connection(reader: asyncio.StreamReader, socket: web.WebSocketResponse, channel: int) -> None:
    while data := await reader.read(CHUNK_BYTES):
        await socket.send_bytes(bytes([channel]) + data)
    await socket.close(code=1000)
