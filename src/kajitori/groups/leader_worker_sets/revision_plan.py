"""Which revision a set is of, which one its groups are due for, and what must be written down about it.

A changed template begins a rollout: a new ControllerRevision, or an old one of the same meaning put last in order
again. Its position is written before any group is touched, so that a controller that dies goes on where it was. While a
set says that it is paused, no group comes due that was not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import msgspec

from kajitori.api.leaderworkerset import v1
from kajitori.base.whole_numbers import whole_number
from kajitori.groups.leader_worker_sets.actions import (
    Action,
    AnnotateRevision,
    CreateRevision,
    DeleteRevision,
    Event,
)
from kajitori.groups.leader_worker_sets.observed import Pod, Revision, World
from kajitori.groups.leader_worker_sets.options import options_of
from kajitori.groups.leader_worker_sets.readiness import is_draining
from kajitori.groups.leader_worker_sets.revision_history import HISTORY_ANNOTATION, written_down
from kajitori.groups.leader_worker_sets.revisions import (
    PREVIOUS_ANNOTATION,
    Templates,
    data_hash,
    find,
    read_position,
    revision_body,
    revision_data,
    revision_name,
    subdomain_policy,
    templates,
    write_position,
)
from kajitori.groups.leader_worker_sets.rollout import (
    Group,
    Limits,
    Position,
    advance,
    begin,
    begin_held,
    hold,
    resolve_limits,
    settled,
)
from kajitori.groups.leader_worker_sets.status import GroupState


class RevisionPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The newest templates, how far they may go, and where the older ones are."""

    target: Templates
    position: Position
    previous: str
    older: Callable[[str], Templates | None]
    actions: Sequence[Action] = ()
    events: Sequence[Event] = ()


def plan_revision(world: World, pods: Mapping[int, Sequence[Pod]]) -> RevisionPlan:
    """pods: the set's own, by group index."""
    own = [revision for revision in world.revisions if revision.metadata.controlled_by(world.uid)]
    newest = max(own, key=lambda revision: revision.revision, default=None)
    data = revision_data(world.set.spec)
    found = find(own, data)
    hash = found.hash if found else data_hash(data)
    template = world.set.spec.leader_worker_template
    target = Templates(hash, template, subdomain_policy(world.set.spec.network_config))
    older = _older(own)
    limits = set_limits(world.set)
    paused = options_of(world.set.metadata.annotations).paused
    if found is not None and found is newest:
        return _go_on(pods, found, target, older, limits, paused=paused)
    position, previous = first_position(limits, pods, newest, hash, begin_held if paused else begin)
    if world.set.spec.group_identity == "Hash":
        # Groups have no order, so that a rollout has no position.
        position, previous = settled(limits.replicas), ""
    annotations = {} if position.steady else write_position(position, previous)
    number = newest.revision + 1 if newest else 1
    if found is not None:
        actions: list[Action] = [AnnotateRevision(found, annotations, number)]
        message = f"Returning to revision {hash}"
    else:
        number = _free_number(world, hash, number)
        body = revision_body(world.set.metadata, world.owner_entry(), hash, number, data, annotations)
        actions = [CreateRevision(body)]
        message = f"Creating revision {hash}" + ("" if newest is None else " for changed templates")
    return RevisionPlan(
        target=target,
        position=position,
        previous=previous,
        older=older,
        actions=actions,
        events=[Event(reason="CreatingRevision", message=message, action="Create")],
    )


def _free_number(world: World, hash: str, number: int) -> int:
    """The first from `number` on whose name nobody has: an earlier set of this name may have left a revision."""
    held = {
        f"ControllerRevision {revision.metadata.name}" for revision in world.revisions
    } | world.taken.keys()
    while f"ControllerRevision {revision_name(world.name, hash, number)}" in held:
        number += 1
    return number


def set_limits(lws: v1.LeaderWorkerSet) -> Limits:
    """What the rollout strategy allows, in numbers of groups."""
    rolling = lws.spec.rollout_strategy.rolling_update_configuration
    return resolve_limits(lws.spec.replicas, rolling.partition, rolling.max_unavailable, rolling.max_surge)


