"""How pods that ended get into a job's counts, each exactly once. Pure.

A pod carries a finalizer until it is counted. First its uid is written into the status (an index that succeeded
needs none), then the finalizer goes, and only of a pod without the finalizer the uid becomes a number; so a
controller that stops between any two steps goes on where it was. The final condition comes last.
Source: KEP-2307.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from kajitori.laptop.controllers.jobs.indexes import contains, count, from_indexes, union, write_indexes
from kajitori.laptop.controllers.jobs.policies import judge_failure
from kajitori.laptop.controllers.jobs.situation import (
    COMPLETE,
    FAILED,
    FAILURE_TARGET,
    SUCCESS_CRITERIA_MET,
    Situation,
    has_valid_index,
    index_of,
    is_failed,
    is_tracked,
    new_condition,
)
from kajitori.laptop.controllers.jobs.views import JobStatusView, JobView, Object, UncountedView
from kajitori.laptop.controllers.views import PodView

# Keeps the status below some 20 KiB.
MOST_UNCOUNTED = 500


class Tracking(msgspec.Struct, frozen=True):
    """status: to be written before the finalizers of `release` are removed, where `changed`.

    final: the condition that ends the job once all is counted. is_whole: no pod was left for the next look.
    """

    status: JobStatusView
    changed: bool
    release: list[PodView]
    held: set[str]
    final: Object | None
    is_whole: bool


def plan_tracking(
    job: JobView,
    status: JobStatusView,
    pods: Sequence[PodView],
    situation: Situation,
    ending: Object | None,
    now: float,
) -> Tracking:
    """status: as decided so far. ending: the condition that ends the job now, if any."""
    tracked = [pod for pod in pods if is_tracked(pod)]
    if job.is_indexed:
        tracked.sort(key=lambda pod: -1 if (index := index_of(pod)) is None else index)
    held = {pod.metadata.uid for pod in tracked}
    before = status
    status = counted(status, held)
    uncounted = status.uncounted_terminated_pods
    succeeded, failed, indexes = list(uncounted.succeeded), list(uncounted.failed), list[int]()
    release: list[PodView] = []
    is_whole = True
    for pod in tracked:
        if not _may_release(job, situation, ending, pod):
            continue
        release.append(pod)
        uid = pod.metadata.uid
        if pod.status.phase == "Succeeded" and uid not in uncounted.failed:
            index = index_of(pod)
            if not job.is_indexed:
                if uid not in uncounted.succeeded:
                    succeeded.append(uid)
            elif (
                index is not None
                and has_valid_index(job, pod)
                and not contains(situation.counted_indexes, index)
            ):
                indexes.append(index)
        elif _counts_as_failed(job, pod, ending) and uid not in uncounted.failed:
            failed.append(uid)
        if len(indexes) + len(succeeded) + len(failed) >= MOST_UNCOUNTED:
            is_whole = False
            break
    status = msgspec.structs.replace(
        status, uncounted_terminated_pods=UncountedView(succeeded=succeeded, failed=failed)
    )
    if job.is_indexed:
        status = _with_indexes(status, situation, indexes)
    status, final = _with_ending(status, ending, now)
    return Tracking(status, status != before, release, held, final, is_whole)


def _may_release(job: JobView, situation: Situation, ending: Object | None, pod: PodView) -> bool:
    if job.metadata.deletion_timestamp is not None or ending is not None or pod.status.phase == "Succeeded":
        return True
    if not is_failed(job, pod):
        return False
    index = index_of(pod)
    waiting = situation.waiting.get(index) if index is not None else None
    # The next pod of the index takes its counts from this one: it must not go before.
    return waiting is None or waiting.metadata.uid != pod.metadata.uid


def _counts_as_failed(job: JobView, pod: PodView, ending: Object | None) -> bool:
    # A job that fails takes its running pods with it.
    fails = ending is not None and ending.get("type") != SUCCESS_CRITERIA_MET
    if not is_failed(job, pod) and not fails:
        return False
    return has_valid_index(job, pod) and judge_failure(job.spec.pod_failure_policy, pod).counts


def _with_indexes(status: JobStatusView, situation: Situation, indexes: Sequence[int]) -> JobStatusView:
    completed = union(situation.succeeded_indexes, from_indexes(indexes))
    failed = situation.failed_indexes
    return msgspec.structs.replace(
        status,
        succeeded=count(completed),
        completed_indexes=write_indexes(completed),
        failed_indexes=None if failed is None else write_indexes(failed),
    )


def _with_ending(
    status: JobStatusView, ending: Object | None, now: float
) -> tuple[JobStatusView, Object | None]:
    """The status with the condition that announces the end, and the one that will say it."""
    if ending is None or ending.get("type") == FAILED:
        return status, ending
    known = any(one.get("type") == ending["type"] for one in status.conditions)
    if not known:
        status = msgspec.structs.replace(status, conditions=[*status.conditions, ending])
    final = FAILED if ending["type"] == FAILURE_TARGET else COMPLETE
    return status, new_condition(final, ending.get("reason", ""), ending.get("message", ""), now)


def counted(status: JobStatusView, held: Collection[str]) -> JobStatusView:
    """The status in which pods that no longer hold the finalizer are numbers."""
    uncounted = status.uncounted_terminated_pods
    left = UncountedView(
        succeeded=[uid for uid in uncounted.succeeded if uid in held],
        failed=[uid for uid in uncounted.failed if uid in held],
    )
    if left == uncounted:
        return status
    return msgspec.structs.replace(
        status,
        succeeded=status.succeeded + len(uncounted.succeeded) - len(left.succeeded),
        failed=status.failed + len(uncounted.failed) - len(left.failed),
        uncounted_terminated_pods=left,
    )


def finished(status: JobStatusView, final: Object | None) -> JobStatusView | None:
    """The status of the ended job; None while pods are uncounted or still ending."""
    uncounted = status.uncounted_terminated_pods
    if final is None or uncounted.succeeded or uncounted.failed or status.terminating:
        return None
    return msgspec.structs.replace(
        status,
        conditions=[*status.conditions, final],
        completion_time=final["lastTransitionTime"] if final["type"] == COMPLETE else status.completion_time,
    )
