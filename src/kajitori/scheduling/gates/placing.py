"""Where the waiting pods of a gang go, beside those that have places already. Pure."""

from __future__ import annotations

import msgspec

from kajitori.scheduling.demand import demand_of
from kajitori.scheduling.gates.members import Standing
from kajitori.scheduling.state import ClusterState


class Placing(msgspec.Struct, frozen=True, kw_only=True):
    """nodes: by uid of the pod, empty where there is no place for all. reason: why not."""

    nodes: dict[str, str] = {}
    reason: str = ""


def place_waiting(standing: Standing, state: ClusterState) -> Placing:
    """Choose nodes for all pods that wait. The state then holds them there, or is as it was."""
    # Where no gang waits, nobody needs numpy.
    from kajitori.scheduling.gangs.plan import place_gang
    from kajitori.scheduling.gangs.words import refuse

    demands = [demand_of(pod) for pod in standing.waiting]
    nodes = place_gang(demands, state)
    if nodes is None:
        return Placing(reason=refuse(demands, state).decision(demands[0]).message)
    for demand in demands:
        state.place(demand, nodes[demand.uid])
    return Placing(nodes=nodes)
