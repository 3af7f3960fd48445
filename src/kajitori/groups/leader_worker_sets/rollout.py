"""How far a new revision has come: the arithmetic of a rolling update, and nothing else.

A rollout is a *position*: groups at or above `partition` are of the new revision, those below keep theirs, and
`groups` exist in all (the surge counted). `begin` makes the first position, `advance` the next from which groups
are ready and updated. Replacing a group that fell behind the partition is up to the caller; a position never asks
for more than maxUnavailable + maxSurge unready groups out of replicas + maxSurge.

The sequences are those of kubernetes-sigs/lws, which keeps the same two numbers in a StatefulSet. One thing
differs: there the partition waits for an unbroken row of updated groups from the top, and unready ones in the
middle may be counted twice or not at all; here the allowance itself is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Limits(NamedTuple):
    """What the set allows, percentages resolved. replicas: groups wanted. partition: the lowest to aim at."""

    replicas: int
    partition: int = 0
    max_unavailable: int = 1
    max_surge: int = 0


class Position(NamedTuple):
    """Where a rollout stands. replicas: the wanted number of groups when it was computed."""

    partition: int
    groups: int
    replicas: int

    @property
    def steady(self) -> bool:
        """Nothing rolls, and no surge is left."""
        return self.partition == 0 and self.groups == self.replicas


class Group(NamedTuple):
    """ready: all its pods are. updated: they are of the new revision. A group that is missing is neither."""

    ready: bool
    updated: bool


def resolve_limits(replicas: int, partition: int, max_unavailable: int | str, max_surge: int | str) -> Limits:
    """Percentages of replicas as numbers: unavailable rounds down, surge up and no further than replicas.

    Both zero would never replace a group (10 % of 4, say), so one may then be unavailable.
    """
    unavailable = _share(max_unavailable, replicas, up=False)
    surge = min(_share(max_surge, replicas, up=True), replicas)
    if unavailable == 0 and surge == 0:
        unavailable = 1
    return Limits(replicas, partition, unavailable, surge)


def _share(value: int | str, whole: int, *, up: bool) -> int:
    if isinstance(value, int):
        return value
    percent = int(value.removesuffix("%"))
    return -(-whole * percent // 100) if up else whole * percent // 100


def settled(replicas: int) -> Position:
    """The position in which nothing rolls."""
    return Position(0, replicas, replicas)


def begin(limits: Limits, groups: int) -> Position:
    """The position when a new revision is first seen and `groups` groups exist.

    None of those is due yet, not even the surge of a rollout that this one overtakes. A scale-up that is pending
    comes first: the groups that it adds are of the new revision.
    """
    wanted = limits.replicas if groups < limits.replicas else limits.replicas + limits.max_surge
    return Position(min(groups, wanted), wanted, limits.replicas)


def hold(position: Position, limits: Limits) -> Position:
    """The next position of a paused rollout: as many groups as are wanted now, and none of them due that was not."""
    if position.steady:
        return settled(limits.replicas)
    surge = min(max(0, position.groups - position.replicas), limits.max_surge)
    groups = limits.replicas + surge
    return Position(min(position.partition, groups), groups, limits.replicas)


def begin_held(limits: Limits, groups: int) -> Position:
    """The position when a new revision is first seen while rollouts are paused: no group is due, no surge is made."""
    return hold(Position(groups, max(groups, limits.replicas), limits.replicas), limits)


def advance(position: Position, limits: Limits, groups: Sequence[Group]) -> Position:
    """The next position. groups: one for each index below `position.groups`."""
    replicas = limits.replicas
    if position.steady:
        return settled(replicas)
    if position.groups < replicas:
        return Position(position.partition, replicas, replicas)
    wanted = _wanted_groups(limits, groups)
    if position.replicas != replicas:
        return Position(min(position.partition, replicas + limits.max_surge), wanted, replicas)
    # Groups that go now can no longer stand in for those that the partition takes down.
    return Position(_next_partition(position.partition, limits, groups[:wanted]), wanted, replicas)


def _next_partition(current: int, limits: Limits, groups: Sequence[Group]) -> int:
    """As low as the allowance of unready groups goes; it never rises but to the partition that was asked for.

    Every group that is unready, for whatever reason and wherever it is, uses up the allowance; with it gone, only
    groups are passed that cost nothing: those updated already, and those that serve nobody now.
    """
    missing_surge = limits.replicas + limits.max_surge - len(groups)
    allowance = limits.max_unavailable + limits.max_surge - missing_surge
    allowance -= sum(not group.ready for group in groups)
    partition = len(groups)
    while partition > 0:
        group = groups[partition - 1]
        if group.ready and not group.updated:
            if allowance <= 0:
                break
            allowance -= 1
        partition -= 1
    return max(limits.partition, min(current, partition))


def _wanted_groups(limits: Limits, groups: Sequence[Group]) -> int:
    """Surge goes as the groups that it stands in for come back; with a partition asked for, it stays."""
    replicas, most = limits.replicas, limits.replicas + limits.max_surge
    unready = sum(not (group.ready and group.updated) for group in groups[:replicas])
    wanted = most if unready > limits.max_surge else replicas + max(0, unready - limits.max_unavailable)
    needed = min(replicas - limits.max_unavailable, sum(group.ready for group in groups[:most]))
    # Not every surge group is ready just because it is there.
    while wanted < min(most, len(groups)) and sum(group.ready for group in groups[:wanted]) < needed:
        wanted += 1
    return wanted


class Step(NamedTuple):
    """One step of a rollout: what is done, and what there is right afterwards, when least is ready.

    created, replaced, removed: indexes of groups. unavailable: groups that are wanted and not ready. surge: groups
    beyond those that are wanted.
    """

    position: Position
    created: tuple[int, ...]
    replaced: tuple[int, ...]
    removed: tuple[int, ...]
    groups: int
    ready: int
    updated: int
    unavailable: int
    surge: int


def steps(limits: Limits, groups: Sequence[Group], position: Position | None = None) -> list[Step]:
    """The rest of a rollout, if every group that is made becomes ready before the next step.

    groups: as they are. position: where the rollout stands; without one it is about to begin. Ends where nothing more
    would be done, which with a partition asked for is not the last group.
    """
    position = begin(limits, len(groups)) if position is None else position
    now = list(groups)
    found: list[Step] = []
    while True:
        step, after = _carried_out(position, now, limits.replicas)
        if step.created or step.replaced or step.removed:
            found.append(step)
        made = {*step.created, *step.replaced}
        now = [Group(group.ready or index in made, group.updated) for index, group in enumerate(after)]
        following = advance(position, limits, now)
        if following == position:
            return found
        position = following


def _carried_out(position: Position, groups: Sequence[Group], replicas: int) -> tuple[Step, list[Group]]:
    due = range(position.partition, position.groups)
    kept = groups[: position.groups]
    created = range(len(kept), position.groups)
    replaced = [index for index, group in enumerate(kept) if index in due and not group.updated]
    after = [
        Group(False, True) if index in due and not group.updated else group
        for index, group in enumerate(kept)
    ]
    after += [Group(False, index in due) for index in created]
    ready = sum(group.ready for group in after)
    step = Step(
        position,
        created=tuple(created),
        replaced=tuple(replaced),
        removed=tuple(range(len(kept), len(groups))),
        groups=len(after),
        ready=ready,
        updated=sum(group.updated for group in after),
        unavailable=max(0, replicas - ready),
        surge=max(0, len(after) - replicas),
    )
    return step, after
