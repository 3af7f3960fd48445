"""Pods of several shapes on a few nodes, exactly. Pure.

Node by node it is worked out how many pods of the last shape can have been placed for every number of pods of the other
shapes (a table of the best, as in bounded knapsack). The answer is exact; the work grows with the product of the counts,
so whoever asks counts the `steps` first and keeps below `MOST_STEPS` for a gang.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kajitori.scheduling.gangs.table import Bools, Ints

# About a tenth of a second.
MOST_STEPS = 20_000_000

_IMPOSSIBLE = -(1 << 40)


def steps(counts: Sequence[int], nodes: int) -> int:
    """How much work `pack` would be."""
    combinations = math.prod(count + 1 for count in counts) // (max(counts) + 1)
    return nodes * combinations**2


def pack(free: Ints, counts: Sequence[int], amounts: Ints, masks: Bools) -> Ints | None:
    """How many pods of each shape [nodes, shapes] go to each node; None where they do not fit.

    free: [nodes, columns], never negative. counts: pods of each shape. amounts: [shapes, columns]. masks: [nodes, shapes].
    """
    last = int(np.argmax(counts))
    others = [number for number in range(len(counts)) if number != last]
    sizes = tuple(counts[number] + 1 for number in others)
    combinations = np.indices(sizes).reshape(len(others), -1).T
    best = np.full(sizes, _IMPOSSIBLE, np.int64)
    best.flat[0] = 0
    choices: list[npt.NDArray[np.int32]] = []
    held = _held(free, counts, amounts, masks, last, others, combinations)
    for node in range(len(free)):
        best, choice = _add_node(best, combinations, held[node])
        choices.append(choice)
        if best.flat[-1] >= counts[last]:
            break
    else:
        return None
    return _read_back(len(free), counts, last, others, combinations, held, choices)


def _held(
    free: Ints,
    counts: Sequence[int],
    amounts: Ints,
    masks: Bools,
    last: int,
    others: Sequence[int],
    combinations: Ints,
) -> Ints:
    """Of each node and each combination of the other shapes: how many of the last fit beside it; impossible if it does not."""
    used = combinations @ amounts[others]
    left = free[:, None, :] - used[None, :, :]
    able = (left >= 0).all(axis=2)
    # Shapes that may not be there at all.
    able &= ~((combinations[None, :, :] > 0) & ~masks[:, None, others]).any(axis=2)
    wanted = amounts[last] > 0
    room = (left[:, :, wanted] // amounts[last][wanted]).min(axis=2)
    room = np.clip(np.where(masks[:, last][:, None], room, 0), 0, counts[last])
    return np.where(able, room, _IMPOSSIBLE)


def _add_node(best: Ints, combinations: Ints, held: Ints) -> tuple[Ints, npt.NDArray[np.int32]]:
    """The table with one node more, and which combination that node takes for each entry."""
    better = np.full(best.shape, _IMPOSSIBLE, np.int64)
    choice = np.zeros(best.shape, np.int32)
    for number in np.flatnonzero(held >= 0).tolist():
        shift = combinations[number].tolist()
        target = tuple(slice(step, None) for step in shift)
        source = tuple(slice(0, size - step) for step, size in zip(shift, best.shape, strict=True))
        reached = best[source] + held[number]
        more = reached > better[target]
        better[target][more] = reached[more]
        choice[target][more] = number
    return np.maximum(better, _IMPOSSIBLE), choice


def _read_back(
    nodes: int,
    counts: Sequence[int],
    last: int,
    others: Sequence[int],
    combinations: Ints,
    held: Ints,
    choices: Sequence[npt.NDArray[np.int32]],
) -> Ints:
    placed = np.zeros((nodes, len(counts)), np.int64)
    left = [counts[number] for number in others]
    rest = counts[last]
    for node in range(len(choices) - 1, -1, -1):
        number = int(choices[node][tuple(left)])
        for shape, taken in zip(others, combinations[number].tolist(), strict=True):
            placed[node, shape] = taken
        left = [have - taken for have, taken in zip(left, combinations[number].tolist(), strict=True)]
        placed[node, last] = min(rest, int(held[node][number]))
        rest -= int(placed[node, last])
    return placed
