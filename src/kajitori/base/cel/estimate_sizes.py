"""Sizes, their arithmetic, and the paths by which sizes are looked up in a schema.

Numbers have 64 bits: sums and products stay at the largest. Fractions of sizes are counted in floating point and
rounded up.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

MOST: Final = 2**64 - 1
_BEYOND: Final = 2.0**64


def plus(one: int, other: int) -> int:
    return min(one + other, MOST)


def times(one: int, other: int) -> int:
    return min(one * other, MOST)


def scaled(size: int, factor: float) -> int:
    """`size * factor`, rounded up."""
    exact = float(size)
    if exact > 0 and factor > 0 and exact > _BEYOND / factor:
        return MOST
    return min(math.ceil(exact * factor), MOST)


class Size(NamedTuple):
    """Between which bounds a size lies: letters of a text, bytes, items of a list, entries of a map."""

    least: int
    most: int

    def union(self, other: Size) -> Size:
        return Size(min(self.least, other.least), max(self.most, other.most))

    def add(self, other: Size) -> Size:
        return Size(plus(self.least, other.least), plus(self.most, other.most))

    def multiply(self, other: Size) -> Size:
        return Size(times(self.least, other.least), times(self.most, other.most))


UNKNOWN: Final = Size(0, MOST)
ONE: Final = Size(1, 1)


class EntrySizes(NamedTuple):
    """Sizes of the keys (indices) and values of a list or map; container says which."""

    container: str
    keys: Size
    values: Size

    def union(self, other: EntrySizes) -> EntrySizes:
        return EntrySizes(self.container, self.keys.union(other.keys), self.values.union(other.values))


class Path:
    """Steps from a variable to data.

    A longer path writes its step into the memory that it shares with the one it came from, where there is room, as
    slices in Go do. So of two paths that grew from a third the later one can change the step of the earlier: real
    servers look sizes up by paths that were changed like that, and their verdicts depend on it.
    """

    __slots__ = ("_length", "_memory")

    def __init__(self, memory: list[str] | None = None, length: int = 0) -> None:
        self._memory: list[str] = [] if memory is None else memory
        self._length = length

    def then(self, step: str) -> Path:
        memory, length = self._memory, self._length
        if length == len(memory):
            memory = [*memory, *([""] * max(length, 1))]
        memory[length] = step
        return Path(memory, length + 1)

    @property
    def steps(self) -> list[str]:
        return self._memory[: self._length]
