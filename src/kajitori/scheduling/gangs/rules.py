"""What the members of a gang ask of other pods, as far as arrays can say it. Pure.

Affinity and anti-affinity towards pods that are there take rows away. Affinity of all members to each other makes them
share a domain (exclusive topology says it so). Host ports, and anti-affinity among members on a label that every node
has another value of, become a made-up resource: so much of it a node has, so much each pod takes. What is left (topology
spread, affinity between parts of a gang) is odd: such a gang is tried pod by pod, which may miss a placement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from kajitori.scheduling.filters import ports_clash
from kajitori.scheduling.gangs.table import Bools, Ints, NodeTable

if TYPE_CHECKING:
    from kajitori.scheduling.demand import Demand, Term
    from kajitori.scheduling.state import ClusterState

_PLENTY = 1 << 40


class Rules:
    """together: labels that members must share the value of. limits: what each row has of made-up resources. odd: see above."""

    def __init__(self, members: Sequence[Demand], state: ClusterState, table: NodeTable) -> None:
        self._members = members
        self._state = state
        self._table = table
        self.together: list[str] = []
        self.limits: list[Ints] = []
        self._taken: list[dict[str, int]] = []
        self.odd = any(demand.spread for demand in members)
        self._near = {term: self._rows_near(term) for term in _distinct(d.affinity for d in members)}
        self._far = {term: self._rows_far(term) for term in _distinct(d.anti_affinity for d in members)}
        self._against: dict[object, list[Bools]] = {}
        self._check_first()
        for port in {port[1:] for demand in members for port in demand.host_ports}:
            self._limit_port(*port)

    def amounts(self, demand: Demand) -> tuple[int, ...]:
        """What the pod takes of each made-up resource."""
        return tuple(taken.get(demand.uid, 0) for taken in self._taken)

    def mask(self, demand: Demand) -> Bools | None:
        """Rows that pods which are there already leave to this one; None for all."""
        masks = [mask for term in demand.affinity if (mask := self._near[term]) is not None]
        masks += [self._far[term] for term in demand.anti_affinity]
        keep_away = self._state.keep_away
        alike = (demand.namespace, keep_away.relevant_labels(demand))
        if alike not in self._against:
            self._against[alike] = [
                ~self._rows_with(term, nodes) for term, nodes in keep_away.against(demand)
            ]
        masks += self._against[alike]
        if demand.host_ports:
            nodes = self._state.nodes
            clear = [not name or not ports_clash(demand, nodes[name]) for name in self._table.names]
            masks.append(np.array(clear, np.bool_))
        return np.logical_and.reduce(masks) if masks else None

    def _rows_with(self, term: Term, nodes: Mapping[str, int]) -> Bools:
        """Rows in a domain of the term where one of the nodes is."""
        column = self._table.column(term.topology_key)
        wanted = np.zeros(len(column.values) + 1, np.bool_)
        for value in self._state.by_domain(nodes, term.topology_key):
            wanted[column.numbers[value]] = True
        return wanted[column.codes]

    def _chosen(self, term: Term) -> list[Demand]:
        return [demand for demand in self._members if self._state.chooses(term.selection, demand)]

    def _rows_near(self, term: Term) -> Bools | None:
        """Where pods of the term are; None where there are none yet, so that members can only be near each other."""
        nodes = self._state.count(term.selection)
        if any(self._state.by_domain(nodes, term.topology_key)):
            return self._rows_with(term, nodes)
        whole = len(self._members)
        if (
            sum(term in demand.affinity for demand in self._members) < whole
            or len(self._chosen(term)) < whole
        ):
            self.odd = True
        elif term.topology_key not in self.together:
            self.together.append(term.topology_key)
        return None

    def _check_first(self) -> None:
        """A pod may come first to where it wants company only if none of its company is anywhere."""
        for demand in self._members:
            masks = [self._near[term] is None for term in demand.affinity]
            if any(masks) and not all(masks):
                self.odd = True

    def _rows_far(self, term: Term) -> Bools:
        """Where no pod of the term is. Members that must keep apart become a limit."""
        chosen = {demand.uid for demand in self._chosen(term)}
        if chosen:
            having = {demand.uid for demand in self._members if term in demand.anti_affinity}
            column = self._table.column(term.topology_key)
            labelled = column.codes[column.codes >= 0]
            if having - chosen or len(np.unique(labelled)) < len(labelled):
                self.odd = True
            else:
                most = len(self._members)
                self.limits.append(np.where(column.codes >= 0, most, _PLENTY))
                self._taken.append({uid: most if uid in having else 1 for uid in chosen})
        return ~self._rows_with(term, self._state.count(term.selection))

    def _limit_port(self, protocol: str, number: int) -> None:
        """One pod a node."""
        wanting = [
            (demand.uid, port[0])
            for demand in self._members
            for port in demand.host_ports
            if port[1:] == (protocol, number)
        ]
        if len({address for _, address in wanting}) > 1:
            self.odd = True
            return
        self.limits.append(np.ones(len(self._table), np.int64))
        self._taken.append({uid: 1 for uid, _ in wanting})


def _distinct(terms: Iterable[Sequence[Term]]) -> list[Term]:
    return list(dict.fromkeys(term for each in terms for term in each))
