"""What is written on a pod whose gate is opened. Pure.

While a pod is gated its node affinity may be made stricter, and only then. A field selector on the node's name is what
DaemonSets use: exact whatever the nodes' labels say, and the scheduler looks at that one node alone.

Source: KEP-3521 (scheduling gates), KEP-3838 (mutable directives), the API reference of NodeSelectorTerm.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kajitori.api.kubernetes.core_v1 import NodeSelectorTerm
from kajitori.model.gang import GATE
from kajitori.scheduling.views import PodView

_NAME = "metadata.name"


def opening_patch(pod: PodView, node: str) -> dict[str, Any]:
    """A merge patch: this very pod goes to this node, and our gate is gone. Other gates stay."""
    tie = {"key": _NAME, "operator": "In", "values": [node]}
    terms = [msgspec.to_builtins(term) for term in _terms(pod)] or [{}]
    tied = [{**term, "matchFields": [*(term.get("matchFields") or ()), tie]} for term in terms]
    gates = [{"name": gate.name} for gate in pod.spec.scheduling_gates if gate.name != GATE]
    return {
        "metadata": {"uid": pod.metadata.uid},
        "spec": {
            "schedulingGates": gates or None,
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": tied}
                }
            },
        },
    }


def tied_to(pod: PodView) -> str:
    """The one node that a pod may go to; empty if it has a choice."""
    names = {
        tuple(field.values)
        for term in _terms(pod)
        for field in term.match_fields
        if field.key == _NAME and field.operator == "In"
    }
    ties = next(iter(names)) if len(names) == 1 else ()
    return ties[0] if len(ties) == 1 else ""


def _terms(pod: PodView) -> list[NodeSelectorTerm]:
    affinity = pod.spec.affinity
    nodes = affinity.node_affinity if affinity else None
    required = nodes.required_during_scheduling_ignored_during_execution if nodes else None
    return required.node_selector_terms if required else []
