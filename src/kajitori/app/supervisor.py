"""The supervisor: one small process that starts the others, restarts what crashes, and takes all down with it.

Every child asks the kernel to be killed when the supervisor dies, so the tree dies as one even by `kill -9`. It
answers `status` and `stop` as lines of JSON on `run/supervisor.sock`, and holds the cluster's slot of
loopback addresses as an abstract socket, which the kernel frees with it.

It imports little, since it is always in memory.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kajitori.app.processes import Process, cluster_processes, joined_node_processes
from kajitori.base.errors import UsageError
from kajitori.laptop.settings import SLOTS, is_joined_home, read_node_settings, read_settings

BACK_OFF_FIRST_SECONDS = 0.2
BACK_OFF_LAST_SECONDS = 10.0
# A process that ran this long starts again at the first back-off.
STEADY_SECONDS = 30.0
LOG_BYTES = 10 * 2**20
LOG_CHECK_SECONDS = 60.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int) -> Callable[[], None]:
    """What a child runs before exec: the kernel kills it as soon as its parent is gone."""

    def ask_the_kernel() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return ask_the_kernel


class Child:
    """One supervised process: its present incarnation, and how often it had to be started again."""

    def __init__(self, process: Process, log_path: Path) -> None:
        self.process = process
        self.log_path = log_path
        self.popen: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.restarts = 0
        self.last_exit: int | None = None
        self.back_off_seconds = BACK_OFF_FIRST_SECONDS

    async def run(self) -> None:
        """Keep the process running until cancelled."""
        while True:
            await self._wait_for_file()
            try:
                self.last_exit = await self._start()
            except OSError as error:  # no memory, no descriptors, no disk: it may be better in a while
                self.started_at = time.monotonic()
                log(f"{self.process.name} cannot be started: {error.strerror}")
            ran_seconds = time.monotonic() - self.started_at
            self.popen = None
            if ran_seconds > STEADY_SECONDS:
                self.back_off_seconds = BACK_OFF_FIRST_SECONDS
            self.restarts += 1
            log(
                f"{self.process.name} ended with {self.last_exit}; starting again in {self.back_off_seconds:.1f} s"
            )
            await asyncio.sleep(self.back_off_seconds)
            self.back_off_seconds = min(2 * self.back_off_seconds, BACK_OFF_LAST_SECONDS)

    async def _wait_for_file(self) -> None:
        while self.process.after is not None and not self.process.after.exists():
            await asyncio.sleep(0.05)

    def _start(self) -> asyncio.Future[int]:
        with self.log_path.open("ab") as output:
            self.popen = subprocess.Popen(
                self.process.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=child_environment() | self.process.environment,
                start_new_session=True,
                preexec_fn=die_with_parent(os.getpid()),
            )
        self.started_at = time.monotonic()
        loop = asyncio.get_running_loop()
        exited: asyncio.Future[int] = loop.create_future()
        descriptor = os.pidfd_open(self.popen.pid)
        popen = self.popen

        def on_exit() -> None:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            code = popen.wait()
            if not exited.done():
                exited.set_result(code)

        loop.add_reader(descriptor, on_exit)
        return exited

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL when the grace is over."""
        if self.popen is None:
            return
        popen, self.popen = self.popen, None
        popen.terminate()
        deadline = time.monotonic() + self.process.stop_grace_seconds
        while popen.poll() is None:
            if time.monotonic() > deadline:
                log(f"{self.process.name} did not end in {self.process.stop_grace_seconds:.0f} s; killed")
                popen.kill()
                popen.wait()
                return
            await asyncio.sleep(0.02)

    def bound_log(self) -> None:
        """Keep the log and one older part of it. The process goes on writing: it appends, so it follows the cut."""
        with contextlib.suppress(OSError):
            if self.log_path.stat().st_size > LOG_BYTES:
                shutil.copyfile(self.log_path, self.log_path.with_suffix(".log.1"))
                os.truncate(self.log_path, 0)

    def status(self) -> dict[str, Any]:
        return {
            "name": self.process.name,
            "pid": self.popen.pid if self.popen else None,
            "restarts": self.restarts,
            "lastExit": self.last_exit,
            "seconds": time.monotonic() - self.started_at if self.popen else 0.0,
            "log": str(self.log_path),
        }


