"""Which of the nodes that would do is best. Pure.

Each score gives a node 0 to 100 and has a weight; the weights are kube-scheduler's. Pods that ask for devices are packed
(most allocated first), so that room for large groups stays whole; all others are spread. The members of a group with
devices are drawn to one node: the first one goes where there is room for all, as far as earlier groups leave any.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kajitori.model.selection import node_term_holds
from kajitori.model.taints import first_untolerated
from kajitori.scheduling.filters import spread_counts

if TYPE_CHECKING:
    from kajitori.scheduling.demand import Demand
    from kajitori.scheduling.state import ClusterState, NodeState

BEST = 100.0
_TAINTS_WEIGHT = 3.0
_NODE_AFFINITY_WEIGHT = 2.0
_POD_AFFINITY_WEIGHT = 2.0
_SPREAD_WEIGHT = 2.0
# More than all others together: communication within a group is what its speed hangs on.
_GROUP_WEIGHT = 20.0


def rank(demand: Demand, nodes: Sequence[NodeState], state: ClusterState) -> list[tuple[NodeState, float]]:
    """The nodes with their totals, the best first; equal ones in the order in which they were given."""
    totals = [0.0] * len(nodes)
    for weight, values in _scores(demand, nodes, state):
        for position, value in enumerate(values):
            totals[position] += weight * value
    order = sorted(range(len(nodes)), key=lambda position: -totals[position])
    return [(nodes[position], totals[position]) for position in order]


def _scores(
    demand: Demand, nodes: Sequence[NodeState], state: ClusterState
) -> list[tuple[float, list[float]]]:
    scores = [(1.0, _each(nodes, lambda node: _room(demand, node)))]
    if demand.extended:
        if demand.group_size > 1:
            scores.append((_GROUP_WEIGHT, _with_its_group(demand, nodes, state)))
    else:
        scores.append((1.0, _each(nodes, lambda node: _balance(demand, node))))
        if demand.owner:
            scores.append(
                (_SPREAD_WEIGHT, _fewest(_each(nodes, lambda node: node.owners.get(demand.owner, 0))))
            )
    if any(taint.effect == "PreferNoSchedule" for node in nodes for taint in node.taints):
        scores.append((_TAINTS_WEIGHT, _fewest(_each(nodes, lambda node: _disliked(demand, node)))))
    if demand.preferred_nodes:
        scores.append((_NODE_AFFINITY_WEIGHT, _most(_each(nodes, lambda node: _liked(demand, node)))))
    if demand.preferred:
        scores.append((_POD_AFFINITY_WEIGHT, _scaled(_near(demand, nodes, state))))
    for spread in demand.soft_spread:
        counts = spread_counts(demand, spread, state)
        key, crowded = spread.topology_key, max(counts.values(), default=0) + 1
        crowding = [float(counts.get(node.labels.get(key, ""), crowded)) for node in nodes]
        scores.append((_SPREAD_WEIGHT, _fewest(crowding)))
    return scores


def _each(nodes: Sequence[NodeState], value: Callable[[NodeState], float]) -> list[float]:
    return [value(node) for node in nodes]


def _room(demand: Demand, node: NodeState) -> float:
    """How empty the node would be (cpu and memory), or for devices how full, from 0 to 100."""
    names = demand.extended or ["cpu", "memory"]
    shares = _shares(demand, node, names)
    if not shares:
        return 0.0
    mean = sum(shares) / len(shares)
    return BEST * (mean if demand.extended else 1.0 - mean)


def _shares(demand: Demand, node: NodeState, names: Sequence[str]) -> list[float]:
    """The used part of each resource with this pod on the node."""
    shares: list[float] = []
    for name in names:
        capacity = node.allocatable.get(name, 0)
        if capacity > 0:
            used = node.used.get(name, 0) + demand.requests.get(name, 0)
            shares.append(min(1.0, used / capacity))
    return shares


def _balance(demand: Demand, node: NodeState) -> float:
    """100 where cpu and memory would be used alike."""
    shares = _shares(demand, node, ["cpu", "memory"])
    return BEST * (1.0 - abs(shares[0] - shares[1]) / 2) if len(shares) == 2 else BEST


def _with_its_group(demand: Demand, nodes: Sequence[NodeState], state: ClusterState) -> list[float]:
    """Where the group's pods are, or before there are any, which part of the group each node has room for."""
    members = state.group_members(demand.group)
    if members:
        return _most([float(members.get(node.name, 0)) for node in nodes])
    rooms = [float(demand.group_size)] * len(nodes)
    for resource in demand.extended:
        claims = state.claims(resource)
        for position, node in enumerate(nodes):
            free = node.free(resource) - claims.get(node.name, 0)
            rooms[position] = min(rooms[position], max(0, free // demand.requests[resource]))
    return [BEST * room / demand.group_size for room in rooms]


def _disliked(demand: Demand, node: NodeState) -> float:
    """Taints that ask pods to stay away, and that the pod does not tolerate."""
    return sum(
        first_untolerated([taint], demand.tolerations, ("PreferNoSchedule",)) is not None
        for taint in node.taints
    )


def _liked(demand: Demand, node: NodeState) -> float:
    """Weights of the preferred node affinity that holds."""
    return sum(
        term.weight
        for term in demand.preferred_nodes
        if term.preference is not None and node_term_holds(term.preference, node.labels, node.name)
    )


def _near(demand: Demand, nodes: Sequence[NodeState], state: ClusterState) -> list[float]:
    """Weighted counts of pods that this one prefers to be near, minus those that it prefers to be far from."""
    values = [0.0] * len(nodes)
    for term in demand.preferred:
        counts = state.by_domain(state.count(term.selection), term.topology_key)
        for position, node in enumerate(nodes):
            values[position] += term.weight * counts.get(node.labels.get(term.topology_key, ""), 0)
    return values


def _most(values: list[float]) -> list[float]:
    """Scaled so that the largest gets 100."""
    largest = max(values, default=0.0)
    return [BEST * value / largest for value in values] if largest > 0 else [0.0] * len(values)


def _fewest(values: list[float]) -> list[float]:
    """Scaled so that 0 gets 100 and the largest gets 0."""
    largest = max(values, default=0.0)
    return [BEST * (largest - value) / largest for value in values] if largest > 0 else [BEST] * len(values)


def _scaled(values: list[float]) -> list[float]:
    """Scaled to 0 for the smallest and 100 for the largest."""
    smallest, largest = min(values, default=0.0), max(values, default=0.0)
    return [
        BEST * (value - smallest) / (largest - smallest) if largest > smallest else 0.0 for value in values
    ]
