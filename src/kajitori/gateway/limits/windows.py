"""Windows of time as numbered slots: what was taken is counted by slot, and a window is the slots that it reaches.

A fixed or calendar window is one slot, so its count is exact. A sliding window of length T is cut into 60 slots and
counts the slot that runs besides the last 60: what was taken frees between T and T + T/60 later, never early, so
no stretch of T ever holds more than the limit. Slots are numbered in time, so two gateways whose clocks agree count
in the same ones.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from kajitori.base.errors import UserError
from kajitori.gateway.limits.limit import Window

SLIDING_SLOTS = 60
# Clocks of gateways differ; what another one might still count is not thrown away.
_SKEW_SECONDS = 60.0


class Span(msgspec.Struct, frozen=True, gc=False):
    """A window at one moment.

    Times are seconds since 1970.

    slot: where what is taken now is counted. width_seconds: of a slot.
    oldest, newest: the first and the last slot that count; what a clock that was far ahead has written lies beyond.
    keep: the first that is kept. reach: how many a window counts. window_seconds: of the whole window.
    over: when the running slot ends; until then this span holds. resets: when all that is taken now is free again.
    forget: when nothing of now counts any longer, with room for skew.
    """

    slot: int
    oldest: int
    newest: int
    keep: int
    over: float
    width_seconds: float
    reach: int
    forget: int
    resets: float
    window_seconds: int

    def used(self, slots: Mapping[int, int]) -> int:
        """What of a counter, by slot, counts in this window."""
        return sum(amount for slot, amount in slots.items() if self.oldest <= slot <= self.newest)

    def first(self, slots: Mapping[int, int]) -> int:
        """The oldest slot of a counter in which something is that counts; else the oldest that would."""
        return min(
            (slot for slot, amount in slots.items() if amount and self.oldest <= slot <= self.newest),
            default=self.oldest,
        )

    def frees(self, slot: int) -> float:
        """When what was taken in a slot of this window no longer counts, in seconds since 1970."""
        if self.reach == 1:
            return self.over
        return (slot + self.reach) * self.width_seconds


class WindowClock:
    """The span of one window as time goes on; computed anew when a slot is over.

    Raises UserError for a window that makes no sense or a zone that is not known.
    """

    __slots__ = ("_begin", "_span", "_window", "_zone")

    def __init__(self, window: Window) -> None:
        self._window = window
        self._span: Span | None = None
        self._begin = 0.0
        self._zone = _zone(window)
        if window.kind == "Calendar":
            if not window.unit:
                raise UserError("a calendar window needs a unit: Day, Week, Month or Year")
        elif not window.seconds > 0 or not math.isfinite(window.seconds):
            raise UserError(f"a window must be longer than nothing, not {window.seconds} seconds")

    def at(self, now: float) -> Span:
        """The span for a time in seconds since 1970."""
        span = self._span
        if span is None or not self._begin <= now < span.over:
            self._begin, span = _span(self._window, self._zone, now)
            self._span = span
        return span


def _zone(window: Window) -> datetime.tzinfo:
    if window.kind != "Calendar" or window.zone in ("", "UTC"):
        return datetime.UTC
    try:
        return ZoneInfo(window.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UserError(
            f"time zone {window.zone!r} is not known", hint="write it as Europe/Berlin or UTC"
        ) from error


def _span(window: Window, zone: datetime.tzinfo, now: float) -> tuple[float, Span]:
    if window.kind == "Calendar":
        begin, end = calendar_period(window.unit, zone, now)
        slot = int(begin)
        before, _ = calendar_period(window.unit, zone, begin - 1)
        keep = slot if now - begin > _SKEW_SECONDS else int(before)
        return begin, Span(
            slot,
            slot,
            slot,
            keep,
            end,
            end - begin,
            1,
            math.ceil(end + _SKEW_SECONDS),
            end,
            round(end - begin) or 1,
        )
    reach = 1 if window.kind == "Fixed" else SLIDING_SLOTS + 1
    width = window.seconds if window.kind == "Fixed" else window.seconds / SLIDING_SLOTS
    slot = math.floor(now / width)
    oldest = slot - reach + 1
    skew = math.ceil(_SKEW_SECONDS / width)
    # The windows of gateways that differ are different ones; a sliding one has some slots in common with another's. What
    # a clock took that was put back by less than a window counts on, else it could be taken twice.
    newest = slot if reach == 1 else slot + max(reach, skew)
    keep = oldest - skew
    over, resets = (slot + 1) * width, (slot + reach) * width
    forget = math.ceil(resets + _SKEW_SECONDS)
    whole = round(window.seconds) or 1
    return slot * width, Span(slot, oldest, newest, keep, over, width, reach, forget, resets, whole)


def calendar_period(unit: str, zone: datetime.tzinfo, now: float) -> tuple[float, float]:
    """Begin and end of the day, week (from Monday), month or year that holds a time, both in seconds since 1970.

    A day on which clocks are put forward has 23 hours. Where midnight does not exist the day begins when it is over.
    """
    day = datetime.datetime.fromtimestamp(now, zone).date()
    if unit == "Day":
        first = day
        after = day + datetime.timedelta(days=1)
    elif unit == "Week":
        first = day - datetime.timedelta(days=day.weekday())
        after = first + datetime.timedelta(days=7)
    elif unit == "Month":
        first = day.replace(day=1)
        after = (first + datetime.timedelta(days=32)).replace(day=1)
    else:
        first = day.replace(month=1, day=1)
        after = day.replace(year=day.year + 1, month=1, day=1)
    return _midnight(first, zone), _midnight(after, zone)


def _midnight(day: datetime.date, zone: datetime.tzinfo) -> float:
    return datetime.datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()
