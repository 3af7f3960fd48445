"""Whether a node suits a pod by its labels and its name. Pure.

Source: the API reference, NodeSelectorTerm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kajitori.model.selection import holds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kajitori.api.kubernetes.core_v1 import NodeSelectorTerm
    from kajitori.laptop.scheduler.demand import Demand
    from kajitori.laptop.scheduler.state import NodeState


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
        holds(requirement.operator, requirement.values, labels.get(requirement.key))
        for requirement in term.match_expressions
    ) and all(
        requirement.key == "metadata.name" and holds(requirement.operator, requirement.values, node_name)
        for requirement in term.match_fields
    )
