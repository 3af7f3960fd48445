"""Where one pod goes: a pod and a state in, a decision out. Pure: no clock, no chance, no I/O.

Every node is asked by the filters, and the scores choose among those that would do. A pod that no node would take is told
so in kube-scheduler's words, and where no node ever could, what would have to change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from typing import TYPE_CHECKING

import msgspec

from kajitori.base.quantity import format_quantity
from kajitori.model.taints import first_untolerated
from kajitori.scheduling.filters import filters_for
from kajitori.scheduling.node_match import suits
from kajitori.scheduling.preemption import Preemption
from kajitori.scheduling.scores import rank

if TYPE_CHECKING:
    from kajitori.scheduling.demand import Demand
    from kajitori.scheduling.state import ClusterState, NodeState

_KEPT_CANDIDATES = 5


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided about one pod, and why.

    node: empty where none will do. nodes: how many there are. refusals: how many nodes were refused for each reason.
    candidates: the best nodes with their scores. hint: what would have to change, where no node could ever take the pod.
    able: how many nodes would do. preemption: less important pods that shall go for it. words: said instead of all that.
    """

    demand: Demand
    node: str = ""
    nodes: int = 0
    refusals: dict[str, int] = {}
    candidates: list[tuple[str, float]] = []
    able: int = 0
    hint: str = ""
    words: str = ""
    preemption: Preemption | None = None

    @property
    def message(self) -> str:
        """Why the pod waits, in kube-scheduler's form, and what would help."""
        if self.words:
            return self.words
        reasons = ", ".join(sorted(f"{count} {reason}" for reason, count in self.refusals.items()))
        text = (
            f"0/{self.nodes} nodes are available: {reasons}."
            if self.nodes
            else "no nodes available to schedule pods"
        )
        return f"{text} {self.hint}" if self.hint else text


def decide(demand: Demand, state: ClusterState, within: Container[str] | None = None) -> Decision:
    """Decide about one pod; the state stays as it is. within: names of the nodes that come into question, None for all."""
    filters = filters_for(demand, state)
    refusals: Counter[str] = Counter()
    feasible: list[NodeState] = []
    for node in state.nodes.values():
        if within is not None and node.name not in within:
            continue
        for refuse in filters:
            reasons = refuse(node)
            if reasons:
                refusals.update(reasons)
                break
        else:
            feasible.append(node)
    if not feasible:
        return Decision(
            demand=demand, nodes=len(state.nodes), refusals=dict(refusals), hint=hint_for(demand, state)
        )
    ranked = rank(demand, feasible, state)
    return Decision(
        demand=demand,
        node=ranked[0][0].name,
        nodes=len(state.nodes),
        refusals=dict(refusals),
        able=len(feasible),
        candidates=[(node.name, score) for node, score in ranked[:_KEPT_CANDIDATES]],
    )


def hint_for(demand: Demand, state: ClusterState) -> str:
    """What would have to change where no node could take the pod even if it were empty; empty if one could."""
    nodes = list(state.nodes.values())
    if not nodes:
        return ""
    suitable = [node for node in nodes if suits(demand, node)]
    if not suitable:
        return f"No node will ever do: {_selector_hint(demand, nodes)}."
    tolerated = [node for node in suitable if first_untolerated(node.taints, demand.tolerations) is None]
    able = [node for node in tolerated if not _too_large(demand, node)]
    if able or not tolerated:
        return ""
    wanting = Counter(name for node in tolerated for name in _too_large(demand, node))
    parts: list[str] = []
    for name, _ in wanting.most_common():
        most = max(node.allocatable.get(name, 0) for node in tolerated)
        wanted = demand.requests[name]
        if most == 0:
            parts.append(f"no node has any {name}")
        elif wanted > most:
            parts.append(
                f"it asks for {written(name, wanted)} {name} and no node has more than {written(name, most)}"
            )
    what = "; ".join(parts) or "no single node has enough of everything that it asks for"
    device = next((name for name in wanting if name in demand.extended), "")
    cure = "ask for less"
    if device == "nvidia.com/gpu":
        cure = f"start the cluster with more (`kaji up --gpus {demand.requests[device]}`), or ask for less"
    return f"No node will ever do: {what}; {cure}."


def _too_large(demand: Demand, node: NodeState) -> list[str]:
    return [name for name, count in demand.requests.items() if count > node.allocatable.get(name, 0)]


def _selector_hint(demand: Demand, nodes: list[NodeState]) -> str:
    for key, value in demand.node_selector.items():
        values = sorted({node.labels[key] for node in nodes if key in node.labels})
        if value not in values:
            has = f"; nodes have {', '.join(values[:5])}" if values else ""
            return f"no node has the label {key}={value}{has}"
    return "no node matches the pod's node selector and node affinity together"


def written(name: str, count: int) -> str:
    """An amount of a resource as people write it."""
    if name == "cpu":
        return f"{count / 1000:g}"
    return format_quantity(count, binary=name in ("memory", "ephemeral-storage"))
