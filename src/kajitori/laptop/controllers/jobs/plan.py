"""Which pods a job makes and deletes, whether it is complete, and what suspending it says. Pure.

In one look pods are either deleted or made, deletions first. Source: Kubernetes' documentation of Jobs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from kajitori.base.clock import parse_rfc3339, rfc3339
from kajitori.laptop.controllers.jobs.backoff import index_wait_seconds
from kajitori.laptop.controllers.jobs.indexes import first_missing, from_indexes, union
from kajitori.laptop.controllers.jobs.situation import (
    SUCCESS_CRITERIA_MET,
    SUSPENDED,
    Situation,
    index_of,
    new_condition,
)
from kajitori.laptop.controllers.jobs.views import JobStatusView, JobView, Object
from kajitori.laptop.controllers.views import PodView

# More at once would hold the server up for everybody else; the rest follows in the next round.
MOST_AT_ONCE = 500


class Scaling(msgspec.Struct, frozen=True):
    """create: the completion index of each pod, None for a job without. wait_seconds: until more may be made."""

    delete: list[PodView] = []
    create: list[int | None] = []
    wait_seconds: float = 0.0


def plan_scaling(job: JobView, situation: Situation, pods: Sequence[PodView], now: float) -> Scaling:
    """pods: all of the job, as they were observed."""
    active = situation.active
    if job.spec.suspend:
        return Scaling(delete=_surplus(job, active, len(active)))
    wanted = _wanted(job, situation)
    surplus = _surplus(job, active, max(0, len(active) - wanted))[:MOST_AT_ONCE]
    if surplus:
        return Scaling(delete=surplus)
    ending = situation.terminating if job.replaces_failed_only else 0
    missing = min(wanted - len(active) - ending, MOST_AT_ONCE)
    if missing <= 0:
        return Scaling()
    if job.spec.backoff_limit_per_index is None and (wait := situation.record.remaining_seconds(now)) > 0:
        return Scaling(wait_seconds=wait)
    if not job.is_indexed:
        return Scaling(create=[None] * missing)
    return _new_indexes(job, situation, pods, missing, now)


def _wanted(job: JobView, situation: Situation) -> int:
    """How many pods shall be active."""
    if job.spec.completions is None:
        # Work queue: once one has succeeded the others finish what they have, and none is made.
        return len(situation.active) if situation.succeeded > 0 else job.spec.parallelism
    return max(0, min(job.spec.completions - situation.succeeded, job.spec.parallelism))


def _new_indexes(
    job: JobView, situation: Situation, pods: Sequence[PodView], missing: int, now: float
) -> Scaling:
    busy = [*situation.active]
    if job.replaces_failed_only:
        busy += [pod for pod in pods if pod.is_deleting and not pod.has_ended]
    taken = from_indexes(index for pod in busy if (index := index_of(pod)) is not None)
    ended = union(taken, situation.succeeded_indexes, situation.failed_indexes or ())
    indexes = first_missing(ended, job.spec.completions or 0, missing)
    if job.spec.backoff_limit_per_index is None:
        return Scaling(create=[*indexes])
    waits = {index: index_wait_seconds(situation.waiting.get(index), now) for index in indexes}
    due = [index for index in indexes if waits[index] <= 0]
    later = [wait for wait in waits.values() if wait > 0]
    return Scaling(create=[*due], wait_seconds=min(later, default=0.0))


def _surplus(job: JobView, active: Sequence[PodView], at_least: int) -> list[PodView]:
    """Pods of indexes that are not wanted or that another pod has too, and then those of least worth."""
    remove: list[PodView] = []
    left = list(active)
    if job.is_indexed:
        left = []
        by_index: dict[int, list[PodView]] = {}
        for pod in active:
            index = index_of(pod)
            if index is None or index >= (job.spec.completions or 0):
                remove.append(pod)
            else:
                by_index.setdefault(index, []).append(pod)
        for _, same in sorted(by_index.items()):
            ranked = sorted(same, key=_worth)
            remove += ranked[:-1]
            left.append(ranked[-1])
    if len(remove) < at_least:
        remove += sorted(left, key=_worth)[: at_least - len(remove)]
    return remove


def _worth(pod: PodView) -> tuple[float, ...]:
    """Sorts first what is missed least."""
    ready = pod.ready_condition
    since = parse_rfc3339(ready.last_transition_time) if ready and ready.last_transition_time else math.inf
    created = parse_rfc3339(pod.metadata.creation_timestamp) if pod.metadata.creation_timestamp else math.inf
    return (
        1 if pod.spec.node_name else 0,
        {"Pending": 0, "Running": 2}.get(pod.status.phase or "Pending", 1),
        1 if pod.is_ready else 0,
        -since if pod.is_ready else 0,
        -max((status.restart_count for status in pod.status.container_statuses), default=0),
        -created,
    )


def completion(job: JobView, situation: Situation, active: int, now: float) -> Object | None:
    """The condition that the job has what it asked for, or None. active: pods after scaling."""
    wanted = job.spec.completions
    if active or situation.succeeded < (1 if wanted is None else wanted):
        return None
    text = "Reached expected number of succeeded pods"
    return new_condition(SUCCESS_CRITERIA_MET, "CompletionsReached", text, now)


def started(job: JobView, now: float) -> JobStatusView:
    """The status of a job that is looked at: its start counts from when it first is not suspended."""
    if job.status.start_time is None and not job.spec.suspend:
        return msgspec.structs.replace(job.status, start_time=rfc3339(now))
    return job.status


def with_suspension(job: JobView, status: JobStatusView, now: float) -> tuple[JobStatusView, str]:
    """The status after a change of `suspend`, and the event's reason; empty where nothing changed."""
    suspend = job.spec.suspend
    reason, text = ("JobSuspended", "Job suspended") if suspend else ("JobResumed", "Job resumed")
    wanted = "True" if suspend else "False"
    old = next((one for one in status.conditions if one.get("type") == SUSPENDED), None)
    if old is None and not suspend:
        return status, ""
    if old is not None and (old.get("status"), old.get("reason"), old.get("message")) == (
        wanted,
        reason,
        text,
    ):
        return status, ""
    fresh = new_condition(SUSPENDED, reason, text, now, wanted)
    conditions = (
        [fresh if one is old else one for one in status.conditions]
        if old is not None
        else [*status.conditions, fresh]
    )
    # The time that counts against the deadline is that since it last ran.
    start = None if suspend else rfc3339(now)
    changed = msgspec.structs.replace(status, conditions=conditions, start_time=start)
    return changed, "Suspended" if suspend else "Resumed"
