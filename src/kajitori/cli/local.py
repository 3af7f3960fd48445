"""The local cluster as its own machine sees it: its supervisor, and who has its ports."""

from __future__ import annotations

import argparse
import json
import socket
from pathlib import Path
from typing import Any

from kajitori.base.errors import UsageError

_SUPERVISOR_TIMEOUT_SECONDS = 60.0


def ask_supervisor(home: Path, command: str) -> dict[str, Any] | None:
    """The supervisor's answer to `status` or `stop`, or None if no cluster runs in this home."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_SUPERVISOR_TIMEOUT_SECONDS)
    try:
        connection.connect(str(home / "run" / "supervisor.sock"))
        connection.sendall(json.dumps({"command": command}).encode() + b"\n")
        with connection.makefile("rb") as lines:
            answer = lines.readline()
        return json.loads(answer) if answer else None
    except OSError:
        return None
    finally:
        connection.close()


def start_hint(options: argparse.Namespace) -> str:
    """What starts the home that is meant where that is not `kaji up`: a gateway without a cluster; else empty."""
    from kajitori.cli.connection import is_local, local_home

    home = local_home(options)
    try:
        alone = json.loads((home / "cluster.json").read_bytes()).get("gateway_only")
    except (OSError, ValueError):
        return ""
    return f"`kaji gateway run --home {home}` serves what is in there" if alone and is_local(options) else ""


def check_port(port: int, purpose: str, option: str, *, address: str = "127.0.0.1") -> None:
    """Raise UsageError, naming who listens there, if the port is taken at this IP address. option: that names it, if one does."""
    how = f" with {option}" if option else ""
    probe = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((address, port))
    except PermissionError:
        raise UsageError(
            f"port {port} ({purpose}) needs privileges", hint=f"choose one above 1023{how}"
        ) from None
    except OSError:
        owner = port_owner(port)
        by = f"by {owner}" if owner else "by another process"
        raise UsageError(
            f"port {port} ({purpose}) is taken {by}", hint=f"stop it, or choose another{how}"
        ) from None
    finally:
        probe.close()


def port_owner(port: int) -> str | None:
    """`pid 123 (nginx -g ...)` of the process that listens on the port, as far as this user may see."""
    inodes = _listening_inodes(port)
    if not inodes:
        return None
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            for descriptor in (process / "fd").iterdir():
                target = descriptor.readlink().name
                if target.startswith("socket:[") and target[8:-1] in inodes:
                    command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    return f"pid {process.name} ({command.strip()[:80]})"
        except OSError:
            continue
    return None


def _listening_inodes(port: int) -> set[str]:
    found: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(fields[9])
    return found


def last_line(process: dict[str, Any]) -> str:
    """The last words of a process of the supervisor's status."""
    try:
        lines = Path(process["log"]).read_text(errors="replace").splitlines()
    except OSError:
        return "no log"
    return lines[-1][:300] if lines else "its log is empty"
