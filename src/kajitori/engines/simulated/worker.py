"""A headless rank: joins its group at rank 0, tells that it is alive, and dies with the group.

It computes nothing and needs little: blocking sockets of the standard library, one connection, no event loop.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time

from kajitori.engines.simulated.membership import ALIVE_SECONDS, LINE_BYTES, SILENT_SECONDS, Join, join_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kajitori.engines.simulated.arguments import Settings

# Exit codes: the group failed; this rank was asked to end.
FAILED = 1
ENDED = 0
# After SIGTERM, rank 0 has this long to finish its answers if it is ending as well.
LEAVING_SECONDS = 25.0


class _Asked(Exception):
    """SIGTERM or SIGINT came."""


def run(settings: Settings) -> int:
    """Be rank `settings.rank` until the group ends. Returns the exit code."""
    signal.signal(signal.SIGTERM, _ask)
    signal.signal(signal.SIGINT, _ask)
    rank = settings.rank
    try:
        connection = _connect(settings)
        if connection is None:
            _log(
                rank,
                f"rank 0 at {settings.rendezvous_host}:{settings.rendezvous_port} did not appear in time",
            )
            return FAILED
    except _Asked:
        return ENDED
    with connection:
        try:
            return _stay(connection, settings)
        except _Asked:
            return _leave(connection)


def _ask(number: int, frame: object) -> None:
    raise _Asked


def _log(rank: int, text: str) -> None:
    sys.stderr.write(f"vllm (simulated) rank {rank}: {text}\n")
    sys.stderr.flush()


def _connect(settings: Settings) -> socket.socket | None:
    """A connection to rank 0, tried until it is there: its pod and its name may come after ours."""
    start = time.monotonic()
    said = False
    while True:
        try:
            return socket.create_connection((settings.rendezvous_host, settings.rendezvous_port), timeout=5)
        except OSError as error:
            waited = time.monotonic() - start
            if waited > settings.rendezvous_seconds:
                return None
            if not said and waited > 2:
                _log(
                    settings.rank,
                    f"waiting for rank 0 at {settings.rendezvous_host}:{settings.rendezvous_port} ({error})",
                )
                said = True
            time.sleep(0.1 if waited < 5 else 0.5)


def _stay(connection: socket.socket, settings: Settings) -> int:
    node_name = os.environ.get("KAJITORI_NODE_NAME", "").replace(" ", "_")
    connection.settimeout(SILENT_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    rest = b""
    heard = said = time.monotonic()
    try:
        connection.sendall(join_line(Join(settings.rank, settings.nodes, node_name, settings.model)))
        while True:
            wait = max(0.0, said + ALIVE_SECONDS - time.monotonic())
            if poll.poll(wait * 1000):
                data = connection.recv(LINE_BYTES)
                if not data:
                    _log(settings.rank, "rank 0 was lost: its connection closed; the group ends")
                    return FAILED
                heard = time.monotonic()
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    code = _obey(line.decode(errors="replace"), settings)
                    if code is not None:
                        return code
            now = time.monotonic()
            if now - said >= ALIVE_SECONDS:
                connection.sendall(b"alive\n")
                said = now
            if now - heard > SILENT_SECONDS:
                _log(settings.rank, f"rank 0 was lost: silent for {SILENT_SECONDS:.0f} s; the group ends")
                return FAILED
    except OSError as error:
        _log(settings.rank, f"rank 0 was lost: {error}; the group ends")
        return FAILED


def _obey(line: str, settings: Settings) -> int | None:
    """The exit code that a line of rank 0 asks for, or None to stay."""
    word, _, why = line.partition(" ")
    if word == "joined":
        _log(settings.rank, f"joined the group of {settings.nodes} for {settings.model}")
    elif word == "refused":
        _log(settings.rank, f"rank 0 refused this rank: {why}")
        return FAILED
    elif word == "lost":
        _log(settings.rank, f"{why}; the group ends")
        return FAILED
    elif word == "end":
        return ENDED
    return None


def _leave(connection: socket.socket) -> int:
    """Tell rank 0, and let it finish what it has begun if it is ending too."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    connection.settimeout(LEAVING_SECONDS)
    try:
        connection.sendall(b"leaving\n")
        deadline = time.monotonic() + LEAVING_SECONDS
        while time.monotonic() < deadline:
            data = connection.recv(LINE_BYTES)
            if not data or b"lost" in data or b"end" in data or b"refused" in data:
                break
    except OSError:
        pass
    return ENDED
