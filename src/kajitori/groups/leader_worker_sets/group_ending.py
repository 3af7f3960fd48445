"""How a group ends, and what is done instead: the answer to a fault of one that lives.

A fault begins the group anew with new pods, restarts its containers in their pods (`in_place`), or leaves it as it
is because it failed too often (`budget`). Whatever is decided is said once; a group that is on its way out just goes
on ending.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kajitori.groups.leader_worker_sets.actions import DeletePod, Event, NoteOnLeader
from kajitori.groups.leader_worker_sets.budget import (
    FAILED_ANNOTATION,
    Life,
    begin_restart,
    count_annotations,
    exhausted,
    failure_annotations,
    failure_of,
    is_lifted,
    lifted,
    restarts_of,
)
from kajitori.groups.leader_worker_sets.draining import plan_drain
from kajitori.groups.leader_worker_sets.gang_release import begin_release
from kajitori.groups.leader_worker_sets.group_setting import GroupPlan, GroupSetting, templates_of
from kajitori.groups.leader_worker_sets.history import is_failed
from kajitori.groups.leader_worker_sets.identity import group_word, is_hash
from kajitori.groups.leader_worker_sets.in_place import (
    DEADLINE_SECONDS,
    Marker,
    accepted_restarts,
    begin_marker,
    can_restart_in_place,
    containers_to_restart,
    end_marker,
    is_done,
    trouble,
)
from kajitori.groups.leader_worker_sets.observed import RESTARTED_BECAUSE_ANNOTATION, Pod
from kajitori.groups.leader_worker_sets.pods import leader_name
from kajitori.groups.leader_worker_sets.readiness import plan_group_ready
from kajitori.groups.leader_worker_sets.restart import (
    Blame,
    Restart,
    blame_for_missing,
    blame_of_ending,
    end_of,
)
from kajitori.groups.leader_worker_sets.status import GroupState

# Statuses come by watch; this is for what is not told, such as a command that failed.
_LOOK_AGAIN_SECONDS = 1.0


def finish_group(
    setting: GroupSetting, index: int, pods: Sequence[Pod], leader: Pod | None, ending: Restart | None
) -> GroupPlan:
    """The group is ending: its leader goes or is gone. Find out why if no earlier plan did."""
    if ending is not None and any(pod.incarnation == ending.incarnation for pod in pods):
        return end_group(setting, index, pods, ending)
    member = leader or pods[0]
    if index >= setting.partition and member.revision != setting.target.hash:
        return end_group(setting, index, pods, _unblamed(member))
    return end_group(setting, index, pods, _why_without_leader(setting, index, pods, leader), new=True)


def _why_without_leader(
    setting: GroupSetting, index: int, pods: Sequence[Pod], leader: Pod | None
) -> Restart:
    """Whatever takes the leader of a failed group away lifts that: its user wants it back."""
    world = setting.world
    gone = Blame(pod=leader_name(world.name, index), how="gone")
    if leader is not None and failure_of(leader):
        return lifted(end_of(leader), leader, counted=False)
    if leader is None and is_failed(world.set.status.restarts, index):
        return lifted(gone, pods[0], counted=False)
    accepted = accepted_restarts(leader) if leader else {}
    blame = blame_of_ending(pods, accepted) or gone
    return begin_restart(blame, leader or pods[0], world.lives.get(index), world.now)


def _unblamed(member: Pod) -> Restart:
    return Restart(incarnation=member.incarnation, revision=member.revision)


def end_group(
    setting: GroupSetting,
    index: int,
    pods: Sequence[Pod],
    restart: Restart,
    *,
    new: bool = False,
    message: str = "",
) -> GroupPlan:
    """Delete every pod of the group that is not being deleted yet; say why, once. message: to be said instead."""
    leader = next((pod for pod in pods if pod.worker == 0), None)
    return GroupPlan(
        state=GroupState(
            index,
            exists=leader is not None and not leader.dying,
            updated=leader is not None and leader.revision == setting.target.hash,
        ),
        deletes=[DeletePod(pod) for pod in pods if not pod.dying],
        events=[_restart_event(setting, index, restart, message)] if new else (),
        ends=restart,
        begun=restart if new else None,
        templates=templates_of(setting, restart.revision) or setting.target,
    )


def stop_group(setting: GroupSetting, index: int, pods: Sequence[Pod]) -> GroupPlan:
    """End the group on purpose; one that serves is drained first, if the set asks for it."""
    world, seconds = setting.world, setting.options.drain_seconds
    drain = plan_drain(pods, seconds, world.now, world.idle)
    leader = next((pod for pod in pods if pod.worker == 0), None)
    member = leader or pods[0]
    if drain.done:
        return end_group(
            setting, index, pods, Restart(incarnation=member.incarnation, revision=member.revision)
        )
    message = f"Group {group_word(index)} gets no new requests, and is deleted within {seconds} s"
    return GroupPlan(
        state=GroupState(index, exists=True, updated=member.revision == setting.target.hash),
        after=drain.actions,
        events=[Event(reason="GroupDraining", message=message, action="Drain")] if drain.begins else (),
        look_again=drain.look_again,
        templates=templates_of(setting, member.revision) or setting.target,
    )


def _restart_event(setting: GroupSetting, index: int, restart: Restart, message: str) -> Event:
    leader = leader_name(setting.world.name, index)
    if message:
        pass
    elif restart.blame is not None and restart.blame.worker:
        pod = restart.blame.pod
        message = (
            f"Worker pod {pod} failed, deleted leader pod {leader} to recreate group {group_word(index)}"
        )
    else:
        message = f"Leader pod {leader} failed, recreating group {group_word(index)}"
    wait = round(restart.not_before - setting.world.now)
    if wait > 0:
        attempt = (
            f"attempt {restart.releases + 1}" if restart.releases else f"restart {restart.count} in a row"
        )
        message += f" in {wait} s ({attempt})"
    return Event(reason="RecreateGroup", message=message, action="Recreate", group=index, blame=restart.blame)


def answer_fault(
    setting: GroupSetting,
    index: int,
    pods: Sequence[Pod],
    leader: Pod,
    members: Sequence[Pod],
    size: int,
    blame: Blame,
) -> GroupPlan:
    """A pod failed and the leader lives. pods: all of the group. members: those of the leader's incarnation."""
    world, options = setting.world, setting.options
    if blame.how == "not placed":
        message = f"Group {group_word(index)} was not placed as a whole and gives back what it holds; it begins anew"
        release = begin_release(blame, leader, world.now)
        return end_group(setting, index, pods, release, new=True, message=message)
    restart = begin_restart(blame, leader, world.lives.get(index), world.now)
    if exhausted(restart, options.max_restarts):
        return _give_up(setting, index, leader, members, size, restart)
    if can_restart_in_place(options, blame, members, size, restart.count, world.commands_refused):
        return _begin_in_place(setting, index, leader, members, restart)
    return end_group(setting, index, pods, restart, new=True)


