"""Where pods go: a batch of pods and a state in, a decision for each out. Pure: no clock, no chance, no I/O.

Pods are taken by priority, then by age. Each one that finds a node is put into the state before the next is looked at,
so the batch is planned as a whole; whoever carries it out takes back from the state what did not succeed. A batch, not a
pod, is the unit on purpose: groups that are placed all or none will be planned here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from kajitori.base.quantity import format_quantity
from kajitori.laptop.scheduler.filters import filters_for
from kajitori.laptop.scheduler.node_match import suits
from kajitori.laptop.scheduler.preemption import Preemption, preempt, waits_for_victims
from kajitori.laptop.scheduler.scores import rank
from kajitori.model.taints import first_untolerated

if TYPE_CHECKING:
    from kajitori.laptop.scheduler.demand import Demand
    from kajitori.laptop.scheduler.state import ClusterState, NodeState
    from kajitori.laptop.scheduler.views import BudgetView

_KEPT_CANDIDATES = 5


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided about one pod, and why.

    node: empty where none will do. nodes: how many there are. refusals: how many nodes were refused for each reason.
    candidates: the best nodes with their scores. hint: what would have to change, where no node could ever take the pod.
    preemption: less important pods that shall go for it.
    """

    demand: Demand
    node: str = ""
    nodes: int = 0
    refusals: dict[str, int] = {}
    candidates: list[tuple[str, float]] = []
    hint: str = ""
    preemption: Preemption | None = None

    @property
    def message(self) -> str:
        """Why the pod waits, in kube-scheduler's form, and what would help."""
        reasons = ", ".join(sorted(f"{count} {reason}" for reason, count in self.refusals.items()))
        text = (
            f"0/{self.nodes} nodes are available: {reasons}."
            if self.nodes
            else "no nodes available to schedule pods"
        )
        return f"{text} {self.hint}" if self.hint else text


def plan(
    demands: Iterable[Demand], state: ClusterState, budgets: Sequence[BudgetView] = ()
) -> list[Decision]:
    """Decide about each pod, in the order in which they are decided. The state then holds what was placed.

    A pod for which others must go holds its place on that node from now on, beside those that go: what
    becomes free is kept for it. demands: those of equal priority in the order of their age.
    """
    decisions: list[Decision] = []
    hopeless: dict[bytes, Decision] = {}
    in_vain: set[tuple[bytes, int]] = set()
    for demand in sorted(demands, key=lambda demand: -demand.priority):
        reserved = state.node_of(demand.uid)
        if reserved:
            state.remove(demand.uid)
        known = hopeless.get(demand.shape) if demand.shape and not reserved else None
        # The same question again, with less room than before.
        decision = msgspec.structs.replace(known, demand=demand) if known else decide(demand, state)
        if decision.node:
            state.place(demand, decision.node)
        elif demand.nominated_node and waits_for_victims(demand, state):
            state.place(demand, demand.nominated_node)
        else:
            if demand.shape:
                hopeless[demand.shape] = decision
            asked = (demand.shape, demand.priority)
            found = preempt(demand, state, budgets) if asked not in in_vain else None
            if found is not None:
                decision = msgspec.structs.replace(decision, preemption=found)
                _make_way(found, demand, state)
            elif demand.shape:
                in_vain.add(asked)
        decisions.append(decision)
    return decisions


def _make_way(found: Preemption, demand: Demand, state: ClusterState) -> None:
    for victim in found.victims:
        if victim.nominated_node:
            # It only held its place: that is the other's now.
            state.remove(victim.uid)
        else:
            state.place(msgspec.structs.replace(victim, leaving=True), found.node)
    state.place(msgspec.structs.replace(demand, nominated_node=found.node), found.node)


def decide(demand: Demand, state: ClusterState) -> Decision:
    """Decide about one pod; the state stays as it is."""
    filters = filters_for(demand, state)
    refusals: Counter[str] = Counter()
    feasible: list[NodeState] = []
    for node in state.nodes.values():
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
                f"it asks for {_written(name, wanted)} {name} and no node has more than {_written(name, most)}"
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


def _written(name: str, count: int) -> str:
    if name == "cpu":
        return f"{count / 1000:g}"
    return format_quantity(count, binary=name in ("memory", "ephemeral-storage"))
