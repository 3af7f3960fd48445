"""What a job's pods amount to now, and whether that ends the job. Pure.

Failures are looked at before successes, and what an earlier look decided (the conditions FailureTarget and
SuccessCriteriaMet) before both, so that a job that is on its way to its end never turns around.
Source: Kubernetes' documentation of Jobs; reasons and messages are those of its controller.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from kajitori.base.clock import parse_rfc3339, rfc3339
from kajitori.laptop.controllers.jobs.backoff import (
    BackoffRecord,
    failure_count,
    finished_at,
    next_record,
    total_failures,
)
from kajitori.laptop.controllers.jobs.indexes import (
    Intervals,
    contains,
    count,
    from_indexes,
    parse_indexes,
    union,
)
from kajitori.laptop.controllers.jobs.policies import judge_failure, success_message
from kajitori.laptop.controllers.jobs.views import JobView, Object
from kajitori.laptop.controllers.views import PodView

FINALIZER = "batch.kubernetes.io/job-tracking"
COMPLETION_INDEX = "batch.kubernetes.io/job-completion-index"
SUCCESS_CRITERIA_MET, FAILURE_TARGET, COMPLETE, FAILED, SUSPENDED = (
    "SuccessCriteriaMet",
    "FailureTarget",
    "Complete",
    "Failed",
    "Suspended",
)


class Situation(msgspec.Struct, frozen=True):
    """succeeded, failed: with those that the status does not count yet.

    failed_indexes: None without a back-off limit per index. waiting: of each index that has neither ended nor a
    pod, the failed pod that its next one takes the counts from. ending: the condition that ends the job, if any.
    """

    active: list[PodView]
    terminating: int
    succeeded: int
    failed: int
    counted_indexes: Intervals
    succeeded_indexes: Intervals
    failed_indexes: Intervals | None
    waiting: dict[int, PodView]
    record: BackoffRecord
    ending: Object | None

    @property
    def ready(self) -> int:
        return sum(pod.is_ready for pod in self.active)


def is_tracked(pod: PodView) -> bool:
    """It carries the finalizer: its end is not in the job's counts yet."""
    return FINALIZER in pod.metadata.finalizers


def index_of(pod: PodView) -> int | None:
    """The completion index that the pod is for."""
    text = pod.metadata.annotations.get(COMPLETION_INDEX, "")
    return int(text) if text.isdecimal() else None


def has_valid_index(job: JobView, pod: PodView) -> bool:
    """Always so for a job without indexes."""
    index = index_of(pod)
    return not job.is_indexed or (index is not None and index < (job.spec.completions or 0))


def is_failed(job: JobView, pod: PodView) -> bool:
    """Failed, or on its way out where that counts as failed: it may never get to say how it ended."""
    if pod.status.phase == "Failed":
        return True
    return not job.replaces_failed_only and pod.is_deleting and pod.status.phase != "Succeeded"


def new_condition(type_name: str, reason: str, message: str, now: float, status: str = "True") -> Object:
    stamp = rfc3339(now)
    return {
        "type": type_name,
        "status": status,
        "lastProbeTime": stamp,
        "lastTransitionTime": stamp,
        "reason": reason,
        "message": message,
    }


def observe(job: JobView, pods: Sequence[PodView], record: BackoffRecord, now: float) -> Situation:
    """record: of failures before these pods."""
    uncounted = job.status.uncounted_terminated_pods
    fresh = [pod for pod in pods if is_tracked(pod) and has_valid_index(job, pod)]
    succeeded = [
        pod
        for pod in fresh
        if pod.status.phase == "Succeeded" and pod.metadata.uid not in uncounted.succeeded
    ]
    failed = [pod for pod in fresh if is_failed(job, pod) and pod.metadata.uid not in uncounted.failed]
    counting = sum(judge_failure(job.spec.pod_failure_policy, pod).counts for pod in failed)
    active = [pod for pod in pods if pod.is_active]
    counted: Intervals = ()
    succeeded_indexes: Intervals = ()
    failed_indexes: Intervals | None = None
    waiting: dict[int, PodView] = {}
    if job.is_indexed:
        counted = parse_indexes(job.status.completed_indexes, job.spec.completions or 0)
        succeeded_indexes = union(counted, _indexes(pod for pod in fresh if pod.status.phase == "Succeeded"))
        if job.spec.backoff_limit_per_index is not None:
            failed_indexes = _failed_indexes(job, fresh)
            ended = union(succeeded_indexes, failed_indexes, _indexes(active))
            waiting = _waiting(job, fresh, ended)
    total = job.status.succeeded + len(succeeded) + len(uncounted.succeeded)
    situation = Situation(
        active=active,
        terminating=sum(pod.is_deleting and not pod.has_ended for pod in pods),
        succeeded=count(succeeded_indexes) if job.is_indexed else total,
        failed=job.status.failed + counting + len(uncounted.failed),
        counted_indexes=counted,
        succeeded_indexes=succeeded_indexes,
        failed_indexes=failed_indexes,
        waiting=waiting,
        record=next_record(record, succeeded, failed),
        ending=None,
    )
    return msgspec.structs.replace(situation, ending=_ending(job, pods, situation, now))


