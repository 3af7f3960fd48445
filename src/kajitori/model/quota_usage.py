"""What an object counts in a ResourceQuota: how much of what, and whether a quota's scopes take it in.

Pure. The API server charges with it when an object is written, the quota controller counts again with it.
Resources are named by their qualified name (`pods`, `deployments.apps`); amounts are those of `pod_resources`.
Source: the Kubernetes documentation, "Resource Quotas", and the behaviour of kube-apiserver 1.36.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from kajitori.base.clock import parse_rfc3339
from kajitori.model.pod_resources import (
    Amount,
    Amounts,
    add,
    amounts,
    has_pod_level_resources,
    pod_limits,
    pod_requests,
    raise_to,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Object = dict[str, Any]
ONE = Amount(Fraction(1))
NONE = Amount(Fraction(0))
# Names from before counts of any resource could be limited.
OLD_NAMES = frozenset(
    {
        "configmaps",
        "persistentvolumeclaims",
        "pods",
        "replicationcontrollers",
        "resourcequotas",
        "secrets",
        "services",
    }
)
_POD_NAMES = frozenset(
    {
        "count/pods",
        "pods",
        "cpu",
        "memory",
        "ephemeral-storage",
        "requests.cpu",
        "requests.memory",
        "requests.ephemeral-storage",
        "limits.cpu",
        "limits.memory",
        "limits.ephemeral-storage",
    }
)
_MUST_BE_SET = frozenset({"cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"})
_SERVICE_NAMES = frozenset({"count/services", "services", "services.nodeports", "services.loadbalancers"})
_OF_CLASS = ".storageclass.storage.k8s.io/"
_CLAIM_NAMES = ("persistentvolumeclaims", "requests.storage")
_REQUESTS = "requests."
_HUGE_PAGES = "hugepages-"
_DEVICE_CLASS = "requests.deviceclass.resource.kubernetes.io/"


def count_name(resource: str) -> str:
    """`count/deployments.apps`."""
    return f"count/{resource}"


# --- which names of a quota a kind has a part in


def tracked_names(resource: str, names: Iterable[str]) -> list[str]:
    """Those of a quota's names that objects of this resource count in."""
    match resource:
        case "pods":
            return [name for name in names if name in _POD_NAMES or _is_other_pod_resource(name)]
        case "services":
            return [name for name in names if name in _SERVICE_NAMES]
        case "persistentvolumeclaims":
            return [name for name in names if _is_claim_name(name)]
        case _:
            own = {count_name(resource), resource} if resource in OLD_NAMES else {count_name(resource)}
            return [name for name in names if name in own]


def _is_other_pod_resource(name: str) -> bool:
    if name.startswith((_HUGE_PAGES, _REQUESTS + _HUGE_PAGES)):
        return True
    return name.startswith(_REQUESTS) and (not _is_native(name) or name.startswith(_DEVICE_CLASS))


def _is_native(name: str) -> bool:
    return "/" not in name or "kubernetes.io/" in name


def _is_claim_name(name: str) -> bool:
    if name in ("count/persistentvolumeclaims", *_CLAIM_NAMES):
        return True
    return any(name.endswith(_OF_CLASS + part) for part in _CLAIM_NAMES)


# --- how much


def usage_of(resource: str, obj: Object, now: float) -> Amounts:
    """What the object counts. now: Unix time; a pod that should be gone by now counts as an object only."""
    match resource:
        case "pods":
            return _pod_usage(obj, now)
        case "services":
            return _service_usage(obj)
        case "persistentvolumeclaims":
            return _claim_usage(obj)
        case _:
            usage = {count_name(resource): ONE}
            if resource in OLD_NAMES:
                usage[resource] = ONE
            return usage


def _pod_usage(pod: Object, now: float) -> Amounts:
    usage: Amounts = {"count/pods": ONE}
    if not holds_resources(pod, now):
        return usage
    add(usage, _computed(pod_requests(pod, actual=True), pod_limits(pod)))
    return usage


def holds_resources(pod: Object, now: float) -> bool:
    """Whether a pod still counts: it has not ended, and is not long past the time it was given to end."""
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return False
    metadata: Object = pod.get("metadata") or {}
    deletion, grace = metadata.get("deletionTimestamp"), metadata.get("deletionGracePeriodSeconds")
    return deletion is None or grace is None or now <= parse_rfc3339(deletion) + grace


def _computed(requests: Mapping[str, Amount], limits: Mapping[str, Amount]) -> Amounts:
    """Requests and limits under the names that quotas give them."""
    usage: Amounts = {"pods": ONE}
    for name in ("cpu", "memory", "ephemeral-storage"):
        if name in requests:
            usage[name] = usage[_REQUESTS + name] = requests[name]
        if name in limits:
            usage["limits." + name] = limits[name]
    for name, value in requests.items():
        if name.startswith(_HUGE_PAGES):
            usage[name] = usage[_REQUESTS + name] = value
        elif not _is_native(name) and not name.startswith(_REQUESTS):
            usage[_REQUESTS + name] = value
    return usage


def _service_usage(service: Object) -> Amounts:
    spec: Object = service.get("spec") or {}
    ports: list[Object] = spec.get("ports") or []
    usage: Amounts = {
        "count/services": ONE,
        "services": ONE,
        "services.loadbalancers": NONE,
        "services.nodeports": NONE,
    }
    kind = spec.get("type")
    if kind in ("NodePort", "LoadBalancer"):
        count = len(ports)
        if kind == "LoadBalancer":
            usage["services.loadbalancers"] = ONE
            if spec.get("allocateLoadBalancerNodePorts") is False:
                count = sum(1 for port in ports if port.get("nodePort"))
        usage["services.nodeports"] = Amount(Fraction(count))
    return usage


