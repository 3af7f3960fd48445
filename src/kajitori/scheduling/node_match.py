"""Whether a node suits a pod by its labels and its name. Pure.

Source: the API reference, NodeSelectorTerm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kajitori.model.selection import node_term_holds

if TYPE_CHECKING:
    from kajitori.scheduling.demand import Demand
    from kajitori.scheduling.state import NodeState


def suits(demand: Demand, node: NodeState) -> bool:
    """Node selector and required node affinity."""
    labels = node.labels
    if any(labels.get(key) != value for key, value in demand.node_selector.items()):
        return False
    if demand.node_terms is None:
        return True
    return any(node_term_holds(term, labels, node.name) for term in demand.node_terms)
