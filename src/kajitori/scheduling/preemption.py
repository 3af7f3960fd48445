"""Which pods must go so that a more important one finds room. Pure.

On each node where it would help, all less important pods are taken away in thought; if the pod then fits, as many of
them as possible may stay, those whose disruption budget would be broken first, then the more important ones. Of the
nodes the one that loses least is chosen. A gang goes as a whole, wherever its pods are. Source of the order:
kube-scheduler's default preemption. Room for a gang is made in `gangs.victims`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from kajitori.model.taints import first_untolerated, tolerates_unschedulable
from kajitori.scheduling.filters import filters_for
from kajitori.scheduling.node_match import suits
from kajitori.scheduling.units import (
    broken_budgets,
    loss,
    lower_units,
    put_back,
    stay_order,
    take_away,
    victims_of,
)

if TYPE_CHECKING:
    from kajitori.scheduling.demand import Demand
    from kajitori.scheduling.state import ClusterState, NodeState
    from kajitori.scheduling.views import BudgetView

# Enough to choose from; looking at each node of a large cluster would cost more than the best choice is worth.
_MOST_CANDIDATES = 100


class Preemption(msgspec.Struct, frozen=True):
    """Who goes so that there is room on the node. violations: how many of them their disruption budget does not allow to go."""

    node: str
    victims: list[Demand]
    violations: int = 0


def preempt(demand: Demand, state: ClusterState, budgets: Sequence[BudgetView] = ()) -> Preemption | None:
    """Room for a pod that fits nowhere; None where no node would take it even so. The state stays as it is."""
    if not demand.preempts or not state.has_less_important(demand.priority):
        return None
    candidates: list[Preemption] = []
    for node in state.nodes.values():
        found = _on_node(demand, node, state, budgets) if _may_help(demand, node) else None
        if found is not None:
            candidates.append(found)
            if len(candidates) >= _MOST_CANDIDATES:
                break
    return min(candidates, key=lambda found: loss(found.victims, found.violations), default=None)


def waits_for_victims(demand: Demand, state: ClusterState) -> bool:
    """Whether less important pods are leaving the node that was cleared for this one."""
    node = state.nodes.get(demand.nominated_node)
    return node is not None and any(
        other.leaving and other.priority < demand.priority for other in node.pods.values()
    )


def _may_help(demand: Demand, node: NodeState) -> bool:
    """Cheap questions first: what no pod's going would change, and whether there are less important pods at all."""
    if node.unschedulable and not tolerates_unschedulable(demand.tolerations):
        return False
    if first_untolerated(node.taints, demand.tolerations) is not None or not suits(demand, node):
        return False
    lower = [other for other in node.pods.values() if other.priority < demand.priority]
    return bool(lower) and all(
        node.free(name) + sum(other.requests.get(name, 0) for other in lower) >= count
        for name, count in demand.requests.items()
    )


def _on_node(
    demand: Demand, node: NodeState, state: ClusterState, budgets: Sequence[BudgetView]
) -> Preemption | None:
    units = list(lower_units(list(node.pods.values()), demand.priority, state))
    for unit in units:
        take_away(unit, state)
    away = {id(unit): unit for unit in units}
    try:
        if not units or not _fits(demand, node, state):
            return None
        broken = broken_budgets(units, budgets)
        for unit in sorted(units, key=lambda unit: stay_order(unit, broken)):
            put_back(unit, state)
            if _fits(demand, node, state):
                del away[id(unit)]
            else:
                take_away(unit, state)
        victims = victims_of(away.values())
        return Preemption(node.name, victims, sum(victim.uid in broken for victim in victims))
    finally:
        for unit in away.values():
            put_back(unit, state)


def _fits(demand: Demand, node: NodeState, state: ClusterState) -> bool:
    return not any(refuse(node) for refuse in filters_for(demand, state))
