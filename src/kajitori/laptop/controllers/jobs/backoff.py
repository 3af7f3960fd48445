"""How long a job waits before it replaces pods that failed. Pure.

10 s after the first failure, doubled with each further one up to 10 minutes, counted from when the last of them
ended; a success starts the count anew. With `backoffLimitPerIndex` each index counts for itself, in an annotation
that is handed from pod to pod. Source: Kubernetes' documentation of pod backoff failure policy.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kajitori.base.clock import parse_rfc3339
from kajitori.laptop.controllers.views import PodView

FIRST_SECONDS = 10.0
LONGEST_SECONDS = 600.0
FAILURE_COUNT = "batch.kubernetes.io/job-index-failure-count"
IGNORED_FAILURE_COUNT = "batch.kubernetes.io/job-index-ignored-failure-count"


class BackoffRecord(msgspec.Struct, frozen=True):
    """last_failure: in seconds since 1970; 0 where there is none."""

    failures: int = 0
    last_failure: float = 0.0

    def remaining_seconds(self, now: float) -> float:
        return _remaining_seconds(self.failures, self.last_failure, now)


def next_record(
    record: BackoffRecord, succeeded: Sequence[PodView], failed: Sequence[PodView]
) -> BackoffRecord:
    """The record after pods that were not counted before."""
    failures = sorted(finished_at(pod) for pod in failed)
    if not succeeded:
        if not failures:
            return record
        return BackoffRecord(record.failures + len(failures), failures[-1])
    success = max(finished_at(pod) for pod in succeeded)
    later = [time for time in failures if time > success]
    return BackoffRecord(len(later), later[-1] if later else 0.0)


def index_wait_seconds(last_failed: PodView | None, now: float) -> float:
    """Until an index may get its next pod, given the last one that failed."""
    if last_failed is None:
        return 0.0
    return _remaining_seconds(total_failures(last_failed) + 1, finished_at(last_failed), now)


def _remaining_seconds(failures: int, last_failure: float, now: float) -> float:
    if failures == 0:
        return 0.0
    wait = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(failures - 1, 30))
    return max(0.0, wait - (now - last_failure))


def failure_count(pod: PodView) -> int:
    """Counted failures of the pod's index before it."""
    return _annotated(pod, FAILURE_COUNT)


def ignored_failure_count(pod: PodView) -> int:
    return _annotated(pod, IGNORED_FAILURE_COUNT)


def total_failures(pod: PodView) -> int:
    return failure_count(pod) + ignored_failure_count(pod)


def _annotated(pod: PodView, name: str) -> int:
    text = pod.metadata.annotations.get(name, "")
    return int(text) if text.isdecimal() and int(text) < 2**31 else 0


def finished_at(pod: PodView) -> float:
    """When a pod ended, by the best evidence that it gives."""
    by_containers = _containers_finished_at(pod)
    if by_containers is not None:
        return by_containers
    ready = pod.ready_condition
    if ready is not None and ready.status == "False" and ready.last_transition_time:
        return parse_rfc3339(ready.last_transition_time)
    if pod.metadata.deletion_timestamp is not None:
        grace = pod.metadata.deletion_grace_period_seconds or 0
        return parse_rfc3339(pod.metadata.deletion_timestamp) - grace
    return parse_rfc3339(pod.metadata.creation_timestamp) if pod.metadata.creation_timestamp else 0.0


def _containers_finished_at(pod: PodView) -> float | None:
    # Init containers that restart run beside the others and end last.
    sidecars = {one.name for one in pod.spec.init_containers if one.restart_policy == "Always"}
    statuses = [*pod.status.container_statuses]
    statuses += [one for one in pod.status.init_container_statuses if one.name in sidecars]
    times: list[float] = []
    for status in statuses:
        if status.terminated is None or not status.terminated.finished_at:
            return None
        times.append(parse_rfc3339(status.terminated.finished_at))
    return max(times) if times else None
