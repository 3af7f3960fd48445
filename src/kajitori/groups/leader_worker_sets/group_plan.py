"""The plan of one group: a leader and its workers are made in one go, and end in one go.

A group is the pods of one *incarnation*, which is the leader's. It ends when a pod of it fails (as the restart policy
has it), when it is due for another revision, or when its leader goes; then every pod of it is deleted at once, and
the next incarnation begins only when all of them are gone. So no worker ever meets a leader of another life, and
no group has two leaders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from kajitori.api.leaderworkerset import v1
from kajitori.groups.leader_worker_sets.actions import (
    Action,
    CallOffDrain,
    CreatePod,
    DeletePod,
    Event,
    MarkComplete,
)
from kajitori.groups.leader_worker_sets.budget import begin_restart
from kajitori.groups.leader_worker_sets.claims import claim_bodies
from kajitori.groups.leader_worker_sets.draining import plan_drain
from kajitori.groups.leader_worker_sets.gang import choose_gang, find_release, waits_for_workers
from kajitori.groups.leader_worker_sets.identity import group_word
from kajitori.groups.leader_worker_sets.observed import (
    COMPLETE_ANNOTATION,
    RESTARTED_BECAUSE_ANNOTATION,
    RESTARTS_ANNOTATION,
    Pod,
    World,
)
from kajitori.groups.leader_worker_sets.options import Options
from kajitori.groups.leader_worker_sets.pods import GroupIdentity, leader_name, pod_body, pod_name
from kajitori.groups.leader_worker_sets.readiness import (
    gate_for,
    has_started,
    is_draining,
    plan_group_ready,
)
from kajitori.groups.leader_worker_sets.restart import Restart, blame_of_ending, find_blame
from kajitori.groups.leader_worker_sets.revisions import Templates
from kajitori.groups.leader_worker_sets.status import GroupState


class GroupSetting(msgspec.Struct, frozen=True, kw_only=True):
    """What the plan of a set says to each of its groups.

    target: the newest templates. partition: groups at or above it are due for them. older: templates of another
    revision by hash, None if they are lost. previous: hash of the revision for groups below the partition.
    owner: the entry for `ownerReferences`. taken: names in use by others, with their owner in words. options: of the set.
    """

    world: World
    target: Templates
    partition: int
    older: Callable[[str], Templates | None]
    previous: str
    owner: dict[str, object]
    taken: Mapping[str, str]
    options: Options = Options()


class GroupPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What one group needs.

    ends: it is on its way out, or waits to begin anew. blocked: names it cannot have. look_again: seconds since 1970.
    """

    state: GroupState
    deletes: Sequence[DeletePod] = ()
    creates: Sequence[CreatePod] = ()
    after: Sequence[Action] = ()
    events: Sequence[Event] = ()
    ends: Restart | None = None
    blocked: Sequence[str] = ()
    look_again: float | None = None
    templates: Templates


def plan_group(setting: GroupSetting, index: int, pods: Sequence[Pod]) -> GroupPlan:
    """The plan of the group with this index. pods: all of the set's own pods that carry it."""
    ending = setting.world.restarts.get(index)
    if not pods:
        return begin_group(setting, index, ending)
    leader = next((pod for pod in pods if pod.worker == 0), None)
    if leader is None or leader.dying:
        return _finish(setting, index, pods, leader, ending)
    if ending is not None and ending.incarnation == leader.incarnation:
        return _finish(setting, index, pods, leader, ending)
    if index >= setting.partition and leader.revision != setting.target.hash:
        return stop_group(setting, index, pods)
    return _keep(setting, index, pods, leader)


def begin_group(setting: GroupSetting, index: int, ending: Restart | None) -> GroupPlan:
    """No pod of the group is there: make all, unless it shall wait or its leader's name is taken."""
    world = setting.world
    templates = _due_templates(setting, index, ending)
    state = GroupState(index)
    if ending is not None and ending.not_before > world.now:
        return GroupPlan(state=state, ends=ending, templates=templates)
    annotations: dict[str, str] = {}
    restart = ending if ending is not None and ending.blame is not None else None
    if restart is not None and restart.blame is not None:
        annotations = {
            RESTARTS_ANNOTATION: str(restart.count),
            RESTARTED_BECAUSE_ANNOTATION: restart.blame.sentence(),
        }
    group = _identity(setting, index, templates, world.token, annotations)
    workers = range(templates.size if world.set.spec.startup_policy == "LeaderCreated" else 1)
    blocked = _taken(setting, index, workers)
    creates = [_create(setting, group, worker, restart) for worker in workers]
    if blocked:
        # Begun in part, it would only wait for the rest and hold what others could use.
        creates = []
    return GroupPlan(state=state, creates=creates, ends=ending, templates=templates, blocked=blocked)


