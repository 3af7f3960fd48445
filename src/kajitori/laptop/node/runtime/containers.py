"""The containers that a runner holds: started, their output logged, signalled, reaped, kept until forgotten."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import time
from collections.abc import Callable, Iterable
from typing import Any

from kajitori.laptop.node.runtime.connection import close_all
from kajitori.laptop.node.runtime.container import (
    KILL_EVERYTHING,
    START_FAILED,
    Command,
    Streams,
    fork_container,
    fork_in_container,
)
from kajitori.laptop.node.runtime.logfile import LogFile

READ_BYTES = 65536
START_PATIENCE_SECONDS = 2.0

Reply = Callable[..., None]


def _readable(descriptor: int, timeout_seconds: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(timeout_seconds * 1000))


class Refused(Exception):
    """A request that cannot be met, in words for a person."""


class Container:
    """One container, from the fork of its init until it is forgotten.

    state: `starting`, `running` or `exited`. Times are seconds since 1970.
    """

    def __init__(self, request: dict[str, Any]) -> None:
        self.name: str = request["name"]
        self.labels: dict[str, str] = request["labels"]
        self.command: Command = request["command"]
        self.privileged: bool = request["sandbox"]["privileged"]
        self.log = LogFile(request["log"])
        self.state = "starting"
        self.init = 0
        self.started_at = 0.0
        self.finished_at = 0.0
        self.exit_code = 0
        self.outputs: dict[int, str] = {}
        self.stdin = -1
        self.terminal = -1
        self.attached: dict[str, list[int]] = {"stdout": [], "stderr": []}
        self.execs: set[int] = set()
        # Reads how starting went; None when that is known.
        self.conclude_start: Callable[[], None] | None = None
        self.status_reader = -1

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "labels": self.labels,
            "state": self.state,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "exit_code": self.exit_code,
            "log": self.log.path,
            "pid": self.init,
        }


class _Exec:
    def __init__(self, container: Container, number: str, reply: Reply) -> None:
        self.container = container
        self.number = number
        self.reply = reply
        self.error = b""
        self.conclude_start: Callable[[], None] | None = None


class Containers:
    """All containers by name. watch, unwatch: the loop's, for descriptors. announce: called when one has ended."""

    def __init__(
        self,
        isolated: bool,
        watch: Callable[[int, Callable[[], object]], None],
        unwatch: Callable[[int], None],
        announce: Callable[[Container], None],
    ) -> None:
        self._isolated = isolated
        self._watch = watch
        self._unwatch = unwatch
        self._announce = announce
        self._by_name: dict[str, Container] = {}
        self._by_init: dict[int, Container] = {}
        self._execs: dict[int, _Exec] = {}
        # Children see the end of this pipe when the runner is gone; nobody ever writes.
        self._alive_reader, self._alive_writer = os.pipe()

    def describe(self) -> list[dict[str, Any]]:
        """All containers. Those that are being started are waited for, a moment each: a new agent must know them."""
        for container in list(self._by_name.values()):
            if container.conclude_start and _readable(container.status_reader, START_PATIENCE_SECONDS):
                container.conclude_start()
        return [container.describe() for container in self._by_name.values() if container.state != "starting"]

    def any_alive(self) -> bool:
        return bool(self._by_init)

    def start(self, request: dict[str, Any], reply: Reply) -> None:
        """Fork; the reply comes when the command runs, or with the error that kept it from running."""
        if request["name"] in self._by_name:
            raise Refused(f"container {request['name']} exists")
        container = Container(request)
        beside = self._running_init(request["beside"]) if request.get("beside") else 0
        opened: list[int] = []
        try:
            streams = self._open_streams(container, request, opened)
            reader, writer = os.pipe()
            opened += [reader, writer]
            container.init = fork_container(
                container.command,
                request["sandbox"],
                streams,
                status=writer,
                alive=self._alive_reader,
                isolated=self._isolated,
                beside=beside,
            )
        except OSError as error:
            close_all(opened)
            raise Refused(f"cannot start: {error}") from error
        kept = {reader, container.stdin, container.terminal, *container.outputs}
        close_all([descriptor for descriptor in opened if descriptor not in kept])
        self._by_name[container.name] = container
        self._by_init[container.init] = container
        for descriptor in container.outputs:
            os.set_blocking(descriptor, False)
            self._watch(descriptor, lambda descriptor=descriptor: self._on_output(container, descriptor))
        container.status_reader = reader
        container.conclude_start = lambda: self._on_status(container, reader, reply)
        self._watch(reader, container.conclude_start)

    def _running_init(self, name: str) -> int:
        container = self._by_name.get(name)
        if container is None or container.state != "running":
            raise Refused(f"container {name}, whose processes are to be seen, is not running")
        return container.init

    def _open_streams(self, container: Container, request: dict[str, Any], opened: list[int]) -> Streams:
        if request.get("terminal"):
            master, slave = pty.openpty()
            opened += [master, slave]
            container.outputs[master] = "stdout"
            container.terminal = master
            return Streams(slave, slave, slave, terminal=True)
        out_reader, out_writer = os.pipe()
        err_reader, err_writer = os.pipe()
        opened += [out_reader, out_writer, err_reader, err_writer]
        container.outputs.update({out_reader: "stdout", err_reader: "stderr"})
        if request.get("stdin"):
            stdin_reader, container.stdin = os.pipe()
            opened += [stdin_reader, container.stdin]
        else:
            stdin_reader = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
            opened.append(stdin_reader)
        return Streams(stdin_reader, out_writer, err_writer)

    def _on_status(self, container: Container, reader: int, reply: Reply) -> None:
        error = os.read(reader, READ_BYTES).decode(errors="replace")
        self._unwatch(reader)
        os.close(reader)
        container.conclude_start = None
        if error:
            self._by_name.pop(container.name, None)
            self._close(container)
            reply({"error": error, "exit_code": START_FAILED})
        else:
            container.state = "running"
            container.started_at = time.time()
            reply({"container": container.describe()})

    def _on_output(self, container: Container, descriptor: int) -> bool:
        """Log what there is to read; False at the end of the stream, or where nothing is there now."""
        try:
            data = os.read(descriptor, READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._unwatch(descriptor)
            if descriptor != container.terminal:
                container.outputs.pop(descriptor, None)
                os.close(descriptor)
            return False
        stream = container.outputs[descriptor]
        container.log.write(stream, data)
        for attached in list(container.attached[stream]):
            try:
                os.write(attached, data)
            except OSError:  # gone, or it does not read
                container.attached[stream].remove(attached)
                os.close(attached)
        return True

    def reap(self) -> None:
        """Take note of all children that ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            code = code if code >= 0 else 128 - code
            if container := self._by_init.pop(pid, None):
                self._on_end(container, code)
            elif execution := self._execs.pop(pid, None):
                self._on_exec_end(execution, pid, code)

    def _on_end(self, container: Container, code: int) -> None:
        if container.conclude_start:
            container.conclude_start()
        for descriptor in list(container.outputs):
            while self._on_output(container, descriptor):
                pass
        self._close(container)
        for pid in container.execs:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        container.finished_at = time.time()
        container.exit_code = code
        container.state = "exited"
        if container.name in self._by_name:
            self._announce(container)

    def _close(self, container: Container) -> None:
        for descriptor in list(container.outputs):
            self._unwatch(descriptor)
            os.close(descriptor)
        container.outputs.clear()
        container.terminal = -1
        self._close_stdin(container)
        for descriptors in container.attached.values():
            close_all(descriptors)
            descriptors.clear()
        container.log.close()

    @staticmethod
    def _close_stdin(container: Container) -> None:
        if container.stdin >= 0:
            os.close(container.stdin)
            container.stdin = -1

    def _find(self, name: str) -> Container:
        if name not in self._by_name:
            raise Refused(f"no container {name}")
        return self._by_name[name]

    def signal(self, name: str, number: int) -> None:
        container = self._find(name)
        if container.state != "exited":
            with contextlib.suppress(ProcessLookupError):
                os.kill(container.init, number)

    def kill(self, name: str) -> None:
        """End all processes of a container; without effect where it has ended."""
        self._kill(self._find(name))

    def _kill(self, container: Container) -> None:
        if container.state != "exited":
            with contextlib.suppress(ProcessLookupError):
                os.kill(container.init, signal.SIGKILL if self._isolated else KILL_EVERYTHING)

    def signal_all(self, number: int) -> None:
        for container in self._by_init.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(container.init, number)

    def kill_all(self) -> None:
        for container in self._by_init.values():
            self._kill(container)

    def forget(self, name: str) -> None:
        container = self._find(name)
        if container.state != "exited":
            raise Refused(f"container {name} is {container.state}")
        del self._by_name[name]

    def close_stdin(self, name: str) -> None:
        self._close_stdin(self._find(name))

    def attach(self, name: str, descriptors: list[int]) -> tuple[dict[str, Any], list[int]]:
        """Copy further output to the descriptors (stdout, stderr); answers with one for input, where there is any."""
        container = self._find(name)
        if container.state != "running" or len(descriptors) != 2:
            raise Refused(f"container {name} is {container.state}")
        for descriptor, stream in zip(descriptors, ("stdout", "stderr"), strict=True):
            os.set_blocking(descriptor, False)
            container.attached[stream].append(descriptor)
        source = container.terminal if container.terminal >= 0 else container.stdin
        terminal = container.terminal >= 0
        if source < 0:
            return {"terminal": terminal, "input": False}, []
        return {"terminal": terminal, "input": True}, [fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, 3)]

    def execute(self, request: dict[str, Any], descriptors: list[int], reply: Reply) -> None:
        """Run a command in a container; the reply comes with its exit code. descriptors: stdin, stdout, stderr."""
        container = self._find(request["container"])
        if container.state != "running" or len(descriptors) != 3:
            raise Refused(f"container {container.name} is {container.state}")
        command: Command = {**container.command, "argv": request["argv"]}
        reader, writer = os.pipe()
        execution = _Exec(container, request["exec"], reply)
        try:
            pid = fork_in_container(
                command,
                container.init,
                Streams(*descriptors, terminal=bool(request.get("terminal"))),
                status=writer,
                alive=self._alive_reader,
                isolated=self._isolated,
                privileged=container.privileged,
            )
        except OSError as error:
            close_all([reader, writer])
            raise Refused(f"cannot start: {error}") from error
        close_all([writer, *descriptors])
        self._execs[pid] = execution
        container.execs.add(pid)
        execution.conclude_start = lambda: self._on_exec_status(execution, reader)
        self._watch(reader, execution.conclude_start)

    def _on_exec_status(self, execution: _Exec, reader: int) -> None:
        execution.error = os.read(reader, READ_BYTES)
        self._unwatch(reader)
        os.close(reader)
        execution.conclude_start = None
        if execution.error:
            execution.reply({"error": execution.error.decode(errors="replace"), "exit_code": START_FAILED})

    def _on_exec_end(self, execution: _Exec, pid: int, code: int) -> None:
        if execution.conclude_start:
            execution.conclude_start()
        execution.container.execs.discard(pid)
        if not execution.error:
            execution.reply({"exit_code": code})

    def kill_exec(self, number: str) -> None:
        for pid in self._pids_of(number):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _pids_of(self, number: str) -> Iterable[int]:
        return [pid for pid, execution in self._execs.items() if execution.number == number]
