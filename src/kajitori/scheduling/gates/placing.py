"""Where the waiting pods of a gang go, given those that have places already. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kajitori.scheduling.demand import Demand, demand_of
from kajitori.scheduling.gates.members import Standing
from kajitori.scheduling.gates.opening import tied_to
from kajitori.scheduling.pods import decide
from kajitori.scheduling.state import ClusterState


class Placing(msgspec.Struct, frozen=True, kw_only=True):
    """nodes: by uid of the pod, empty where there is no place for all. reason: why not."""

    nodes: dict[str, str] = {}
    reason: str = ""


def place_waiting(standing: Standing, state: ClusterState) -> Placing:
    """Choose nodes for all pods that wait. The state then holds them there, or is as it was."""
    demands = [demand_of(pod) for pod in standing.waiting]
    key = standing.gang.required_topology
    domains = _domains(standing, state, key)
    best = ""
    for domain in domains:
        chosen, why = _try(demands, state, key, domain)
        if len(chosen) == len(demands):
            return Placing(nodes=chosen)
        best = best or why
    return Placing(reason=best)


def _domains(standing: Standing, state: ClusterState, key: str) -> list[str]:
    if not key:
        return [""]
    held = [pod.spec.node_name or tied_to(pod) for pod in (*standing.bound, *standing.tied)]
    nodes = [state.nodes[name] for name in held if name in state.nodes] or state.nodes.values()
    return sorted({node.labels[key] for node in nodes if key in node.labels})


def _try(demands: Sequence[Demand], state: ClusterState, key: str, domain: str) -> tuple[dict[str, str], str]:
    chosen: dict[str, str] = {}
    for demand in demands:
        narrowed = demand
        if key:
            narrowed = msgspec.structs.replace(demand, node_selector={**demand.node_selector, key: domain})
        decision = decide(narrowed, state)
        if not decision.node:
            for uid in chosen:
                state.remove(uid)
            return {}, decision.message
        state.place(demand, decision.node)
        chosen[demand.uid] = decision.node
    return chosen, ""