def _due_templates(setting: GroupSetting, index: int, ending: Restart | None) -> Templates:
    """Below the partition a group comes back as it was; if that is lost, as the new revision has it."""
    if index < setting.partition:
        for hash in (ending.revision if ending else "", setting.previous):
            if hash and (templates := setting.older(hash)) is not None:
                return templates
    return setting.target


def _identity(
    setting: GroupSetting,
    index: int,
    templates: Templates,
    incarnation: str,
    annotations: dict[str, str],
    leader: Pod | None = None,
) -> GroupIdentity:
    asked = setting.world.set.metadata.annotations
    return GroupIdentity(
        namespace=setting.world.namespace,
        set_name=setting.world.name,
        owner=setting.owner,
        index=index,
        templates=templates,
        incarnation=incarnation,
        annotations=annotations,
        exclusive_topology=asked.get(v1.EXCLUSIVE_TOPOLOGY_ANNOTATION, ""),
        subgroup_exclusive_topology=asked.get(v1.SUBGROUP_EXCLUSIVE_TOPOLOGY_ANNOTATION, ""),
        gang=choose_gang(setting.world, index, templates, incarnation, leader),
        readiness_gate=gate_for(setting.options, index, templates.size),
    )


def _finish(
    setting: GroupSetting, index: int, pods: Sequence[Pod], leader: Pod | None, ending: Restart | None
) -> GroupPlan:
    """The group is ending: its leader goes or is gone. Find out why if no earlier plan did."""
    if ending is not None and any(pod.incarnation == ending.incarnation for pod in pods):
        return _end(setting, index, pods, ending)
    member = leader or pods[0]
    blame = blame_of_ending(pods)
    due_for_update = index >= setting.partition and member.revision != setting.target.hash
    if blame is None or due_for_update:
        return _end(setting, index, pods, Restart(incarnation=member.incarnation, revision=member.revision))
    return _end(setting, index, pods, begin_restart(blame, member, None, setting.world.now), new=True)


def _end(
    setting: GroupSetting, index: int, pods: Sequence[Pod], restart: Restart, *, new: bool = False
) -> GroupPlan:
    """Delete every pod of the group that is not being deleted yet; say why, once."""
    leader = next((pod for pod in pods if pod.worker == 0), None)
    return GroupPlan(
        state=GroupState(
            index,
            exists=leader is not None and not leader.dying,
            updated=leader is not None and leader.revision == setting.target.hash,
        ),
        deletes=[DeletePod(pod) for pod in pods if not pod.dying],
        events=[_restart_event(setting, index, restart)] if new else (),
        ends=restart,
        templates=_templates_of(setting, restart.revision) or setting.target,
    )


def stop_group(setting: GroupSetting, index: int, pods: Sequence[Pod]) -> GroupPlan:
    """End the group on purpose; one that serves is drained first, if the set asks for it."""
    world, seconds = setting.world, setting.options.drain_seconds
    drain = plan_drain(pods, seconds, world.now, world.idle)
    leader = next((pod for pod in pods if pod.worker == 0), None)
    member = leader or pods[0]
    if drain.done:
        return _end(setting, index, pods, Restart(incarnation=member.incarnation, revision=member.revision))
    message = f"Group {group_word(index)} gets no new requests, and is deleted within {seconds} s"
    return GroupPlan(
        state=GroupState(index, exists=True, updated=member.revision == setting.target.hash),
        after=drain.actions,
        events=[Event(reason="GroupDraining", message=message, action="Drain")] if drain.begins else (),
        look_again=drain.look_again,
        templates=_templates_of(setting, member.revision) or setting.target,
    )


def _restart_event(setting: GroupSetting, index: int, restart: Restart) -> Event:
    leader = leader_name(setting.world.name, index)
    if restart.blame is not None and restart.blame.worker:
        pod = restart.blame.pod
        message = (
            f"Worker pod {pod} failed, deleted leader pod {leader} to recreate group {group_word(index)}"
        )
    else:
        message = f"Leader pod {leader} failed, recreating group {group_word(index)}"
    wait = round(restart.not_before - setting.world.now)
    if wait > 0:
        message += f" in {wait} s (restart {restart.count} in a row)"
    return Event(reason="RecreateGroup", message=message, action="Recreate", group=index, blame=restart.blame)


