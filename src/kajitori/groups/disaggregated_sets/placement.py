"""Where the pods of a slice may be: affinities in the templates of its LeaderWorkerSets.

They are written when a LeaderWorkerSet is made and not changed afterwards: that would replace all of its pods at once.
"""

from __future__ import annotations

from typing import Any

from kajitori.api.disaggregatedset import v1

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"

Term = dict[str, Any]


def policy_text(policy: v1.PlacementPolicy | None) -> str:
    """The policy in one line, as LeaderWorkerSets carry it; empty for none."""
    return f"{policy.type} {policy.topology}" if policy and policy.type != "None" else ""


def placed(
    pod: dict[str, Any], policy: v1.PlacementPolicy | None, name: str, namespace: str, slice: int
) -> dict[str, Any]:
    """The pod template with the policy's terms beside the user's."""
    if policy is None or policy.type == "None":
        return pod
    spec = dict(pod.get("spec") or {})
    affinity = dict(spec.get("affinity") or {})
    together = [_term(policy.topology, _is(v1.NAME_LABEL, name), _is(v1.SLICE_LABEL, str(slice)))]
    apart = [_term(policy.topology, _is(v1.NAME_LABEL, name), *_other_slice(slice))]
    if policy.type == "ExclusiveTopology":
        apart += _other_sets(policy.topology, name, namespace)
    affinity["podAffinity"] = _with(affinity.get("podAffinity"), together)
    affinity["podAntiAffinity"] = _with(affinity.get("podAntiAffinity"), apart)
    return {**pod, "spec": {**spec, "affinity": affinity}}


def _other_slice(slice: int) -> list[Term]:
    """Pods without the label are of slice 0, as v0.9.0 made them; "not in" alone would match those of any workload."""
    others = {"key": v1.SLICE_LABEL, "operator": "NotIn", "values": [str(slice)]}
    return [_has(v1.SLICE_LABEL), others] if slice == 0 else [others]


def _other_sets(topology: str, name: str, namespace: str) -> list[Term]:
    """Of another name, or of any name in another namespace."""
    elsewhere = _term(topology, _has(v1.NAME_LABEL))
    elsewhere["namespaceSelector"] = {
        "matchExpressions": [{"key": _NAMESPACE_NAME_LABEL, "operator": "NotIn", "values": [namespace]}]
    }
    others = {"key": v1.NAME_LABEL, "operator": "NotIn", "values": [name]}
    return [_term(topology, _has(v1.NAME_LABEL), others), elsewhere]


def _term(topology: str, *expressions: Term) -> Term:
    return {"topologyKey": topology, "labelSelector": {"matchExpressions": list(expressions)}}


def _is(key: str, value: str) -> Term:
    return {"key": key, "operator": "In", "values": [value]}


def _has(key: str) -> Term:
    return {"key": key, "operator": "Exists"}


def _with(affinity: dict[str, Any] | None, terms: list[Term]) -> dict[str, Any]:
    affinity = affinity or {}
    return {**affinity, _REQUIRED: [*(affinity.get(_REQUIRED) or []), *terms]}
