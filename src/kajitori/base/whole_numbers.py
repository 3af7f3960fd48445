"""Whole numbers that users write as text, in labels and annotations."""

from __future__ import annotations

# What counts pods and seconds elsewhere in Kubernetes holds no more (int32).
MOST = 2**31 - 1


def whole_number(text: str) -> int | None:
    """The number; None for all but ASCII digits, and for more than 2,147,483,647.

    The bound keeps sums of times what clocks and floats can hold, and a text of a million digits from being worked out.
    """
    if not (text.isascii() and text.isdecimal()) or len(text.lstrip("0")) > len(str(MOST)):
        return None
    number = int(text.lstrip("0") or "0")
    return number if number <= MOST else None


def index_of_label(text: str | None) -> int:
    """The number that a label gives; -1 where there is no such label, or it says nothing sensible."""
    number = whole_number(text or "")
    return -1 if number is None else number
