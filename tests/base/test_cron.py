"""Cron schedules: the grammar of the real controller, its messages, and changes of clocks."""

from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.base.cron import InvalidSchedule, parse_schedule

UTC = datetime.UTC


def times(schedule, start, count, zone=UTC):
    after = datetime.datetime.fromisoformat(start).replace(tzinfo=zone).timestamp()
    found = []
    for _ in range(count):
        after = parse_schedule(schedule).next(after, zone)
        found.append(datetime.datetime.fromtimestamp(after, zone).strftime("%m-%d %H:%M:%S"))
    return found


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("*/15 * * * *", ["11-26 10:15:00", "11-26 10:30:00", "11-26 10:45:00"]),
        ("7/20 10 * * ?", ["11-26 10:07:00", "11-26 10:27:00", "11-26 10:47:00"]),
        ("0 9-17/4 * * mon-FRI", ["11-26 13:00:00", "11-26 17:00:00", "11-27 09:00:00"]),
        ("0 0 1,15 * *", ["12-01 00:00:00", "12-15 00:00:00", "01-01 00:00:00"]),
        # Both days restricted: either will do. The 26th of November 2026 is a Thursday.
        ("0 12 1 * 4", ["11-26 12:00:00", "12-01 12:00:00", "12-03 12:00:00"]),
        # A star with a step restricts.
        ("0 12 */31 * 4", ["11-26 12:00:00", "12-01 12:00:00", "12-03 12:00:00"]),
        ("0 0 29 feb *", ["02-29 00:00:00", "02-29 00:00:00"]),
        ("@hourly", ["11-26 11:00:00", "11-26 12:00:00"]),
        ("@every 90s", ["11-26 10:02:00", "11-26 10:03:30"]),
    ],
)
def test_the_next_times_are_those_that_the_fields_allow(schedule, expected):
    start = "2026-11-26T10:00:30" if "every" in schedule else "2026-11-26T10:00:00"
    if "feb" in schedule:
        start = "2024-01-01T00:00:00"
    assert times(schedule, start, len(expected)) == expected


def test_a_time_that_the_clocks_skip_does_not_come_and_one_that_they_repeat_comes_twice():
    berlin = ZoneInfo("Europe/Berlin")
    assert times("30 2 * * *", "2026-03-28T03:00:00", 1, berlin) == ["03-30 02:30:00"]
    assert times("30 2 * * *", "2026-10-24T12:00:00", 3, berlin) == [
        "10-25 02:30:00",
        "10-25 02:30:00",
        "10-26 02:30:00",
    ]


def test_a_date_that_never_comes_has_no_next_time():
    assert parse_schedule("0 0 31 2 *").next(0.0, UTC) is None


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("", "empty spec string"),
        ("* * *", "expected exactly 5 fields, found 3: [* * *]"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("1/2/3 * * * *", "too many slashes: 1/2/3"),
        ("* * * * 7", "end of range (7) above maximum (6): 7"),
        ("x * * * *", 'failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax'),
        ("@often", "unrecognized descriptor: @often"),
    ],
)
def test_a_text_that_is_no_schedule_is_refused_with_the_reason(schedule, message):
    with pytest.raises(InvalidSchedule) as error:
        parse_schedule(schedule)
    assert str(error.value) == message


@given(
    st.integers(0, 59), st.integers(0, 23), st.sampled_from(["*", "1", "*/2", "mon"]),
    st.floats(0, 4e9), st.sampled_from(["UTC", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
)  # fmt: skip
def test_every_next_time_is_later_fits_the_fields_and_leaves_none_out(minute, hour, days, after, name):
    zone = ZoneInfo(name)
    field = days if days != "mon" else "*"
    weekday = "mon" if days == "mon" else "*"
    schedule = parse_schedule(f"{minute} {hour} {field} * {weekday}")
    found = schedule.next(after, zone)
    assert found is not None and found > after
    moment = datetime.datetime.fromtimestamp(found, zone)
    assert (moment.minute, moment.hour, moment.second) == (minute, hour, 0)
    # From a moment before it, the same one is found.
    assert schedule.next(max(after, found - 1), zone) == found
