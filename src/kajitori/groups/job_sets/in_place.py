"""Restarts in place: an agent in every pod restarts its container, and the status says which attempt all shall be in.

Each agent writes the attempt that its pod is in as an annotation. Once all pods are in the same one, that is the
current attempt, and the agents let their workers begin. If one is ahead, the others are behind: the attempt before the
highest is written as the previous one, and agents in it or below restart. Source: KEP-467 of kubernetes-sigs/jobset
and the fields' documentation. The agent is part of the user's image; a Job that fails nevertheless is made anew.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kajitori.api.jobset import v1alpha2 as v1
from kajitori.base.whole_numbers import whole_number
from kajitori.groups.job_sets.observed import Pod
from kajitori.groups.job_sets.placement import pods_of
from kajitori.groups.job_sets.policies import exhausted
from kajitori.groups.job_sets.status import Conditions


def is_in_place(spec: v1.JobSetSpec) -> bool:
    return spec.failure_policy is not None and spec.failure_policy.restart_strategy == "InPlaceRestart"


def attempts_of(pods: Sequence[Pod]) -> list[int]:
    """Of the pods whose agent has said; one that failed may still be there beside the one that replaces it."""
    said = (
        pod.metadata.annotations.get(v1.IN_PLACE_RESTART_ATTEMPT, "")
        for pod in pods
        if pod.status.phase != "Failed"
    )
    return [number for text in said if (number := whole_number(text)) is not None]


def next_attempts(
    spec: v1.JobSetSpec, status: v1.JobSetStatus, pods: Sequence[Pod], conditions: Conditions
) -> v1.JobSetStatus:
    """The status with the attempts that agents act on, or failed if there were too many."""
    policy = spec.failure_policy
    assert policy is not None
    attempts = attempts_of(pods)
    highest = max(attempts, default=0)
    uncounted = status.restarts - status.restarts_count_towards_max
    container_restarts = max((one.restart_count for pod in pods for one in pod.status.containers), default=0)
    if max(container_restarts, highest - uncounted) > policy.max_restarts:
        exhausted(conditions, None)
        return msgspec.structs.replace(status, terminal_state=v1.FAILED)
    expected = sum(replicated.replicas * pods_of(replicated) for replicated in spec.replicated_jobs)
    if attempts and len(attempts) == expected and min(attempts) == highest:
        return msgspec.structs.replace(status, current_in_place_restart_attempt=highest)
    previous = status.previous_in_place_restart_attempt
    if highest == 0 or (previous is not None and highest - 1 <= previous):
        return status
    return msgspec.structs.replace(status, previous_in_place_restart_attempt=highest - 1)
