"""The plan of a set whose pods are made by StatefulSets. Pure.

Revisions, the arithmetic of a rollout, Services, blame and status are those of `plan`. What differs is who acts: the
leaders' StatefulSet replaces leaders down to the partition that we write, a worker StatefulSet goes with the
leader that owns it, and a group is begun anew by deleting its leader, workers first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import msgspec

from kajitori.api.leaderworkerset import v1
from kajitori.base.reason import Reason
from kajitori.groups.leader_worker_sets.actions import (
    Action,
    ApplyStatefulSet,
    DeletePod,
    Event,
    LabelPod,
    Plan,
)
from kajitori.groups.leader_worker_sets.conditions import shared_conditions
from kajitori.groups.leader_worker_sets.foreign_names import blocked_reason
from kajitori.groups.leader_worker_sets.group_plan import restart_policy
from kajitori.groups.leader_worker_sets.hash_plan import names_groups_by_hash
from kajitori.groups.leader_worker_sets.observed import Pod, StatefulSet, World, label_index, place_of
from kajitori.groups.leader_worker_sets.options import COMPATIBILITY, options_of
from kajitori.groups.leader_worker_sets.plan import again_after, plan_set, status_of
from kajitori.groups.leader_worker_sets.pods import leader_name
from kajitori.groups.leader_worker_sets.restart import Blame, find_blame
from kajitori.groups.leader_worker_sets.revision_plan import (
    RevisionPlan,
    plan_revision,
    remove_old_revisions,
    set_limits,
)
from kajitori.groups.leader_worker_sets.revisions import Templates
from kajitori.groups.leader_worker_sets.services import plan_services
from kajitori.groups.leader_worker_sets.set_events import phase_events, warning_events
from kajitori.groups.leader_worker_sets.stateful_sets.bodies import (
    APPLIED_ANNOTATION,
    POD_INDEX_LABEL,
    late_labels,
    leader_set_body,
    unsupported_here,
    worker_set_body,
    worker_set_name,
)
from kajitori.groups.leader_worker_sets.status import BLOCKED, FIELDS_NOT_HONOURED, GroupState
from kajitori.groups.leader_worker_sets.unsupported import fields_not_honoured


class _Sets:
    """The StatefulSets with the set's name on them: by their own name, and by the uid of who controls them."""

    def __init__(self, found: Sequence[StatefulSet]) -> None:
        self._by_name = {each.metadata.name: each for each in found}
        self._by_owner: dict[str, list[StatefulSet]] = defaultdict(list)
        for each in found:
            if (owner := each.metadata.controller()) is not None:
                self._by_owner[owner.uid].append(each)

    def named(self, name: str) -> StatefulSet | None:
        return self._by_name.get(name)

    def of(self, owner_uid: str) -> list[StatefulSet]:
        return self._by_owner.get(owner_uid, [])


class _Group(msgspec.Struct, kw_only=True):
    """What one group needs. creates: its workers' StatefulSet. held: the name of that is somebody else's."""

    state: GroupState
    deletes: list[DeletePod] = []
    creates: list[Action] = []
    labels: list[Action] = []
    events: list[Event] = []
    held: str = ""


def plan_any_set(world: World) -> Plan:
    """The plan of a set, through StatefulSets if that is how it lives or shall live."""
    if world.set.metadata.deletion_timestamp:
        return plan_set(world)
    wanted = options_of(world.set.metadata.annotations).compatibility == "StatefulSet"
    # Names that a StatefulSet would give have numbers.
    wanted = wanted and not names_groups_by_hash(world.set)
    lives_so = any(each.metadata.controlled_by(world.uid) for each in world.stateful_sets)
    if lives_so or (wanted and not any(pod.owner_uid == world.uid for pod in world.pods)):
        return _plan_stateful_set(world, wanted=wanted)
    return plan_set(world)


