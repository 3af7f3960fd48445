"""Where pods go: a batch of pods and a state in, a decision for each out. Pure: no clock, no chance, no I/O.

Pods are taken by priority, then by age; the pods of a gang are taken together, at the place of the first of them, and go all
or none. Whatever finds its nodes is put into the state before the next is looked at, so the batch is planned as a whole
and of two gangs that do not fit together one runs whole and the other waits whole. Whoever carries a plan out takes back
from the state what did not succeed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from kajitori.scheduling.pods import Decision, decide
from kajitori.scheduling.preemption import Preemption, preempt, waits_for_victims

if TYPE_CHECKING:
    from kajitori.scheduling.demand import Demand
    from kajitori.scheduling.gangs.words import Refusal
    from kajitori.scheduling.state import ClusterState
    from kajitori.scheduling.views import BudgetView


def plan(
    demands: Iterable[Demand],
    state: ClusterState,
    budgets: Sequence[BudgetView] = (),
    done: Mapping[str, int] | None = None,
) -> list[Decision]:
    """Decide about each pod, in the order in which they are decided. The state then holds what was placed.

    A pod for which others must go holds its place on that node from now on, beside those that go: what
    becomes free is kept for it. demands: those of equal priority in the order of their age. done: by gang, how many of its
    pods have done their work already; a gang of which nothing is placed waits until all others are there.
    """
    batch = _Batch(state, budgets, done or {})
    decisions: list[Decision] = []
    for members in _units(demands):
        decisions += batch.pod(members[0]) if members[0].gang is None else batch.gang(members)
    return decisions


def _units(demands: Iterable[Demand]) -> Iterator[list[Demand]]:
    """Pods of their own, and gangs, by priority."""
    units: dict[str, list[Demand]] = {}
    for demand in sorted(demands, key=lambda demand: -demand.priority):
        key = f"gang {demand.group}" if demand.gang is not None else demand.uid
        units.setdefault(key, []).append(demand)
    return iter(units.values())


class _Batch:
    """What is learnt while a batch is planned: questions that were answered with no need not be asked twice."""

    def __init__(self, state: ClusterState, budgets: Sequence[BudgetView], done: Mapping[str, int]) -> None:
        self._state = state
        self._budgets = budgets
        self._done = done
        self._hopeless: dict[bytes, Decision] = {}
        self._in_vain: set[tuple[bytes, int]] = set()
        self._refused: dict[bytes, Refusal] = {}

    def pod(self, demand: Demand) -> list[Decision]:
        state = self._state
        reserved = state.node_of(demand.uid)
        if reserved:
            state.remove(demand.uid)
        known = self._hopeless.get(demand.shape) if demand.shape and not reserved else None
        # The same question again, with less room than before.
        decision = msgspec.structs.replace(known, demand=demand) if known else decide(demand, state)
        if decision.node:
            state.place(demand, decision.node)
        elif demand.nominated_node and waits_for_victims(demand, state):
            state.place(demand, demand.nominated_node)
        else:
            if demand.shape:
                self._hopeless[demand.shape] = decision
            asked = (demand.shape, demand.priority)
            found = preempt(demand, state, self._budgets) if asked not in self._in_vain else None
            if found is not None:
                decision = msgspec.structs.replace(decision, preemption=found)
                self._clear(found.victims)
                state.place(msgspec.structs.replace(demand, nominated_node=found.node), found.node)
            elif demand.shape:
                self._in_vain.add(asked)
        return [decision]

    def gang(self, members: list[Demand]) -> list[Decision]:
        # Laptops without gangs need no numpy: it costs a tenth of a second and 20 MiB.
        from kajitori.scheduling.gangs.plan import place_gang
        from kajitori.scheduling.gangs.words import incomplete

        state = self._state
        reserved = [demand for demand in members if state.remove(demand.uid)]
        there = sum(not pod.leaving for pod in state.group_pods(members[0].group).values())
        size = max(demand.group_size for demand in members)
        present = len(members) + there + self._done.get(members[0].group, 0)
        if not there and present < size:
            return [incomplete(demand, present, size) for demand in members]
        question = question_of(members, state) if not (reserved or there) else b""
        nodes = place_gang(members, state) if question not in self._refused else None
        if nodes is not None:
            for demand in members:
                state.place(demand, nodes[demand.uid])
            return [
                Decision(demand=demand, node=nodes[demand.uid], nodes=len(state.nodes)) for demand in members
            ]
        return self._refuse_gang(members, question)

    def _refuse_gang(self, members: list[Demand], question: bytes) -> list[Decision]:
        from kajitori.scheduling.gangs.victims import make_room
        from kajitori.scheduling.gangs.words import refuse

        state = self._state
        refusal = self._refused.get(question) or refuse(members, state)
        decisions = [refusal.decision(demand) for demand in members]
        if any(demand.nominated_node and waits_for_victims(demand, state) for demand in members):
            for demand in members:
                if demand.nominated_node:
                    state.place(demand, demand.nominated_node)
            return decisions
        if question:
            self._refused[question] = refusal
        asked = (question, min(demand.priority for demand in members))
        room = make_room(members, state, self._budgets) if asked not in self._in_vain else None
        if room is None:
            if question:
                self._in_vain.add(asked)
            return decisions
        self._clear(room.victims)
        preemptions: list[Decision] = []
        victims, violations = room.victims, room.violations
        for decision in decisions:
            node = room.nodes[decision.demand.uid]
            state.place(msgspec.structs.replace(decision.demand, nominated_node=node), node)
            found = Preemption(node, victims, violations)
            preemptions.append(msgspec.structs.replace(decision, preemption=found))
            # The first of them sends everybody away.
            victims, violations = [], 0
        return preemptions

    def _clear(self, victims: Sequence[Demand]) -> None:
        for victim in victims:
            if victim.nominated_node:
                # It only held its place: that is the other's now.
                self._state.remove(victim.uid)
            elif not victim.leaving:
                leaving = msgspec.structs.replace(victim, leaving=True)
                self._state.place(leaving, self._state.node_of(victim.uid))


def question_of(members: Sequence[Demand], state: ClusterState) -> bytes:
    """Equal for gangs that ask the same; empty where other pods have a say."""
    kin_there = bool(members[0].kin and state.group_pods(members[0].kin))
    if kin_there or state.keep_away or not all(demand.shape for demand in members):
        return b""
    gang = members[0].gang
    shapes = sorted(Counter(demand.node_shape for demand in members).items())
    wishes = (gang.required_topology, gang.preferred_topology) if gang is not None else ()
    return msgspec.json.encode((wishes, shapes))
