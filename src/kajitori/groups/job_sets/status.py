"""What the status of a set says: Jobs in numbers, and conditions with the words that upstream's clients know. Pure.

A condition comes into the list when it is true for the first time and stays from then on; each change of one is an
event. Two are ours: `kajitori.dev/FieldsNotHonoured` names what the manifest asks for and does not get,
`kajitori.dev/Blocked` what stands in the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from kajitori.api.jobset import v1alpha2 as v1
from kajitori.api.kubernetes.meta_v1 import Condition
from kajitori.base.clock import parse_rfc3339, rfc3339
from kajitori.base.reason import Reason
from kajitori.groups.job_sets.actions import Event
from kajitori.groups.job_sets.observed import Job

FIELDS_NOT_HONOURED = "kajitori.dev/FieldsNotHonoured"
BLOCKED = "kajitori.dev/Blocked"
_EXCLUSIVE = {v1.STARTUP_IN_PROGRESS: v1.STARTUP_COMPLETED, v1.STARTUP_COMPLETED: v1.STARTUP_IN_PROGRESS}


class Conditions:
    """The conditions of a set while a plan is made; notes an event for each change."""

    def __init__(self, old: Sequence[Condition], now: float) -> None:
        self._now = now
        self._all = {condition.type: condition for condition in old}
        self.events: list[Event] = []

    @property
    def all(self) -> list[Condition]:
        """In the order in which they became known."""
        return list(self._all.values())

    def is_true(self, kind: str) -> bool:
        return kind in self._all and self._all[kind].status == "True"

    def since(self, kind: str) -> float:
        """When it changed last, in seconds since 1970."""
        condition = self._all.get(kind)
        stamp = condition.last_transition_time if condition else None
        return parse_rfc3339(stamp) if stamp else self._now

    def set_true(
        self,
        kind: str,
        reason: str,
        message: str,
        *,
        type: Literal["Normal", "Warning"] = "Normal",
        blamed: bool = False,
    ) -> None:
        """The condition holds. What excludes it does not any more."""
        other = self._all.get(_EXCLUSIVE.get(kind, ""))
        if other is not None and other.status == "True":
            stamp = rfc3339(self._now)
            self._all[other.type] = msgspec.structs.replace(other, status="False", last_transition_time=stamp)
        if self._put(kind, "True", reason, message):
            self.events.append(Event(reason=reason, message=message, type=type, blamed=blamed))

    def set_false(self, kind: str, reason: str, message: str) -> None:
        """The condition does not hold; nothing to say if it never did."""
        if kind in self._all and self._put(kind, "False", reason, message):
            self.events.append(Event(reason=reason, message=message))

    def tell(self, kind: str, why: Reason | None) -> None:
        """A condition of our own: why it holds, or None."""
        if why is not None:
            self.set_true(kind, why.code, str(why), type="Warning")
        elif kind in self._all:
            self._put(kind, "False", "Resolved", "nothing of the kind now")

    def _put(self, kind: str, status: str, reason: str, message: str) -> bool:
        old = self._all.get(kind)
        if old is not None and (old.status, old.reason, old.message) == (status, reason, message):
            return False
        since = old.last_transition_time if old is not None and old.status == status else rfc3339(self._now)
        self._all[kind] = Condition(
            type=kind, status=status, reason=reason, message=message, last_transition_time=since
        )
        return True


class Numbers(msgspec.Struct):
    """The Jobs of one replicated job, counted."""

    ready: int = 0
    succeeded: int = 0
    failed: int = 0
    active: int = 0
    suspended: int = 0

    @property
    def started(self) -> int:
        """Jobs that are ready or were."""
        return self.ready + self.succeeded + self.failed


def count(spec: v1.JobSetSpec, jobs: Sequence[Job]) -> dict[str, Numbers]:
    """jobs: of the attempt that runs now. By replicated job, in the order of the manifest."""
    numbers = {replicated.name: Numbers() for replicated in spec.replicated_jobs}
    for job in jobs:
        of = numbers.get(job.replicated)
        if of is None:
            continue
        if job.end is not None:
            of.succeeded += job.succeeded
            of.failed += job.failed
            continue
        of.ready += job.is_ready
        of.active += job.status.active > 0
        of.suspended += job.spec.suspend
    return numbers


def replicated_statuses(numbers: dict[str, Numbers], old: v1.JobSetStatus) -> list[v1.ReplicatedJobStatus]:
    """As the status carries them; restarts of single Jobs stay as they were."""
    known = {one.name: one for one in old.replicated_jobs_status}
    return [
        v1.ReplicatedJobStatus(
            name=name,
            ready=of.ready,
            succeeded=of.succeeded,
            failed=of.failed,
            active=of.active,
            suspended=of.suspended,
            job_restarts=known[name].job_restarts if name in known else [],
            job_restarts_count_towards_max=known[name].job_restarts_count_towards_max
            if name in known
            else [],
        )
        for name, of in numbers.items()
    ]


def same_status(old: v1.JobSetStatus, new: v1.JobSetStatus) -> bool:
    """Whether there is nothing to write; the order of replicated jobs does not matter."""

    def ordered(status: v1.JobSetStatus) -> v1.JobSetStatus:
        jobs = sorted(status.replicated_jobs_status, key=lambda one: one.name)
        return msgspec.structs.replace(status, replicated_jobs_status=jobs)

    return ordered(old) == ordered(new)
