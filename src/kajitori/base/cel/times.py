"""Parts of times and durations: `t.getHours()`, `t.getDate("Europe/Paris")`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

from kajitori.base.cel.errors import EvaluationError
from kajitori.base.cel.functions import method
from kajitori.base.cel.types import DURATION, INT, STRING, TIMESTAMP


def _zone(name: str) -> Any:
    try:
        if name[:1] in "+-" or name[:1].isdigit():
            hours, minutes = name.lstrip("+-").split(":")
            offset = timedelta(hours=int(hours), minutes=int(minutes))
            return timezone(-offset if name.startswith("-") else offset)
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise EvaluationError(f"unknown time zone {name!r}") from None


def _time_part(name: str, part: Callable[[datetime], int]) -> None:
    method(name, (TIMESTAMP,), INT, lambda moment: part(moment.astimezone(UTC)))
    method(name, (TIMESTAMP, STRING), INT, lambda moment, zone: part(moment.astimezone(_zone(zone))))


_time_part("getFullYear", lambda moment: moment.year)
_time_part("getMonth", lambda moment: moment.month - 1)
_time_part("getDate", lambda moment: moment.day)
_time_part("getDayOfMonth", lambda moment: moment.day - 1)
_time_part("getDayOfWeek", lambda moment: moment.isoweekday() % 7)
_time_part("getDayOfYear", lambda moment: moment.timetuple().tm_yday - 1)
_time_part("getHours", lambda moment: moment.hour)
_time_part("getMinutes", lambda moment: moment.minute)
_time_part("getSeconds", lambda moment: moment.second)
_time_part("getMilliseconds", lambda moment: moment.microsecond // 1000)


def _truncated(duration: timedelta, unit: timedelta) -> int:
    whole = abs(duration) // unit
    return -whole if duration < timedelta() else whole


method("getHours", (DURATION,), INT, lambda duration: _truncated(duration, timedelta(hours=1)))
method("getMinutes", (DURATION,), INT, lambda duration: _truncated(duration, timedelta(minutes=1)))
method("getSeconds", (DURATION,), INT, lambda duration: _truncated(duration, timedelta(seconds=1)))
method(
    "getMilliseconds",
    (DURATION,),
    INT,
    lambda duration: _truncated(duration, timedelta(milliseconds=1)) % 1000,
)
