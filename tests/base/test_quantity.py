"""Quantities and durations, as Kubernetes writes them."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.base.duration import format_age, parse_duration_seconds
from kajitori.base.quantity import format_quantity, parse_quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("100m", Fraction(1, 10)),
        ("1.5Gi", 3 * 2**29),
        ("1e3", 1000),
        ("2E", 2 * 10**18),
        ("-5", -5),
        (".5", Fraction(1, 2)),
        ("12E3", 12000),
    ],
)
def test_a_quantity_has_its_exact_value(text: str, value: Fraction) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize("text", ["", "x", "1x", "1 Gi", "Gi", "1ki", "--1", "1e"])
def test_a_malformed_quantity_is_refused_with_the_accepted_suffixes(text: str) -> None:
    with pytest.raises(ValueError, match="Ki Mi Gi"):
        parse_quantity(text)


@given(st.integers(min_value=-(10**18), max_value=10**18), st.booleans())
def test_formatting_a_whole_number_loses_nothing(number: int, binary: bool) -> None:
    assert parse_quantity(format_quantity(number, binary=binary)) == number


@given(st.integers(min_value=0, max_value=10**15))
def test_formatting_milli_values_loses_nothing(number: int) -> None:
    assert parse_quantity(format_quantity(Fraction(number, 1000))) == Fraction(number, 1000)


@pytest.mark.parametrize(
    ("text", "seconds"), [("1h2m3.5s", 3723.5), ("250ms", 0.25), ("0", 0.0), ("-3s", -3.0)]
)
def test_a_duration_has_its_seconds(text: str, seconds: float) -> None:
    assert parse_duration_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "1d", "1 s", "1s2"])
def test_a_duration_without_a_known_unit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="number with a unit"):
        parse_duration_seconds(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (85, "85s"),
        (192, "3m12s"),
        (600, "10m"),
        (3600 * 5, "5h"),
        (86400 * 5, "5d"),
        (86400 * 800, "2y70d"),
    ],
)
def test_ages_read_as_kubectl_prints_them(seconds: float, text: str) -> None:
    assert format_age(seconds) == text
