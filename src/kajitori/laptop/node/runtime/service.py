"""The runner's loop: one epoll over the agent's connections, the containers' output and the ends of processes.

Requests (`op`): `info`, `list`, `subscribe`, `start`, `signal`, `kill`, `forget`, `exec`, `kill_exec`, `attach`,
`close_stdin`, `make_memory`, `remove_memory`. A container stays in the list after its end until it is forgotten, so an
agent that was away learns its exit code. SIGTERM ends all containers, then the runner.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from kajitori.laptop.node.runtime import kernel
from kajitori.laptop.node.runtime.connection import Connection, Gone, close_all
from kajitori.laptop.node.runtime.containers import Container, Containers, Refused

STOP_GRACE_SECONDS = 5.0


class Service:
    """Answers requests on a listening socket and lives until SIGTERM."""

    def __init__(self, listener: socket.socket, abilities: kernel.Abilities) -> None:
        self._abilities = abilities
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], object]] = {}
        self._writers: dict[int, Callable[[], None]] = {}
        self._connections: set[Connection] = set()
        self._containers = Containers(abilities.namespaces, self.watch, self.unwatch, self._announce)
        self._listener = listener
        self._stop_at: float | None = None
        self._wakeup = self._watch_signals()
        self.watch(listener.fileno(), self._accept)
        self.watch(self._wakeup.fileno(), self._on_signal)

    def watch(self, descriptor: int, callback: Callable[[], object]) -> None:
        self._readers[descriptor] = callback
        self._epoll.register(descriptor, select.EPOLLIN)

    def unwatch(self, descriptor: int) -> None:
        if self._readers.pop(descriptor, None) is not None:
            self._writers.pop(descriptor, None)
            self._epoll.unregister(descriptor)

    def run(self) -> None:
        """Until SIGTERM, and then until the last container has ended."""
        while True:
            timeout = None if self._stop_at is None else max(0.0, self._stop_at - time.monotonic())
            for descriptor, event in self._epoll.poll(timeout):
                if event & select.EPOLLOUT and descriptor in self._writers:
                    self._writers[descriptor]()
                if event & ~select.EPOLLOUT and descriptor in self._readers:
                    self._readers[descriptor]()
            if self._stop_at is not None:
                if not self._containers.any_alive():
                    return
                if time.monotonic() >= self._stop_at:
                    self._containers.kill_all()
                    self._stop_at = time.monotonic() + STOP_GRACE_SECONDS

    def _watch_signals(self) -> socket.socket:
        reader, writer = socket.socketpair()
        for end in (reader, writer):
            end.setblocking(False)
        self._wakeup_writer = writer
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, frame: None)
        return reader

    def _on_signal(self) -> None:
        numbers = self._wakeup.recv(4096)
        self._containers.reap()
        if self._stop_at is None and (signal.SIGTERM in numbers or signal.SIGINT in numbers):
            self._stop_at = time.monotonic() + STOP_GRACE_SECONDS
            self._containers.signal_all(signal.SIGTERM)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            connection = Connection(self._listener.accept()[0])
            self._connections.add(connection)
            self.watch(connection.socket.fileno(), lambda: self._on_readable(connection))

    def _on_readable(self, connection: Connection) -> None:
        try:
            for request in connection.receive():
                self._answer(connection, request)
        except (Gone, ValueError):
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        if connection in self._connections:
            self._connections.discard(connection)
            self.unwatch(connection.socket.fileno())
            connection.close()

    def _send(
        self, connection: Connection, message: dict[str, Any], descriptors: list[int] | None = None
    ) -> None:
        if connection not in self._connections:
            close_all(descriptors or [])
            return
        descriptor = connection.socket.fileno()
        try:
            connection.send(message, descriptors)
            self._want_write(connection, descriptor)
        except Gone:
            self._drop(connection)

    def _want_write(self, connection: Connection, descriptor: int) -> None:
        pending = not connection.flush()
        if pending and descriptor not in self._writers:
            self._writers[descriptor] = lambda: self._on_writable(connection)
            self._epoll.modify(descriptor, select.EPOLLIN | select.EPOLLOUT)
        elif not pending and self._writers.pop(descriptor, None):
            self._epoll.modify(descriptor, select.EPOLLIN)

    def _on_writable(self, connection: Connection) -> None:
        try:
            self._want_write(connection, connection.socket.fileno())
        except Gone:
            self._drop(connection)

    def _announce(self, container: Container) -> None:
        for connection in list(self._connections):
            if connection.subscribed:
                self._send(connection, {"event": "exit", "container": container.describe()})

    def _answer(self, connection: Connection, request: dict[str, Any]) -> None:
        number = request.get("id")
        descriptors = connection.take_descriptors()

        def reply(answer: dict[str, Any], answered: list[int] | None = None) -> None:
            self._send(connection, {"id": number, **answer}, answered)

        try:
            self._perform(connection, request, descriptors, reply)
        except Refused as error:
            close_all(descriptors)
            reply({"error": str(error)})
        except (KeyError, TypeError, OSError) as error:
            close_all(descriptors)
            reply({"error": f"{type(error).__name__}: {error}"})

    def _perform(
        self,
        connection: Connection,
        request: dict[str, Any],
        descriptors: list[int],
        reply: Callable[..., None],
    ) -> None:
        containers = self._containers
        operation = request["op"]
        if operation == "start":
            containers.start(request["container"], reply)
        elif operation == "exec":
            containers.execute(request, descriptors, reply)
        elif operation == "attach":
            reply(*containers.attach(request["container"], descriptors))
        elif operation == "list":
            reply({"containers": containers.describe()})
        elif operation == "info":
            reply({"pid": os.getpid(), **self._abilities._asdict()})
        else:
            if operation == "subscribe":
                connection.subscribed = True
            elif operation == "make_memory":
                self._make_memory(request["path"], request["bytes"])
            elif operation == "remove_memory":
                kernel.unmount(request["path"])
            else:
                self._change(operation, request)
            reply({})

    def _change(self, operation: str, request: dict[str, Any]) -> None:
        containers = self._containers
        if operation == "signal":
            containers.signal(request["container"], request["signal"])
        elif operation == "kill":
            containers.kill(request["container"])
        elif operation == "forget":
            containers.forget(request["container"])
        elif operation == "kill_exec":
            containers.kill_exec(request["exec"])
        elif operation == "close_stdin":
            containers.close_stdin(request["container"])
        else:
            raise Refused(f"unknown operation {operation!r}")

    def _make_memory(self, path: str, size_bytes: int) -> None:
        """A tmpfs that only containers see; it vanishes with the runner."""
        if not self._abilities.namespaces:
            raise Refused(self._abilities.message)
        if not os.path.ismount(path):
            options = f"mode=1777,size={size_bytes}" if size_bytes else "mode=1777"
            kernel.mount("tmpfs", path, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, options)


def listen(folder: str, name: str) -> socket.socket:
    """The runner's socket, for its owner only. Exits where another runner of this node is alive."""
    lock = os.open(os.path.join(folder, f"{name}.lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"another {name} is running in {folder}")
    # Paths of sockets are limited to 108 bytes, so it is bound by a name relative to its folder.
    os.chdir(folder)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{name}.sock")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old_mask = os.umask(0o177)
    listener.bind(f"{name}.sock")
    os.umask(old_mask)
    listener.listen(128)
    listener.setblocking(False)
    os.chdir("/")
    return listener


def _arguments(given: list[str]) -> tuple[str, str]:
    """Home and name. Read by hand: argparse and what it imports would be half a megabyte in each node's runner."""
    options = dict(zip(given[::2], given[1::2], strict=False))
    if len(given) != 4 or options.keys() != {"--home", "--name"}:
        sys.exit("usage: runner.py --home DIR --name NODE")
    return options["--home"], options["--name"]


def main() -> None:
    """Entry point of `runner.py`."""
    home, node = _arguments(sys.argv[1:])
    home = os.path.abspath(home)
    scratch = os.path.join(home, "nodes", node, "scratch")
    os.makedirs(scratch, mode=0o700, exist_ok=True)
    os.makedirs(os.path.join(home, "run"), mode=0o700, exist_ok=True)
    listener = listen(os.path.join(home, "run"), f"{node}-runner")
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    abilities = kernel.find_abilities(scratch, forbid=bool(os.environ.get("KAJITORI_NO_NAMESPACES")))
    if abilities.namespaces:
        if abilities.user_namespace:
            kernel.enter_user_namespace()
        kernel.unshare(kernel.CLONE_NEWNS)
        kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_SLAVE)
    kernel.adopt_orphans()
    sys.stderr.write(f"runner of {node}: {abilities}\n")
    Service(listener, abilities).run()
