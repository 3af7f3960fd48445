"""Where pods go: a batch of pods and a state in, a decision for each out. Pure: no clock, no chance, no I/O.

Pods are taken by priority, then by age. Each one that finds a node is put into the state before the next is looked at,
so the batch is planned as a whole; whoever carries it out takes back from the state what did not succeed. A batch, not a
pod, is the unit on purpose: groups that are placed all or none will be planned here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from kajitori.scheduling.pods import Decision, decide
from kajitori.scheduling.preemption import Preemption, preempt, waits_for_victims

if TYPE_CHECKING:
    from kajitori.scheduling.demand import Demand
    from kajitori.scheduling.state import ClusterState
    from kajitori.scheduling.views import BudgetView


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
