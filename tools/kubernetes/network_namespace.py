"""A network namespace in which whole ranges of addresses are this machine's own.

    with network_namespace("10.244.0.0/16", "10.96.0.0/16", "10.10.0.1/32") as namespace:
        namespace.run("kubectl", "get", "nodes")

A real API server takes no loopback addresses for endpoints, and pods of our process nodes need addresses that can be
bound. Inside, the ranges are `local` routes of the loopback interface, as `ip route add local RANGE dev lo` makes
them; nothing in it reaches any other machine. Root makes a network namespace, anybody else a user namespace around
it. Neither iproute2 nor anything else but util-linux is needed.

`python -m tools.kubernetes.network_namespace 10.244.0.0/16 -- COMMAND` runs one command in a new one.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import ipaddress
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_REPOSITORY = Path(__file__).resolve().parents[2]
_ROUTE_NEW, _REQUEST, _ACKNOWLEDGE, _CREATE = 24, 1, 4, 0x400
_TABLE_LOCAL, _PROTOCOL_BOOT, _SCOPE_HOST, _TYPE_LOCAL = 255, 3, 254, 2
_ATTRIBUTE_DESTINATION, _ATTRIBUTE_INTERFACE = 1, 4
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1
_ERROR_MESSAGE = 2


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("HH", 4 + len(value), kind) + value


def add_local_route(cidr: str) -> None:
    """Make all addresses of a range this machine's own. Raises OSError."""
    network = ipaddress.IPv4Network(cidr)
    body = struct.pack(
        "BBBBBBBBI", socket.AF_INET, network.prefixlen, 0, 0, _TABLE_LOCAL, _PROTOCOL_BOOT, _SCOPE_HOST,
        _TYPE_LOCAL, 0,
    )  # fmt: skip
    body += _attribute(_ATTRIBUTE_DESTINATION, network.network_address.packed)
    body += _attribute(_ATTRIBUTE_INTERFACE, struct.pack("I", socket.if_nametoindex("lo")))
    head = struct.pack("IHHII", 16 + len(body), _ROUTE_NEW, _REQUEST | _ACKNOWLEDGE | _CREATE, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
        netlink.send(head + body)
        answer = netlink.recv(4096)
    kind, code = struct.unpack_from("IHHIIi", answer)[1], struct.unpack_from("IHHIIi", answer)[5]
    if kind == _ERROR_MESSAGE and code:
        raise OSError(-code, f"route {cidr}: {os.strerror(-code)}")


def bring_loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(control, _GET_FLAGS, request))[1]
        fcntl.ioctl(control, _SET_FLAGS, struct.pack("16sH14x", b"lo", flags | _UP))


class NetworkNamespace:
    """Runs commands inside. pid: of the process that keeps it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def command(self, *words: str | Path) -> list[str]:
        """The command line that runs these words inside."""
        user = [] if os.geteuid() == 0 else ["-U", "--preserve-credentials"]
        return ["nsenter", "-t", str(self.pid), "-n", *user, "--", *map(str, words)]

    def popen(self, *words: str | Path, **options: Any) -> subprocess.Popen[Any]:
        return subprocess.Popen(self.command(*words), **options)

    def run(self, *words: str | Path, **options: Any) -> subprocess.CompletedProcess[Any]:
        return subprocess.run(self.command(*words), check=False, **options)


@contextlib.contextmanager
def network_namespace(*ranges: str) -> Iterator[NetworkNamespace]:
    """A new namespace with these ranges; what still runs in it is not ended here. Raises RuntimeError."""
    unshare = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-rn"]
    keeper = subprocess.Popen(
        [*unshare, sys.executable, "-m", "tools.kubernetes.network_namespace", *ranges],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=_REPOSITORY,
        text=True,
        preexec_fn=_die_with_parent,
    )
    assert keeper.stdin and keeper.stdout and keeper.stderr
    try:
        if keeper.stdout.readline() != "ready\n":
            raise RuntimeError(f"no network namespace: {keeper.stderr.read().strip()[-500:]}")
        yield NetworkNamespace(keeper.pid)
    finally:
        keeper.kill()
        keeper.wait()
        for stream in (keeper.stdin, keeper.stdout, keeper.stderr):
            stream.close()


def _die_with_parent() -> None:
    parent_death_signal = 1
    ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL)


def main() -> int:
    """Inside a new namespace already (the keeper), or on the way into one (with a command)."""
    words = sys.argv[1:]
    if "--" in words:
        at = words.index("--")
        with network_namespace(*words[:at]) as namespace:
            return namespace.run(*words[at + 1 :]).returncode
    bring_loopback_up()
    for cidr in words:
        add_local_route(cidr)
    print("ready", flush=True)
    sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
