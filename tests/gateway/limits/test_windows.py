"""Windows of time: which slots they are made of, and when something frees."""

from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.base.errors import UserError
from kajitori.gateway.limits.limit import Window
from kajitori.gateway.limits.windows import SLIDING_SLOTS, WindowClock

BERLIN = ZoneInfo("Europe/Berlin")


def at(
    year: int, month: int, day: int, hour: int = 0, minute: int = 0, zone: datetime.tzinfo = BERLIN
) -> float:
    return datetime.datetime(year, month, day, hour, minute, tzinfo=zone).timestamp()


def test_a_fixed_window_begins_at_whole_multiples_since_1970() -> None:
    span = WindowClock(Window("Fixed", 3600)).at(3600 * 10 + 1)
    assert (span.slot, span.oldest, span.over, span.frees(10)) == (10, 10, 3600 * 11, 3600 * 11)


@pytest.mark.parametrize(
    ("unit", "now", "begin", "end"),
    [
        ("Day", at(2026, 3, 29, 12), at(2026, 3, 29), at(2026, 3, 30)),
        ("Day", at(2026, 10, 25, 23, 59), at(2026, 10, 25), at(2026, 10, 26)),
        ("Week", at(2026, 11, 26), at(2026, 11, 23), at(2026, 11, 30)),
        ("Month", at(2026, 2, 28, 23), at(2026, 2, 1), at(2026, 3, 1)),
        ("Month", at(2026, 12, 31, 23), at(2026, 12, 1), at(2027, 1, 1)),
        ("Year", at(2026, 1, 1), at(2026, 1, 1), at(2027, 1, 1)),
    ],
)
def test_a_calendar_window_goes_from_midnight_to_midnight_of_its_zone(
    unit: str, now: float, begin: float, end: float
) -> None:
    span = WindowClock(Window("Calendar", unit=unit, zone="Europe/Berlin")).at(now)  # type: ignore[arg-type]
    assert (span.slot, span.over) == (int(begin), end)


def test_the_days_on_which_clocks_are_changed_have_23_and_25_hours() -> None:
    clock = WindowClock(Window("Calendar", unit="Day", zone="Europe/Berlin"))
    spring, autumn = clock.at(at(2026, 3, 29, 5)), clock.at(at(2026, 10, 25, 5))
    assert (spring.width_seconds, autumn.width_seconds) == (23 * 3600, 25 * 3600)


def test_a_zone_whose_midnight_is_skipped_has_no_gap() -> None:
    # In Beirut clocks went from 0:00 to 1:00 on 27 March 2022.
    zone = ZoneInfo("Asia/Beirut")
    clock = WindowClock(Window("Calendar", unit="Day", zone="Asia/Beirut"))
    before = clock.at(at(2022, 3, 26, 12, zone=zone))
    after = clock.at(at(2022, 3, 27, 12, zone=zone))
    assert before.over == after.slot


@given(st.floats(0, 4e9), st.sampled_from([1.0, 60.0, 3600.0, 86_400.0]))
def test_a_sliding_window_counts_at_least_its_length_and_frees_no_earlier(now: float, seconds: float) -> None:
    clock = WindowClock(Window("Sliding", seconds))
    span = clock.at(now)
    reached_back = now - span.oldest * span.width_seconds
    assert seconds - 1e-3 <= reached_back <= seconds * (1 + 1 / SLIDING_SLOTS) + 1e-3
    assert span.frees(span.slot) >= now + seconds - 1e-3


@given(st.floats(0, 4e9), st.floats(0, 1e6), st.sampled_from(["Day", "Week", "Month", "Year"]))
def test_calendar_windows_follow_one_another_without_gap_or_overlap(
    now: float, later: float, unit: str
) -> None:
    clock = WindowClock(Window("Calendar", unit=unit, zone="America/Sao_Paulo"))  # type: ignore[arg-type]
    span = clock.at(now)
    assert span.slot <= now < span.over
    assert clock.at(span.over).slot == int(span.over)
    assert clock.at(now + later).slot >= span.slot


@pytest.mark.parametrize(
    "window",
    [
        Window("Calendar", unit="Day", zone="Mars/Olympus"),
        Window("Calendar", unit="Day", zone="../../etc/passwd"),
        Window("Calendar"),
        Window("Sliding", 0),
        Window("Fixed", float("nan")),
    ],
)
def test_a_window_that_makes_no_sense_is_refused(window: Window) -> None:
    with pytest.raises(UserError):
        WindowClock(window)


def test_a_sliding_window_frees_when_the_first_that_was_taken_is_over() -> None:
    day = 86_400.0
    span = WindowClock(Window("Sliding", seconds=day)).at(day * 100)
    taken_now = {span.slot: 20}
    assert span.frees(span.first(taken_now)) >= day * 101
    taken_before = {span.oldest - 1: 7, span.oldest + 2: 0, span.oldest + 3: 5, span.slot: 20}
    assert span.first(taken_before) == span.oldest + 3
