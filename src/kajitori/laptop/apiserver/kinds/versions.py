"""Two views of one stored object: events of both groups, and autoscalers of `autoscaling/v1` and `v2`.

A converter takes an object of one form and gives it in the other, sharing what is the same. Custom resources of
several versions need none: with conversion strategy `None` only the apiVersion differs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from kajitori.api.resource import Resource

Object = dict[str, Any]

# Name in events.k8s.io/v1 -> name in v1.
_EVENT_FIELDS = {
    "regarding": "involvedObject",
    "note": "message",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
    "reportingController": "reportingComponent",
}
_CORE_FIELDS = {core: new for new, core in _EVENT_FIELDS.items()}


def _renamed(obj: Object, names: dict[str, str], api_version: str) -> Object:
    renamed = {names.get(key, key): value for key, value in obj.items()}
    renamed["apiVersion"] = api_version
    return renamed


def event_to_core(event: Object) -> Object:
    """A v1 Event of an events.k8s.io/v1 one."""
    core = _renamed(event, _EVENT_FIELDS, "v1")
    core.setdefault("involvedObject", {})
    core.setdefault("source", {})
    # Null like those of a real server: `kubectl get events --sort-by=.lastTimestamp` prints nothing without the field.
    core.setdefault("firstTimestamp", None)
    core.setdefault("lastTimestamp", None)
    return core


def event_from_core(event: Object) -> Object:
    """An events.k8s.io/v1 Event of a v1 one."""
    return _renamed(event, _CORE_FIELDS, "events.k8s.io/v1")


def autoscaler_to_v2(obj: Object) -> Object:
    """autoscaling/v2 of v1: the cpu target becomes a metric."""
    spec: Object = dict(obj.get("spec") or {})
    percent = spec.pop("targetCPUUtilizationPercentage", None)
    if percent is not None:
        target = {"type": "Utilization", "averageUtilization": percent}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    status: Object = dict(obj.get("status") or {})
    current = status.pop("currentCPUUtilizationPercentage", None)
    if current is not None:
        status["currentMetrics"] = [
            {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": current}}}
        ]
    return {**obj, "apiVersion": "autoscaling/v2", "spec": spec, "status": status}


def _cpu_percent(metrics: list[Object], place: str) -> int | None:
    for metric in metrics or ():
        resource = metric.get("resource") or {}
        if metric.get("type") == "Resource" and resource.get("name") == "cpu":
            return (resource.get(place) or {}).get("averageUtilization")
    return None


def autoscaler_from_v2(obj: Object) -> Object:
    """autoscaling/v1 of v2: of the metrics only a cpu utilization shows."""
    spec: Object = dict(obj.get("spec") or {})
    metrics: list[Object] = spec.pop("metrics", None) or []
    spec.pop("behavior", None)
    percent = _cpu_percent(metrics, "target")
    if percent is not None:
        spec["targetCPUUtilizationPercentage"] = percent
    status: Object = dict(obj.get("status") or {})
    current = _cpu_percent(status.pop("currentMetrics", None) or [], "current")
    status.pop("conditions", None)
    status.setdefault("currentReplicas", 0)
    if current is not None:
        status["currentCPUUtilizationPercentage"] = current
    return {**obj, "apiVersion": "autoscaling/v1", "spec": spec, "status": status}


def converters_of(
    resource: Resource,
) -> tuple[Callable[[Object], Object] | None, Callable[[Object], Object] | None]:
    """(to the stored form, from the stored form); None where the object is stored as it is."""
    if (resource.group, resource.plural) == ("events.k8s.io", "events"):
        return event_to_core, event_from_core
    if (resource.group, resource.version) == ("autoscaling", "v1"):
        return autoscaler_to_v2, autoscaler_from_v2
    return None, None
