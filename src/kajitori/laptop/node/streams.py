"""exec, attach and port-forward over WebSocket, as the Kubernetes remote command protocol has it.

Binary frames; the first byte names the channel: 0 stdin, 1 stdout, 2 stderr, 3 error, 4 resize (JSON with Width and
Height), 255 closes the channel in the second byte (v5). The end is a Status on the error channel.

Source: Kubernetes, KEP-4006 "Transition from SPDY to WebSockets"; `v4.channel.k8s.io`, `v5.channel.k8s.io`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import select
import struct
import termios
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import WSMsgType, web

from kajitori.base.errors import KajitoriError
from kajitori.laptop.node.container import ContainerLife
from kajitori.laptop.node.node import LOST_EXIT_CODE, Node
from kajitori.laptop.node.runner_client import ContainerRecord, RunnerClient, RunnerError

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
_CHUNK_BYTES = 32768
_QUIET_SECONDS = 1.0
_END_OF_INPUT = b"\x04"  # what a terminal takes for it


class _Channels:
    """One upgraded connection."""

    def __init__(self, request: web.Request) -> None:
        query = request.query
        self.stdin = query.get("input", query.get("stdin")) in ("1", "true")
        self.stdout = query.get("output", query.get("stdout")) in ("1", "true")
        self.stderr = query.get("error", query.get("stderr")) in ("1", "true")
        self.terminal = query.get("tty") in ("1", "true")
        self.socket = web.WebSocketResponse(protocols=PROTOCOLS, max_msg_size=1 << 22)
        self.sending = 0  # frames that the client has yet to make room for

    async def send(self, channel: int, data: bytes) -> None:
        self.sending += 1
        try:
            await self.socket.send_bytes(bytes([channel]) + data)
        finally:
            self.sending -= 1

    async def send_result(self, code: int | None, message: str = "") -> None:
        if code == 0:
            status: dict[str, object] = {"metadata": {}, "status": "Success"}
        elif code is not None:
            status = {
                "metadata": {},
                "status": "Failure",
                "message": f"command terminated with exit code {code}",
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
            }
        else:
            status = {
                "metadata": {},
                "status": "Failure",
                "message": message,
                "reason": "InternalError",
                "code": 500,
            }
        await self.send(ERROR, json.dumps(status).encode())

    async def read_into(
        self, descriptor: int, terminal: int, close_stdin: Callable[[], Awaitable[None]]
    ) -> None:
        """Carry the client's input to the descriptor (-1: drop it) until the client leaves."""
        async for message in self.socket:
            if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                continue
            data = message.data if isinstance(message.data, bytes) else message.data.encode()
            if not data:
                continue
            channel, payload = data[0], data[1:]
            if channel == STDIN and descriptor >= 0:
                if payload:
                    await _write_all(descriptor, payload)
            elif channel == RESIZE and terminal >= 0:
                resize(terminal, payload)
            elif channel == CLOSE and payload[:1] == bytes([STDIN]) and descriptor >= 0:
                if terminal >= 0:  # its output comes from the same descriptor
                    await _write_all(descriptor, _END_OF_INPUT)
                else:
                    await close_stdin()
                # The number may soon be another file's: whatever else the client sends is dropped.
                descriptor = -1


def resize(terminal: int, payload: bytes) -> None:
    """Set a terminal's size from `{"Width":80,"Height":24}`; nonsense is ignored."""
    with contextlib.suppress(ValueError, KeyError, TypeError, OSError, struct.error):
        size = json.loads(payload)
        packed = struct.pack("HHHH", int(size["Height"]), int(size["Width"]), 0, 0)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, packed)


async def _write_all(descriptor: int, data: bytes) -> None:
    loop = asyncio.get_running_loop()
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            ready = asyncio.Event()
            loop.add_writer(descriptor, ready.set)
            try:
                await ready.wait()
            finally:
                loop.remove_writer(descriptor)
        except OSError:  # the command does not read any more
            return


