"""A second opinion on where a gang may go: every assignment of a few pods to a few nodes is tried."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kajitori.scheduling.demand import Demand
from kajitori.scheduling.filters import filters_for
from kajitori.scheduling.state import ClusterState

HOST = "kubernetes.io/hostname"


def assignment(members: Sequence[Demand], names: Iterable[str], state: ClusterState) -> dict[str, str] | None:
    """Nodes for all members among these; None if there are none. Each is asked of as the one-pod filters do."""
    names = list(names)
    if not members:
        return {}
    demand, rest = members[0], members[1:]
    filters = filters_for(demand, state)
    for name in names:
        node = state.nodes[name]
        if any(refuse(node) for refuse in filters):
            continue
        state.place(demand, name)
        try:
            found = assignment(rest, names, state)
        finally:
            state.remove(demand.uid)
        if found is not None:
            return {demand.uid: name, **found}
    return None


def domains(state: ClusterState, labels: Sequence[str]) -> list[list[str]]:
    """Names of nodes by their values of all the labels; nodes that lack one are left out."""
    grouped: dict[tuple[str, ...], list[str]] = {}
    for node in state.nodes.values():
        if all(label in node.labels for label in labels):
            grouped.setdefault(tuple(node.labels[label] for label in labels), []).append(node.name)
    return list(grouped.values())


def closest(
    members: Sequence[Demand], state: ClusterState, required: Sequence[str], preferred: Sequence[str]
) -> int | None:
    """The closest level that takes the gang: 0 one node, 1 and up the preferred labels, the last whatever is required."""
    levels = [(HOST,), *((label,) for label in preferred), ()]
    for position, level in enumerate(levels):
        if any(
            assignment(members, names, state) is not None for names in domains(state, [*required, *level])
        ):
            return position
    return None
