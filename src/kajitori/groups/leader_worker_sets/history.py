"""The last restarts of a set's groups, as its status keeps them: few, the newest last.

A record is made when the plan decides and written with the status write that the restart causes anyway. Where the
definition of the kind is upstream's and has no such field, the API server drops it and nothing else changes. After
a controller died, the newest record of a group still says how long the group has to wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from kajitori.api.leaderworkerset import v1
from kajitori.base.clock import parse_rfc3339, rfc3339
from kajitori.groups.leader_worker_sets.budget import FORGET_AFTER_SECONDS
from kajitori.groups.leader_worker_sets.identity import FIRST_HASH, group_word
from kajitori.groups.leader_worker_sets.restart import Blame, How, Restart

if TYPE_CHECKING:
    from kajitori.groups.leader_worker_sets.actions import Plan
    from kajitori.groups.leader_worker_sets.observed import World

MOST_RECORDS = 10
# So long after it could have begun anew, a group without pods is taken for one whose controller died before it did.
RECALL_SECONDS = 60.0

_NAMES: dict[How, str] = {
    "deleted": "Deleted",
    "container restarted": "ContainerRestarted",
    "failed": "Failed",
    "gone": "Gone",
    "not placed": "NotPlaced",
    "lifted": "Lifted",
}
_HOWS: dict[str, How] = {name: how for how, name in _NAMES.items()}


def record_of(group: int, restart: Restart, now: float) -> v1.GroupRestart | None:
    """What the history says of this restart; None of one that nobody is to blame for."""
    blame = restart.blame
    if blame is None:
        return None
    return v1.GroupRestart(
        time=rfc3339(now),
        group=group_word(group),
        attempt=restart.count,
        pod=blame.pod,
        how=_NAMES[blame.how],
        outcome=restart.outcome,
        container=blame.container,
        exit_code=blame.exit_code,
        signal=blame.signal,
        reason=blame.reason or blame.container_reason,
        node=blame.node,
        by=blame.by,
        last_log=blame.last_log,
        not_before=rfc3339(restart.not_before) if restart.not_before > now else None,
    )


def with_history(world: World, plan: Plan) -> Plan:
    """The plan with the restarts that it begins, and those that could not be told yet, in its status."""
    restarts = extend(world.set.status.restarts, [*world.unrecorded, *records_of(world, plan)])
    return msgspec.structs.replace(plan, status=msgspec.structs.replace(plan.status, restarts=restarts))


def records_of(world: World, plan: Plan) -> list[v1.GroupRestart]:
    """What is to be told of the restarts that the plan begins."""
    records = (record_of(group, restart, world.now) for group, restart in plan.begun.items())
    return [record for record in records if record is not None]


def extend(old: Sequence[v1.GroupRestart], new: Iterable[v1.GroupRestart]) -> list[v1.GroupRestart]:
    """The history with these records in it. One that tells again what an earlier controller told is left out."""
    records = list(old)
    for record in new:
        if not any(_same(record, known) for known in records):
            records.append(record)
    return records[-MOST_RECORDS:]


def _same(new: v1.GroupRestart, old: v1.GroupRestart) -> bool:
    one, other = ((record.group, record.attempt, record.outcome) for record in (new, old))
    return (
        one == other
        and new.attempt > 0
        and 0 <= parse_rfc3339(new.time) - parse_rfc3339(old.time) < FORGET_AFTER_SECONDS
    )


def recall(records: Iterable[v1.GroupRestart], now: float, *, hashed: bool) -> dict[int, Restart]:
    """For a controller that knows nothing yet: the groups that still have to wait, or could have begun just now.

    hashed: groups are named by digits (see `identity`).
    """
    newest = {record.group: record for record in records}
    waiting: dict[int, Restart] = {}
    for word, record in newest.items():
        if (group := _number(word, hashed=hashed)) is None:
            continue
        not_before = parse_rfc3339(record.not_before or record.time)
        if record.outcome == "Recreated" and not_before + RECALL_SECONDS > now:
            blame = Blame(
                pod=record.pod,
                node=record.node,
                how=_HOWS.get(record.how, "gone"),
                container=record.container,
                exit_code=record.exit_code,
                signal=record.signal,
                reason=record.reason,
                by=record.by,
            )
            waiting[group] = Restart(
                incarnation="", revision="", blame=blame, count=record.attempt, not_before=not_before
            )
    return waiting


def _number(word: str, *, hashed: bool) -> int | None:
    """The group of this name; None if somebody else wrote it."""
    try:
        return FIRST_HASH + int(word, 16) if hashed else int(word)
    except ValueError:
        return None


def is_failed(records: Sequence[v1.GroupRestart], group: int) -> bool:
    """Whether the last that was heard of the group is that it failed."""
    last = next((record for record in reversed(records) if record.group == group_word(group)), None)
    return last is not None and last.outcome == "Failed"
