"""The clock: the one place where the time of day is read.

Durations and waits go through the running event loop (`asyncio.sleep`, `loop.time()`), so a test that runs
on a virtual loop waits for nothing. The time of day comes from a `Clock`, since objects carry it.
"""

from __future__ import annotations

import asyncio
import datetime
import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time of day as seconds since 1970-01-01 UTC."""

    def now(self) -> float: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.time()


class LoopClock:
    """Follows the running event loop's own time from a fixed start; on a virtual loop it is virtual too."""

    def __init__(self, start_seconds: float = 1_700_000_000.0) -> None:
        self._start_seconds = start_seconds

    def now(self) -> float:
        return self._start_seconds + asyncio.get_running_loop().time()


def rfc3339(seconds: float) -> str:
    """The time as Kubernetes writes `Time`: RFC 3339, whole seconds, `Z`."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(seconds: float) -> str:
    """The time as Kubernetes writes `MicroTime`: RFC 3339 with six decimals."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_rfc3339(text: str) -> float:
    """Seconds since 1970-01-01 UTC. Raises ValueError."""
    return datetime.datetime.fromisoformat(text).timestamp()
