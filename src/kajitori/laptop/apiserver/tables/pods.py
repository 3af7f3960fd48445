"""The table of pods. Its Status sums up phase, conditions and container states; Simulated says in a wide table
what runs on simulated capacity (the one column that the published server does not have)."""

from __future__ import annotations

from typing import Any

from kajitori.laptop.apiserver.tables.cells import NONE, UNKNOWN, age, age_of, name_of
from kajitori.laptop.apiserver.tables.columns import columns_of

Object = dict[str, Any]

SIMULATED_CONDITION = "kajitori.dev/Simulated"
COLUMNS = columns_of(
    "Name, Ready, Status, Restarts, Age, IP*, Node*, Nominated Node*, Readiness Gates*, Simulated*"
)
_SHORT_TEXT = 60


class _Restarts:
    """How often containers started again, and when the last one ended before that."""

    def __init__(self) -> None:
        self.count = 0
        self.last = ""

    def add(self, status: Object) -> None:
        self.count += status.get("restartCount", 0)
        ended = ((status.get("lastState") or {}).get("terminated") or {}).get("finishedAt") or ""
        self.last = max(self.last, ended)

    def text(self, now_seconds: float) -> str:
        if self.count and self.last:
            return f"{self.count} ({age_of(self.last, now_seconds)} ago)"
        return str(self.count)


def _has(conditions: list[Object], kind: str) -> bool:
    return any(c.get("type") == kind and c.get("status") == "True" for c in conditions)


def _ended_reason(terminated: Object) -> str:
    if terminated.get("reason"):
        return terminated["reason"]
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _init_reason(
    spec: Object, statuses: list[Object], all_inits: _Restarts, sidecars: _Restarts
) -> tuple[str, int]:
    """(reason of the first unfinished init container or empty, ready sidecars)."""
    restartable = {
        container.get("name")
        for container in spec.get("initContainers", ())
        if container.get("restartPolicy") == "Always"
    }
    ready = 0
    for index, status in enumerate(statuses):
        all_inits.add(status)
        is_sidecar = status.get("name") in restartable
        if is_sidecar:
            sidecars.add(status)
        state: Object = status.get("state") or {}
        terminated: Object | None = state.get("terminated")
        if terminated is not None and terminated.get("exitCode", 0) == 0:
            continue
        if is_sidecar and status.get("started"):
            ready += bool(status.get("ready"))
            continue
        if terminated is not None:
            return f"Init:{_ended_reason(terminated)}", ready
        waiting = (state.get("waiting") or {}).get("reason", "")
        if waiting and waiting != "PodInitializing":
            return f"Init:{waiting}", ready
        return f"Init:{index}/{len(spec.get('initContainers', ()))}", ready
    return "", ready


def _container_reason(
    reason: str, statuses: list[Object], conditions: list[Object], restarts: _Restarts
) -> tuple[str, int]:
    """(reason after the containers have had their say, ready containers)."""
    ready = 0
    running = False
    failure = ""
    for status in reversed(statuses):
        restarts.add(status)
        state: Object = status.get("state") or {}
        waiting = (state.get("waiting") or {}).get("reason")
        terminated = state.get("terminated")
        if waiting:
            reason = waiting
        elif terminated is not None:
            reason = _ended_reason(terminated)
            if terminated.get("exitCode", 0):
                failure = reason
        elif status.get("ready") and "running" in state:
            running = True
            ready += 1
    if reason == "Completed":
        if running and _has(conditions, "Ready"):
            return "Running", ready
        if failure:
            return failure, ready
        if running:
            return "NotReady", ready
    return reason, ready


def pod_summary(pod: Object) -> tuple[str, int, int, _Restarts]:
    """(Status, ready containers, containers in all, restarts)."""
    spec: Object = pod.get("spec", {})
    status: Object = pod.get("status", {})
    conditions: list[Object] = status.get("conditions") or []
    phase = status.get("phase", "")
    reason = status.get("reason") or phase
    if any(c.get("type") == "PodScheduled" and c.get("reason") == "SchedulingGated" for c in conditions):
        reason = "SchedulingGated"
    inits: list[Object] = spec.get("initContainers") or []
    total = len(spec.get("containers", ())) + sum(c.get("restartPolicy") == "Always" for c in inits)
    all_inits, sidecars = _Restarts(), _Restarts()
    restarts = all_inits
    init_statuses: list[Object] = status.get("initContainerStatuses") or []
    init_reason, ready = _init_reason(spec, init_statuses, all_inits, sidecars)
    if init_reason:
        reason = init_reason
    if not init_reason or _has(conditions, "Initialized"):
        restarts = sidecars
        statuses: list[Object] = status.get("containerStatuses") or []
        reason, ready_containers = _container_reason(reason, statuses, conditions, restarts)
        ready += ready_containers
    if pod["metadata"].get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            reason = "Unknown"
        elif phase not in ("Succeeded", "Failed"):
            reason = "Terminating"
    return reason, ready, total, restarts


def _readiness_gates(spec: Object, conditions: list[Object]) -> str:
    gates: list[Object] = spec.get("readinessGates") or []
    if not gates:
        return NONE
    return f"{sum(_has(conditions, gate.get('conditionType', '')) for gate in gates)}/{len(gates)}"


def _simulated(conditions: list[Object]) -> str:
    for condition in conditions:
        if condition.get("type") == SIMULATED_CONDITION and condition.get("status") == "True":
            text = condition.get("message") or condition.get("reason") or "True"
            return text if len(text) <= _SHORT_TEXT else condition.get("reason") or text[:_SHORT_TEXT]
    return NONE


def cells(pod: Object, now_seconds: float) -> list[Any]:
    reason, ready, total, restarts = pod_summary(pod)
    spec: Object = pod.get("spec", {})
    status: Object = pod.get("status", {})
    conditions: list[Object] = status.get("conditions") or []
    addresses: list[Object] = status.get("podIPs") or []
    return [
        name_of(pod),
        f"{ready}/{total}",
        reason or UNKNOWN,
        restarts.text(now_seconds),
        age(pod, now_seconds),
        (addresses[0].get("ip") if addresses else status.get("podIP")) or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        _readiness_gates(spec, conditions),
        _simulated(conditions),
    ]
