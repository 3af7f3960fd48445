"""Which replicated jobs may have their Jobs made, or let go on, now. Pure.

Either all at once, or in the order of the manifest, each when the one before it has started (`startupPolicy`), or
each when those that it depends on are ready or have succeeded (`dependsOn`).
"""

from __future__ import annotations

from collections.abc import Iterator

from kajitori.api.jobset import v1alpha2 as v1
from kajitori.groups.job_sets.status import Conditions, Numbers


def in_order(spec: v1.JobSetSpec) -> bool:
    return spec.startup_policy.startup_policy_order == "InOrder"


def has_started(replicated: v1.ReplicatedJob, numbers: dict[str, Numbers]) -> bool:
    """All its Jobs are ready or have ended."""
    return numbers[replicated.name].started == replicated.replicas


def dependencies_met(
    replicated: v1.ReplicatedJob, replicas: dict[str, int], numbers: dict[str, Numbers]
) -> bool:
    """replicas: by name, of those that stand before it; what stands elsewhere is never met."""
    for dependency in replicated.depends_on:
        if dependency.name not in replicas:
            return False
        of = numbers[dependency.name]
        reached = of.succeeded if dependency.status == "Complete" else of.started
        if reached != replicas[dependency.name]:
            return False
    return True


def may_begin(spec: v1.JobSetSpec, numbers: dict[str, Numbers]) -> Iterator[v1.ReplicatedJob]:
    """Those whose Jobs may be there and run."""
    replicas: dict[str, int] = {}
    for replicated in spec.replicated_jobs:
        if dependencies_met(replicated, replicas, numbers):
            yield replicated
            if in_order(spec) and not spec.suspend and not has_started(replicated, numbers):
                return
        replicas[replicated.name] = replicated.replicas


def tell_order(spec: v1.JobSetSpec, numbers: dict[str, Numbers], conditions: Conditions) -> None:
    """How far a start in order has come."""
    if not in_order(spec) or spec.suspend:
        return
    if all(has_started(replicated, numbers) for replicated in spec.replicated_jobs):
        conditions.set_true(
            v1.STARTUP_COMPLETED, "InOrderStartupPolicyCompleted", "in order startup policy has completed"
        )
    else:
        conditions.set_true(
            v1.STARTUP_IN_PROGRESS, "InOrderStartupPolicyInProgress", "in order startup policy is in progress"
        )
