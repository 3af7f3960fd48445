"""kubectl port-forward: SPDY streams inside a WebSocket, each pair of them one connection to a port of a pod.

A client opens an error stream and a data stream with the same `requestID` for every connection. Pods of this
cluster have addresses on this machine's loopback, so the connection is made from here, and closing one
direction of it is carried over as such.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import WSMsgType, web

from kajitori.laptop.apiserver import status
from kajitori.laptop.apiserver.spdy import (
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

if TYPE_CHECKING:
    from kajitori.laptop.apiserver.request import Call

PROTOCOL = "SPDY/3.1+portforward.k8s.io"
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
    """All streams of one WebSocket."""

    def __init__(self, socket: web.WebSocketResponse, address: str) -> None:
        self._socket = socket
        self._address = address
        self._reader = Reader()
        self._writer = Writer()
        self._by_request: dict[str, _Connection] = {}
        self._by_stream: dict[int, _Connection] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        try:
            async for message in self._socket:
                if message.type is not WSMsgType.BINARY:
                    break
                for frame in self._reader.feed(message.data):
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
            await self._socket.send_bytes(ping_frame(frame.stream))
        elif frame.type == RST_STREAM:
            self._drop(frame.stream)
        elif frame.type == GOAWAY:
            await self._socket.close()

    async def _open(self, frame: Frame) -> None:
        headers = frame.headers or {}
        kind, request = headers.get("streamtype"), headers.get("requestid", "")
        port = headers.get("port", "")
        if kind not in ("error", "data") or not port.isdigit() or not 0 < int(port) < 65_536:
            await self._socket.send_bytes(reset_frame(frame.stream, 1))
            return
        await self._socket.send_bytes(self._writer.reply(frame.stream))
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
        send = self._socket.send_bytes
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


async def forward(call: Call, address: str) -> web.StreamResponse:
    """Serve one port-forwarding WebSocket. address: of the pod, empty if it has none yet."""
    if not address:
        raise status.bad_request(f"pod {call.target.name} has no address yet: it is not running")
    socket = web.WebSocketResponse(protocols=(PROTOCOL,), max_msg_size=0, compress=False)
    await socket.prepare(call.http)
    await Session(socket, address).run()
    await socket.close()
    return socket
