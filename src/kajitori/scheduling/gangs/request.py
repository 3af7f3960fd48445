"""What a gang asks of the cluster, as a `Problem` of arrays. Pure.

Pods that ask the same are one shape; a shape of one pod, such as a leader, comes first. Required labels of nodes make
domains of which the gang needs one; where a gang does not say how close it wants to be, the usual labels of racks and
zones do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from kajitori.scheduling.gangs.placement import Problem, Shape
from kajitori.scheduling.gangs.rules import Rules
from kajitori.scheduling.gangs.table import Bools, Ints, NodeTable

if TYPE_CHECKING:
    from kajitori.scheduling.demand import Demand
    from kajitori.scheduling.state import ClusterState

# Where a gang says nothing, it is kept together as well as these labels allow: the closest first.
USUAL_TOPOLOGY = (
    "nvidia.com/gpu.clique",
    "kajitori.dev/rack",
    "cloud.provider.com/topology-rack",
    "cloud.google.com/gce-topology-subblock",
    "cloud.provider.com/topology-block",
    "cloud.google.com/gce-topology-block",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
)


class Request(msgspec.Struct):
    """A gang's members by shape, and the problem that they pose.

    resources: names of the problem's columns, as far as they are not made up. required: labels of which all members must share the value. levels: those that were tried, beside the required ones, the
    closest first; the last is empty for the loosest that is allowed. odd: whether the
    problem leaves out something that members ask of each other.
    """

    members: list[list[Demand]]
    problem: Problem
    resources: list[str]
    required: tuple[str, ...]
    levels: list[tuple[str, ...]]
    odd: bool


def request_of(members: Sequence[Demand], state: ClusterState, table: NodeTable) -> Request:
    """members: of one gang, those that have no node yet."""
    rules = Rules(members, state, table)
    gang = members[0].gang
    wished = gang.preferred_topology if gang is not None and gang.preferred_topology else USUAL_TOPOLOGY
    stated = (gang.required_topology,) if gang is not None and gang.required_topology else ()
    required = tuple(dict.fromkeys((*stated, *rules.together)))
    closer = [(label,) for label in wished if label not in required and table.column(label).values]
    levels = [*closer, ()]
    allowed = table.domains(required)
    groups: dict[tuple[bytes, tuple[int, ...], bytes], tuple[list[Demand], Bools | None]] = {}
    for demand in members:
        mask = rules.mask(demand)
        key = (demand.node_shape, rules.amounts(demand), b"" if mask is None else mask.tobytes())
        groups.setdefault(key, ([], mask))[0].append(demand)
    # A leader stands for itself, and first.
    chosen = sorted(groups.values(), key=lambda group: len(group[0]))
    resources = sorted(
        {name for group, _ in chosen for name, wanted in group[0].requests.items() if wanted > 0}
    )
    shapes = [
        _shape(group, mask, table, resources, rules, allowed if required else None) for group, mask in chosen
    ]
    problem = Problem(
        free=(*(table.free(name) for name in resources), *rules.limits),
        shapes=shapes,
        levels=[table.domains((*required, *level)) for level in levels],
        tight=any(demand.extended for demand in members),
    )
    return Request([group for group, _ in chosen], problem, resources, required, levels, rules.odd)


def _shape(
    group: list[Demand],
    mask: Bools | None,
    table: NodeTable,
    resources: list[str],
    rules: Rules,
    allowed: Ints | None,
) -> Shape:
    rows = table.shape(group[0])
    where, fit = rows.mask, rows.fit
    for more in (mask, None if allowed is None else allowed > 0):
        if more is not None:
            where, fit = where & more, np.where(more, fit, 0)
    limited = rules.amounts(group[0])
    for most, amount in zip(rules.limits, limited, strict=True):
        if amount:
            fit = np.minimum(fit, most // amount)
    amounts = (*(group[0].requests.get(name, 0) for name in resources), *limited)
    return Shape(len(group), amounts, where, fit)
