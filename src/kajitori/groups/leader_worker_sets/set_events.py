"""What a plan says of the set in events, beside what groups and revisions say themselves. Pure.

Each is said once: when the status that it tells of is not written yet, or with the action that it is about.
"""

from __future__ import annotations

from collections.abc import Sequence

from kajitori.base.reason import Reason
from kajitori.groups.leader_worker_sets.actions import CreatePod, Event
from kajitori.groups.leader_worker_sets.conditions import PAUSED
from kajitori.groups.leader_worker_sets.group_setting import GroupPlan
from kajitori.groups.leader_worker_sets.identity import group_word, is_hash
from kajitori.groups.leader_worker_sets.observed import World
from kajitori.groups.leader_worker_sets.pods import leader_name
from kajitori.groups.leader_worker_sets.status import GROUPS_FAILED, Counts, words


def surplus_events(world: World, leaving: Sequence[GroupPlan]) -> list[Event]:
    """Said when the leader is still there to be deleted, so once for each group."""
    going = [plan.state.index for plan in leaving if any(delete.pod.worker == 0 for delete in plan.deletes)]
    if not going:
        return []
    replicas = world.set.spec.replicas
    message = f"Deleting {_numbered('group', sorted(going))} beyond the {replicas} that are wanted"
    if len(going) == 1:
        message = f"deleting surge replica {leader_name(world.name, going[0])}"
    return [Event(reason="GroupsProgressing", message=message, action="Delete")]


def creation_events(creates: Sequence[CreatePod]) -> list[Event]:
    """Whole groups that are begun; a restarted group says so by its own event."""
    begun = {create.group for create in creates if create.worker == 0 and create.restart is None}
    if not begun:
        return []
    pods = sum(create.group in begun for create in creates)
    message = f"Creating {_numbered('group', sorted(begun))} ({pods} pods)"
    return [Event(reason="GroupsProgressing", message=message, action="Create")]


def _numbered(word: str, numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        return f"{word} {group_word(numbers[0])}"
    if is_hash(numbers[0]):
        return f"{len(numbers)} {word}s"
    if numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{word}s {numbers[0]} to {numbers[-1]}"
    return f"{len(numbers)} {word}s between {numbers[0]} and {numbers[-1]}"


def _true_conditions(world: World) -> dict[str, str]:
    return {one.type: one.message for one in world.set.status.conditions if one.status == "True"}


def phase_events(world: World, counts: Counts) -> list[Event]:
    if counts.phase in _true_conditions(world):
        return []
    reason, message = words(counts.phase)
    progress = f"with {counts.ready_below} groups ready of total {world.set.spec.replicas} groups"
    return [Event(reason=reason, message=f"{message}, {progress}", action="Update")]


def warning_events(world: World, own: dict[str, Reason | None]) -> list[Event]:
    said = _true_conditions(world)
    return [
        Event(
            reason="FailedCreate" if why.code == "NameTaken" else why.code,
            message=str(why),
            type="Normal" if kind == PAUSED else "Warning",
            action="Update" if kind == PAUSED else "Create",
        )
        for kind, why in own.items()
        # A group that fails is told of when it does, with the pod that is to blame.
        if why is not None and said.get(kind) != str(why) and kind != GROUPS_FAILED
    ]
