"""The table of pods. Its Status sums up phase, conditions and container states; Simulated says in a wide table
what runs on simulated capacity (the one column that the published server does not have).

Pods are large and lists of them long, so rows are made from the stored bytes by way of the fields they show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.laptop.apiserver.tables.cells import NONE, UNKNOWN, age_of
from kajitori.laptop.apiserver.tables.columns import columns_of
from kajitori.laptop.apiserver.tables.pod_fields import read_pod, read_times

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kajitori.laptop.apiserver.tables.pod_fields import (
        Condition,
        ContainerStatus,
        PodFields,
        PodSpec,
        Terminated,
        Times,
    )

Object = dict[str, Any]

SIMULATED_CONDITION = "kajitori.dev/Simulated"
COLUMNS = columns_of(
    "Name, Ready, Status, Restarts, Age, IP*, Node*, Nominated Node*, Readiness Gates*, Simulated*"
)
_SHORT_TEXT = 60
_ENDED = {
    "Succeeded": "The pod has completed successfully.",
    "Failed": "The pod failed.",
}


class _Restarts:
    """How often containers started again, and when the last one ended before that."""

    __slots__ = ("count", "last")

    def __init__(self) -> None:
        self.count = 0
        self.last = ""

    def add(self, status: ContainerStatus) -> None:
        self.count += status.restart_count
        ended = status.last_state.terminated
        if ended is not None:
            self.last = max(self.last, ended.finished_at)

    def text(self, now_seconds: float) -> str:
        if self.count and self.last:
            return f"{self.count} ({age_of(self.last, now_seconds)} ago)"
        return str(self.count)


def _has(conditions: Sequence[Condition], kind: str) -> bool:
    return any(condition.type == kind and condition.status == "True" for condition in conditions)


def _ended_reason(terminated: Terminated) -> str:
    if terminated.reason:
        return terminated.reason
    return f"Signal:{terminated.signal}" if terminated.signal else f"ExitCode:{terminated.exit_code}"


def _init_reason(
    spec: PodSpec, statuses: Sequence[ContainerStatus], all_inits: _Restarts, sidecars: _Restarts
) -> tuple[str, int]:
    """(reason of the first unfinished init container or empty, ready sidecars)."""
    restartable = {
        container.name for container in spec.init_containers if container.restart_policy == "Always"
    }
    ready = 0
    for index, status in enumerate(statuses):
        all_inits.add(status)
        is_sidecar = status.name in restartable
        if is_sidecar:
            sidecars.add(status)
        terminated = status.state.terminated
        if terminated is not None and terminated.exit_code == 0:
            continue
        if is_sidecar and status.started:
            ready += status.ready
            continue
        if terminated is not None:
            return f"Init:{_ended_reason(terminated)}", ready
        waiting = status.state.waiting
        if waiting is not None and waiting.reason and waiting.reason != "PodInitializing":
            return f"Init:{waiting.reason}", ready
        return f"Init:{index}/{len(spec.init_containers)}", ready
    return "", ready


def _container_reason(
    reason: str,
    statuses: Sequence[ContainerStatus],
    conditions: Sequence[Condition],
    restarts: _Restarts,
) -> tuple[str, int]:
    """(reason after the containers have had their say, ready containers)."""
    ready = 0
    running = False
    failure = ""
    for status in reversed(statuses):
        restarts.add(status)
        state = status.state
        if state.waiting is not None and state.waiting.reason:
            reason = state.waiting.reason
        elif state.terminated is not None:
            reason = _ended_reason(state.terminated)
            if state.terminated.exit_code:
                failure = reason
        elif status.ready and state.running is not None:
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


def _summary(pod: PodFields, times: Times) -> tuple[str, int, int, _Restarts]:
    """(Status, ready containers, containers in all, restarts)."""
    spec, status = pod.spec, pod.status
    conditions, inits = status.conditions, spec.init_containers
    reason = status.reason or status.phase
    for condition in conditions:
        if condition.reason == "SchedulingGated" and condition.type == "PodScheduled":
            reason = "SchedulingGated"
    total, ready = len(spec.containers), 0
    restarts, init_reason = _Restarts(), ""
    sidecars = restarts
    if inits:
        total += sum(container.restart_policy == "Always" for container in inits)
    if status.init_container_statuses:
        sidecars = _Restarts()
        init_reason, ready = _init_reason(spec, status.init_container_statuses, restarts, sidecars)
        reason = init_reason or reason
    if not init_reason or _has(conditions, "Initialized"):
        restarts = sidecars
        statuses = status.container_statuses
        reason, ready_containers = _container_reason(reason, statuses, conditions, restarts)
        ready += ready_containers
    if times.deletion_timestamp:
        if status.reason == "NodeLost":
            reason = "Unknown"
        elif status.phase not in ("Succeeded", "Failed"):
            reason = "Terminating"
    return reason, ready, total, restarts


def _readiness_gates(spec: PodSpec, conditions: Sequence[Condition]) -> str:
    gates = spec.readiness_gates
    if not gates:
        return NONE
    return f"{sum(_has(conditions, gate.condition_type) for gate in gates)}/{len(gates)}"


def _simulated(conditions: Sequence[Condition]) -> str:
    for condition in conditions:
        if condition.type == SIMULATED_CONDITION and condition.status == "True":
            text = condition.message or condition.reason or "True"
            return text if len(text) <= _SHORT_TEXT else condition.reason or text[:_SHORT_TEXT]
    return NONE


def _cells(name: str, pod: PodFields, now_seconds: float) -> list[Any]:
    times = read_times(pod.metadata)
    reason, ready, total, restarts = _summary(pod, times)
    spec, status = pod.spec, pod.status
    return [
        name,
        f"{ready}/{total}",
        reason or UNKNOWN,
        restarts.text(now_seconds),
        age_of(times.creation_timestamp, now_seconds),
        (status.pod_ips[0].ip if status.pod_ips else status.pod_ip) or NONE,
        spec.node_name or NONE,
        status.nominated_node_name or NONE,
        _readiness_gates(spec, status.conditions),
        _simulated(status.conditions),
    ]


def row_of(name: str, body: bytes, now_seconds: float) -> tuple[list[Any], list[Object], msgspec.Raw]:
    """(cells, the row's conditions, the metadata as it is) of a stored pod. Pods that have ended are marked, so
    that clients may hide them."""
    pod = read_pod(body)
    phase = pod.status.phase
    message = _ENDED.get(phase)
    ended: list[Object] = []
    if message is not None:
        ended = [{"type": "Completed", "status": "True", "reason": phase, "message": message}]
    return _cells(name, pod, now_seconds), ended, pod.metadata


def cells(pod: Object, now_seconds: float) -> list[Any]:
    """The row of a decoded pod."""
    return _cells(pod["metadata"].get("name", ""), read_pod(msgspec.json.encode(pod)), now_seconds)