def _living(setting: GroupSetting, index: int, leader: Pod) -> GroupState:
    return GroupState(index, exists=True, updated=leader.revision == setting.target.hash)


def _give_up(
    setting: GroupSetting, index: int, leader: Pod, members: Sequence[Pod], size: int, restart: Restart
) -> GroupPlan:
    restart = msgspec.structs.replace(restart, outcome="Failed", not_before=0.0)
    message = f"Group {group_word(index)} failed after {restart.count - 1} restarts in a row, and is left for inspection"
    note = NoteOnLeader(leader, index, dict(failure_annotations(restart)), restart, FAILED_ANNOTATION)
    condition = plan_group_ready(leader, members, size)
    return GroupPlan(
        state=_living(setting, index, leader),
        after=[note, *([condition] if condition else [])],
        events=[
            Event(
                reason="GroupFailed", message=message, type="Warning", action="Inspect",
                group=index, blame=restart.blame,
            )
        ],
        begun=restart,
        failed=restart.blame.sentence() if restart.blame else "",
        templates=templates_of(setting, leader.revision) or setting.target,
    )  # fmt: skip


def keep_failed(setting: GroupSetting, index: int, pods: Sequence[Pod], leader: Pod) -> GroupPlan:
    """The group is marked as failed: nothing of it is touched, unless its user wants it back or changed it."""
    if _is_replaced_first(setting, index, leader):
        replacement = Restart(incarnation=leader.incarnation, revision=setting.target.hash)
        return end_group(setting, index, pods, replacement)
    if is_lifted(leader, setting.options.max_restarts):
        wanted = Blame(pod=leader.name, pod_uid=leader.metadata.uid, node=leader.spec.node_name, how="lifted")
        message = f"Recreating group {group_word(index)}, whose budget of restarts was raised"
        return end_group(
            setting, index, pods, lifted(wanted, leader, counted=True), new=True, message=message
        )
    members = [pod for pod in pods if pod.incarnation == leader.incarnation]
    condition = plan_group_ready(leader, members, len(members) + 1)
    return GroupPlan(
        state=_living(setting, index, leader),
        after=[condition] if condition else [],
        failed=failure_of(leader),
        templates=templates_of(setting, leader.revision) or setting.target,
    )


