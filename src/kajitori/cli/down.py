"""Stop the local cluster: pods, nodes, gateway, API server. Its objects stay, unless --purge.

kaji down                 kaji down --purge --home /tmp/other
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import time
from pathlib import Path

from kajitori.base.errors import KajitoriError, UsageError
from kajitori.cli.local import ask_supervisor

_STOP_SECONDS = 30.0


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--purge", action="store_true", help="then remove the cluster's folder and all in it")
    parser.add_argument("--home", type=Path, help="the local cluster's folder")


def run(options: argparse.Namespace) -> int:
    from kajitori.cli.connection import local_home

    home = local_home(options)
    if not (home / "cluster.json").exists():
        print(f"No cluster in {home}.")
        return 0
    if stop(home):
        print("The cluster is stopped.")
    else:
        print("The cluster was not running.")
    if options.purge:
        purge(home)
        print(f"Removed {home}.")
    return 0


def stop(home: Path) -> bool:
    """Stop the cluster of this home and wait until its supervisor is gone; False if none ran."""
    status = ask_supervisor(home, "status")
    if status is None:
        return False
    ask_supervisor(home, "stop")
    pid = int(status["pid"])
    deadline = time.monotonic() + _STOP_SECONDS
    while _alive(pid):
        if time.monotonic() > deadline:
            # Killing the supervisor takes the whole tree with it.
            os.kill(pid, signal.SIGKILL)
            raise KajitoriError(
                f"the supervisor (pid {pid}) did not end in {_STOP_SECONDS:.0f} s and was killed"
            )
        time.sleep(0.02)
    return True


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie whose parent has not looked yet is as good as gone.
    try:
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def purge(home: Path) -> None:
    """Remove the cluster's folder. Raises UsageError for a folder that is not a cluster's."""
    if not (home / "cluster.json").exists():
        raise UsageError(f"{home} is not a cluster's folder", hint="nothing was removed")
    shutil.rmtree(home)
