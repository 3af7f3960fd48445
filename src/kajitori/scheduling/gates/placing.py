"""Where the waiting pods of gangs go, beside those that have places already. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from kajitori.scheduling.demand import Demand
from kajitori.scheduling.plan import question_of
from kajitori.scheduling.state import ClusterState

if TYPE_CHECKING:
    from kajitori.scheduling.gangs.words import Refusal


class Placing(msgspec.Struct, frozen=True, kw_only=True):
    """nodes: by uid of the pod, empty where there is no place for all. reason: why not."""

    nodes: dict[str, str] = {}
    reason: str = ""


class Round:
    """One look at gangs that wait: of those that ask the same, the first that is refused speaks for all."""

    def __init__(self, state: ClusterState) -> None:
        self._state = state
        self._refused: dict[bytes, Refusal] = {}

    def place(self, members: Sequence[Demand], *, holds: bool) -> Placing:
        """Choose nodes for all members. The state then holds them there, or is as it was.

        holds: others of the gang have nodes already.
        """
        # Where no gang waits, nobody needs numpy.
        from kajitori.scheduling.gangs.plan import place_gang
        from kajitori.scheduling.gangs.words import refuse

        state = self._state
        question = b"" if holds else question_of(members, state)
        nodes = place_gang(members, state) if question not in self._refused else None
        if nodes is None:
            refusal = self._refused.get(question) or refuse(members, state)
            if question:
                self._refused[question] = refusal
            return Placing(reason=refusal.decision(members[0]).message)
        for demand in members:
            state.place(demand, nodes[demand.uid])
        return Placing(nodes=nodes)