def _older(revisions: Sequence[Revision]) -> Callable[[str], Templates | None]:
    by_hash = {revision.hash: revision for revision in revisions}

    @cache
    def older(hash: str) -> Templates | None:
        revision = by_hash.get(hash)
        return templates(hash, revision.data) if revision else None

    return older


def first_position(
    limits: Limits,
    pods: Mapping[int, Sequence[Pod]],
    newest: Revision | None,
    hash: str,
    begin: Callable[[Limits, int], Position],
) -> tuple[Position, str]:
    """Where the rollout to a revision that is not the newest yet begins, and the revision before it."""
    existing = max(pods, default=-1) + 1
    others = [pod.revision for members in pods.values() for pod in members if pod.revision != hash]
    if newest is None:
        if not others:
            # Nothing is there, or only the record of what is there was lost.
            return settled(limits.replicas), ""
        return begin(limits, existing), others[0]
    position = read_position(newest, existing)
    if position.steady:
        return begin(limits, existing), newest.hash
    # In mid-roll: groups that were not due yet stay what they were before both.
    previous = newest.metadata.annotations.get(PREVIOUS_ANNOTATION) or newest.hash
    return begin(limits, max(existing, position.groups)), previous


def _go_on(
    pods: Mapping[int, Sequence[Pod]],
    newest: Revision,
    target: Templates,
    older: Callable[[str], Templates | None],
    limits: Limits,
    *,
    paused: bool,
) -> RevisionPlan:
    before = read_position(newest, limits.replicas)
    previous = newest.metadata.annotations.get(PREVIOUS_ANNOTATION, "")
    if paused:
        position = hold(before, limits)
    else:
        position = advance(before, limits, group_views(pods, before.groups, target))
    actions: list[Action] = []
    if position != before:
        actions.append(AnnotateRevision(newest, write_position(position, previous)))
    events: list[Event] = []
    if position.partition < before.partition:
        events.append(_updating(position.partition, before.partition - 1))
    return RevisionPlan(
        target=target,
        position=position,
        previous=previous,
        older=older,
        actions=actions,
        events=events,
    )


def _updating(first: int, last: int) -> Event:
    which = f"replica {first}" if first == last else f"replicas {first} to {last} (inclusive)"
    return Event(reason="GroupsUpdating", message=f"Updating {which}", action="Update")


def group_views(pods: Mapping[int, Sequence[Pod]], groups: int, target: Templates) -> list[Group]:
    """The groups as a rollout sees them. pods: the set's own, by group index. groups: how many there shall be."""
    views: list[Group] = []
    for index in range(groups):
        members = [pod for pod in pods.get(index, ()) if not pod.dying]
        leader = next((pod for pod in members if pod.worker == 0), None)
        if leader is None:
            views.append(Group(False, False))
            continue
        size = whole_number(leader.metadata.annotations.get(v1.SIZE_ANNOTATION, ""))
        whole = len(members) == (target.size if size is None else size)
        ready = whole and all(pod.ready for pod in members) and not is_draining(leader)
        views.append(Group(ready, leader.revision == target.hash))
    return views


def remove_old_revisions(world: World, revision: RevisionPlan, states: Sequence[GroupState]) -> list[Action]:
    """Once every group is of the newest revision and ready, the older ones go, after they were written down."""
    if not revision.position.steady or revision.actions:
        return []
    if not all(state.ready and state.updated for state in states):
        return []
    own = [one for one in world.revisions if one.metadata.controlled_by(world.uid)]
    older = [one for one in own if one.hash != revision.target.hash]
    newest = next((one for one in own if one.hash == revision.target.hash), None)
    if newest is None or not older:
        return []
    text = written_down(newest, older)
    if newest.metadata.annotations.get(HISTORY_ANNOTATION) != text:
        return [AnnotateRevision(newest, {HISTORY_ANNOTATION: text})]
    return [DeleteRevision(old) for old in older]
