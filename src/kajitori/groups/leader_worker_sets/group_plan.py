"""The plan of one group: a leader and its workers are made in one go, and end in one go.

A group is the pods of one *incarnation*, which is the leader's. It ends when a pod of it fails (as the restart policy
has it), when it is due for another revision, or when its leader goes; then every pod of it is deleted at once, and
the next incarnation begins only when all of them are gone. So no worker ever meets a leader of another life, and
no group has two leaders.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kajitori.api.leaderworkerset import v1
from kajitori.base.whole_numbers import whole_number
from kajitori.groups.leader_worker_sets.actions import (
    Action,
    CallOffDrain,
    CreatePod,
    DeletePod,
    MarkComplete,
)
from kajitori.groups.leader_worker_sets.budget import (
    PROPOSED_COUNT_ANNOTATION,
    failure_of,
    watch_life,
)
from kajitori.groups.leader_worker_sets.claims import claim_bodies
from kajitori.groups.leader_worker_sets.gang import choose_gang, waits_for_workers
from kajitori.groups.leader_worker_sets.gang_release import annotations_after, find_release, may_be_made
from kajitori.groups.leader_worker_sets.group_ending import (
    answer_fault,
    end_group,
    finish_group,
    go_on_in_place,
    keep_failed,
    stop_group,
)
from kajitori.groups.leader_worker_sets.group_setting import GroupPlan, GroupSetting, templates_of
from kajitori.groups.leader_worker_sets.in_place import accepted_restarts, marker_of
from kajitori.groups.leader_worker_sets.observed import (
    COMPLETE_ANNOTATION,
    RESTARTED_BECAUSE_ANNOTATION,
    RESTARTS_ANNOTATION,
    Pod,
)
from kajitori.groups.leader_worker_sets.pods import GroupIdentity, pod_body, pod_name
from kajitori.groups.leader_worker_sets.readiness import (
    gate_for,
    has_started,
    is_draining,
    plan_group_ready,
)
from kajitori.groups.leader_worker_sets.restart import Restart, find_blame
from kajitori.groups.leader_worker_sets.revisions import Templates
from kajitori.groups.leader_worker_sets.status import GroupState


def plan_group(setting: GroupSetting, index: int, pods: Sequence[Pod]) -> GroupPlan:
    """The plan of the group with this index. pods: all of the set's own pods that carry it."""
    ending = setting.world.restarts.get(index)
    if not pods:
        return begin_group(setting, index, ending)
    leader = next((pod for pod in pods if pod.worker == 0), None)
    if leader is None or leader.dying:
        return finish_group(setting, index, pods, leader, ending)
    if ending is not None and ending.incarnation == leader.incarnation:
        return finish_group(setting, index, pods, leader, ending)
    if index >= setting.partition and leader.revision != setting.target.hash:
        return stop_group(setting, index, pods)
    if failure_of(leader):
        return keep_failed(setting, index, pods, leader)
    return _keep(setting, index, pods, leader)


def begin_group(setting: GroupSetting, index: int, ending: Restart | None) -> GroupPlan:
    """No pod of the group is there: make all, unless it shall wait or its leader's name is taken."""
    world = setting.world
    templates = _due_templates(setting, index, ending)
    state = GroupState(index)
    if not may_be_made(world, index) or (ending is not None and ending.not_before > world.now):
        return GroupPlan(state=state, ends=ending, templates=templates)
    annotations: dict[str, str] = {}
    restart = ending if ending is not None and ending.blame is not None else None
    if restart is not None and restart.blame is not None:
        annotations = annotations_after(restart, restart.blame)
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


def _keep(setting: GroupSetting, index: int, pods: Sequence[Pod], leader: Pod) -> GroupPlan:
    """The leader lives: end the group if a pod of it failed, else complete it."""
    templates = templates_of(setting, leader.revision)
    members = [pod for pod in pods if pod.incarnation == leader.incarnation]
    stale = [DeletePod(pod) for pod in pods if pod.incarnation != leader.incarnation and not pod.dying]
    known = templates or setting.target
    size = _size(leader, known)
    if templates is None and len(members) < size:
        # It can never be whole again: what it would be completed from is lost.
        replacement = Restart(incarnation=leader.incarnation, revision=setting.target.hash)
        return end_group(setting, index, pods, replacement)
    policy = restart_policy(setting.world.set, known)
    complete = COMPLETE_ANNOTATION in leader.metadata.annotations
    if (marker := marker_of(leader)) is not None:
        return go_on_in_place(setting, index, pods, leader, members, size, marker)
    accepted = accepted_restarts(leader)
    blame = find_blame(policy, members, size, complete, accepted) or find_release(
        setting.world, members, size
    )
    if blame is not None:
        return answer_fault(setting, index, pods, leader, members, size, blame)
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
    ready = whole and not ended and not draining and all(pod.ready for pod in members)
    return GroupPlan(
        state=GroupState(index, exists=True, ready=ready, updated=leader.revision == setting.target.hash),
        life=watch_life(setting.world.lives.get(index), leader, ready, setting.world.now),
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
    if not missing or not may_be_made(world, index):
        return [], []
    inherited = {
        key: leader.metadata.annotations[key]
        for key in (RESTARTS_ANNOTATION, PROPOSED_COUNT_ANNOTATION, RESTARTED_BECAUSE_ANNOTATION)
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
    return CreatePod(group.index, worker, pod_body(group, worker), claims, restart, group.gang)


def _taken(setting: GroupSetting, index: int, workers: Iterable[int]) -> list[str]:
    names = (f"Pod {pod_name(setting.world.name, index, worker)}" for worker in workers)
    return [name for name in names if name in setting.taken]


def _size(leader: Pod, templates: Templates) -> int:
    text = leader.metadata.annotations.get(v1.SIZE_ANNOTATION, "")
    size = whole_number(text)
    return templates.size if size is None else size


def restart_policy(lws: v1.LeaderWorkerSet, templates: Templates) -> v1.RestartPolicy:
    """The policy that counts: an annotation of the set can soften the default one."""
    policy = templates.group.restart_policy
    softened = v1.RECREATE_AFTER_START_ANNOTATION in lws.metadata.annotations
    if policy == "RecreateGroupOnPodRestart" and softened:
        return "RecreateGroupAfterStart"
    return policy
