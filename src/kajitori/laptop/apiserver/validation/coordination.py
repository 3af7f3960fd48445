"""Rules of leases and of events of both groups."""

from __future__ import annotations

from typing import Any

from kajitori.laptop.apiserver.status import (
    FieldError,
    invalid_value,
    required,
)

Object = dict[str, Any]


def lease_errors(new: Object, _old: Object | None, _subresource: str) -> list[FieldError]:
    spec: Object = new.get("spec") or {}
    errors: list[FieldError] = []
    seconds, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if seconds is not None and seconds <= 0:
        errors.append(invalid_value("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
    if transitions is not None and transitions < 0:
        text = "must be greater than or equal to 0"
        errors.append(invalid_value("spec.leaseTransitions", transitions, text))
    return errors


def _event_namespace_errors(namespace: str, involved: Object, field: str) -> list[FieldError]:
    expected = involved.get("namespace") or "default"
    if namespace == expected or (not involved.get("namespace") and namespace == "kube-system"):
        return []
    text = "does not match event.namespace"
    return [invalid_value(f"{field}.namespace", involved.get("namespace", ""), text)]


def core_event_errors(new: Object, _old: Object | None, _subresource: str) -> list[FieldError]:
    namespace = new["metadata"].get("namespace", "")
    return _event_namespace_errors(namespace, new.get("involvedObject") or {}, "involvedObject")


_EVENT_LIMITS = (("reportingInstance", 128), ("action", 128), ("reason", 128), ("note", 1024))
_EVENT_REQUIRED = ("reportingController", "reportingInstance", "action", "reason")


def event_errors(new: Object, old: Object | None, _subresource: str) -> list[FieldError]:
    """An event of the events.k8s.io group, which asks for more than the core one."""
    namespace = new["metadata"].get("namespace", "")
    errors = _event_namespace_errors(namespace, new.get("regarding") or {}, "involvedObject")
    if old is None and not new.get("eventTime"):
        errors.append(required("eventTime"))
    if new.get("type") not in ("Normal", "Warning"):
        errors.append(invalid_value("type", "", f"has invalid value: {new.get('type', '')}"))
    errors += [required(field) for field in _EVENT_REQUIRED if not new.get(field)]
    errors += [
        invalid_value("message" if field == "note" else field, "", f"can have at most {limit} characters")
        for field, limit in _EVENT_LIMITS
        if len(new.get(field, "")) > limit
    ]
    if old is None:
        unset = ("deprecatedFirstTimestamp", "deprecatedLastTimestamp", "deprecatedCount")
        errors += [
            invalid_value(field.removeprefix("deprecated"), "", "needs to be unset")
            for field in unset
            if new.get(field)
        ]
    series = new.get("series")
    if series is not None and series.get("count", 0) < 2:
        errors.append(invalid_value("series.count", "", "should be at least 2"))
    return errors
