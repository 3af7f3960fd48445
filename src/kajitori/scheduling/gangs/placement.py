"""Where the pods of one gang go, on arrays. Pure; knows rows, amounts and domains, nothing of Kubernetes.

The closest level that holds the whole gang wins: one node, then one domain of each level in turn. Of the domains that
would do it takes the tightest, so that room for larger gangs stays whole (or the roomiest where the gang is to be
spread), and inside it the fewest domains of the closer levels and the fewest nodes, the last of them the tightest that
holds the rest. Pods of one shape, and one leader with workers of another, are answered exactly, for all domains at
once; for other mixtures see `mixed`. Source of the method: best fit as in Kueue's topology aware scheduling (KEP-2724).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from kajitori.scheduling.gangs.mixed import MOST_STEPS, pack, steps
from kajitori.scheduling.gangs.table import Bools, Ints

_NEVER = 1 << 40


class Shape(msgspec.Struct):
    """Equal pods. count: how many. amounts: what each asks, by column. mask: rows where they may be. fit: how many of them alone each row takes."""

    count: int
    amounts: tuple[int, ...]
    mask: Bools
    fit: Ints


class Problem(msgspec.Struct):
    """free: what each row has, by column. levels: number of each row's domain, 0 for none, from the closest level to the
    loosest that is allowed; nobody's mask has rows that the loosest level gives no number. tight: whether the tightest domain is the best."""

    free: tuple[Ints, ...]
    shapes: list[Shape]
    levels: list[Ints]
    tight: bool = True


class Placement(msgspec.Struct):
    """level: 0 for one node, else the level's position from 1. rows: one for each pod, by shape."""

    level: int
    rows: list[list[int]]


def place(problem: Problem) -> Placement | None:
    """The closest placement of the whole gang; None where it does not fit."""
    together = _on_one_node(problem)
    if together is not None:
        return Placement(0, [[together] * shape.count for shape in problem.shapes])
    for position in range(len(problem.levels)):
        rows = _in_one_domain(problem, position)
        if rows is not None:
            return Placement(position + 1, rows)
    return None


def _on_one_node(problem: Problem) -> int | None:
    first, *others = problem.shapes
    if not others:
        return _choose(first.fit, first.fit >= first.count, problem.tight)
    mask = np.logical_and.reduce([shape.mask for shape in problem.shapes])
    for column, free in enumerate(problem.free):
        wanted = sum(shape.count * shape.amounts[column] for shape in problem.shapes)
        if wanted:
            mask = mask & (free >= wanted)
    return _choose(first.fit, mask, problem.tight)


def _choose(room: Ints, able: Bools, tight: bool) -> int | None:
    """The able one with the least room, or the most; the first among equals."""
    candidates = np.flatnonzero(able)
    if not len(candidates):
        return None
    among = room[candidates]
    return int(candidates[among.argmin() if tight else among.argmax()])


def sums(numbers: Ints, fit: Ints) -> Ints:
    """Room of each domain, by its number; that of number 0 is none."""
    totals = np.bincount(numbers, weights=fit).astype(np.int64)
    totals[:1] = 0
    return totals


def within(problem: Problem, rows: Bools) -> Problem:
    """The same gang, on these rows only."""
    shapes = [
        Shape(shape.count, shape.amounts, shape.mask & rows, np.where(rows, shape.fit, 0))
        for shape in problem.shapes
    ]
    return Problem(problem.free, shapes, problem.levels, problem.tight)


def able_domains(problem: Problem, position: int) -> Bools:
    """By domain's number, whether it holds the gang; for mixtures of shapes only whether it may."""
    numbers = problem.levels[position]
    if len(problem.shapes) == 2 and problem.shapes[0].count == 1:
        return _room_beside_leader(problem, numbers)[0] >= problem.shapes[1].count
    return np.logical_and.reduce([sums(numbers, shape.fit) >= shape.count for shape in problem.shapes])


def _in_one_domain(problem: Problem, position: int) -> list[list[int]] | None:
    if len(problem.shapes) == 1:
        return _equal(problem, position)
    if len(problem.shapes) == 2 and problem.shapes[0].count == 1:
        return _with_leader(problem, position)
    return _mixture(problem, position)


def _equal(problem: Problem, position: int) -> list[list[int]] | None:
    (shape,) = problem.shapes
    numbers = problem.levels[position]
    room = sums(numbers, shape.fit)
    domain = _choose(room, room >= shape.count, problem.tight)
    if domain is None:
        return None
    rows = np.flatnonzero((numbers == domain) & (shape.fit > 0))
    return [_fill(rows, shape.fit[rows], shape.count, _closer(problem, position))]


def _closer(problem: Problem, position: int) -> list[Ints]:
    """Levels inside this one, the loosest first."""
    return problem.levels[:position][::-1]


def _fill(rows: Ints, fit: Ints, count: int, closer: Sequence[Ints]) -> list[int]:
    """Rows for so many equal pods, where they are known to fit; the fewest domains of each closer level."""
    if not closer:
        chosen, shares = _fewest(fit, count)
        return np.repeat(rows[chosen], shares).tolist()
    _, inside = np.unique(closer[0][rows], return_inverse=True)
    chosen, shares = _fewest(np.bincount(inside, weights=fit).astype(np.int64), count)
    placed: list[int] = []
    for part, share in zip(chosen.tolist(), shares.tolist(), strict=True):
        here = inside == part
        placed += _fill(rows[here], fit[here], share, closer[1:])
    return placed