def child_environment() -> dict[str, str]:
    """Ours, less what would slow children down: without cached bytecode each start compiles everything again."""
    environment = dict(os.environ)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    # Many small processes: one allocator arena each keeps resident memory down.
    environment.setdefault("MALLOC_ARENA_MAX", "1")
    return environment


def log(message: str) -> None:
    sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {message}\n")
    sys.stderr.flush()


class Supervisor:
    """The tree of one cluster, or of one node that joined another. slot: None for such a node."""

    def __init__(self, home: Path, slot: socket.socket | None) -> None:
        self.home = home
        self.slot = slot  # held for as long as the cluster lives
        if is_joined_home(home):
            processes = joined_node_processes(home, read_node_settings(home))
        else:
            processes = cluster_processes(home, read_settings(home))
        self.children = [Child(process, home / "log" / f"{process.name}.log") for process in processes]
        self.stopping = asyncio.Event()
        self.stopped = asyncio.Event()
        self.started_at = time.time()

    async def run(self) -> None:
        """Run until told to stop, by a signal or by `stop` on the socket."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self.stopping.set)
        socket_path = self.home / "run" / "supervisor.sock"
        socket_path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._serve, socket_path)
        socket_path.chmod(0o600)
        tasks = [asyncio.create_task(child.run()) for child in self.children]
        tasks.append(asyncio.create_task(self._bound_logs()))
        await self.stopping.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Agents and controllers first, so that nobody answers the death of pods by starting new ones; then
        # the runners with their pods, and who reads the last lines of Envoy's log; the API server last, since the
        # others take leave of it.
        servers = [child for child in self.children if child.process.name == "apiserver"]
        runners = [
            child
            for child in self.children
            if child.process.name.startswith("runner-") or child.process.name == "accountant"
        ]
        rest = [child for child in self.children if child not in (*servers, *runners)]
        for children in (rest, runners, servers):
            await asyncio.gather(*(child.stop() for child in children))
        self.stopped.set()
        await asyncio.sleep(0)  # lets a waiting `stop` be answered
        server.close()
        socket_path.unlink(missing_ok=True)

    async def _bound_logs(self) -> None:
        while True:
            for child in self.children:
                child.bound_log()
            await asyncio.sleep(LOG_CHECK_SECONDS)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ValueError, asyncio.IncompleteReadError):
            request = json.loads(await reader.readline())
            if request.get("command") == "stop":
                self.stopping.set()
                await self.stopped.wait()
            answer = {
                "pid": os.getpid(),
                "startedAt": self.started_at,
                "processes": [child.status() for child in self.children],
            }
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()


def claim_slot(slot: int) -> socket.socket:
    """Hold the slot's abstract socket; the kernel frees it when this process ends. Raises OSError if it is held."""
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        claim.bind(f"\0kajitori-slot-{slot}")
    except OSError:
        claim.close()
        raise
    return claim


def claim_free_slot(first: int) -> tuple[int, socket.socket]:
    """The first free slot from this one on, and what holds it. Raises UsageError if none is free."""
    for step in range(SLOTS):
        slot = (first + step) % SLOTS
        with contextlib.suppress(OSError):
            return slot, claim_slot(slot)
    raise UsageError(
        f"{SLOTS} clusters run on this machine already", hint="stop one with `kaji down --home DIR`"
    )


def lock_home(home: Path) -> int:
    """Hold this home; returns the open descriptor. Raises BlockingIOError if another supervisor holds it."""
    descriptor = os.open(home / "run" / "supervisor.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def main() -> int:
    parser = argparse.ArgumentParser(prog="kajitori.app.supervise", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument(
        "--slot-socket", type=int, default=-1, help="descriptor that holds the cluster's slot"
    )
    parser.add_argument("--die-with", type=int, default=0, help="end when this parent process ends")
    options = parser.parse_args()
    if options.die_with:
        die_with_parent(options.die_with)()
    try:
        lock = lock_home(options.home)
    except BlockingIOError:
        log(f"another supervisor runs in {options.home}")
        return 3
    slot = socket.socket(fileno=options.slot_socket) if options.slot_socket >= 0 else None
    if slot is not None:
        slot.set_inheritable(False)
    try:
        asyncio.run(Supervisor(options.home, slot).run())
    finally:
        os.close(lock)
    return 0
