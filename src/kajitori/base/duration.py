"""Durations as Go and the Gateway API write them (`1h2m3.5s`, `250ms`), as float seconds inside."""

from __future__ import annotations

import re

_UNIT_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)")


def parse_duration_seconds(text: str) -> float:
    """Seconds. Raises ValueError for a text without a unit or with an unknown one (`0` alone is allowed)."""
    body = text.lstrip("+-")
    if body == "0":
        return 0.0
    if not body or _PART.sub("", body):
        raise ValueError(f"duration {text!r} is not a number with a unit (ns us ms s m h), such as 1m30s")
    seconds = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _PART.findall(body))
    return -seconds if text.startswith("-") else seconds


def protobuf_duration(value: str | float) -> str:
    """Seconds, or a duration as above, as protobuf's JSON has them, to the nanosecond: `1.5s`."""
    seconds = parse_duration_seconds(value) if isinstance(value, str) else value
    text = f"{seconds:.9f}"
    return text.rstrip("0").rstrip(".") + "s"


def format_age(seconds: float) -> str:
    """Age as `kubectl get` prints it: the one or two largest units, such as `85s`, `3m12s`, `5h`, `5d`."""
    if seconds < 0:
        return "<invalid>" if seconds < -1 else "0s"
    whole = int(seconds)
    if whole < 120:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 10:
        return f"{minutes}m{rest}s" if rest else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    if hours < 8:
        return f"{hours}h{minutes}m" if minutes else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    days, hours = divmod(hours, 24)
    if days < 8:
        return f"{days}d{hours}h" if hours else f"{days}d"
    if days < 2 * 365:
        return f"{days}d"
    years, days = divmod(days, 365)
    return f"{years}y{days}d" if years < 8 and days else f"{years}y"
