"""What the status of a set says: counts, and conditions with the words that upstream's clients know.

Of the three conditions at most Progressing and UpdateInProgress are true together; Available excludes both. A
condition comes into the list when it is true for the first time and stays from then on. Two more are ours:
`kajitori.dev/FieldsNotHonoured` names what the manifest asks for and does not get, `kajitori.dev/Blocked` what
stands in the way.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kajitori.api.kubernetes.meta_v1 import Condition
from kajitori.api.leaderworkerset import v1
from kajitori.base.clock import rfc3339
from kajitori.base.reason import Reason

FIELDS_NOT_HONOURED = "kajitori.dev/FieldsNotHonoured"
BLOCKED = "kajitori.dev/Blocked"
GROUPS_FAILED = "kajitori.dev/GroupsFailed"


class GroupState(msgspec.Struct, frozen=True):
    """One group as it is. exists: its leader is there."""

    index: int
    exists: bool = False
    ready: bool = False
    updated: bool = False


class Counts(msgspec.Struct, frozen=True):
    """The groups of a set in numbers, and which of its phases it is in."""

    replicas: int
    ready: int
    updated: int
    ready_below: int
    phase: str


def count(groups: Sequence[GroupState], replicas: int, partition: int) -> Counts:
    """Count the groups. replicas and partition as the set asks for them."""
    wanted = [group for group in groups if group.index < replicas]
    outdated = [group for group in wanted if group.exists and not group.updated and group.index >= partition]
    done = sum(group.ready and (group.updated or group.index < partition) for group in wanted)
    if outdated:
        phase = v1.UPDATE_IN_PROGRESS
    elif done == replicas:
        phase = v1.AVAILABLE
    else:
        phase = v1.PROGRESSING
    return Counts(
        replicas=sum(group.exists for group in groups),
        ready=sum(group.ready for group in groups),
        updated=sum(group.exists and group.updated for group in groups),
        ready_below=sum(group.ready for group in wanted),
        phase=phase,
    )


_WORDS = {
    v1.AVAILABLE: ("AllGroupsReady", "All replicas are ready"),
    v1.PROGRESSING: ("GroupsProgressing", "Replicas are progressing"),
    v1.UPDATE_IN_PROGRESS: ("GroupsUpdating", "Rolling Upgrade is in progress"),
}
_TRUE_IN = {
    v1.AVAILABLE: {v1.AVAILABLE},
    v1.PROGRESSING: {v1.PROGRESSING},
    v1.UPDATE_IN_PROGRESS: {v1.PROGRESSING, v1.UPDATE_IN_PROGRESS},
}


def words(phase: str) -> tuple[str, str]:
    """Reason and message of a phase."""
    return _WORDS[phase]


def next_conditions(
    old: Sequence[Condition],
    counts: Counts,
    replicas: int,
    own: dict[str, Reason | None],
    generation: int,
    now: float,
) -> list[Condition]:
    """The conditions after this look. own: for each condition of ours why it is true, or None."""
    true_types = _TRUE_IN[counts.phase]
    reason, _ = _WORDS[counts.phase]
    progress = f"{counts.ready_below} of {replicas} groups are ready"
    wanted: dict[str, tuple[str, str, str]] = {}
    for kind, (true_reason, message) in _WORDS.items():
        if kind in true_types:
            wanted[kind] = ("True", true_reason, message)
        else:
            wanted[kind] = ("False", reason, progress)
    for kind, why in own.items():
        wanted[kind] = (
            ("True", why.code, str(why)) if why else ("False", "Resolved", "nothing of the kind now")
        )
    known = {condition.type for condition in old}
    kept = [condition for condition in old if condition.type not in wanted]
    changed = [
        _condition(kind, *content, next((one for one in old if one.type == kind), None), generation, now)
        for kind, content in wanted.items()
        if kind in known or content[0] == "True"
    ]
    return [
        *(
            condition if not condition.observed_generation else _seen(condition, generation)
            for condition in kept
        ),
        *changed,
    ]


def _seen(condition: Condition, generation: int) -> Condition:
    return msgspec.structs.replace(condition, observed_generation=generation)


def _condition(
    kind: str,
    status: str,
    reason: str,
    message: str,
    old: Condition | None,
    generation: int,
    now: float,
) -> Condition:
    since = old.last_transition_time if old and old.status == status else rfc3339(now)
    return Condition(
        type=kind,
        status=status,
        reason=reason,
        message=message,
        last_transition_time=since,
        observed_generation=generation,
    )
