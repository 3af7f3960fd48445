"""A Deployment's status: counts, and whether it is available and progressing. Pure.

`kubectl rollout status` reads the counts, `observedGeneration` and the Progressing condition's reason.
Source: Kubernetes' documentation of Deployment status.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kajitori.base.clock import parse_rfc3339, rfc3339
from kajitori.kube.objects import Object
from kajitori.laptop.controllers.deployments.plan import limits
from kajitori.laptop.controllers.views import DeploymentStatusView, DeploymentView, ReplicaSetView

# The API's way of saying "no deadline".
_NO_DEADLINE = 2**31 - 1

PROGRESSING, AVAILABLE, REPLICA_FAILURE = "Progressing", "Available", "ReplicaFailure"
SET_AVAILABLE, SET_UPDATED, TIMED_OUT = (
    "NewReplicaSetAvailable",
    "ReplicaSetUpdated",
    "ProgressDeadlineExceeded",
)


def plan_status(
    deployment: DeploymentView,
    new_set: ReplicaSetView | None,
    sets: Sequence[ReplicaSetView],
    note: tuple[str, str] | None,
    now: float,
    collision_count: int | None = None,
) -> DeploymentStatusView:
    """note: reason and message of a Progressing=True event of this round (a set was created or found), if any."""
    available = sum(one.status.available_replicas for one in sets)
    counts = DeploymentStatusView(
        replicas=sum(one.status.replicas for one in sets),
        updated_replicas=new_set.status.replicas if new_set is not None else 0,
        ready_replicas=sum(one.status.ready_replicas for one in sets),
        available_replicas=available,
        unavailable_replicas=max(0, sum(one.spec.replicas for one in sets) - available),
        terminating_replicas=sum(one.status.terminating_replicas for one in sets),
        observed_generation=deployment.metadata.generation,
        collision_count=deployment.status.collision_count if collision_count is None else collision_count,
    )
    conditions = _with_availability(deployment, deployment.status.conditions, available, now)
    conditions = _with_progress(deployment, counts, conditions, new_set, note, now)
    return msgspec.structs.replace(counts, conditions=_with_failure(conditions, sets, now))


def _condition(conditions: Sequence[Object], type_name: str) -> Object:
    return next((one for one in conditions if one.get("type") == type_name), {})


def _set(
    conditions: Sequence[Object], type_name: str, status: str, reason: str, message: str, now: float
) -> list[Object]:
    """As `set_condition`, with the `lastUpdateTime` that only Deployments have; same reason: nothing moves."""
    old = _condition(conditions, type_name)
    if old.get("status") == status and old.get("reason") == reason and old.get("message") == message:
        return list(conditions)
    return _touched(conditions, type_name, status, reason, message, now)


def _touched(
    conditions: Sequence[Object], type_name: str, status: str, reason: str, message: str, now: float
) -> list[Object]:
    old, stamp = _condition(conditions, type_name), rfc3339(now)
    fresh: Object = {
        "type": type_name,
        "status": status,
        "reason": reason,
        "message": message,
        "lastUpdateTime": stamp,
        "lastTransitionTime": old.get("lastTransitionTime", stamp) if old.get("status") == status else stamp,
    }
    return [*(one for one in conditions if one.get("type") != type_name), fresh]


def _with_availability(
    deployment: DeploymentView, conditions: Sequence[Object], available: int, now: float
) -> list[Object]:
    if available >= deployment.spec.replicas - limits(deployment).max_unavailable:
        return _set(
            conditions, AVAILABLE, "True", "MinimumReplicasAvailable",
            "Deployment has minimum availability.", now,
        )  # fmt: skip
    return _set(
        conditions, AVAILABLE, "False", "MinimumReplicasUnavailable",
        "Deployment does not have minimum availability.", now,
    )  # fmt: skip


def has_deadline(deployment: DeploymentView) -> bool:
    return deployment.spec.progress_deadline_seconds < _NO_DEADLINE


def is_complete(deployment: DeploymentView, status: DeploymentStatusView) -> bool:
    """Every pod is of the new template and available, and no old one is left."""
    replicas = deployment.spec.replicas
    return status.updated_replicas == status.replicas == status.available_replicas == replicas


def _with_progress(
    deployment: DeploymentView,
    status: DeploymentStatusView,
    conditions: Sequence[Object],
    new_set: ReplicaSetView | None,
    note: tuple[str, str] | None,
    now: float,
) -> list[Object]:
    if not has_deadline(deployment):
        return [one for one in conditions if one.get("type") != PROGRESSING]
    old = _condition(conditions, PROGRESSING)
    if deployment.spec.paused:
        return _set(conditions, PROGRESSING, "Unknown", "DeploymentPaused", "Deployment is paused", now)
    if old.get("reason") == "DeploymentPaused":
        return _set(conditions, PROGRESSING, "Unknown", "DeploymentResumed", "Deployment is resumed", now)
    name = new_set.metadata.name if new_set is not None else ""
    what = f'ReplicaSet "{name}"' if name else f'Deployment "{deployment.metadata.name}"'
    if note is not None:
        conditions = _touched(conditions, PROGRESSING, "True", note[0], note[1], now)
        old = _condition(conditions, PROGRESSING)
    if is_complete(deployment, status):
        return _set(
            conditions, PROGRESSING, "True", SET_AVAILABLE, f"{what} has successfully progressed.", now
        )
    if status.updated_replicas == status.replicas and old.get("reason") == SET_AVAILABLE:
        # Complete before, and only pods come and go since: no roll, no deadline.
        return list(conditions)
    if _has_moved(deployment.status, status):
        message = f"{what} is progressing."
        return _touched(conditions, PROGRESSING, "True", SET_UPDATED, message, now)
    deadline = seconds_to_deadline(deployment, old, now)
    if old.get("reason") != TIMED_OUT and deadline is not None and deadline <= 0:
        return _set(conditions, PROGRESSING, "False", TIMED_OUT, f"{what} has timed out progressing.", now)
    return list(conditions)


def _has_moved(old: DeploymentStatusView, new: DeploymentStatusView) -> bool:
    return (
        new.updated_replicas > old.updated_replicas
        or new.replicas - new.updated_replicas < old.replicas - old.updated_replicas
        or new.ready_replicas > old.ready_replicas
        or new.available_replicas > old.available_replicas
    )


def seconds_to_deadline(deployment: DeploymentView, progressing: Object, now: float) -> float | None:
    """Until the roll counts as stuck; None if there is none or no progress was ever noted."""
    stamp = progressing.get("lastUpdateTime")
    if not stamp or not has_deadline(deployment) or deployment.spec.paused:
        return None
    return parse_rfc3339(stamp) + deployment.spec.progress_deadline_seconds - now


def next_look_seconds(deployment: DeploymentView, status: DeploymentStatusView, now: float) -> float | None:
    """When to look again though nothing changes: at the deadline of a roll in progress."""
    progressing = _condition(status.conditions, PROGRESSING)
    if is_complete(deployment, status) or progressing.get("reason") in (SET_AVAILABLE, TIMED_OUT):
        return None
    return seconds_to_deadline(deployment, progressing, now)


def _with_failure(conditions: Sequence[Object], sets: Sequence[ReplicaSetView], now: float) -> list[Object]:
    for one in sets:
        failure = _condition(one.status.conditions, REPLICA_FAILURE)
        if failure.get("status") == "True":
            reason, message = failure.get("reason", ""), failure.get("message", "")
            return _set(conditions, REPLICA_FAILURE, "True", reason, message, now)
    return [one for one in conditions if one.get("type") != REPLICA_FAILURE]
