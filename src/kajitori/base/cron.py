"""Cron schedules as Kubernetes reads them: five fields, `@daily` and its like, `@every 1h30m`.

A field is `*` or `?`, numbers, names of months and days, ranges, and steps; days of the week are 0 to 6 from
Sunday. Where both days of the month and of the week are restricted, either will do. Times that a change of clocks
leaves out never come; times that it brings twice come twice.

Source: the grammar and messages of the parser that kube-controller-manager uses.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass

from kajitori.base.duration import parse_duration_seconds

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_LONGEST_SEARCH_YEARS = 5
_DAY = datetime.timedelta(days=1)
_NUMBER = re.compile(r"[+-]?[0-9]+")


class InvalidSchedule(ValueError):
    """The text is no schedule; the message says why, as the real parser does."""


@dataclass(frozen=True)
class _Field:
    """values: what it allows. any: it was written as a star, and restricts nothing."""

    values: frozenset[int]
    any: bool


@dataclass(frozen=True)
class Schedule:
    """minutes, hours, days of the month, months, days of the week; or a fixed delay instead of them."""

    fields: tuple[_Field, _Field, _Field, _Field, _Field]
    delay_seconds: int = 0

    def next(self, after: float, zone: datetime.tzinfo) -> float | None:
        """The first time after `after` (seconds since 1970), None if there is none within five years."""
        if self.delay_seconds:
            return float(int(after) + self.delay_seconds)
        start = datetime.datetime.fromtimestamp(after, zone)
        date, last_year = start.date(), start.year + _LONGEST_SEARCH_YEARS
        while date.year <= last_year:
            if date.month not in self.fields[3].values:
                date = (date.replace(day=1) + 32 * _DAY).replace(day=1)
                continue
            if self._has_day(date):
                found = self._first_on(date, after, zone)
                if found is not None:
                    return found
            date += _DAY
        return None

    def _has_day(self, date: datetime.date) -> bool:
        of_month, of_week = self.fields[2], self.fields[4]
        in_month = date.day in of_month.values
        in_week = date.isoweekday() % 7 in of_week.values
        return (in_month and in_week) if of_month.any or of_week.any else (in_month or in_week)

    def _first_on(self, date: datetime.date, after: float, zone: datetime.tzinfo) -> float | None:
        """The first time on that day after `after`."""
        first: float | None = None
        for hour in sorted(self.fields[1].values):
            for fold in (0, 1):
                moment = datetime.datetime(date.year, date.month, date.day, hour, tzinfo=zone, fold=fold)
                if moment.timestamp() + 3600 <= after:
                    continue
                found = self._first_in(moment, after)
                if found is not None and (first is None or found < first):
                    first = found
            # An hour that comes twice lies before the next one, whichever it is.
            if first is not None:
                return first
        return None

    def _first_in(self, hour: datetime.datetime, after: float) -> float | None:
        for minute in sorted(self.fields[0].values):
            moment = hour.replace(minute=minute)
            seconds = moment.timestamp()
            if seconds <= after:
                continue
            back = datetime.datetime.fromtimestamp(seconds, hour.tzinfo)
            if (back.hour, back.minute) == (moment.hour, moment.minute):
                return seconds
        return None


def parse_schedule(text: str) -> Schedule:
    """Raises InvalidSchedule."""
    if not text:
        raise InvalidSchedule("empty spec string")
    if text.startswith("@"):
        return _parse_named(text)
    parts = text.split()
    if len(parts) != 5:
        shown = " ".join(parts)
        raise InvalidSchedule(f"expected exactly 5 fields, found {len(parts)}: [{shown}]")
    minutes, hours, days, months, weekdays = parts
    return Schedule(
        (
            _parse_field(minutes, 0, 59),
            _parse_field(hours, 0, 23),
            _parse_field(days, 1, 31),
            _parse_field(months, 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
            _parse_field(weekdays, 0, 6, {name: number for number, name in enumerate(_DAYS)}),
        )
    )


def _parse_named(text: str) -> Schedule:
    if text in _NAMED:
        return parse_schedule(_NAMED[text])
    if not text.startswith("@every "):
        raise InvalidSchedule(f"unrecognized descriptor: {text}")
    amount = text.removeprefix("@every ")
    try:
        seconds = parse_duration_seconds(amount)
    except ValueError as error:
        raise InvalidSchedule(
            f'failed to parse duration {text}: time: invalid duration "{amount}"'
        ) from error
    return Schedule(parse_schedule("* * * * *").fields, delay_seconds=max(1, int(seconds)))


def _parse_field(text: str, lowest: int, highest: int, names: dict[str, int] | None = None) -> _Field:
    values: set[int] = set()
    any_value = False
    for part in text.split(","):
        if part:
            found, is_star = _parse_range(part, lowest, highest, names or {})
            values.update(found)
            any_value = any_value or is_star
    return _Field(frozenset(values), any_value)


def _parse_range(text: str, lowest: int, highest: int, names: dict[str, int]) -> tuple[range, bool]:
    bounds, *steps = text.split("/")
    ends = bounds.split("-")
    is_star = ends[0] in ("*", "?")
    if is_star:
        first, last = lowest, highest
    else:
        if len(ends) > 2:
            raise InvalidSchedule(f"too many hyphens: {text}")
        first = _parse_number(ends[0], names)
        last = _parse_number(ends[-1], names)
    if len(steps) > 1:
        raise InvalidSchedule(f"too many slashes: {text}")
    step = 1
    if steps:
        step = _parse_number(steps[0], {})
        # A single number with a step begins there and goes on to the end.
        if len(ends) == 1:
            last = highest
    if first < lowest:
        raise InvalidSchedule(f"beginning of range ({first}) below minimum ({lowest}): {text}")
    if last > highest:
        raise InvalidSchedule(f"end of range ({last}) above maximum ({highest}): {text}")
    if first > last:
        raise InvalidSchedule(f"beginning of range ({first}) beyond end of range ({last}): {text}")
    if step == 0:
        raise InvalidSchedule(f"step of range should be a positive number: {text}")
    return range(first, last + 1, step), is_star and step == 1


def _parse_number(text: str, names: dict[str, int]) -> int:
    named = names.get(text.lower())
    if named is not None:
        return named
    if not _NUMBER.fullmatch(text):
        reason = f'strconv.Atoi: parsing "{text}": invalid syntax'
        raise InvalidSchedule(f"failed to parse int from {text}: {reason}")
    number = int(text)
    if number < 0:
        raise InvalidSchedule(f"negative number ({number}) not allowed: {text}")
    return number
