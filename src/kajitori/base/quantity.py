"""Kubernetes quantities: `100m`, `1.5`, `2Gi`, `1e3`.

Source: the API reference, "Quantity". Values are exact fractions, so that sums of many requests stay exact.
"""

from __future__ import annotations

import re
from fractions import Fraction

_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_DECIMAL = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 10**3),
    "": Fraction(1),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
}
_FORM = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d{1,3})|([KMGTPE]i|[numkMGTPE]?))")


def parse_quantity(text: str | int | float) -> Fraction:
    """The exact value. Raises ValueError with the accepted forms."""
    match = _FORM.fullmatch(str(text))
    if match is None:
        raise ValueError(
            f"quantity {text!r} is not a number with an optional suffix (n u m k M G T P E, Ki Mi Gi Ti Pi Ei)"
        )
    number, exponent, suffix = match.groups()
    value = Fraction(number)
    if exponent:
        return value * Fraction(10) ** int(exponent[1:])
    if suffix in _BINARY:
        return value * _BINARY[suffix]
    return value * _DECIMAL[suffix or ""]


def format_quantity(value: Fraction | int, *, binary: bool = False) -> str:
    """The shortest exact form; binary suffixes (`Ki` and up) where asked for and exact."""
    value = Fraction(value)
    if value == 0:
        return "0"
    if binary and value.denominator == 1:
        for suffix, factor in reversed(_BINARY.items()):
            if value % factor == 0:
                return f"{value // factor}{suffix}"
    for suffix in ("E", "P", "T", "G", "M", "k", "", "m", "u", "n"):
        scaled = value / _DECIMAL[suffix]
        if scaled.denominator == 1:
            return f"{scaled.numerator}{suffix}"
    nano = value * 10**9
    return f"{-(-nano.numerator // nano.denominator)}n"
