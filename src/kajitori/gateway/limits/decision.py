"""How a decision is made: which counters are looked at, whether there is room, what is taken. Pure.

Stores keep the counters. The one in memory calls `decide`; the script that runs inside Redis says the same in Lua,
and one set of tests holds both to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

# strict: there is room if the amount fits. clip: if anything is left, and no more than that is taken. soft: if
# anything is left. shadow: always.
HoldKind = Literal["strict", "clip", "soft", "shadow"]


class Hold(msgspec.Struct, frozen=True, gc=False):
    """What one limit has to say about one request.

    counter: its name in the store. slot, oldest, newest, keep: see `windows.Span`. amount: wanted, in whole units.
    capacity: of the limit. group: number of the group that it belongs to. forget: seconds since 1970 after which the
    counter is of no use.
    """

    counter: str
    slot: int
    oldest: int
    newest: int
    keep: int
    amount: int
    capacity: int
    kind: HoldKind
    group: int
    forget: int


class Standing(msgspec.Struct, frozen=True, gc=False):
    """How one hold came out.

    used: before. open: the part of it that requests under way have reserved. taken: 0 where the request was refused,
    or its backend is out of question. room: whether there was. frees_slot: the slot whose end brings room, where
    there was none; None if none ever does.
    """

    used: int
    open: int
    taken: int
    room: bool
    frees_slot: int | None = None


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """allowed: whether anything was taken. standings: one a hold. candidates: numbers of those that have room."""

    allowed: bool
    standings: tuple[Standing, ...]
    candidates: tuple[int, ...]


class Taken(msgspec.Struct, array_like=True, gc=False):
    """What is taken of one counter, or reserved. keep: the first slot that is of use still, if that is known."""

    counter: str
    slot: int
    amount: int
    forget: int
    keep: int = 0


def room(hold: Hold, used: int) -> bool:
    """Whether a hold lets its request pass."""
    if hold.kind == "strict":
        return used + max(hold.amount, 1) <= hold.capacity
    return hold.kind == "shadow" or used < hold.capacity


def wanted(hold: Hold, used: int) -> int:
    """What a hold takes of its counter."""
    if hold.kind == "clip":
        return min(hold.amount, max(hold.capacity - used, 0))
    return hold.amount


def decide(
    holds: Sequence[Hold],
    groups: Sequence[int],
    open_candidates: Sequence[int],
    used: Sequence[int],
) -> tuple[bool, tuple[int, ...], list[bool]]:
    """Whether a request may pass, which candidates have room, and for each hold whether it takes.

    groups: for each group the number of the candidate (a backend) that it speaks of, or -1 where it speaks of the
    request as a whole. A group has room if any of its holds has. A request passes if all groups of the whole have
    room and, where candidates are named at all, one of them has: a candidate with room in all of its
    groups, or of which no limit speaks (open_candidates).
    """
    if not open_candidates and 0 < len(holds) == len(groups) == groups.count(-1):
        # Each limit stands for itself, and none speaks of a backend.
        allowed = all(map(room, holds, used))
        return allowed, (), [allowed] * len(holds)
    open_groups = [False] * len(groups)
    for hold, count in zip(holds, used, strict=True):
        if room(hold, count):
            open_groups[hold.group] = True
    named = {candidate for candidate in groups if candidate >= 0}
    closed = {candidate for candidate, good in zip(groups, open_groups, strict=True) if not good}
    candidates = tuple(sorted((named - closed) | set(open_candidates)))
    allowed = -1 not in closed and (bool(candidates) or not named)
    takes = [allowed and groups[hold.group] not in closed for hold in holds]
    return allowed, candidates, takes
