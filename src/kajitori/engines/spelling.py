"""The nearest known spelling of a word, for error messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def distance(left: str, right: str) -> int:
    """Edit distance: insertions, deletions, replacements, and swaps of neighbours."""
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        older, before, row = before, row, [i]
        for j, b in enumerate(right, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and b == left[i - 2]:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
    return row[-1]


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that is closest, if it is close: at most a third of the letters differ. Empty otherwise."""
    best, best_distance = "", max(1, len(word) // 3) + 1
    for candidate in known:
        if abs(len(candidate) - len(word)) < best_distance:
            found = distance(word, candidate)
            if found < best_distance:
                best, best_distance = candidate, found
    return best