async def _pump(descriptor: int, send: Callable[[bytes], Awaitable[None]]) -> None:
    """Everything that comes out of the descriptor, until its end."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            data = os.read(descriptor, _CHUNK_BYTES)
        except BlockingIOError:
            ready = asyncio.Event()
            loop.add_reader(descriptor, ready.set)
            try:
                await ready.wait()
            finally:
                loop.remove_reader(descriptor)
            continue
        except OSError:  # a terminal whose last user has gone
            return
        if not data:
            return
        await send(data)


def _have_more(descriptors: Sequence[int]) -> bool:
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return any(events & select.POLLIN for _, events in poll.poll(0))


class _Ends:
    """Descriptors that are closed once each, and all at the latest on leaving."""

    def __init__(self) -> None:
        self._open: set[int] = set()

    def add(self, *descriptors: int) -> None:
        self._open.update(descriptors)

    def pipe(self) -> tuple[int, int]:
        reader, writer = os.pipe()
        self.add(reader, writer)
        return reader, writer

    def close(self, *descriptors: int) -> None:
        for descriptor in descriptors:
            if descriptor in self._open:
                self._open.discard(descriptor)
                os.close(descriptor)

    def close_all(self) -> None:
        self.close(*list(self._open))


async def execute(
    request: web.Request, runner: RunnerClient, container: str, command: list[str]
) -> web.StreamResponse:
    """Run a command in a container for a client."""
    channels = _Channels(request)
    await channels.socket.prepare(request)
    ends = _Ends()
    try:
        if channels.terminal:
            theirs, stdin, outputs = _terminal(ends)
        else:
            theirs, stdin, outputs = _pipes(ends, channels)
        for descriptor in (stdin, *outputs.values()):
            if descriptor >= 0:
                os.set_blocking(descriptor, False)
        running = asyncio.ensure_future(
            runner.execute(container, command, theirs, terminal=channels.terminal)
        )
        terminal = stdin if channels.terminal else -1

        async def close_stdin() -> None:
            ends.close(stdin)

        reading = asyncio.ensure_future(
            channels.read_into(stdin if channels.stdin else -1, terminal, close_stdin)
        )
        pumps = [
            asyncio.ensure_future(
                _pump(descriptor, lambda data, channel=channel: channels.send(channel, data))
            )
            for channel, descriptor in outputs.items()
        ]
        # The runner has its own copies once it has the request; a moment is enough, and its answer is the latest.
        await _finish(
            channels, running, reading, pumps, list(outputs.values()), lambda: ends.close(*set(theirs))
        )
    finally:
        ends.close_all()
    return channels.socket


def _terminal(ends: _Ends) -> tuple[list[int], int, dict[int, int]]:
    master, slave = pty.openpty()
    ends.add(master, slave)
    return [slave, slave, slave], master, {STDOUT: master}


def _pipes(ends: _Ends, channels: _Channels) -> tuple[list[int], int, dict[int, int]]:
    if channels.stdin:
        in_reader, in_writer = ends.pipe()
    else:
        in_reader, in_writer = os.open(os.devnull, os.O_RDONLY), -1
        ends.add(in_reader)
    out_reader, out_writer = ends.pipe()
    err_reader, err_writer = ends.pipe()
    return [in_reader, out_writer, err_writer], in_writer, {STDOUT: out_reader, STDERR: err_reader}


async def _finish(
    channels: _Channels,
    running: asyncio.Future[int],
    reading: asyncio.Future[None],
    pumps: Sequence[asyncio.Future[None]],
    outputs: Sequence[int],
    release: Callable[[], None],
) -> None:
    """Until the command ended and its output is sent, or the client left, which kills the command."""
    try:
        await asyncio.wait({running, reading}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            return
        release()
        # What outlives the command may hold its output open: that is not waited for. What has been written is, also
        # where the client is slow to take it.
        while not reading.done():
            _, pending = await asyncio.wait(pumps, timeout=_QUIET_SECONDS)
            if not pending or not (channels.sending or _have_more(outputs)):
                break
        try:
            await channels.send_result(running.result())
        except RunnerError as error:
            await channels.send_result(126 if error.exit_code else None, str(error))
        except KajitoriError as error:
            await channels.send_result(None, str(error))
        await channels.socket.close(code=1000)
    except ConnectionError:
        pass
    finally:
        tasks = (running, reading, *pumps)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def attach(request: web.Request, node: Node, life: ContainerLife) -> web.StreamResponse:
    """Give a client the further output of a container, and its input where the container takes any."""
    channels = _Channels(request)
    await channels.socket.prepare(request)
    ends = _Ends()
    end = node.expect_end(life.name)
    try:
        out_reader, out_writer = ends.pipe()
        err_reader, err_writer = ends.pipe()
        for descriptor in (out_reader, err_reader):
            os.set_blocking(descriptor, False)
        terminal, stdin = await node.runner.attach(life.name, out_writer, err_writer)
        ends.close(out_writer, err_writer)
        if stdin >= 0:
            ends.add(stdin)
            os.set_blocking(stdin, False)

        async def close_stdin() -> None:
            ends.close(stdin)
            await _end_input(node, life)

        reading = asyncio.ensure_future(
            channels.read_into(stdin if channels.stdin else -1, stdin if terminal else -1, close_stdin)
        )
        pumps = [
            asyncio.ensure_future(_pump(out_reader, lambda data: channels.send(STDOUT, data))),
            asyncio.ensure_future(_pump(err_reader, lambda data: channels.send(STDERR, data))),
        ]
        ended = asyncio.ensure_future(_exit_code(end))
        await _finish(channels, ended, reading, pumps, [out_reader, err_reader], lambda: None)
        await _end_input(node, life)
    except KajitoriError as error:
        await channels.send_result(None, str(error))
        await channels.socket.close(code=1000)
    finally:
        ends.close_all()
    return channels.socket


async def _end_input(node: Node, life: ContainerLife) -> None:
    """The client has no more to say, which is the end of the input where the container takes one client's."""
    if life.spec.stdin_once:
        with contextlib.suppress(KajitoriError):
            await node.runner.call("close_stdin", container=life.name)


async def _exit_code(end: asyncio.Future[ContainerRecord | None]) -> int:
    record = await asyncio.shield(end)
    return record.exit_code if record else LOST_EXIT_CODE


async def forward_ports(request: web.Request, address: str) -> web.StreamResponse:
    """Carry connections to ports of a pod: for each port a data channel and an error channel (v4.channel.k8s.io).

    Each channel begins with its port, two bytes in little-endian order.
    """
    ports = [int(port) for text in request.query.getall("port", []) for port in text.split(",")]
    if not ports:
        raise web.HTTPBadRequest(text="query parameter port is required")
    socket = web.WebSocketResponse(
        protocols=("v4.channel.k8s.io", "portforward.k8s.io"), max_msg_size=1 << 22
    )
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
    while data := await reader.read(_CHUNK_BYTES):
        await socket.send_bytes(bytes([channel]) + data)
    await socket.close(code=1000)
