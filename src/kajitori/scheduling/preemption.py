"""Which pods must go so that a more important one finds room. Pure.

On each node where it would help, all less important pods are taken away in thought; if the pod then fits, as many of
them as possible may stay, those whose disruption budget would be broken first, then the more important ones. Of the
nodes the one that loses least is chosen. Source of the order: kube-scheduler's default preemption.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from kajitori.model.selection import matches
from kajitori.model.taints import first_untolerated, tolerates_unschedulable
from kajitori.scheduling.filters import filters_for
from kajitori.scheduling.node_match import suits

if TYPE_CHECKING:
    from kajitori.scheduling.demand import Demand
    from kajitori.scheduling.state import ClusterState, NodeState
    from kajitori.scheduling.views import BudgetView

# Enough to choose from; looking at each node of a large cluster would cost more than the best choice is worth.
_MOST_CANDIDATES = 100


class Preemption(msgspec.Struct, frozen=True):
    """Who goes, and from where. violations: how many of them their disruption budget does not allow to go."""

    node: str
    victims: list[Demand]
    violations: int = 0


def preempt(demand: Demand, state: ClusterState, budgets: Sequence[BudgetView] = ()) -> Preemption | None:
    """Room for a pod that fits nowhere; None where no node would take it even so. The state stays as it is."""
    if not demand.preempts:
        return None
    candidates: list[Preemption] = []
    for node in state.nodes.values():
        found = _on_node(demand, node, state, budgets) if _may_help(demand, node) else None
        if found is not None:
            candidates.append(found)
            if len(candidates) >= _MOST_CANDIDATES:
                break
    return min(candidates, key=_loss, default=None)


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
    lower = [other for other in node.pods.values() if other.priority < demand.priority]
    for other in lower:
        state.remove(other.uid)
    away = {other.uid: other for other in lower}
    try:
        if not _fits(demand, node, state):
            return None
        broken = _broken_budgets(lower, budgets)
        order = sorted(lower, key=lambda other: (other.uid not in broken, -other.priority, other.created))
        for other in order:
            state.place(other, node.name)
            if _fits(demand, node, state):
                del away[other.uid]
            else:
                state.remove(other.uid)
        victims = sorted(away.values(), key=lambda other: (-other.priority, other.created))
        return Preemption(node.name, victims, sum(victim.uid in broken for victim in victims))
    finally:
        for other in away.values():
            state.place(other, node.name)


def _fits(demand: Demand, node: NodeState, state: ClusterState) -> bool:
    return not any(refuse(node) for refuse in filters_for(demand, state))


def _broken_budgets(pods: Iterable[Demand], budgets: Sequence[BudgetView]) -> set[str]:
    """Uids of pods whose going would break a disruption budget, if all of them went."""
    left = {id(budget): budget.status.disruptions_allowed for budget in budgets}
    broken: set[str] = set()
    for pod in sorted(pods, key=lambda pod: (-pod.priority, pod.created)):
        for budget in budgets:
            selector = budget.spec.selector
            if budget.metadata.namespace != pod.namespace or selector is None:
                continue
            if not matches(selector, pod.labels) or pod.name in budget.status.disrupted_pods:
                continue
            left[id(budget)] -= 1
            if left[id(budget)] < 0:
                broken.add(pod.uid)
    return broken


def _loss(found: Preemption) -> tuple[int, int, int, int, str]:
    """What a node would lose; the least is chosen. The last part breaks ties: the youngest of the most important go."""
    priorities = [victim.priority for victim in found.victims]
    highest = max(priorities, default=0)
    oldest = min((victim.created for victim in found.victims if victim.priority == highest), default="")
    # A later time is better: the digits are turned round.
    youngest_first = "".join(chr(0x7F - ord(letter)) for letter in oldest)
    return (found.violations, highest, sum(priorities), len(priorities), youngest_first)
