"""Pieces that many tables share: ages, lists of names, selectors."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from kajitori.base.duration import format_age

Object = dict[str, Any]
NONE = "<none>"
UNKNOWN = "<unknown>"


@lru_cache(maxsize=8192)
def unix_seconds(text: str) -> float | None:
    """Unix time of an RFC 3339 text; None for anything else."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC).timestamp()
    except ValueError:
        return None


def age_of(text: Any, now_seconds: float) -> str:
    """Time since an RFC 3339 text, as people read it."""
    if not isinstance(text, str) or not text:
        return UNKNOWN
    moment = unix_seconds(text)
    return UNKNOWN if moment is None else format_age(now_seconds - moment)


def age(obj: Object, now_seconds: float) -> str:
    return age_of(obj["metadata"].get("creationTimestamp"), now_seconds)
