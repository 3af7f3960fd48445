"""Canonical forms of quantities and times, as the server prints them whatever a client wrote.

A quantity keeps its family (binary `Ki`, decimal `k`, exponent `e3`) and takes the largest unit of that family
with which it is a whole number; fractions finer than a nano unit are rounded up. Source: the API reference,
"Quantity" and "Time".
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from fractions import Fraction
from functools import lru_cache

from kajitori.base.quantity import parse_quantity

_PLAIN = re.compile(r"[1-9]\d{0,2}")
_DECIMAL_SUFFIX = {-9: "n", -6: "u", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P", 18: "E"}
_BINARY_SUFFIX = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


def canonical_quantity(value: str | int | float) -> str:
    """The canonical text. Raises ValueError for what is not a quantity."""
    if isinstance(value, str):
        if _PLAIN.fullmatch(value):
            return value
        return _canonical(value)
    return _canonical(_number_text(value))


def _number_text(value: int | float) -> str:
    text = repr(value)
    return text.removesuffix(".0")


@lru_cache(maxsize=4096)
def _canonical(text: str) -> str:
    value = parse_quantity(text)
    nano = value * 10**9
    if nano.denominator != 1:  # rounded away from zero, so that a small request never becomes none
        whole = -(-abs(nano.numerator) // nano.denominator)
        value = Fraction(whole if nano > 0 else -whole, 10**9)
    if value == 0:
        return "0"
    if text.endswith("i"):
        # A text without a unit is read as a decimal one when it comes back from the store.
        if abs(value) < 1024 or value.denominator != 1 or value.numerator % 1024:
            return _decimal(value, exponent=False)
        return _binary(value.numerator)
    return _decimal(value, exponent="e" in text or ("E" in text and not text.endswith("E")))


def _binary(value: int) -> str:
    power = 0
    while value % 1024 == 0 and power < len(_BINARY_SUFFIX) - 1:
        value //= 1024
        power += 1
    return f"{value}{_BINARY_SUFFIX[power]}"


def _decimal(value: Fraction, *, exponent: bool) -> str:
    for power in range(18, -10, -3):
        scaled = value / Fraction(10) ** power
        if scaled.denominator == 1:
            if exponent:
                return f"{scaled.numerator}e{power}" if power else str(scaled.numerator)
            return f"{scaled.numerator}{_DECIMAL_SUFFIX[power]}"
    raise ValueError(f"quantity {value} is finer than a nano unit")


_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def time_text(moment: datetime, *, micro: bool) -> str:
    """A moment in UTC as the server prints it: whole seconds, or six decimals of them."""
    text = moment.replace(tzinfo=None).isoformat(timespec="microseconds" if micro else "seconds")
    return f"{text}Z"


@lru_cache(maxsize=4096)
def canonical_time(text: str, *, micro: bool) -> str | None:
    """RFC 3339 in UTC, with seconds or (micro) six decimals; None for what is not RFC 3339."""
    match = _RFC_3339.fullmatch(text)
    if match is None:
        return None
    fraction = match.group(1) or ""
    shortened = text.replace(fraction, fraction[:7], 1) if fraction else text
    try:
        moment = datetime.fromisoformat(shortened).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return time_text(moment, micro=micro)