def _is_replaced_first(setting: GroupSetting, index: int, leader: Pod) -> bool:
    """It serves nobody, so a rollout that will come to it may as well begin with it."""
    if is_hash(index) or setting.options.paused or leader.revision == setting.target.hash:
        return False
    return index >= setting.world.set.spec.rollout_strategy.rolling_update_configuration.partition


def _begin_in_place(
    setting: GroupSetting, index: int, leader: Pod, members: Sequence[Pod], restart: Restart
) -> GroupPlan:
    restart = msgspec.structs.replace(restart, outcome="InPlace", not_before=0.0)
    marker = begin_marker(members, accepted_restarts(leader), setting.world.now)
    annotations = {**marker, **count_annotations(restart.count)}
    message = f"Restarting the containers of group {group_word(index)} in their pods"
    return GroupPlan(
        state=_living(setting, index, leader),
        after=[NoteOnLeader(leader, index, annotations, restart, RESTARTED_BECAUSE_ANNOTATION)],
        events=[
            Event(
                reason="RestartingInPlace",
                message=message,
                action="Restart",
                group=index,
                blame=restart.blame,
            )
        ],
        begun=restart,
        life=Life(leader.incarnation),
        templates=templates_of(setting, leader.revision) or setting.target,
    )


def go_on_in_place(
    setting: GroupSetting,
    index: int,
    pods: Sequence[Pod],
    leader: Pod,
    members: Sequence[Pod],
    size: int,
    marker: Marker,
) -> GroupPlan:
    """Containers are being restarted in their pods: see to those that were not yet, or find that it cannot be."""
    world, command = setting.world, setting.options.in_place_command
    why = trouble(marker, members, size, world.now, world.command_failures.get(index, ""))
    if why:
        return _fall_back(setting, index, pods, leader, size, why)
    condition = plan_group_ready(leader, members, size)
    after = [condition] if condition else []
    living = GroupPlan(
        state=_living(setting, index, leader),
        after=after,
        # It has to become ready anew.
        life=Life(leader.incarnation),
        templates=templates_of(setting, leader.revision) or setting.target,
    )
    if not is_done(marker, members):
        return msgspec.structs.replace(
            living,
            restart_containers=containers_to_restart(marker, index, members, command),
            look_again=min(marker.since + DEADLINE_SECONDS, world.now + _LOOK_AGAIN_SECONDS),
        )
    because = leader.metadata.annotations.get(RESTARTED_BECAUSE_ANNOTATION, "")
    message = (
        f"All containers of group {group_word(index)} were restarted in place within"
        f" {world.now - marker.since:.1f} s, their pods stay: {because}"
    )
    return msgspec.structs.replace(
        living,
        after=[NoteOnLeader(leader, index, end_marker(members)), *after],
        events=[Event(reason="RestartedInPlace", message=message, action="Restart")],
    )


def _fall_back(
    setting: GroupSetting, index: int, pods: Sequence[Pod], leader: Pod, size: int, why: str
) -> GroupPlan:
    """It counts as the restart that it began as."""
    members = [pod for pod in pods if pod.incarnation == leader.incarnation]
    blame = (
        blame_of_ending(members, accepted_restarts(leader))
        or blame_for_missing(members, size)
        or Blame(pod=leader.name, pod_uid=leader.metadata.uid, how="lifted")
    )
    restart = Restart(
        incarnation=leader.incarnation, revision=leader.revision, blame=blame, count=restarts_of(leader)
    )
    message = f"Restart in place of group {group_word(index)} did not come about ({why}), recreating it"
    return end_group(setting, index, pods, restart, new=True, message=message)