def _plan_stateful_set(asked: World, *, wanted: bool) -> Plan:
    world = _with_one_subdomain(asked)
    pods = _pods_by_group(world)
    revision = plan_revision(world, pods)
    services, blocked = plan_services(world, revision, pods)
    leaders = _leaders(world, revision)
    existing = _own_set(world, world.name)
    sets = _Sets(world.stateful_sets)
    if existing is None and sets.named(world.name) is not None:
        blocked.append(f"StatefulSet {world.name}")
        leaders = []
    labels_of = {pod.metadata.uid: pod.metadata.labels for pod in world.pods}
    groups = [
        _plan_group(world, revision, index, pods.get(index, []), sets, labels_of)
        for index in range(revision.position.groups)
    ]
    blocked += [group.held for group in groups if group.held]
    states = [group.state for group in groups]
    states += [
        GroupState(index, exists=any(pod.worker == 0 and not pod.dying for pod in members))
        for index, members in pods.items()
        if index >= revision.position.groups
    ]
    ours = {
        FIELDS_NOT_HONOURED: _not_honoured(asked, wanted=wanted),
        BLOCKED: _blocked(world, blocked),
        **shared_conditions(world, revision),
    }
    counts, status = status_of(world, states, ours)
    return Plan(
        before=[*revision.actions, *services, *([] if blocked else leaders)],
        deletes=[delete for group in reversed(groups) for delete in group.deletes],
        after=[
            *(action for group in groups for action in (*group.labels, *group.creates)),
            *remove_old_revisions(world, revision, states),
        ],
        events=[
            *revision.events,
            *(event for group in groups for event in group.events),
            *_created_events(world, leaders, existing),
            *phase_events(world, counts),
            *warning_events(world, ours),
        ],
        status=status,
        again_after_seconds=again_after(world, (), ours),
    )


def _with_one_subdomain(world: World) -> World:
    """All leaders come from one template, so all pods are found under the set's one Service."""
    shared = v1.NetworkConfig(subdomain_policy="Shared")
    spec = msgspec.structs.replace(world.set.spec, network_config=shared)
    return msgspec.structs.replace(world, set=msgspec.structs.replace(world.set, spec=spec))


def _pods_by_group(world: World) -> dict[int, list[Pod]]:
    """The set's pods, each with its indexes as labels, whether or not those were put on it yet."""
    leaders_set = _own_set(world, world.name)
    worker_sets = {each.metadata.uid: each for each in world.stateful_sets}
    groups: dict[int, list[Pod]] = defaultdict(list)
    for pod in world.pods:
        ordinal = pod.metadata.labels.get(POD_INDEX_LABEL, "")
        if leaders_set is not None and pod.owner_uid == leaders_set.metadata.uid:
            index = label_index(pod.metadata.labels, POD_INDEX_LABEL)
            groups[index].append(_with_labels(pod, {v1.GROUP_INDEX_LABEL: ordinal}))
        elif pod.owner_uid in worker_sets and pod.group >= 0:
            groups[pod.group].append(_with_labels(pod, {v1.WORKER_INDEX_LABEL: ordinal}))
    groups.pop(-1, None)
    return dict(groups)


def _with_labels(pod: Pod, labels: dict[str, str]) -> Pod:
    if all(pod.metadata.labels.get(key) == value for key, value in labels.items()):
        return pod
    metadata = msgspec.structs.replace(pod.metadata, labels={**labels, **pod.metadata.labels})
    return Pod(metadata=metadata, spec=pod.spec, status=pod.status)


def _own_set(world: World, name: str) -> StatefulSet | None:
    return next(
        (
            each
            for each in world.stateful_sets
            if each.metadata.name == name and each.metadata.controlled_by(world.uid)
        ),
        None,
    )


def _leaders(world: World, revision: RevisionPlan) -> list[Action]:
    body = leader_set_body(world, revision.target, revision.position, set_limits(world.set))
    there = _own_set(world, world.name)
    if (
        there is not None
        and there.metadata.annotations.get(APPLIED_ANNOTATION)
        == body["metadata"]["annotations"][APPLIED_ANNOTATION]
        and there.spec.replicas == body["spec"]["replicas"]
        and there.spec.update_strategy.rolling_update.partition == revision.position.partition
    ):
        return []
    return [ApplyStatefulSet(body)]


