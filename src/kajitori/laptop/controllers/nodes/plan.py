"""What a node's silence or readiness means: its conditions, its taints, and when its pods must go. Pure.

Source: Kubernetes' documentation of node status, of taint-based evictions and of tolerationSeconds.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kajitori.api.kubernetes.core_v1 import Taint, Toleration
from kajitori.base.clock import parse_rfc3339
from kajitori.kube.objects import Object
from kajitori.laptop.controllers.views import NodeView
from kajitori.model.taints import tolerates

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
# A node renews its lease every 10 s; so many missed ones are no accident. As in kube-controller-manager.
GRACE_SECONDS = 50.0
_WATCHED_CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
_PRESSURE_TAINTS = {
    "MemoryPressure": "node.kubernetes.io/memory-pressure",
    "DiskPressure": "node.kubernetes.io/disk-pressure",
    "PIDPressure": "node.kubernetes.io/pid-pressure",
    "NetworkUnavailable": "node.kubernetes.io/network-unavailable",
}


def silent_conditions(node: NodeView, now: str) -> list[Object] | None:
    """The conditions of a node that no longer reports; None if they already say so."""
    changed = False
    conditions: list[Object] = []
    known = {str(condition.get("type")) for condition in node.status.conditions}
    for condition in node.status.conditions:
        if condition.get("type") in _WATCHED_CONDITIONS and condition.get("status") != "Unknown":
            changed = True
            condition = {
                **condition,
                "status": "Unknown",
                "reason": "NodeStatusUnknown",
                "message": "The node stopped posting its status.",
                "lastTransitionTime": now,
            }
        conditions.append(condition)
    if "Ready" not in known:
        changed = True
        conditions.append(
            {
                "type": "Ready",
                "status": "Unknown",
                "reason": "NodeStatusNeverUpdated",
                "message": "The node never posted its status.",
                "lastHeartbeatTime": node.metadata.creation_timestamp,
                "lastTransitionTime": now,
            }
        )
    return conditions if changed else None


def plan_taints(node: NodeView, now: str) -> list[Taint] | None:
    """The taints that follow from the node's conditions and `spec.unschedulable`; None if they are in place.

    Taints of others stay as they are.
    """
    status = node.condition("Ready").get("status", "Unknown")
    wanted: dict[tuple[str, str], None] = {}
    if status != "True":
        key = UNREACHABLE if status == "Unknown" else NOT_READY
        wanted[key, "NoSchedule"] = wanted[key, "NoExecute"] = None
    for type_name, key in _PRESSURE_TAINTS.items():
        if node.condition(type_name).get("status") == "True":
            wanted[key, "NoSchedule"] = None
    if node.spec.unschedulable:
        wanted[UNSCHEDULABLE, "NoSchedule"] = None
    ours = {NOT_READY, UNREACHABLE, UNSCHEDULABLE, *_PRESSURE_TAINTS.values()}
    kept = [
        taint for taint in node.spec.taints if taint.key not in ours or (taint.key, taint.effect) in wanted
    ]
    present = {(taint.key, taint.effect) for taint in kept}
    missing = [
        Taint(key=key, effect=effect, time_added=now)
        for key, effect in wanted
        if (key, effect) not in present
    ]
    taints = [*kept, *missing]
    return taints if taints != node.spec.taints else None


class Eviction(msgspec.Struct, frozen=True):
    """seconds: until the pod must go; 0 or less for now. taint: which one drives it out."""

    seconds: float
    taint: str


def plan_eviction(taints: Sequence[Taint], tolerations: Sequence[Toleration], now: float) -> Eviction | None:
    """When a pod must leave a node with these taints; None if it may stay."""
    soonest: Eviction | None = None
    for taint in taints:
        if taint.effect != "NoExecute":
            continue
        allowed = _tolerated_seconds(taint, tolerations)
        if allowed is None:
            continue
        since = parse_rfc3339(taint.time_added) if taint.time_added else now
        left = since + allowed - now
        if soonest is None or left < soonest.seconds:
            soonest = Eviction(left, taint.key)
    return soonest


def _tolerated_seconds(taint: Taint, tolerations: Sequence[Toleration]) -> float | None:
    """None for ever; 0 where nothing tolerates it. Of several tolerations with times the shortest counts."""
    fitting = [toleration for toleration in tolerations if tolerates(toleration, taint)]
    if not fitting:
        return 0.0
    times = [float(one.toleration_seconds) for one in fitting if one.toleration_seconds is not None]
    return max(0.0, min(times)) if times else None