def storage_class_of(claim: Object) -> str:
    annotations: Object = (claim.get("metadata") or {}).get("annotations") or {}
    beta = annotations.get("volume.beta.kubernetes.io/storage-class")
    return beta if beta is not None else (claim.get("spec") or {}).get("storageClassName") or ""


def _claim_usage(claim: Object) -> Amounts:
    usage: Amounts = {"count/persistentvolumeclaims": ONE, "persistentvolumeclaims": ONE}
    storage = amounts(((claim.get("spec") or {}).get("resources") or {}).get("requests"))
    storage = {name: value for name, value in storage.items() if name == "storage"}
    if storage:
        allocated = amounts((claim.get("status") or {}).get("allocatedResources"))
        raise_to(storage, {name: value for name, value in allocated.items() if name == "storage"})
        value, binary = storage["storage"]
        usage["requests.storage"] = Amount(Fraction(-(-value.numerator // value.denominator)), binary)
    storage_class = storage_class_of(claim)
    if storage_class:
        for name in _CLAIM_NAMES:
            if name in usage:
                usage[storage_class + _OF_CLASS + name] = usage[name]
    return usage


# --- scopes


def scope_requirements(quota_spec: Object) -> list[Object]:
    """Scopes and the scope selector of a quota, as one list of `scopeName`, `operator`, `values`."""
    selector: Object = quota_spec.get("scopeSelector") or {}
    return [
        *({"scopeName": scope, "operator": "Exists"} for scope in quota_spec.get("scopes") or ()),
        *(selector.get("matchExpressions") or ()),
    ]


def in_scopes(resource: str, obj: Object, quota_spec: Object) -> bool:
    """Whether all scopes of a quota take the object in; only pods and claims have any."""
    return all(_in_scope(resource, obj, requirement) for requirement in scope_requirements(quota_spec))


def _in_scope(resource: str, obj: Object, requirement: Object) -> bool:
    scope = requirement.get("scopeName")
    if resource == "persistentvolumeclaims":
        return scope == "VolumeAttributesClass" and _selects(requirement, _attribute_classes(obj))
    if resource != "pods":
        return False
    match scope:
        case "Terminating":
            return is_terminating(obj)
        case "NotTerminating":
            return not is_terminating(obj)
        case "BestEffort":
            return is_best_effort(obj)
        case "NotBestEffort":
            return not is_best_effort(obj)
        case "PriorityClass":
            name = (obj.get("spec") or {}).get("priorityClassName")
            return _selects(requirement, [name] if name else [])
        case "CrossNamespacePodAffinity":
            return _reaches_other_namespaces(obj)
        case _:
            return False


def _selects(requirement: Object, names: list[str]) -> bool:
    values = requirement.get("values") or ()
    match requirement.get("operator"):
        case "Exists":
            return bool(names)
        case "DoesNotExist":
            return not names
        case "In":
            return any(name in values for name in names)
        case "NotIn":
            return not names or any(name not in values for name in names)
        case _:
            return False


def is_terminating(pod: Object) -> bool:
    """Whether a pod has a deadline, which is what the scope means."""
    deadline = (pod.get("spec") or {}).get("activeDeadlineSeconds")
    return deadline is not None and deadline >= 0


def is_best_effort(pod: Object) -> bool:
    """Whether no container asks for cpu or memory."""
    spec: Object = pod.get("spec") or {}
    holders = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ()), spec]
    for holder in holders:
        resources: Object = holder.get("resources") or {}
        for what in ("requests", "limits"):
            asked = amounts(resources.get(what))
            if any(asked[name].value > 0 for name in ("cpu", "memory") if name in asked):
                return False
    return True


def _reaches_other_namespaces(pod: Object) -> bool:
    affinity: Object = (pod.get("spec") or {}).get("affinity") or {}
    for side in ("podAffinity", "podAntiAffinity"):
        terms: Object = affinity.get(side) or {}
        wanted: list[Object] = [
            *(terms.get("requiredDuringSchedulingIgnoredDuringExecution") or ()),
            *(
                weighted.get("podAffinityTerm") or {}
                for weighted in terms.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
            ),
        ]
        if any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in wanted):
            return True
    return False


def _attribute_classes(claim: Object) -> list[str]:
    spec, status = claim.get("spec") or {}, claim.get("status") or {}
    names = (
        spec.get("volumeAttributesClassName"),
        status.get("currentVolumeAttributesClassName"),
        (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName"),
    )
    return sorted({name for name in names if name})


def applies(resource: str, obj: Object, quota_spec: Object, hard: Iterable[str]) -> bool:
    """Whether an object counts in a quota at all. hard: the names that the quota limits."""
    return bool(tracked_names(resource, hard)) and in_scopes(resource, obj, quota_spec)


# --- what a pod must say where a quota limits cpu or memory


def missing_values(pod: Object, names: Iterable[str]) -> str:
    """`must specify limits.cpu for: web; ...`, empty if every container says what the quota's names ask for."""
    wanted = sorted(_MUST_BE_SET & set(names))
    if not wanted or has_pod_level_resources(pod):
        return ""
    lacking: dict[str, set[str]] = {}
    spec: Object = pod.get("spec") or {}
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        resources: Object = container.get("resources") or {}
        said = _computed(amounts(resources.get("requests")), amounts(resources.get("limits")))
        for name in wanted:
            if name not in said:
                lacking.setdefault(name, set()).add(container.get("name", ""))
    if not lacking:
        return ""
    listed = "; ".join(f"{name} for: {','.join(sorted(lacking[name]))}" for name in sorted(lacking))
    return f"must specify {listed}"
