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
from kajitori.laptop.apiserver.admission.quotas import OverQuota, charged, counts
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
        add_defaults(new, limit_ranges(state, new["metadata"].get("namespace", "")))
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


def check(state: ServerState, kind: Kind, new: Object, old: Object | None, subresource: str) -> None:
    """Raises StatusError 403."""
    resource = kind.storage.qualified_name
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
