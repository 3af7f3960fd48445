"""Whether a node suits a pod by what the node is: labels, taints. Pure.

Source: the API reference, NodeSelectorRequirement, Taint, Toleration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kajitori.laptop.controllers.node_plan import tolerates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kajitori.api.kubernetes.core_v1 import NodeSelectorRequirement, NodeSelectorTerm, Taint, Toleration
    from kajitori.laptop.scheduler.demand import Demand
    from kajitori.laptop.scheduler.state import NodeState

UNSCHEDULABLE = "node.kubernetes.io/unschedulable"


def suits(demand: Demand, node: NodeState) -> bool:
    """Node selector and required node affinity."""
    labels = node.labels
    if any(labels.get(key) != value for key, value in demand.node_selector.items()):
        return False
    if demand.node_terms is None:
        return True
    return any(term_holds(term, labels, node.name) for term in demand.node_terms)


def term_holds(term: NodeSelectorTerm, labels: Mapping[str, str], node_name: str) -> bool:
    """All requirements of one term; a term without any holds nowhere."""
    if not term.match_expressions and not term.match_fields:
        return False
    return all(
        _holds(requirement, labels.get(requirement.key)) for requirement in term.match_expressions
    ) and all(
        requirement.key == "metadata.name" and _holds(requirement, node_name)
        for requirement in term.match_fields
    )


def _holds(requirement: NodeSelectorRequirement, value: str | None) -> bool:
    match requirement.operator:
        case "In":
            return value in requirement.values
        case "NotIn":
            return value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            return _compares(requirement, value)
        case _:
            return False


def _compares(requirement: NodeSelectorRequirement, value: str | None) -> bool:
    try:
        left, right = int(value or ""), int(requirement.values[0])
    except (ValueError, IndexError):
        return False
    return left > right if requirement.operator == "Gt" else left < right


def first_untolerated(
    taints: Sequence[Taint],
    tolerations: Sequence[Toleration],
    effects: Sequence[str] = ("NoSchedule", "NoExecute"),
) -> Taint | None:
    """The first taint of these effects that no toleration covers."""
    for taint in taints:
        if taint.effect in effects and not any(tolerates(toleration, taint) for toleration in tolerations):
            return taint
    return None


def tolerates_unschedulable(tolerations: Sequence[Toleration]) -> bool:
    """Whether a pod may go to a cordoned node."""
    return any(
        toleration.effect in (None, "", "NoSchedule")
        and toleration.operator == "Exists"
        and (not toleration.key or toleration.key == UNSCHEDULABLE)
        for toleration in tolerations
    )
