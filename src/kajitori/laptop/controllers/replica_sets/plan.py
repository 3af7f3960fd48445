"""What a ReplicaSet needs: pods to take, let go, create or delete, and its status. Pure.

Source of the meaning: Kubernetes' documentation of ReplicaSet and of pod deletion cost; the order in which pods
go when there are too many is that of kube-controller-manager.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from kajitori.base.clock import parse_rfc3339, rfc3339
from kajitori.kube.objects import Object, set_condition
from kajitori.laptop.controllers.pods import is_available
from kajitori.laptop.controllers.views import PodView, ReplicaSetStatusView, ReplicaSetView

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
# More at once would hold the server up for everybody else; the rest follows in the next round.
MOST_AT_ONCE = 500


class Scaling(msgspec.Struct, frozen=True):
    """How many pods to create, and which to delete."""

    create: int
    delete: list[PodView]


def plan_scaling(
    replica_set: ReplicaSetView, mine: Sequence[PodView], related: Sequence[PodView], now: float
) -> Scaling:
    """related: active pods of ReplicaSets with the same owner, which share the nodes; includes `mine`."""
    active = [pod for pod in mine if pod.is_active]
    missing = replica_set.spec.replicas - len(active)
    if missing >= 0:
        return Scaling(min(missing, MOST_AT_ONCE), [])
    surplus = min(-missing, MOST_AT_ONCE)
    if surplus == len(active):
        return Scaling(0, active)
    on_node: dict[str, int] = {}
    for pod in related:
        if pod.is_active and pod.spec.node_name:
            on_node[pod.spec.node_name] = on_node.get(pod.spec.node_name, 0) + 1
    ranked = sorted(active, key=lambda pod: _worth(pod, on_node.get(pod.spec.node_name, 0), now))
    return Scaling(0, ranked[:surplus])


def _worth(pod: PodView, neighbours: int, now: float) -> tuple[float | str, ...]:
    """Sorts first what is missed least."""
    ready = pod.ready_condition
    ready_seconds = 0.0
    if ready is not None and ready.status == "True" and ready.last_transition_time:
        ready_seconds = max(0.0, now - parse_rfc3339(ready.last_transition_time))
    created = parse_rfc3339(pod.metadata.creation_timestamp) if pod.metadata.creation_timestamp else now
    restarts = max((status.restart_count for status in pod.status.container_statuses), default=0)
    return (
        1 if pod.spec.node_name else 0,
        {"Pending": 0, "Running": 2}.get(pod.status.phase or "Pending", 1),
        1 if pod.is_ready else 0,
        _deletion_cost(pod),
        -neighbours,
        # Ages count by powers of two only, so that the younger of similar ones is not always the victim.
        math.floor(math.log2(1 + ready_seconds)),
        -restarts,
        math.floor(math.log2(1 + max(0.0, now - created))),
        pod.metadata.uid,
    )


def _deletion_cost(pod: PodView) -> int:
    try:
        return int(pod.metadata.annotations.get(DELETION_COST, "0"))
    except ValueError:
        return 0


def plan_status(
    replica_set: ReplicaSetView, mine: Sequence[PodView], failure: str, now: float
) -> ReplicaSetStatusView:
    """failure: why pods could not be created or deleted, or empty."""
    active = [pod for pod in mine if pod.is_active]
    ready = [pod for pod in active if pod.is_ready]
    wanted_labels = ((replica_set.spec.template.get("metadata") or {}).get("labels") or {}).items()
    conditions: list[Object] = [c for c in replica_set.status.conditions if c.get("type") != "ReplicaFailure"]
    if failure:
        conditions = set_condition(
            replica_set.status.conditions, "ReplicaFailure", "True", "FailedCreate", failure, rfc3339(now)
        )
    return ReplicaSetStatusView(
        replicas=len(active),
        fully_labeled_replicas=sum(wanted_labels <= pod.metadata.labels.items() for pod in active),
        ready_replicas=len(ready),
        available_replicas=sum(is_available(pod, replica_set.spec.min_ready_seconds, now) for pod in active),
        terminating_replicas=sum(pod.is_deleting and not pod.has_ended for pod in mine),
        observed_generation=replica_set.metadata.generation,
        conditions=conditions,
    )
