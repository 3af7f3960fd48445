"""What groups are called, and which of them go first where they have no order.

A group is known by a number. With `groupIdentity: Ordinal` that is its index. With `Hash` it stands for eight
random hexadecimal digits, is used once, and a group that is replaced comes back under another: groups are then
interchangeable, so that those that serve nobody can go first, at scale-down as in a rollout. Names and labels follow
kubernetes-sigs/lws (KEP-898): `SET-DIGITS` for the leader, and a key of forty digits that begins with them as
`group-index` and `group-key`.

`choose` is the arithmetic of such a set and nothing else. It counts as a Deployment does: never more than replicas +
maxSurge groups, never fewer than replicas - maxUnavailable ready ones if there were as many.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from kajitori.groups.leader_worker_sets.rollout import Limits

FIRST_HASH = 1 << 32
_DIGITS = 8
_KEY_DIGITS = 40
_HEXADECIMAL = frozenset("0123456789abcdef")


def is_hash(group: int) -> bool:
    """Whether the number stands for random digits and not for an index."""
    return group >= FIRST_HASH


def group_word(group: int) -> str:
    """The group as names and messages have it: `3`, or `0a1b2c3d`."""
    return f"{group - FIRST_HASH:0{_DIGITS}x}" if is_hash(group) else str(group)


def group_label(namespace: str, set_name: str, group: int) -> str:
    """The value of the label `group-index`."""
    return group_key(namespace, f"{set_name}-{group_word(group)}", group) if is_hash(group) else str(group)


def group_key(namespace: str, leader: str, group: int) -> str:
    """The value of the label `group-key`: unique in the cluster."""
    digest = hashlib.sha1(f"{namespace}/{leader}".encode()).hexdigest()
    return group_word(group) + digest[_DIGITS:] if is_hash(group) else digest


def group_of_label(text: str | None) -> int:
    """The group that a label `group-index` names; -1 if it says nothing sensible."""
    if not text:
        return -1
    if len(text) == _KEY_DIGITS and _HEXADECIMAL.issuperset(text):
        return FIRST_HASH + int(text[:_DIGITS], 16)
    return int(text) if text.isdecimal() and len(text) < _DIGITS + 1 else -1


def fresh_groups(seed: str, count: int, taken: Collection[int]) -> list[int]:
    """So many groups of new names. seed: differs with each call. taken: groups that there are."""
    found: list[int] = []
    number = 0
    while len(found) < count:
        digits = hashlib.sha256(f"{seed}/{number}".encode()).hexdigest()[:_DIGITS]
        number += 1
        group = FIRST_HASH + int(digits, 16)
        if group not in taken and group not in found:
            found.append(group)
    return found


class Candidate(NamedTuple):
    """A group whose leader lives. pods, scheduled: how many it has, and how many have a node.

    draining: it was taken out of the endpoints to be stopped. born: when it was made, seconds since 1970.
    """

    group: int
    ready: bool = False
    updated: bool = True
    draining: bool = False
    pods: int = 1
    scheduled: int = 1
    born: float = 0.0


class Choice(NamedTuple):
    """stop: groups to take away, or whose draining goes on. revive: draining ones that are wanted after all.

    create: how many to make. missing: how many more are wanted than live now, those that cannot come yet included.
    waiting: of the groups that come back later, so many are wanted still.
    """

    stop: tuple[int, ...]
    revive: tuple[int, ...]
    create: int
    missing: int
    waiting: int = 0


def choose(
    limits: Limits,
    groups: Iterable[Candidate],
    *,
    leaving: int = 0,
    waiting: int = 0,
    wait_for_leaving: bool = True,
    paused: bool = False,
) -> Choice:
    """Which groups stop and how many begin, so that in the end `limits.replicas` updated ones are there.

    leaving: groups whose pods are being deleted. waiting: groups that come back later, whose places are kept.
    wait_for_leaving: a replacement begins only when what it replaces is gone and its room is free. paused: groups of
    an older revision stay.
    """
    ranked = sorted(groups, key=_rank)
    draining = [one for one in ranked if one.draining]
    living = [one for one in ranked if not one.draining]
    outdated = 0 if paused else sum(not one.updated for one in living)
    most = limits.replicas + (limits.max_surge if outdated else 0)
    waiting = min(waiting, max(0, most - len(living)))
    missing = max(0, limits.replicas - (len(living) - outdated) - waiting)
    # The last that was sent out of the endpoints is the first to come back.
    room = max(0, min(missing, most - len(living) - waiting))
    back = [one.group for one in reversed(draining) if one.updated or paused][:room]
    missing -= len(back)
    held = len(living) + len(back) + waiting
    if wait_for_leaving:
        held += leaving + len(draining) - len(back)
    surplus = max(0, len(living) - most)
    rest = living[surplus:]
    replaced = [] if paused else _due(limits, rest)
    stopped = [one.group for one in (*draining, *living[:surplus], *replaced) if one.group not in back]
    return Choice(
        stop=tuple(stopped),
        revive=tuple(back),
        create=max(0, min(missing, most - held)),
        missing=missing,
        waiting=waiting,
    )


def _due(limits: Limits, living: Sequence[Candidate]) -> list[Candidate]:
    """Groups of an older revision that go now: those that serve nobody, and of the others as many as may be missing."""
    old = [one for one in living if not one.updated]
    serving = [one for one in old if one.ready]
    ready = sum(one.ready for one in living)
    allowed = max(0, ready - max(0, limits.replicas - limits.max_unavailable))
    return [*(one for one in old if not one.ready), *serving[:allowed]]


def _rank(one: Candidate) -> tuple[object, ...]:
    """The first to go first: empty, not placed, not ready; then of an older revision; then the youngest."""
    return (one.ready, one.scheduled >= one.pods, one.scheduled, one.pods, one.updated, -one.born, one.group)
