"""Which pod a Job's failure began with: the container that ended badly first, its exit code and its node. Pure.

The pods of a failed Job are looked at when the failure is decided on, before they are deleted with it. A pod that was
restarted in place until its Job had enough of it may be gone by then; the Job's own words are left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from kajitori.api.jobset import v1alpha2 as v1
from kajitori.base.clock import rfc3339
from kajitori.groups.job_sets.actions import Failure
from kajitori.groups.job_sets.observed import ContainerStatus, Pod, Terminated

HISTORY_LENGTH = 10


def _bad_ends(pods: Sequence[Pod]) -> Iterator[tuple[str, Pod, ContainerStatus, Terminated]]:
    for pod in pods:
        for container in pod.status.containers:
            ended = container.state.terminated or container.last_state.terminated
            if ended is not None and ended.exit_code != 0:
                yield ended.finished_at or "", pod, container, ended


def restart_entry(failure: Failure, pods: Sequence[Pod], now: float) -> v1.Restart:
    """What the history says of it. pods: those of the Job that are left."""
    end = failure.job.end
    entry = v1.Restart(
        time=rfc3339(now),
        action=failure.action,
        rule=failure.rule,
        job=failure.job.name,
        reason=end.reason if end else "",
        message=end.message if end else "",
    )
    worst = min(_bad_ends(pods), key=lambda one: one[0], default=None)
    if worst is not None:
        _, pod, container, ended = worst
        return msgspec.structs.replace(
            entry,
            pod=pod.metadata.name,
            container=container.name,
            exit_code=ended.exit_code,
            node=pod.spec.node_name,
        )
    evicted = next((pod for pod in pods if pod.status.phase == "Failed"), None)
    if evicted is None:
        return entry
    return msgspec.structs.replace(
        entry,
        pod=evicted.metadata.name,
        node=evicted.spec.node_name,
        reason=evicted.status.reason or entry.reason,
    )


def sentence(entry: v1.Restart) -> str:
    """Who began it, for an event; empty if only the Job is known."""
    if not entry.pod:
        return f"{entry.reason}: {entry.message}" if entry.message else entry.reason
    node = f" on node {entry.node}" if entry.node else ""
    if entry.exit_code is None:
        return f"pod {entry.pod}{node} failed ({entry.reason})"
    return f"container {entry.container} of pod {entry.pod}{node} ended with exit code {entry.exit_code}"


def with_entry(history: Sequence[v1.Restart], entry: v1.Restart) -> list[v1.Restart]:
    """The newest last, and no more than are worth keeping."""
    return [*history, entry][-HISTORY_LENGTH:]
