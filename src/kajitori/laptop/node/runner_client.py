"""The agent's side of the runner's socket.

One connection is kept for requests and for the news that a container ended; when it breaks, the runner is gone and
with it every container, since the kernel kills them. The client then connects again until a new runner answers, and
hands over what that one holds. Commands inside containers use a connection each, since descriptors travel with them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import uuid
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import msgspec

from kajitori.base.errors import KajitoriError
from kajitori.base.unix_sockets import short_path

_log = logging.getLogger(__name__)

_RECONNECT_SECONDS = 0.1
_REPLY_TIMEOUT_SECONDS = 30.0


class ContainerRecord(msgspec.Struct, frozen=True):
    """A container as the runner holds it. state: `running` or `exited`. Times: seconds since 1970.

    pid: of its first process, 0 where an older runner does not say.
    """

    name: str
    labels: dict[str, str]
    state: str
    started_at: float
    finished_at: float
    exit_code: int
    log: str
    pid: int = 0


class RunnerInfo(msgspec.Struct, frozen=True):
    """The runner's process id, and what its containers get: see runtime/kernel.py, Abilities."""

    pid: int = 0
    namespaces: bool = False
    user_namespace: bool = False
    message: str = ""


class RunnerError(KajitoriError):
    """The runner refused; exit_code is 128 where a command could not start."""

    def __init__(self, message: str, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class RunnerLost(KajitoriError):
    """The runner is gone, or does not answer."""


class RunnerClient:
    """Talks to the runner at a socket path; `run` keeps the connection.

    on_connected: called with the runner's info and all its containers each time a connection stands. on_exit: a
    container has ended. on_lost: the runner is gone.
    """

    def __init__(
        self,
        path: Path,
        *,
        on_connected: Callable[[RunnerInfo, list[ContainerRecord]], None],
        on_exit: Callable[[ContainerRecord], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._path = path
        self._on_connected = on_connected
        self._on_exit = on_exit
        self._on_lost = on_lost
        self._writer: asyncio.StreamWriter | None = None
        self._replies: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._number = 0

    async def run(self) -> None:
        """Forever: connect, read, connect again."""
        while True:
            try:
                with short_path(self._path) as path:
                    reader, writer = await asyncio.open_unix_connection(path, limit=2**26)
            except OSError:
                await asyncio.sleep(_RECONNECT_SECONDS)
                continue
            try:
                self._writer = writer
                await self._serve(reader)
            except (OSError, asyncio.IncompleteReadError, KajitoriError) as error:
                _log.warning("the runner's connection broke: %s", error)
            finally:
                self._writer = None
                writer.close()
                self._fail_replies()
                self._on_lost()
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _serve(self, reader: asyncio.StreamReader) -> None:
        """Until the connection ends. Raises RunnerLost or RunnerError where the runner does not introduce itself."""
        early: list[ContainerRecord] = []
        introduction = asyncio.ensure_future(self._introduce(early))
        reading = asyncio.ensure_future(self._read(reader, introduction, early))
        try:
            await asyncio.wait((introduction, reading), return_when=asyncio.FIRST_COMPLETED)
            if introduction.done():
                introduction.result()
            await reading
        finally:
            for task in (introduction, reading):
                task.cancel()
            await asyncio.gather(introduction, reading, return_exceptions=True)

    async def _read(
        self, reader: asyncio.StreamReader, introduction: asyncio.Future[None], early: list[ContainerRecord]
    ) -> None:
        while line := await reader.readline():
            message = msgspec.json.decode(line)
            if message.get("event") == "exit":
                record = msgspec.convert(message["container"], ContainerRecord)
                if introduction.done():
                    self._on_exit(record)
                else:
                    early.append(record)
            elif (future := self._replies.pop(message["id"], None)) and not future.done():
                future.set_result(message)

    async def _introduce(self, early: list[ContainerRecord]) -> None:
        """early: what ended meanwhile, which the list may show as running still."""
        await self.call("subscribe")
        info = msgspec.convert(await self.call("info"), RunnerInfo)
        listed = await self.call("list")
        self._on_connected(info, msgspec.convert(listed["containers"], list[ContainerRecord]))
        for record in early:
            self._on_exit(record)

    def _fail_replies(self) -> None:
        replies, self._replies = self._replies, {}
        for future in replies.values():
            if not future.done():
                future.set_exception(RunnerLost("the runner is gone"))

    async def call(self, operation: str, **fields: Any) -> dict[str, Any]:
        """One request. Raises RunnerError where it is refused, RunnerLost."""
        if self._writer is None:
            raise RunnerLost("the runner is not connected")
        self._number += 1
        number = self._number
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._replies[number] = future
        self._writer.write(msgspec.json.encode({"id": number, "op": operation, **fields}) + b"\n")
        try:
            async with asyncio.timeout(_REPLY_TIMEOUT_SECONDS):
                return _checked(await future)
        except TimeoutError:
            raise RunnerLost(f"the runner did not answer {operation!r} in time") from None
        finally:
            self._replies.pop(number, None)

    async def start(self, container: dict[str, Any]) -> ContainerRecord:
        """Start a container: name, labels, log, command, sandbox, stdin, terminal. See runtime/container.py."""
        reply = await self.call("start", container=container)
        return msgspec.convert(reply["container"], ContainerRecord)

    async def execute(
        self, container: str, argv: list[str], descriptors: list[int], *, terminal: bool = False
    ) -> int:
        """Run a command in a container; its exit code. descriptors: stdin, stdout, stderr, still the caller's.

        Cancelling kills the command. Raises RunnerError where it cannot start.
        """
        number = uuid.uuid4().hex
        request = {"op": "exec", "container": container, "argv": argv, "exec": number, "terminal": terminal}
        try:
            async with self._extra_connection() as connection:
                reply, _ = await _exchange(connection, request, descriptors)
        except asyncio.CancelledError:
            with contextlib.suppress(KajitoriError):
                await asyncio.shield(self.call("kill_exec", exec=number))
            raise
        return int(_checked(reply)["exit_code"])

    async def attach(self, container: str, stdout: int, stderr: int) -> tuple[bool, int]:
        """Copy further output to the descriptors; whether it is a terminal, and a descriptor for input or -1."""
        async with self._extra_connection() as connection:
            reply, received = await _exchange(
                connection, {"op": "attach", "container": container}, [stdout, stderr]
            )
        return bool(_checked(reply)["terminal"]), received[0] if received else -1

    @contextlib.asynccontextmanager
    async def _extra_connection(self) -> AsyncGenerator[socket.socket]:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            with short_path(self._path) as path:
                await asyncio.get_running_loop().sock_connect(connection, path)
            yield connection
        except OSError as error:
            raise RunnerLost(f"the runner is gone: {error}") from error
        finally:
            connection.close()


def _checked(reply: dict[str, Any]) -> dict[str, Any]:
    if "error" in reply:
        raise RunnerError(reply["error"], reply.get("exit_code"))
    return reply


async def _exchange(
    connection: socket.socket, request: dict[str, Any], descriptors: list[int]
) -> tuple[dict[str, Any], list[int]]:
    loop = asyncio.get_running_loop()
    data = msgspec.json.encode({"id": 1, **request}) + b"\n"
    sent = socket.send_fds(connection, [data], descriptors)
    await loop.sock_sendall(connection, data[sent:])
    received: list[int] = []
    answer = b""
    while not answer.endswith(b"\n"):
        await _readable(connection)
        part, new, _, _ = socket.recv_fds(connection, 65536, 4)
        received += new
        if not part:
            raise ConnectionResetError("the runner closed the connection")
        answer += part
    return msgspec.json.decode(answer), received


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(connection.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(connection.fileno())
