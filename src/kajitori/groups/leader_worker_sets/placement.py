"""One group, one domain: the affinity terms that keep a group, or a subgroup, together and alone.

A domain is what shares a value of a node label, such as a rack. Every pod gets both terms, so that a group needs no
order in which its pods are placed: the first one chooses the domain, the others follow it there, and pods of other
groups stay out. The user's own terms stay, and none is added twice.
"""

from __future__ import annotations

from typing import Any

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def exclusive_affinity(affinity: dict[str, Any], topology: str, label: str, own: str) -> dict[str, Any]:
    """The affinity with both terms in it. topology: node label of a domain. label, own: of pods that belong together."""
    ours = {"key": label, "operator": "In", "values": [own]}
    others = [
        {"key": label, "operator": "Exists"},
        {"key": label, "operator": "NotIn", "values": [own]},
    ]
    return {
        **affinity,
        "podAffinity": _with_term(affinity.get("podAffinity") or {}, topology, [ours]),
        "podAntiAffinity": _with_term(affinity.get("podAntiAffinity") or {}, topology, others),
    }


def _with_term(kind: dict[str, Any], topology: str, expressions: list[dict[str, Any]]) -> dict[str, Any]:
    term = {"labelSelector": {"matchExpressions": expressions}, "topologyKey": topology}
    terms: list[dict[str, Any]] = kind.get(_REQUIRED) or []
    return kind if term in terms else {**kind, _REQUIRED: [*terms, term]}