def _fewest(room: Ints, count: int) -> tuple[Ints, Ints]:
    """The fewest places that hold so many: the largest ones, and for what is left the tightest. With each one's share."""
    order = np.argsort(-room, kind="stable")
    reached = np.cumsum(room[order])
    full = int(np.searchsorted(reached, count))
    left = count - (int(reached[full - 1]) if full else 0)
    tail = order[full:]
    able = tail[room[tail] >= left]
    last = able[room[able].argmin()]
    return np.append(order[:full], last), np.append(room[order[:full]], left)


def _fit(problem: Problem, shape: Shape, rows: Ints, taken: dict[int, tuple[int, ...]]) -> Ints:
    """How many of the shape fit on these rows, beside what is taken already."""
    fit = shape.fit[rows].copy()
    for position, row in enumerate(rows.tolist()):
        if row in taken and fit[position]:
            fit[position] = min(
                (int(free[row]) - used) // amount
                for free, used, amount in zip(problem.free, taken[row], shape.amounts, strict=True)
                if amount
            )
    return fit


def _losses(problem: Problem) -> Ints:
    """How many workers lose their place on a row where the leader goes; very many where it cannot."""
    leader, workers = problem.shapes
    able = (leader.fit > 0).nonzero()[0]
    left = workers.fit[able].copy()
    for free, amount, wanted in zip(problem.free, workers.amounts, leader.amounts, strict=True):
        if amount and wanted:
            np.minimum(left, (free[able] - wanted) // amount, out=left)
    losses = np.full(len(leader.fit), _NEVER, np.int64)
    losses[able] = workers.fit[able] - left
    return losses


def _room_beside_leader(problem: Problem, numbers: Ints) -> tuple[Ints, Ints]:
    """Of each domain: how many workers it holds beside the leader where that costs least. And what it costs on each row."""
    losses = _losses(problem)
    least = np.full(int(numbers.max(initial=0)) + 1, _NEVER, np.int64)
    np.minimum.at(least, numbers, losses)
    least[0] = _NEVER
    return sums(numbers, problem.shapes[1].fit) - least, losses


def _with_leader(problem: Problem, position: int) -> list[list[int]] | None:
    """Exact: a domain will do if and only if it holds the workers beside the leader where that costs least."""
    leader, workers = problem.shapes
    numbers = problem.levels[position]
    room, losses = _room_beside_leader(problem, numbers)
    domain = _choose(room, room >= workers.count, problem.tight)
    if domain is None:
        return None
    rows = np.flatnonzero(numbers == domain)
    # Where it costs least, and there near to as many workers as possible.
    home = int(rows[np.lexsort((-workers.fit[rows], losses[rows]))[0]])
    fit = _fit(problem, workers, rows, {home: leader.amounts})
    return [[home], _fill(rows, fit, workers.count, _closer(problem, position))]


def _mixture(problem: Problem, position: int) -> list[list[int]] | None:
    numbers = problem.levels[position]
    rooms = [sums(numbers, shape.fit) for shape in problem.shapes]
    able = np.logical_and.reduce(
        [room >= shape.count for room, shape in zip(rooms, problem.shapes, strict=True)]
    )
    candidates = np.flatnonzero(able)
    order = np.argsort(rooms[0][candidates] * (1 if problem.tight else -1), kind="stable")
    steps_left = MOST_STEPS
    for domain in candidates[order].tolist():
        rows = np.flatnonzero(numbers == domain)
        placed = _greedily(problem, rows, position)
        if placed is None:
            needed = steps([shape.count for shape in problem.shapes], len(rows))
            if needed > steps_left:
                continue
            steps_left -= needed
            placed = _exactly(problem, rows)
        if placed is not None:
            return placed
    return None


def _greedily(problem: Problem, rows: Ints, position: int) -> list[list[int]] | None:
    """Shape by shape, the one that fits least often first."""
    rarest = sorted(
        range(len(problem.shapes)), key=lambda number: int(problem.shapes[number].fit[rows].sum())
    )
    taken: dict[int, tuple[int, ...]] = {}
    placed: list[list[int]] = [[] for _ in problem.shapes]
    for number in rarest:
        shape = problem.shapes[number]
        fit = _fit(problem, shape, rows, taken)
        if int(fit.sum()) < shape.count:
            return None
        placed[number] = _fill(rows, fit, shape.count, _closer(problem, position))
        for row in placed[number]:
            before = taken.get(row, (0,) * len(shape.amounts))
            taken[row] = tuple(used + more for used, more in zip(before, shape.amounts, strict=True))
    return placed


def _exactly(problem: Problem, rows: Ints) -> list[list[int]] | None:
    free = np.stack([amounts[rows] for amounts in problem.free], axis=1)
    counts = [shape.count for shape in problem.shapes]
    amounts = np.array([shape.amounts for shape in problem.shapes], np.int64)
    masks = np.stack([shape.mask[rows] for shape in problem.shapes], axis=1)
    packed = pack(free, counts, amounts, masks)
    if packed is None:
        return None
    return [np.repeat(rows, packed[:, number]).tolist() for number in range(len(counts))]