def _indexes(pods: Iterable[PodView]) -> Intervals:
    found = (index_of(pod) for pod in pods)
    return from_indexes(index for index in found if index is not None)


def _failed_indexes(job: JobView, fresh: Sequence[PodView]) -> Intervals:
    before = parse_indexes(job.status.failed_indexes or "", job.spec.completions or 0)
    return union(before, _indexes([pod for pod in fresh if _fails_its_index(job, pod)]))


def _fails_its_index(job: JobView, pod: PodView) -> bool:
    if not is_failed(job, pod):
        return False
    verdict = judge_failure(job.spec.pod_failure_policy, pod)
    if verdict.action == "FailIndex":
        return True
    return verdict.counts and failure_count(pod) >= (job.spec.backoff_limit_per_index or 0)


def _waiting(job: JobView, fresh: Sequence[PodView], ended: Intervals) -> dict[int, PodView]:
    waiting: dict[int, PodView] = {}
    for pod in fresh:
        index = index_of(pod)
        if index is None or not is_failed(job, pod) or contains(ended, index):
            continue
        known = waiting.get(index)
        if known is None or (
            total_failures(known) <= total_failures(pod) and finished_at(pod) >= finished_at(known)
        ):
            waiting[index] = pod
    return waiting


def _ending(job: JobView, pods: Sequence[PodView], situation: Situation, now: float) -> Object | None:
    if met := job.condition(SUCCESS_CRITERIA_MET):
        return met
    if target := job.condition(FAILURE_TARGET):
        return new_condition(FAILED, target.get("reason", ""), target.get("message", ""), now)
    for pod in pods if job.spec.pod_failure_policy is not None else ():
        if is_failed(job, pod):
            verdict = judge_failure(job.spec.pod_failure_policy, pod)
            if verdict.message:
                return new_condition(FAILURE_TARGET, "PodFailurePolicy", verdict.message, now)
    failure = _limit_reached(job, pods, situation, now)
    if failure is not None:
        return new_condition(FAILURE_TARGET, *failure, now)
    if job.is_indexed and (message := success_message(job, situation.succeeded_indexes)):
        return new_condition(SUCCESS_CRITERIA_MET, "SuccessPolicy", message, now)
    return None


def _limit_reached(
    job: JobView, pods: Sequence[PodView], situation: Situation, now: float
) -> tuple[str, str] | None:
    """Reason and message."""
    if situation.failed > job.spec.backoff_limit or _restarts_exceed_limit(job, pods):
        return "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    left = deadline_seconds(job, now)
    if left is not None and left <= 0:
        return "DeadlineExceeded", "Job was active longer than specified deadline"
    if situation.failed_indexes is None:
        return None
    failed = count(situation.failed_indexes)
    if job.spec.max_failed_indexes is not None and failed > job.spec.max_failed_indexes:
        text = "Job has exceeded the specified maximal number of failed indexes"
        return "MaxFailedIndexesExceeded", text
    if failed and failed + count(situation.succeeded_indexes) >= (job.spec.completions or 0):
        return "FailedIndexes", "Job has failed indexes"
    return None


def _restarts_exceed_limit(job: JobView, pods: Sequence[PodView]) -> bool:
    if (job.spec.template.get("spec") or {}).get("restartPolicy") != "OnFailure":
        return False
    restarts = sum(
        status.restart_count
        for pod in pods
        if pod.status.phase in ("Running", "Pending")
        for status in (*pod.status.init_container_statuses, *pod.status.container_statuses)
    )
    return restarts >= max(1, job.spec.backoff_limit)


def deadline_seconds(job: JobView, now: float) -> float | None:
    """Until the job has been active for too long; None while no time is counted."""
    limit, started = job.spec.active_deadline_seconds, job.status.start_time
    if limit is None or started is None or job.spec.suspend:
        return None
    return parse_rfc3339(started) + limit - now
