"""What the status of a set says: counts of each role over all slices, and conditions.

Available and Progressing are never true together. Two more are ours: `kajitori.dev/FieldsNotHonoured` names what the
manifest asks for and does not get, `kajitori.dev/Blocked` what stands in the way.
"""

from __future__ import annotations

from collections.abc import Sequence

from kajitori.api.disaggregatedset import v1
from kajitori.api.kubernetes.meta_v1 import Condition
from kajitori.base.clock import rfc3339
from kajitori.base.reason import Reason
from kajitori.groups.disaggregated_sets.observed import World

FIELDS_NOT_HONOURED = "kajitori.dev/FieldsNotHonoured"
BLOCKED = "kajitori.dev/Blocked"

ALL_ROLES_READY = "AllRolesReady"
ROLLOUT_IN_PROGRESS = "RolloutInProgress"
ROLES_PROGRESSING = "RolesProgressing"


def next_status(
    world: World,
    revision: str,
    wanted: int,
    *,
    rolling: Sequence[int],
    whole: bool,
    not_honoured: Reason | None,
    blocked: Reason | None,
) -> v1.DisaggregatedSetStatus:
    """The status after this look. wanted: groups of all roles and slices. rolling: slices with two revisions."""
    roles = [_role(world, revision, name) for name in world.set.role_names]
    if whole:
        code, message = ALL_ROLES_READY, "All roles are ready"
    elif rolling:
        where = f" in slice {', '.join(map(str, rolling))}" if world.set.spec.slices > 1 else ""
        state = " is paused" if world.paused else " is in progress"
        code, message = ROLLOUT_IN_PROGRESS, f"The rollout to revision {revision}{where}{state}"
    else:
        ready = sum(role.ready_replicas for role in roles)
        code, message = ROLES_PROGRESSING, f"{ready} groups are ready of {wanted} that are wanted"
    own: dict[str, tuple[bool, str, str]] = {
        v1.AVAILABLE: (whole, code, message),
        v1.PROGRESSING: (not whole, code, message),
    }
    known = {condition.type for condition in world.set.status.conditions}
    for kind, why in ((FIELDS_NOT_HONOURED, not_honoured), (BLOCKED, blocked)):
        if why is not None:
            own[kind] = (True, why.code, str(why))
        elif kind in known:
            own[kind] = (False, "Resolved", "nothing of the kind now")
    return v1.DisaggregatedSetStatus(
        conditions=_conditions(world, own),
        observed_generation=world.set.metadata.generation or 0,
        role_statuses=roles,
    )


def _role(world: World, revision: str, name: str) -> v1.RoleStatus:
    made = [child for child in world.children if child.role == name]
    return v1.RoleStatus(
        name=name,
        replicas=sum(child.lws.status.replicas for child in made),
        ready_replicas=sum(child.ready for child in made),
        updated_replicas=sum(child.lws.status.replicas for child in made if child.revision == revision),
    )


def _conditions(world: World, own: dict[str, tuple[bool, str, str]]) -> list[Condition]:
    old = {condition.type: condition for condition in world.set.status.conditions}
    now = rfc3339(world.now)
    kept = [condition for kind, condition in old.items() if kind not in own]
    made: list[Condition] = []
    for kind, (true, reason, message) in own.items():
        status = "True" if true else "False"
        before = old.get(kind)
        since = before.last_transition_time if before and before.status == status else now
        made.append(
            Condition(
                type=kind,
                status=status,
                reason=reason,
                message=message,
                last_transition_time=since,
                observed_generation=world.set.metadata.generation or 0,
            )
        )
    return [*kept, *made]


def same_status(one: v1.DisaggregatedSetStatus, other: v1.DisaggregatedSetStatus) -> bool:
    """Whether there is nothing to write."""
    return _comparable(one) == _comparable(other)


def _comparable(status: v1.DisaggregatedSetStatus) -> tuple[object, ...]:
    conditions = sorted(status.conditions, key=lambda condition: condition.type)
    return (conditions, status.observed_generation, status.role_statuses)
