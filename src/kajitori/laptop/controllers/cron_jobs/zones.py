"""Time zones by name, and the one that this process lives in."""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from zoneinfo import ZoneInfo

_LOCAL = Path("/etc/localtime")


def zone_named(name: str | None) -> datetime.tzinfo:
    """None: the local one. Raises ValueError for a name that is none."""
    if name is None:
        return _local_zone()
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError) as error:
        raise ValueError(f"unknown time zone {name}") from error


def _local_zone() -> datetime.tzinfo:
    named = os.environ.get("TZ", "").lstrip(":")
    try:
        if named:
            return ZoneInfo(named)
        with _LOCAL.open("rb") as file:
            return ZoneInfo.from_file(file)
    except (KeyError, OSError, ValueError):
        return datetime.UTC
