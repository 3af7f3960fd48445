"""Whether the processes of this run have done what the objects ask for.

Statuses of a home outlive its processes: a condition may be what a former run said. It is true once Envoy has taken the
configuration of this run and nobody has a status left to write.
"""

from __future__ import annotations

import http.client
import re
import socket
from pathlib import Path

_AT_WORK = re.compile(
    r'^(?:workqueue_depth|kaji_reconcile_active_workers)\{\w+="gateway[^"]*"\} (?!0\.0$)', re.MULTILINE
)


def has_taken_effect(home: Path) -> bool:
    """Whether Envoy is live, and the gateway's controller has nothing to do."""
    run = home / "run"
    if answer_of(run / "envoy-admin.sock", "/ready").strip() != "LIVE":
        return False
    metrics = answer_of(run / "gateway.sock", "/metrics")
    return bool(metrics) and not _AT_WORK.search(metrics)


def answer_of(path: Path, target: str) -> str:
    """What a server on a Unix socket answers; empty while it does not."""
    connection = http.client.HTTPConnection("localhost", timeout=2)
    try:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(2)
        connection.sock.connect(str(path))
        connection.request("GET", target)
        return connection.getresponse().read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()
