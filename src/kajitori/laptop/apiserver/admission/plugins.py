"""What the server itself adds to objects and asks of them, besides what it needs in order to work.

prepare   defaults of LimitRanges, priorities, storage classes, finalizers of claims and volumes
check     LimitRanges, pod security, the one default of priority classes
charge    ResourceQuotas
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kajitori.laptop.apiserver import status
from kajitori.laptop.apiserver.admission.limits import add_defaults, aggregate, claim_problems, pod_problems
from kajitori.laptop.apiserver.admission.pod_security import (
    PREFIX,
    existing_violations,
    is_significant,
    label_problems,
    standard_of,
    violations,
)
from kajitori.laptop.apiserver.admission.quotas import OverQuota, charged, counts
from kajitori.laptop.apiserver.defaults.admission import quality_of_service
from kajitori.laptop.apiserver.store import Charged, Decision, Key

if TYPE_CHECKING:
    from kajitori.laptop.apiserver.kinds.kind import Kind
    from kajitori.laptop.apiserver.request import Call
    from kajitori.laptop.apiserver.state import ServerState

Object = dict[str, Any]
LIMIT_RANGES = "limitranges"
QUOTAS = "resourcequotas"
PRIORITY_CLASSES = "priorityclasses.scheduling.k8s.io"
STORAGE_CLASSES = "storageclasses.storage.k8s.io"
CLAIMS = "persistentvolumeclaims"
_PROTECTED = {CLAIMS: "kubernetes.io/pvc-protection", "persistentvolumes": "kubernetes.io/pv-protection"}
_BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
_DEFAULT_CLASS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
# Kinds with pods in them, and where.
_TEMPLATES: dict[str, tuple[str, ...]] = {
    "pods": (),
    "podtemplates": ("template",),
    "jobs.batch": ("spec", "template"),
    "cronjobs.batch": ("spec", "jobTemplate", "spec", "template"),
    **dict.fromkeys(
        (
            "replicationcontrollers",
            "deployments.apps",
            "replicasets.apps",
            "statefulsets.apps",
            "daemonsets.apps",
        ),
        ("spec", "template"),
    ),
}
_PREPARED = frozenset({"pods", *_PROTECTED})
_CHECKED = frozenset({"pods", CLAIMS, PRIORITY_CLASSES})


def limit_ranges(state: ServerState, namespace: str) -> list[Object]:
    return [entry.peek() for entry in state.store.table(LIMIT_RANGES).scan(namespace)]


def prepare(state: ServerState, kind: Kind, new: Object, old: Object | None) -> None:
    """Change an object before anybody else sees it, in place; again after webhooks changed it."""
    resource = kind.storage.qualified_name
    if old is not None or resource not in _PREPARED:
        return
    if resource == "pods":
        if ranges := limit_ranges(state, new["metadata"].get("namespace", "")):
            add_defaults(new, ranges)
            new["status"]["qosClass"] = quality_of_service(new["spec"])
        return
    metadata: Object = new["metadata"]
    finalizers: list[str] = metadata.get("finalizers") or []
    if _PROTECTED[resource] not in finalizers:
        metadata["finalizers"] = [*finalizers, _PROTECTED[resource]]
    if resource == CLAIMS:
        _add_storage_class(state, new)


def _add_storage_class(state: ServerState, claim: Object) -> None:
    if claim["spec"].get("storageClassName") is not None or _BETA_CLASS in (
        claim["metadata"].get("annotations") or {}
    ):
        return
    # Of several defaults the newest counts, then the first by name.
    newest = max(
        (entry for entry in state.store.table(STORAGE_CLASSES).scan() if _is_default(entry.peek())),
        key=lambda entry: entry.peek()["metadata"].get("creationTimestamp", ""),
        default=None,
    )
    if newest is not None:
        claim["spec"]["storageClassName"] = newest.name


def _is_default(storage_class: Object) -> bool:
    annotations: Object = storage_class["metadata"].get("annotations") or {}
    return any(annotations.get(name) == "true" for name in _DEFAULT_CLASS)


def check(
    state: ServerState, call: Call, kind: Kind, new: Object, old: Object | None, subresource: str
) -> None:
    """Raises StatusError 403. Warnings and notes for the audit log go to the call."""
    resource = kind.storage.qualified_name
    if resource in _TEMPLATES:
        _check_pod_security(state, call, new, old, subresource)
    elif resource == "namespaces" and not subresource:
        _check_labels(state, call, new, old)
    if resource not in _CHECKED or (subresource and subresource != "resize"):
        return
    metadata: Object = new["metadata"]
    namespace, name = metadata.get("namespace", ""), metadata.get("name", "")
    if resource == PRIORITY_CLASSES:
        _check_priority_class(state, kind, new)
        return
    if old is not None and "deletionTimestamp" in old["metadata"]:
        return
    if resource == "pods" and old is not None and subresource != "resize":
        return
    problems_of = pod_problems if resource == "pods" else claim_problems
    for limit_range in limit_ranges(state, namespace):
        problems = problems_of(new, limit_range)
        if problems:
            raise status.forbidden(kind.resource, name, aggregate(problems))


def _check_pod_security(
    state: ServerState, call: Call, new: Object, old: Object | None, subresource: str
) -> None:
    """Pods must meet what their namespace enforces; pods and templates are warned about."""
    entry = state.store.get("namespaces", "", new["metadata"].get("namespace", ""))
    if entry is None or not any(key.startswith(PREFIX) for key in entry.labels):
        return
    resource = call.kind.storage.qualified_name
    is_pod = resource == "pods"
    if subresource and not (is_pod and subresource in ("ephemeralcontainers", "resize")):
        return
    if is_pod and old is not None and not is_significant(new, old):
        return
    pod: Any = new
    for step in _TEMPLATES[resource]:
        pod = pod.get(step) or {}
    metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    enforced = standard_of(entry.labels, "enforce")
    if is_pod:
        call.annotations["pod-security.kubernetes.io/enforce-policy"] = str(enforced)
        found = violations(enforced, metadata, spec)
        if found:
            name = new["metadata"].get("name", "")
            raise status.forbidden(call.kind.resource, name, f'violates PodSecurity "{enforced}": {found}')
    for mode in ("audit", "warn"):
        standard = standard_of(entry.labels, mode)
        found = violations(standard, metadata, spec)
        if found:
            text = f'would violate PodSecurity "{standard}": {found}'
            if mode == "warn":
                call.warnings.append(text)
            else:
                call.annotations["pod-security.kubernetes.io/audit-violations"] = text


def _check_labels(state: ServerState, call: Call, new: Object, old: Object | None) -> None:
    """Labels must name levels; who makes a level stricter is told which pods break it. Raises StatusError 422."""
    labels: dict[str, str] = new["metadata"].get("labels") or {}
    if not any(key.startswith(PREFIX) for key in labels):
        return
    name = new["metadata"]["name"]
    problems = [
        status.invalid_value(f"metadata.labels[{key}]", labels[key], text)
        for key, text in label_problems(labels)
    ]
    before: dict[str, str] = (old or {}).get("metadata", {}).get("labels") or {}
    if problems and any(before.get(key) != value for key, value in labels.items() if key.startswith(PREFIX)):
        raise status.invalid("Namespace", "", name, problems)
    enforced = standard_of(labels, "enforce")
    if old is None or enforced == standard_of(before, "enforce"):
        return
    pods = [entry.peek() for entry in state.store.table("pods").scan(name)]
    call.warnings += existing_violations(name, enforced, pods)


def _check_priority_class(state: ServerState, kind: Kind, new: Object) -> None:
    """Only one may be what pods get that name none."""
    if not new.get("globalDefault"):
        return
    name = new["metadata"].get("name", "")
    for entry in state.store.table(PRIORITY_CLASSES).scan():
        if entry.name != name and entry.peek().get("globalDefault"):
            raise status.forbidden(
                kind.resource,
                name,
                f"PriorityClass {entry.name} is already marked as default. Only one default can exist",
            )


def charge(
    state: ServerState,
    call: Call,
    new: Object,
    old: Object | None,
    decision: Object,
    *,
    subresource: str = "",
) -> Decision:
    """The decision together with what it counts in the quotas of its namespace."""
    kind = call.kind
    namespace = new["metadata"].get("namespace", "")
    quotas = state.store.table(QUOTAS)
    if not namespace or not quotas.entries or not quotas.count(namespace):
        return decision
    resource = kind.storage.qualified_name
    if not counts(resource, subresource, new, old):
        return decision

    def charges() -> list[tuple[Key, Object]]:
        stored = [entry.peek() for entry in quotas.scan(namespace)]
        try:
            changed = charged(stored, resource, new, old, time.time(), checked=subresource != "status")
        except OverQuota as problem:
            raise status.forbidden(kind.resource, new["metadata"].get("name", ""), str(problem)) from None
        return [(Key(QUOTAS, namespace, quota["metadata"]["name"]), quota) for quota in changed]

    return Charged(decision, charges)
