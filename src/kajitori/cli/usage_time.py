"""Days as people write them: `30d`, `4w`, `today`, `yesterday`, `2026-11-01`, `2026-11`. Pure."""

from __future__ import annotations

import calendar
import re
from datetime import date, timedelta

from kajitori.base.errors import UsageError

_UNITS = {"d": 1, "w": 7}


def first_day(text: str, today: date) -> date:
    """The first day that is meant. Raises UsageError."""
    return _span(text, today)[0]


def last_day(text: str, today: date) -> date:
    """The last day that is meant. Raises UsageError."""
    return _span(text, today)[1]


def _span(text: str, today: date) -> tuple[date, date]:
    if text in ("today", "yesterday"):
        day = today - timedelta(days=text == "yesterday")
        return day, day
    try:
        if found := re.fullmatch(r"(\d{1,5})([dw])", text):
            day = today - timedelta(days=int(found[1]) * _UNITS[found[2]])
            return day, day
        if found := re.fullmatch(r"(\d{4})-(\d{2})", text):
            year, month = int(found[1]), int(found[2])
            return date(year, month, 1), date(year, month, calendar.monthrange(year, month)[1])
        day = date.fromisoformat(text)
        return day, day
    except (ValueError, OverflowError, calendar.IllegalMonthError):
        raise UsageError(
            f"{text!r} is no day", hint="write 30d, 4w, today, yesterday, 2026-11-01 or 2026-11"
        ) from None
