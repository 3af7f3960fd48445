"""A pod's status from the states of its containers. Pure.

The node owns of a pod's status: phase, reason, message, addresses, start time, container statuses and the conditions
listed in `OWN_CONDITIONS`; everything else (PodScheduled, quality of service, gates) belongs to others.

Source: Kubernetes documentation, "Pod Lifecycle"; API reference, PodStatus.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from kajitori.api.kubernetes.core_v1 import (
    ContainerStateTerminated,
    ContainerStatus,
    PodCondition,
    PodSpec,
    PodStatus,
)
from kajitori.base.clock import parse_rfc3339, rfc3339

SIMULATED_CONDITION = "kajitori.dev/Simulated"
LIMITED_CONDITION = "kajitori.dev/Limited"
OWN_CONDITIONS = (
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    SIMULATED_CONDITION,
    LIMITED_CONDITION,
)


class Waiting(msgspec.Struct, frozen=True):
    reason: str
    message: str = ""


class Running(msgspec.Struct, frozen=True):
    """started_at: seconds since 1970."""

    started_at: float


class Terminated(msgspec.Struct, frozen=True):
    """Times: seconds since 1970, 0 if it never ran."""

    exit_code: int
    reason: str
    message: str = ""
    started_at: float = 0.0
    finished_at: float = 0.0
    container_id: str = ""


State = Waiting | Running | Terminated


def parse_state(status: ContainerStatus) -> tuple[State | None, Terminated | None, int]:
    """State, last termination and number of restarts as a status says them."""
    state: State | None = None
    if status.state and status.state.running:
        state = Running(_seconds(status.state.running.started_at))
    elif status.state and status.state.terminated:
        state = _parse_terminated(status.state.terminated)
    elif status.state and status.state.waiting:
        state = Waiting(status.state.waiting.reason or "", status.state.waiting.message or "")
    last = status.last_state.terminated if status.last_state else None
    return state, _parse_terminated(last) if last else None, status.restart_count


def _parse_terminated(given: ContainerStateTerminated) -> Terminated:
    return Terminated(
        given.exit_code,
        given.reason or "",
        given.message or "",
        _seconds(given.started_at),
        _seconds(given.finished_at),
        given.container_id or "",
    )


def _seconds(text: str | None) -> float:
    try:
        return parse_rfc3339(text) if text else 0.0
    except ValueError:
        return 0.0


class ContainerView(NamedTuple):
    """What a status says of a container. kind: `init`, `sidecar` (an init container that keeps running), `main`, or
    `ephemeral`, which counts for nothing else of the pod.
    """

    name: str
    kind: str
    image: str
    image_id: str
    container_id: str
    state: State
    last: Terminated | None
    restart_count: int
    started: bool
    ready: bool

    @property
    def comes_first(self) -> bool:
        return self.kind in ("init", "sidecar")

    @property
    def is_done(self) -> bool:
        """Ended well, or, for a sidecar, started."""
        if self.kind == "sidecar":
            return self.started or isinstance(self.state, Terminated)
        return isinstance(self.state, Terminated) and self.state.exit_code == 0


class PodView(NamedTuple):
    """What a status says of a pod as a whole. failure: reason and message that end it whatever its containers do.

    ended: it is being deleted, and its containers have ended. limits: what of the pod is not honoured, a sentence or empty. simulated: what is simulated, a sentence or empty.
    """

    containers: Sequence[ContainerView]
    prepared: bool
    address: str
    host_address: str
    start_time: float
    failure: tuple[str, str] | None
    restart_policy: str
    limits: str = ""
    simulated: str = ""
    ended: bool = False


def phase_of(view: PodView) -> str:
    """`Pending`, `Running`, `Succeeded` or `Failed`."""
    if view.failure:
        return "Failed"
    inits = [each for each in view.containers if each.comes_first]
    mains = [each for each in view.containers if each.kind == "main"]
    if view.ended:
        return "Succeeded" if all(each.is_done for each in mains) else "Failed"
    if not all(each.is_done for each in inits) and not any(_has_run(each) for each in mains):
        failed = any(_failed_for_good(each, view.restart_policy) for each in inits)
        return "Failed" if failed else "Pending"
    if any(not _has_run(each) for each in mains):
        return "Pending"
    if view.restart_policy == "Always" or not all(isinstance(each.state, Terminated) for each in mains):
        return "Running"
    if all(each.is_done for each in mains):
        return "Succeeded"
    return "Failed" if view.restart_policy == "Never" else "Running"


def _has_run(container: ContainerView) -> bool:
    return not isinstance(container.state, Waiting) or container.last is not None


def _failed_for_good(container: ContainerView, restart_policy: str) -> bool:
    return (
        container.kind == "init"
        and restart_policy == "Never"
        and isinstance(container.state, Terminated)
        and container.state.exit_code != 0
    )


def is_over(phase: str) -> bool:
    return phase in ("Succeeded", "Failed")


def pod_status(view: PodView, spec: PodSpec, current: Sequence[PodCondition], now: float) -> dict[str, Any]:
    """The part of the status that the node owns. current: the conditions as they are, for their transition times."""
    phase = phase_of(view)
    status: dict[str, Any] = {
        "phase": phase,
        "hostIP": view.host_address,
        "hostIPs": [{"ip": view.host_address}],
        "startTime": rfc3339(view.start_time),
        "conditions": _conditions(view, phase, spec, current, now),
        "containerStatuses": [_container(each) for each in view.containers if each.kind == "main"],
    }
    inits = [_container(each) for each in view.containers if each.comes_first]
    if inits:
        status["initContainerStatuses"] = inits
    ephemeral = [_container(each) for each in view.containers if each.kind == "ephemeral"]
    if ephemeral:
        status["ephemeralContainerStatuses"] = ephemeral
    if view.address:
        status["podIP"] = view.address
        status["podIPs"] = [{"ip": view.address}]
    if view.failure:
        status["reason"], status["message"] = view.failure
    return status


def _container(view: ContainerView) -> dict[str, Any]:
    running = isinstance(view.state, Running)
    return {
        "name": view.name,
        "state": _state(view.state),
        "lastState": _state(view.last) if view.last else {},
        "ready": view.ready,
        "restartCount": view.restart_count,
        "image": view.image,
        "imageID": view.image_id,
        **({"containerID": view.container_id} if view.container_id else {}),
        "started": view.started and running,
    }


def _state(state: State) -> dict[str, Any]:
    if isinstance(state, Waiting):
        waiting = {"reason": state.reason, "message": state.message}
        return {"waiting": {key: value for key, value in waiting.items() if value}}
    if isinstance(state, Running):
        return {"running": {"startedAt": rfc3339(state.started_at)}}
    terminated: dict[str, Any] = {"exitCode": state.exit_code, "reason": state.reason}
    for key, seconds in (("startedAt", state.started_at), ("finishedAt", state.finished_at)):
        if seconds:
            terminated[key] = rfc3339(seconds)
    if state.message:
        terminated["message"] = state.message
    if state.container_id:
        terminated["containerID"] = state.container_id
    return {"terminated": terminated}


class _Condition(NamedTuple):
    type: str
    status: bool
    reason: str = ""
    message: str = ""


def _conditions(
    view: PodView, phase: str, spec: PodSpec, current: Sequence[PodCondition], now: float
) -> list[dict[str, Any]]:
    wanted = [
        _Condition("PodReadyToStartContainers", view.prepared),
        _initialized(view, phase),
    ]
    ready = _containers_ready(view, phase)
    wanted += [_pod_ready(ready, spec, current), ready]
    if view.simulated:
        wanted.append(_Condition(SIMULATED_CONDITION, True, "SimulatedEngine", view.simulated))
    if view.limits:
        wanted.append(_Condition(LIMITED_CONDITION, True, "NotHonoured", view.limits))
    known = {condition.type: condition for condition in current}
    return [_dated(condition, known.get(condition.type), now) for condition in wanted]


def _initialized(view: PodView, phase: str) -> _Condition:
    missing = [each.name for each in view.containers if each.comes_first and not each.is_done]
    if phase == "Succeeded":
        return _Condition("Initialized", True, "PodCompleted")
    if missing and not any(_has_run(each) for each in view.containers if each.kind == "main"):
        message = f"containers with incomplete status: [{' '.join(missing)}]"
        return _Condition("Initialized", False, "ContainersNotInitialized", message)
    return _Condition("Initialized", True)


def _containers_ready(view: PodView, phase: str) -> _Condition:
    if phase == "Succeeded":
        return _Condition("ContainersReady", False, "PodCompleted")
    if phase == "Failed":
        return _Condition("ContainersReady", False, "PodFailed")
    unready = [each.name for each in view.containers if each.kind in ("main", "sidecar") and not each.ready]
    if unready:
        message = f"containers with unready status: [{' '.join(unready)}]"
        return _Condition("ContainersReady", False, "ContainersNotReady", message)
    return _Condition("ContainersReady", True)


def _pod_ready(containers: _Condition, spec: PodSpec, current: Sequence[PodCondition]) -> _Condition:
    if not containers.status:
        return containers._replace(type="Ready")
    true = {condition.type for condition in current if condition.status == "True"}
    closed = [gate.condition_type for gate in spec.readiness_gates if gate.condition_type not in true]
    if closed:
        message = "; ".join(
            f'corresponding condition of pod readiness gate "{gate}" is not True' for gate in closed
        )
        return _Condition("Ready", False, "ReadinessGatesNotReady", message)
    return _Condition("Ready", True)


def _dated(condition: _Condition, before: PodCondition | None, now: float) -> dict[str, Any]:
    status = "True" if condition.status else "False"
    changed = before is None or before.status != status or not before.last_transition_time
    return {
        "type": condition.type,
        "status": status,
        "reason": condition.reason or None,
        "message": condition.message or None,
        "lastProbeTime": None,
        "lastTransitionTime": rfc3339(now) if changed or before is None else before.last_transition_time,
    }


def exit_reason(exit_code: int) -> str:
    return "Completed" if exit_code == 0 else "Error"


def differs(wanted: dict[str, Any], current: PodStatus) -> bool:
    """Whether writing the wanted status would change anything."""
    parsed = msgspec.convert(wanted, PodStatus)
    names = zip(PodStatus.__struct_fields__, PodStatus.__struct_encode_fields__, strict=True)
    for field, encoded in names:
        if encoded in wanted and field != "conditions" and getattr(parsed, field) != getattr(current, field):
            return True
    known = {condition.type: condition for condition in current.conditions}
    return any(
        (before := known.get(condition.type)) is None
        or (before.status, before.reason or None, before.message or None)
        != (condition.status, condition.reason or None, condition.message or None)
        for condition in parsed.conditions
    )
