"""Quantities and times in the form in which the server prints them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.base.quantity import parse_quantity
from kajitori.laptop.apiserver.kinds.canonical import canonical_quantity, canonical_time


@pytest.mark.parametrize(
    ("given_form", "canonical"),
    [
        (2, "2"),
        (0.5, "500m"),
        ("0.5", "500m"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("1024", "1024"),
        ("1000", "1k"),
        ("5000k", "5M"),
        ("0.5Ki", "512"),
        ("86312.5Ki", "88384k"),
        ("999.5Ki", "1023488"),
        ("0", "0"),
        ("0Gi", "0"),
        ("1e3", "1e3"),
        ("12e6", "12e6"),
        ("1E", "1E"),
        ("+1", "1"),
        ("-1.5", "-1500m"),
        ("0.1Gi", "107374182400m"),
        ("1n", "1n"),
        ("0.1n", "1n"),
        ("1Ti", "1Ti"),
    ],
)
def test_a_quantity_takes_its_canonical_form(given_form, canonical):
    assert canonical_quantity(given_form) == canonical


@pytest.mark.parametrize("text", ["", "lots", "1 Gi", "1gi", "1.5.5", "Mi", "1e", "0x10"])
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(ValueError, match="quantity"):
        canonical_quantity(text)


amounts = st.builds(
    lambda whole, fraction, suffix: f"{whole}{fraction}{suffix}",
    st.integers(0, 10**6),
    st.sampled_from(["", ".5", ".25", ".125", ".001"]),
    st.sampled_from(["", "m", "k", "M", "G", "Ki", "Mi", "Gi", "e3", "E2"]),
)


@given(amounts)
def test_the_canonical_form_keeps_the_value_and_stays_as_it_is(text):
    canonical = canonical_quantity(text)
    assert canonical_quantity(canonical) == canonical
    exact, kept = parse_quantity(text), parse_quantity(canonical)
    assert kept == exact or (exact < kept < exact + 1)  # fractions of a byte are rounded up


@given(
    st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9998, 1, 1)),
    st.integers(-14 * 60, 14 * 60),
    st.booleans(),
)
def test_times_are_shown_in_utc(moment, offset_minutes, micro):
    there = moment.replace(tzinfo=timezone(timedelta(minutes=offset_minutes)))
    text = canonical_time(there.isoformat(), micro=micro)
    assert text is not None
    assert text.endswith("Z")
    back = datetime.fromisoformat(text)
    assert back == there.astimezone(UTC).replace(microsecond=there.microsecond if micro else 0)
    assert canonical_time(text, micro=micro) == text


@pytest.mark.parametrize("text", ["", "today", "2020-01-01", "2020-13-01T00:00:00Z", "2020-01-01 00:00:00Z"])
def test_other_forms_of_time_are_refused(text):
    assert canonical_time(text, micro=False) is None


def test_nanoseconds_are_cut():
    assert canonical_time("2026-01-01T00:00:00.123456789Z", micro=True) == "2026-01-01T00:00:00.123456Z"
