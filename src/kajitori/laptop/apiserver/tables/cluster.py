"""Tables of nodes, namespaces, configuration, access and events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.base.duration import format_age
from kajitori.laptop.apiserver.tables.cells import (
    NONE,
    UNKNOWN,
    UNSET,
    age,
    age_of,
    name_of,
    selector_text,
)
from kajitori.laptop.apiserver.tables.columns import columns_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from kajitori.laptop.apiserver.tables.columns import Column

Object = dict[str, Any]

_ROLE_PREFIX = "node-role.kubernetes.io/"


def _node_roles(labels: dict[str, str]) -> str:
    roles = {key.removeprefix(_ROLE_PREFIX) for key in labels if key.startswith(_ROLE_PREFIX)}
    roles.add(labels.get("kubernetes.io/role", ""))
    return ",".join(sorted(filter(None, roles))) or NONE


def _node_address(status: Object, kind: str) -> str:
    addresses: list[Object] = status.get("addresses") or []
    return next((a.get("address", NONE) for a in addresses if a.get("type") == kind), NONE)


def _node(obj: Object, now_seconds: float) -> list[Any]:
    status: Object = obj.get("status", {})
    info: Object = status.get("nodeInfo") or {}
    ready = [c for c in status.get("conditions") or () if c.get("type") == "Ready"]
    state = "Unknown"
    if ready:
        state = "Ready" if ready[-1].get("status") == "True" else "NotReady"
    if obj.get("spec", {}).get("unschedulable"):
        state += ",SchedulingDisabled"
    kernel = info.get("kernelVersion") or UNKNOWN
    if info.get("architecture"):
        kernel += f" ({info['architecture']})"
    return [
        name_of(obj),
        state,
        _node_roles(obj["metadata"].get("labels") or {}),
        age(obj, now_seconds),
        info.get("kubeletVersion", ""),
        _node_address(status, "InternalIP"),
        _node_address(status, "ExternalIP"),
        info.get("osImage") or UNKNOWN,
        kernel,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def _plain(obj: Object, now_seconds: float) -> list[Any]:
    return [name_of(obj), age(obj, now_seconds)]


def _namespace(obj: Object, now_seconds: float) -> list[Any]:
    return [name_of(obj), obj.get("status", {}).get("phase", ""), age(obj, now_seconds)]


def _config_map(obj: Object, now_seconds: float) -> list[Any]:
    count = len(obj.get("data") or ()) + len(obj.get("binaryData") or ())
    return [name_of(obj), count, age(obj, now_seconds)]


def _secret(obj: Object, now_seconds: float) -> list[Any]:
    return [name_of(obj), obj.get("type", ""), len(obj.get("data") or ()), age(obj, now_seconds)]


def _event_source(core: Object) -> str:
    source: Object = core.get("source") or {}
    component = source.get("component") or core.get("reportingComponent", "")
    host = source.get("host") or core.get("reportingInstance", "")
    return f"{component}, {host}" if component and host else component or host


def _event_cells(core: Object, now_seconds: float) -> list[Any]:
    first = age_of(core.get("firstTimestamp") or core.get("eventTime"), now_seconds)
    last = age_of(core["lastTimestamp"], now_seconds) if core.get("lastTimestamp") else first
    count = core.get("count") or 1
    series = core.get("series")
    if series:
        last, count = age_of(series.get("lastObservedTime"), now_seconds), series.get("count", 0)
    involved: Object = core.get("involvedObject") or {}
    kind = involved.get("kind", "").lower()
    return [
        last,
        core.get("type", ""),
        core.get("reason", ""),
        f"{kind}/{involved['name']}" if involved.get("name") else kind,
        involved.get("fieldPath", ""),
        _event_source(core),
        core.get("message", "").strip(),
        first,
        count,
        name_of(core),
    ]


# Names in the events.k8s.io group where they differ from those of the core group.
_NEW_EVENT_NAMES = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}


def _new_event_cells(event: Object, now_seconds: float) -> list[Any]:
    core = {**event, **{old: event[new] for old, new in _NEW_EVENT_NAMES.items() if new in event}}
    return _event_cells(core, now_seconds)


def _lease(obj: Object, now_seconds: float) -> list[Any]:
    return [name_of(obj), obj.get("spec", {}).get("holderIdentity") or "", age(obj, now_seconds)]


def _quota(obj: Object, now_seconds: float) -> list[Any]:
    status: Object = obj.get("status", {})
    hard: Object = status.get("hard") or {}
    used: Object = status.get("used") or {}
    requests: list[str] = []
    limits: list[str] = []
    for name in sorted(hard):
        column = limits if name.startswith("limits.") else requests
        column.append(f"{name}: {used.get(name, '0')}/{hard[name]}")
    return [name_of(obj), ", ".join(requests), ", ".join(limits), age(obj, now_seconds)]


def _created_at(obj: Object, _now_seconds: float) -> list[Any]:
    return [name_of(obj), obj["metadata"].get("creationTimestamp", "")]


def _binding(obj: Object, now_seconds: float) -> list[Any]:
    role: Object = obj.get("roleRef") or {}
    subjects: list[Object] = obj.get("subjects") or []
    accounts = [
        f"{s['namespace']}/{s.get('name', '')}" if s.get("namespace") else s.get("name", "")
        for s in subjects
        if s.get("kind") == "ServiceAccount"
    ]
    return [
        name_of(obj),
        f"{role.get('kind', '')}/{role.get('name', '')}",
        age(obj, now_seconds),
        ", ".join(s.get("name", "") for s in subjects if s.get("kind") == "User"),
        ", ".join(s.get("name", "") for s in subjects if s.get("kind") == "Group"),
        ", ".join(accounts),
    ]


def _priority_class(obj: Object, now_seconds: float) -> list[Any]:
    return [
        name_of(obj),
        obj.get("value", 0),
        obj.get("globalDefault", False),
        age(obj, now_seconds),
        obj.get("preemptionPolicy", ""),
    ]


def _runtime_class(obj: Object, now_seconds: float) -> list[Any]:
    return [name_of(obj), obj.get("handler", ""), age(obj, now_seconds)]


def _webhooks(obj: Object, now_seconds: float) -> list[Any]:
    return [name_of(obj), len(obj.get("webhooks") or ()), age(obj, now_seconds)]


def _admission_policy(rules: str) -> Callable[[Object, float], list[Any]]:
    def cells(obj: Object, now_seconds: float) -> list[Any]:
        spec: Object = obj.get("spec", {})
        parameter: Object | None = spec.get("paramKind")
        kind = f"{parameter.get('apiVersion', '')}/{parameter.get('kind', '')}" if parameter else UNSET
        return [name_of(obj), len(spec.get(rules) or ()), kind, age(obj, now_seconds)]

    return cells


def _admission_binding(obj: Object, now_seconds: float) -> list[Any]:
    spec: Object = obj.get("spec", {})
    reference: Object | None = spec.get("paramRef")
    shown = UNSET
    if reference and reference.get("name"):
        shown = f"{reference.get('namespace') or '*'}/{reference['name']}"
    elif reference and reference.get("selector") is not None:
        shown = selector_text(reference["selector"])
    return [name_of(obj), spec.get("policyName", ""), shown, age(obj, now_seconds)]


def _signing_request(obj: Object, now_seconds: float) -> list[Any]:
    spec: Object = obj.get("spec", {})
    status: Object = obj.get("status", {})
    conditions = {condition.get("type") for condition in status.get("conditions") or ()}
    state = "Denied" if "Denied" in conditions else "Approved" if "Approved" in conditions else "Pending"
    state += ",Failed" if "Failed" in conditions else ""
    state += ",Issued" if status.get("certificate") else ""
    seconds = spec.get("expirationSeconds")
    return [
        name_of(obj),
        age(obj, now_seconds),
        spec.get("signerName") or NONE,
        spec.get("username", ""),
        NONE if seconds is None else format_age(seconds),
        state,
    ]


_EVENT = "Last Seen, Type, Reason, Object, Subobject*, Source*, Message, First Seen*, Count*, Name*"
_ADMISSION = "admissionregistration.k8s.io"
_RBAC = "rbac.authorization.k8s.io"
_BINDING = "Name, Role, Age, Users*, Groups*, ServiceAccounts*"
TABLES: dict[tuple[str, str], tuple[tuple[Column, ...], Callable[[Object, float], list[Any]]]] = {
    ("", "nodes"): (
        columns_of(
            "Name, Status, Roles, Age, Version, Internal-IP*, External-IP*, OS-Image*, Kernel-Version*,"
            " Container-Runtime*"
        ),
        _node,
    ),
    ("", "namespaces"): (columns_of("Name, Status, Age"), _namespace),
    ("", "configmaps"): (columns_of("Name, Data, Age"), _config_map),
    ("", "secrets"): (columns_of("Name, Type, Data, Age"), _secret),
    ("", "serviceaccounts"): (columns_of("Name, Age"), _plain),
    ("", "events"): (columns_of(_EVENT), _event_cells),
    ("events.k8s.io", "events"): (columns_of(_EVENT), _new_event_cells),
    ("coordination.k8s.io", "leases"): (columns_of("Name, Holder, Age"), _lease),
    ("", "resourcequotas"): (columns_of("Name, Request, Limit, Age"), _quota),
    ("", "limitranges"): (columns_of("Name, Created At:date"), _created_at),
    (_RBAC, "roles"): (columns_of("Name, Created At:date"), _created_at),
    (_RBAC, "clusterroles"): (columns_of("Name, Created At:date"), _created_at),
    (_RBAC, "rolebindings"): (columns_of(_BINDING), _binding),
    (_RBAC, "clusterrolebindings"): (columns_of(_BINDING), _binding),
    ("apiextensions.k8s.io", "customresourcedefinitions"): (columns_of("Name, Created At:date"), _created_at),
    ("scheduling.k8s.io", "priorityclasses"): (
        columns_of("Name, Value:integer, Global-Default:boolean, Age, PreemptionPolicy"),
        _priority_class,
    ),
    ("node.k8s.io", "runtimeclasses"): (columns_of("Name, Handler, Age"), _runtime_class),
    (_ADMISSION, "mutatingwebhookconfigurations"): (columns_of("Name, Webhooks:integer, Age"), _webhooks),
    (_ADMISSION, "validatingwebhookconfigurations"): (columns_of("Name, Webhooks:integer, Age"), _webhooks),
    (_ADMISSION, "validatingadmissionpolicies"): (
        columns_of("Name, Validations:integer, ParamKind, Age"),
        _admission_policy("validations"),
    ),
    (_ADMISSION, "mutatingadmissionpolicies"): (
        columns_of("Name, Mutations:integer, ParamKind, Age"),
        _admission_policy("mutations"),
    ),
    (_ADMISSION, "validatingadmissionpolicybindings"): (
        columns_of("Name, PolicyName, ParamRef, Age"),
        _admission_binding,
    ),
    (_ADMISSION, "mutatingadmissionpolicybindings"): (
        columns_of("Name, PolicyName, ParamRef, Age"),
        _admission_binding,
    ),
    ("certificates.k8s.io", "certificatesigningrequests"): (
        columns_of("Name, Age, SignerName, Requestor, RequestedDuration, Condition"),
        _signing_request,
    ),
}
