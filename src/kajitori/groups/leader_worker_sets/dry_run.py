"""What a changed LeaderWorkerSet would do: whether it rolls, why, and in which steps. Pure.

It asks the functions that the controller asks, with the pods and revisions as they are now, and supposes that
every group that is made becomes ready.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence

import msgspec

from kajitori.api.leaderworkerset import v1
from kajitori.groups.leader_worker_sets.identity import Candidate, choose
from kajitori.groups.leader_worker_sets.observed import Pod, World
from kajitori.groups.leader_worker_sets.options import options_of
from kajitori.groups.leader_worker_sets.revision_plan import first_position, group_views, set_limits
from kajitori.groups.leader_worker_sets.revisions import (
    Templates,
    data_hash,
    find,
    read_position,
    revision_data,
    same_meaning,
    subdomain_policy,
)
from kajitori.groups.leader_worker_sets.rollout import Group, Limits, Position, Step, begin, settled, steps
from kajitori.model.changes import Change, changes


class DryRun(msgspec.Struct, frozen=True, kw_only=True):
    """The answer.

    changes: fields of the templates that differ, none if the set would not roll for them. under_way: a rollout is
    not finished yet. paused: nothing of it happens before the set is resumed. groups: as they are. by_hash: groups
    have no order, so that of the indexes in the steps only their number means something. in_the_way: groups that are
    not ready and because of which others are not replaced.
    """

    changes: list[Change]
    by_hash: bool
    under_way: bool
    paused: bool
    limits: Limits
    groups: list[Group]
    steps: list[Step]
    in_the_way: list[int]


def dry_run(world: World, wanted: v1.LeaderWorkerSet) -> DryRun:
    """The rollout that `wanted` would begin or go on with. world: the set as it is, with its pods and revisions."""
    own = [revision for revision in world.revisions if revision.metadata.controlled_by(world.uid)]
    newest = max(own, key=lambda revision: revision.revision, default=None)
    data = revision_data(wanted.spec)
    found = find(own, data)
    target = Templates(
        found.hash if found else data_hash(data),
        wanted.spec.leader_worker_template,
        subdomain_policy(wanted.spec.network_config),
    )
    pods = _pods_by_group(world)
    by_hash = wanted.spec.group_identity == "Hash"
    if by_hash:
        pods = dict(enumerate(pods.values()))
    existing = max(pods, default=-1) + 1
    limits = set_limits(wanted)
    before = read_position(newest, existing) if newest else settled(existing)
    if newest is not None and found is newest:
        position = before if not before.steady else settled(limits.replicas)
    else:
        position, _ = first_position(limits, pods, newest, target.hash, begin)
    groups = group_views(pods, existing, target)
    told = hash_steps(limits, groups) if by_hash else steps(limits, groups, _within(position, limits))
    return DryRun(
        changes=_template_changes(world.set, wanted),
        under_way=any(not group.updated for group in groups) if by_hash else not before.steady,
        by_hash=by_hash,
        paused=options_of(wanted.metadata.annotations).paused,
        limits=limits,
        groups=groups,
        steps=told,
        in_the_way=_in_the_way(limits, groups, told),
    )


def _within(position: Position, limits: Limits) -> Position:
    """A position that was written for another number of replicas keeps no group that is not wanted any more."""
    most = limits.replicas + limits.max_surge
    return (
        position
        if position.groups <= most
        else Position(min(position.partition, most), most, position.replicas)
    )


def hash_steps(limits: Limits, groups: Sequence[Group]) -> list[Step]:
    """As `rollout.steps`, for groups without an order: each step stops some, then makes some in the room that is free."""
    living = {number: Candidate(number, one.ready, one.updated) for number, one in enumerate(groups)}
    fresh = itertools.count(len(living))
    leaving = 0
    found: list[Step] = []
    while True:
        choice = choose(limits, living.values(), leaving=leaving)
        if not (choice.stop or choice.create or leaving):
            return found
        for group in choice.stop:
            del living[group]
        made = [next(fresh) for _ in range(choice.create)]
        ready = sum(one.ready for one in living.values())
        living |= {group: Candidate(group, True, True) for group in made}
        leaving = len(choice.stop)
        if made or choice.stop:
            found.append(_hash_step(limits, living, made, choice.stop, ready))


def _hash_step(
    limits: Limits, living: Mapping[int, Candidate], made: Sequence[int], stopped: Sequence[int], ready: int
) -> Step:
    return Step(
        settled(limits.replicas),
        created=tuple(made),
        replaced=(),
        removed=tuple(stopped),
        groups=len(living),
        ready=ready,
        updated=sum(one.updated for one in living.values()),
        unavailable=max(0, limits.replicas - ready),
        surge=max(0, len(living) - limits.replicas),
    )


def _in_the_way(limits: Limits, groups: Sequence[Group], told: Sequence[Step]) -> list[int]:
    gone = {index for step in told for index in (*step.replaced, *step.removed)}
    left = [
        index
        for index, group in enumerate(groups)
        if not group.updated and limits.partition <= index and index not in gone
    ]
    return (
        [index for index in range(len(groups)) if not groups[index].ready and index not in gone]
        if left
        else []
    )


def _template_changes(now: v1.LeaderWorkerSet, wanted: v1.LeaderWorkerSet) -> list[Change]:
    before, after = revision_data(now.spec), revision_data(wanted.spec)
    return [] if same_meaning(before, after) else changes(before, after)


def _pods_by_group(world: World) -> dict[int, list[Pod]]:
    groups: dict[int, list[Pod]] = defaultdict(list)
    for pod in world.pods:
        if pod.group >= 0:
            groups[pod.group].append(pod)
    return dict(groups)
