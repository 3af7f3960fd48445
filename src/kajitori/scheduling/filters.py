"""Why a node cannot take a pod. Pure.

A filter is prepared once for a pod and then asked for each node; it answers with reasons in kube-scheduler's words, or
with nothing where the node will do. Filters are asked in order, and the first that has reasons speaks for the node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from kajitori.model.taints import first_untolerated, tolerates_unschedulable
from kajitori.scheduling.node_match import suits

if TYPE_CHECKING:
    from kajitori.scheduling.demand import Demand, HostPort, Spread
    from kajitori.scheduling.state import ClusterState, NodeState

Filter = Callable[["NodeState"], Sequence[str]]

UNSCHEDULABLE = "node(s) were unschedulable"
AFFINITY = "node(s) didn't match Pod's node affinity/selector"
PORTS = "node(s) didn't have free ports for the requested pod ports"
SPREAD = "node(s) didn't match pod topology spread constraints"
SPREAD_LABEL = "node(s) didn't match pod topology spread constraints (missing required label)"
POD_AFFINITY = "node(s) didn't match pod affinity rules"
POD_ANTI_AFFINITY = "node(s) didn't match pod anti-affinity rules"
EXISTING_ANTI_AFFINITY = "node(s) didn't satisfy existing pods anti-affinity rules"


def filters_for(demand: Demand, state: ClusterState) -> list[Filter]:
    """The filters that matter to this pod, cheap ones first."""
    chosen: list[Filter] = [_unschedulable(demand), _taints(demand)]
    if demand.node_selector or demand.node_terms is not None:
        chosen.append(lambda node: () if suits(demand, node) else (AFFINITY,))
    if demand.host_ports:
        chosen.append(_ports(demand))
    chosen.append(_resources(demand))
    chosen += [_spread(demand, spread, state) for spread in demand.spread]
    chosen += _pod_affinity(demand, state)
    return chosen


def _unschedulable(demand: Demand) -> Filter:
    excused = tolerates_unschedulable(demand.tolerations)
    return lambda node: (UNSCHEDULABLE,) if node.unschedulable and not excused else ()


def _taints(demand: Demand) -> Filter:
    def taints(node: NodeState) -> Sequence[str]:
        taint = first_untolerated(node.taints, demand.tolerations)
        return (
            () if taint is None else (f"node(s) had untolerated taint {{{taint.key}: {taint.value or ''}}}",)
        )

    return taints


def _ports(demand: Demand) -> Filter:
    return lambda node: (PORTS,) if ports_clash(demand, node) else ()


def ports_clash(demand: Demand, node: NodeState) -> bool:
    """Whether a port of the host that the pod asks for is taken."""
    return any(_clashes(wanted, taken) for wanted in demand.host_ports for taken in node.host_ports)


def _clashes(left: HostPort, right: HostPort) -> bool:
    everywhere = "0.0.0.0"
    return left[1:] == right[1:] and (left[0] == right[0] or everywhere in (left[0], right[0]))


def _resources(demand: Demand) -> Filter:
    wanted = [(name, count) for name, count in demand.requests.items() if count > 0]

    def resources(node: NodeState) -> Sequence[str]:
        return [
            "Too many pods" if name == "pods" else f"Insufficient {name}"
            for name, count in wanted
            if node.free(name) < count
        ]

    return resources


def _spread(demand: Demand, spread: Spread, state: ClusterState) -> Filter:
    key = spread.topology_key
    counts = spread_counts(demand, spread, state)
    least = min(counts.values(), default=0) if len(counts) >= spread.min_domains else 0
    own = int(spread.counts_itself)

    def skew(node: NodeState) -> Sequence[str]:
        value = node.labels.get(key)
        if value is None:
            return (SPREAD_LABEL,)
        return () if counts.get(value, 0) + own - least <= spread.max_skew else (SPREAD,)

    return skew


def spread_counts(demand: Demand, spread: Spread, state: ClusterState) -> Mapping[str, int]:
    """Pods that the constraint counts, in each domain that the pod could be in; empty domains included."""
    on_nodes = state.count(spread.selection)
    domains: dict[str, int] = {}
    for node in state.nodes.values():
        value = node.labels.get(spread.topology_key)
        if value is None or (spread.honor_affinity and not suits(demand, node)):
            continue
        if spread.honor_taints and first_untolerated(node.taints, demand.tolerations) is not None:
            continue
        domains[value] = domains.get(value, 0) + on_nodes.get(node.name, 0)
    return domains


def _pod_affinity(demand: Demand, state: ClusterState) -> list[Filter]:
    chosen: list[Filter] = []
    if demand.affinity:
        near = [
            (term, state.by_domain(state.count(term.selection), term.topology_key))
            for term in demand.affinity
        ]
        # The first of pods that want to be near each other has nobody to be near to yet.
        first = not any(counts for _, counts in near) and all(
            state.chooses(term.selection, demand) for term in demand.affinity
        )

        def together(node: NodeState) -> Sequence[str]:
            for term, counts in near:
                value = node.labels.get(term.topology_key)
                if value is None or (not counts.get(value) and not first):
                    return (POD_AFFINITY,)
            return ()

        chosen.append(together)
    if demand.anti_affinity:
        apart = [
            (term.topology_key, state.by_domain(state.count(term.selection), term.topology_key))
            for term in demand.anti_affinity
        ]
        chosen.append(
            lambda node: (
                (POD_ANTI_AFFINITY,)
                if any(counts.get(node.labels.get(key, "")) for key, counts in apart)
                else ()
            )
        )
    against = [
        (term.topology_key, state.by_domain(nodes, term.topology_key))
        for term, nodes in state.keep_away.against(demand)
    ]
    if against:
        chosen.append(
            lambda node: (
                (EXISTING_ANTI_AFFINITY,)
                if any(counts.get(node.labels.get(key, "")) for key, counts in against)
                else ()
            )
        )
    return chosen