def _templates_of(setting: GroupSetting, hash: str) -> Templates | None:
    return setting.target if hash == setting.target.hash else setting.older(hash)


def _keep(setting: GroupSetting, index: int, pods: Sequence[Pod], leader: Pod) -> GroupPlan:
    """The leader lives: end the group if a pod of it failed, else complete it."""
    templates = _templates_of(setting, leader.revision)
    members = [pod for pod in pods if pod.incarnation == leader.incarnation]
    stale = [DeletePod(pod) for pod in pods if pod.incarnation != leader.incarnation and not pod.dying]
    known = templates or setting.target
    size = _size(leader, known)
    policy = restart_policy(setting.world.set, known)
    complete = COMPLETE_ANNOTATION in leader.metadata.annotations
    blame = find_blame(policy, members, size, complete) or find_release(setting.world, members, size)
    if blame is not None:
        restart = begin_restart(blame, leader, None, setting.world.now)
        return _end(setting, index, pods, restart, new=True)
    ended = [
        DeletePod(pod)
        for pod in members
        if not pod.dying and (pod.worker >= size or pod.status.phase in ("Failed", "Succeeded"))
    ]
    creates, blocked = _missing_workers(setting, index, pods, leader, templates, size, complete)
    whole = len(members) == size and not any(pod.dying for pod in members)
    after: list[Action] = []
    if whole and not complete and policy == "RecreateGroupOnPodRestart":
        after.append(MarkComplete(leader))
    draining = is_draining(leader)
    if draining:
        after.append(CallOffDrain(leader))
    elif (condition := plan_group_ready(leader, members, size)) is not None:
        after.append(condition)
    return GroupPlan(
        state=GroupState(
            index,
            exists=True,
            ready=whole and not ended and not draining and all(pod.ready for pod in members),
            updated=leader.revision == setting.target.hash,
        ),
        deletes=[*stale, *ended],
        creates=creates,
        after=after,
        blocked=blocked,
        templates=known,
    )


def _missing_workers(
    setting: GroupSetting,
    index: int,
    pods: Sequence[Pod],
    leader: Pod,
    templates: Templates | None,
    size: int,
    complete: bool,
) -> tuple[list[CreatePod], list[str]]:
    """Workers to make, and those whose names are taken. None before their time, none from templates that are lost."""
    world = setting.world
    started = len(pods) > 1 or complete or has_started(leader) or waits_for_workers(leader)
    if templates is None or (world.set.spec.startup_policy == "LeaderReady" and not started):
        return [], []
    # A pod that is still being deleted holds its name.
    there = {pod.worker for pod in pods}
    missing = [worker for worker in range(1, size) if worker not in there]
    if not missing:
        return [], []
    inherited = {
        key: leader.metadata.annotations[key]
        for key in (RESTARTS_ANNOTATION, RESTARTED_BECAUSE_ANNOTATION)
        if key in leader.metadata.annotations
    }
    group = _identity(setting, index, templates, leader.incarnation, inherited, leader)
    blocked = _taken(setting, index, missing)
    if blocked:
        return [], blocked
    return [_create(setting, group, worker) for worker in missing], []


def _create(
    setting: GroupSetting, group: GroupIdentity, worker: int, restart: Restart | None = None
) -> CreatePod:
    pod = pod_name(group.set_name, group.index, worker)
    templates = group.templates.group.volume_claim_templates
    claims = claim_bodies(setting.world.set, templates, group.index, pod, setting.owner) if templates else []
    return CreatePod(group.index, worker, pod_body(group, worker), claims, restart)


def _taken(setting: GroupSetting, index: int, workers: Iterable[int]) -> list[str]:
    names = (f"Pod {pod_name(setting.world.name, index, worker)}" for worker in workers)
    return [name for name in names if name in setting.taken]


def _size(leader: Pod, templates: Templates) -> int:
    text = leader.metadata.annotations.get(v1.SIZE_ANNOTATION, "")
    return int(text) if text.isdecimal() else templates.size


def restart_policy(lws: v1.LeaderWorkerSet, templates: Templates) -> v1.RestartPolicy:
    """The policy that counts: an annotation of the set can soften the default one."""
    policy = templates.group.restart_policy
    softened = v1.RECREATE_AFTER_START_ANNOTATION in lws.metadata.annotations
    if policy == "RecreateGroupOnPodRestart" and softened:
        return "RecreateGroupAfterStart"
    return policy
