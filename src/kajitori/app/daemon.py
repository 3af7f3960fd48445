"""What the processes of a cluster share: which API server, logging, the event loop, an orderly end on SIGTERM."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from kajitori.control.logs import configure_logging

if TYPE_CHECKING:
    from kajitori.kube.config import ClusterConfig


def cluster_config(home: Path | None, user: str) -> ClusterConfig:
    """In a laptop's home that of this component's own user, elsewhere the usual search."""
    # The accountant, which uses this module too, asks no API server.
    from kajitori.kube.config import load_config, load_own_config

    return load_own_config(home, user) if home else load_config()


def run_daemon(main: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop with our log lines, until it returns."""
    configure_logging()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
