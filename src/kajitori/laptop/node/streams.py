"""exec and attach: a command's or a container's descriptors on one side, a client's channels on the other.

The end is a Status on the error channel, as the Kubernetes remote command protocol has it.
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

from aiohttp import web

from kajitori.base.errors import KajitoriError
from kajitori.laptop.node.channels import (
    CLOSE,
    ERROR,
    RESIZE,
    STDERR,
    STDIN,
    STDOUT,
    Channels,
    Wanted,
    open_channels,
    wanted_of,
)
from kajitori.laptop.node.container import ContainerLife
from kajitori.laptop.node.node import LOST_EXIT_CODE, Node
from kajitori.laptop.node.runner_client import ContainerRecord, RunnerClient, RunnerError

_CHUNK_BYTES = 32768
_QUIET_SECONDS = 1.0
_END_OF_INPUT = b"\x04"  # what a terminal takes for it


async def _send_result(channels: Channels, code: int | None, message: str = "") -> None:
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
    await channels.send(ERROR, json.dumps(status).encode())


async def _read_into(
    channels: Channels, descriptor: int, terminal: int, close_stdin: Callable[[], Awaitable[None]]
) -> None:
    """Carry the client's input to the descriptor (-1: drop it) until the client leaves."""
    async for channel, payload in channels.messages():
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
    wanted = wanted_of(request)
    channels = await open_channels(request, wanted)
    ends = _Ends()
    try:
        if wanted.terminal:
            theirs, stdin, outputs = _terminal(ends)
        else:
            theirs, stdin, outputs = _pipes(ends, wanted)
        for descriptor in (stdin, *outputs.values()):
            if descriptor >= 0:
                os.set_blocking(descriptor, False)
        running = asyncio.ensure_future(runner.execute(container, command, theirs, terminal=wanted.terminal))
        terminal = stdin if wanted.terminal else -1

        async def close_stdin() -> None:
            ends.close(stdin)

        reading = asyncio.ensure_future(
            _read_into(channels, stdin if wanted.stdin else -1, terminal, close_stdin)
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
    return channels.response()


def _terminal(ends: _Ends) -> tuple[list[int], int, dict[int, int]]:
    master, slave = pty.openpty()
    ends.add(master, slave)
    return [slave, slave, slave], master, {STDOUT: master}


def _pipes(ends: _Ends, wanted: Wanted) -> tuple[list[int], int, dict[int, int]]:
    if wanted.stdin:
        in_reader, in_writer = ends.pipe()
    else:
        in_reader, in_writer = os.open(os.devnull, os.O_RDONLY), -1
        ends.add(in_reader)
    out_reader, out_writer = ends.pipe()
    err_reader, err_writer = ends.pipe()
    return [in_reader, out_writer, err_writer], in_writer, {STDOUT: out_reader, STDERR: err_reader}


async def _finish(
    channels: Channels,
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
            await _send_result(channels, running.result())
        except RunnerError as error:
            await _send_result(channels, 126 if error.exit_code else None, str(error))
        except KajitoriError as error:
            await _send_result(channels, None, str(error))
        await channels.close()
    except ConnectionError:
        pass
    finally:
        tasks = (running, reading, *pumps)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def attach(request: web.Request, node: Node, life: ContainerLife) -> web.StreamResponse:
    """Give a client the further output of a container, and its input where the container takes any."""
    wanted = wanted_of(request)
    channels = await open_channels(request, wanted)
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
            _read_into(channels, stdin if wanted.stdin else -1, stdin if terminal else -1, close_stdin)
        )
        pumps = [
            asyncio.ensure_future(_pump(out_reader, lambda data: channels.send(STDOUT, data))),
            asyncio.ensure_future(_pump(err_reader, lambda data: channels.send(STDERR, data))),
        ]
        ended = asyncio.ensure_future(_exit_code(end))
        await _finish(channels, ended, reading, pumps, [out_reader, err_reader], lambda: None)
        await _end_input(node, life)
    except KajitoriError as error:
        await _send_result(channels, None, str(error))
        await channels.close()
    finally:
        ends.close_all()
    return channels.response()


async def _end_input(node: Node, life: ContainerLife) -> None:
    """The client has no more to say, which is the end of the input where the container takes one client's."""
    if life.spec.stdin_once:
        with contextlib.suppress(KajitoriError):
            await node.runner.call("close_stdin", container=life.name)


async def _exit_code(end: asyncio.Future[ContainerRecord | None]) -> int:
    record = await asyncio.shield(end)
    return record.exit_code if record else LOST_EXIT_CODE