def _plan_group(
    world: World,
    revision: RevisionPlan,
    index: int,
    pods: Sequence[Pod],
    sets: _Sets,
    labels_of: Mapping[str, Mapping[str, str]],
) -> _Group:
    """labels_of: by uid of the pod, as they are in the API."""
    leader = next((pod for pod in pods if pod.worker == 0), None)
    if leader is None or leader.dying:
        # Its StatefulSet brings the next one; what the old one owned goes with it.
        return _Group(state=GroupState(index))
    updated = leader.revision == revision.target.hash
    templates = revision.target if updated else revision.older(leader.revision)
    name = worker_set_name(world, index)
    owned = sets.of(leader.metadata.uid)
    owners = {each.metadata.uid for each in owned}
    workers = [pod for pod in pods if pod.worker > 0 and pod.owner_uid in owners]
    members = [leader, *workers]
    if templates is None:
        return _Group(state=GroupState(index, exists=True, updated=updated))
    whole = len(members) == templates.size and not any(pod.dying for pod in workers)
    group = _Group(
        state=GroupState(
            index, exists=True, ready=whole and all(pod.ready for pod in members), updated=updated
        ),
        labels=[
            LabelPod(pod, labels)
            for pod in members
            if (labels := _missing_labels(world, templates, pod, labels_of[pod.metadata.uid]))
        ],
    )
    if _blame(world, group, templates, leader, members):
        return group
    if (
        templates.size > 1
        and not owned
        and (world.set.spec.startup_policy == "LeaderCreated" or leader.ready)
    ):
        holder = sets.named(name)
        if holder is None:
            group.creates = [ApplyStatefulSet(worker_set_body(world, templates, leader))]
            message = f"Created worker statefulset for leader pod {leader.name}"
            group.events = [Event(reason="GroupsProgressing", message=message, action="Create")]
        elif not _of_an_earlier_leader(holder, leader):
            group.held = f"StatefulSet {name}"
    return group


def _missing_labels(world: World, templates: Templates, pod: Pod, known: Mapping[str, str]) -> dict[str, str]:
    """known: the pod's labels as they are in the API, not as we completed them."""
    wanted = late_labels(world, templates, pod)
    return {key: value for key, value in wanted.items() if known.get(key) != value}


def _of_an_earlier_leader(holder: StatefulSet, leader: Pod) -> bool:
    owner = holder.metadata.controller()
    return owner is not None and owner.kind == "Pod" and owner.name == leader.name


def _blame(world: World, group: _Group, templates: Templates, leader: Pod, members: Sequence[Pod]) -> bool:
    """Begin the group anew if a pod of it calls for that; True if so."""
    policy = restart_policy(world.set, templates)
    if policy in ("None", "Default"):
        return False
    blame = find_blame(policy, members, templates.size, complete=False)
    if blame is None and policy == "RecreateGroupOnPodRestart":
        blame = _blame_for_replaced(world, members)
    if blame is None:
        return False
    index = group.state.index
    group.state = GroupState(index, exists=True, updated=group.state.updated)
    group.deletes = [DeletePod(leader, foreground=True)]
    what = f"Worker pod {blame.pod}" if blame.worker else f"Leader pod {leader.name}"
    message = f"{what} failed, deleted leader pod {leader_name(world.name, index)} to recreate group {index}"
    group.events = [
        Event(reason="RecreateGroup", message=message, action="Recreate", group=index, blame=blame)
    ]
    return True


def _blame_for_replaced(world: World, members: Sequence[Pod]) -> Blame | None:
    """The StatefulSet may have made another pod before the end of the first was seen, as with `--grace-period=0`."""
    return next(
        (
            Blame(pod=pod.name, worker=pod.worker, how="gone")
            for pod in members
            if pod.worker > 0 and world.pods_before.get(place_of(pod), pod.metadata.uid) != pod.metadata.uid
        ),
        None,
    )


def _created_events(world: World, leaders: Sequence[Action], existing: StatefulSet | None) -> list[Event]:
    if not leaders or existing is not None:
        return []
    message = f"Created leader statefulset {world.name}"
    return [Event(reason="GroupsProgressing", message=message, action="Create")]


def _blocked(world: World, names: Sequence[str]) -> Reason | None:
    held = {f"StatefulSet {each.metadata.name}": _holder(each) for each in world.stateful_sets}
    taken: Mapping[str, str] = {**world.taken, **{name: held[name] for name in names if name in held}}
    return blocked_reason(world, names, taken)


def _holder(there: StatefulSet) -> str:
    owner = there.metadata.controller()
    return f"a StatefulSet of {owner.kind} {owner.name}" if owner else "a StatefulSet that nobody controls"


def _not_honoured(world: World, *, wanted: bool) -> Reason | None:
    found = unsupported_here(world)
    if not wanted:
        found.append(
            f"annotation {COMPATIBILITY}: it counts when the set is made; this one goes on with StatefulSets"
        )
    return fields_not_honoured(world.set, found)
