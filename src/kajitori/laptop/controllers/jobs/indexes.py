"""Sets of completion indexes as a job's status writes them: `1,3-5,7`. Pure.

A set is a tuple of (first, last) in order, none touching the next. Source: Kubernetes' reference of
`status.completedIndexes`; two neighbours are written `3,4`, three or more `3-5`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

Intervals = tuple[tuple[int, int], ...]


def parse_indexes(text: str, completions: int) -> Intervals:
    """The indexes below `completions`; what cannot be read is left out."""
    found: list[tuple[int, int]] = []
    for part in text.split(",") if text else ():
        first, _, last = part.partition("-")
        try:
            interval = (int(first), min(int(last or first), completions - 1))
        except ValueError:
            continue
        if interval[0] <= interval[1]:
            found.append(interval)
    return union(tuple(found))


def from_indexes(indexes: Iterable[int]) -> Intervals:
    return union(tuple((index, index) for index in indexes))


def union(*sets: Intervals) -> Intervals:
    """All indexes that are in any of the sets."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(interval for one in sets for interval in one):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(merged)


def write_indexes(intervals: Intervals) -> str:
    parts: list[str] = []
    for first, last in intervals:
        if last == first:
            parts.append(str(first))
        else:
            parts.append(f"{first}{',' if last == first + 1 else '-'}{last}")
    return ",".join(parts)


def count(intervals: Intervals) -> int:
    return sum(last - first + 1 for first, last in intervals)


def contains(intervals: Intervals, index: int) -> bool:
    return any(first <= index <= last for first, last in intervals)


def overlap(one: Intervals, other: Intervals) -> int:
    """How many indexes are in both."""
    return sum(
        max(0, min(last, other_last) - max(first, other_first) + 1)
        for first, last in one
        for other_first, other_last in other
    )


def first_missing(intervals: Intervals, completions: int, most: int) -> list[int]:
    """The lowest indexes below `completions` that are not in the set, at most `most` of them."""
    found: list[int] = []
    for index in _gaps(intervals, completions):
        if len(found) >= most:
            break
        found.append(index)
    return found


def _gaps(intervals: Intervals, completions: int) -> Iterator[int]:
    candidate = 0
    for first, last in intervals:
        yield from range(candidate, min(first, completions))
        candidate = max(candidate, last + 1)
    yield from range(candidate, completions)
