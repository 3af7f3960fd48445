"""Pods on nodes that do not want certain others near: required anti-affinity, seen from those that are there. Pure.

Terms that keep away every value of a label but one (exclusive topology) are kept together by label, since there is one
for each group and every pod would have to be asked about all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from kajitori.scheduling.demand import Selection, Term
from kajitori.scheduling.label_counts import Counts, minus, step

if TYPE_CHECKING:
    from collections.abc import Callable

    from kajitori.scheduling.demand import Demand

# Namespace, label, topology key.
_Kind = tuple[str, str, str]


class _Exclusive:
    """Terms of one kind. own: nodes of those that keep all but this value away."""

    __slots__ = ("all", "own")

    def __init__(self) -> None:
        self.own: dict[str, Counts] = {}
        self.all: Counts = {}


class KeepAway:
    """chooses: whether a selection includes a pod."""

    def __init__(self, chooses: Callable[[Selection, Demand], bool]) -> None:
        self._chooses = chooses
        self._terms: dict[Term, Counts] = {}
        self._exclusive: dict[_Kind, _Exclusive] = {}
        # How many terms speak of a label: a pod's other labels do not matter to any.
        self._labels: Counts = {}

    def __bool__(self) -> bool:
        return bool(self._terms or self._exclusive)

    def step(self, demand: Demand, node: str, sign: int) -> None:
        """A pod came to a node, or went."""
        for term in demand.anti_affinity:
            kind = _kind_of(term)
            if kind is None:
                nodes = self._terms.setdefault(term, {})
                step(nodes, node, sign)
                if not nodes:
                    del self._terms[term]
            else:
                self._step_exclusive(kind, term, node, sign)
            for label in _labels_of(term):
                step(self._labels, label, sign)

    def _step_exclusive(self, kind: _Kind, term: Term, node: str, sign: int) -> None:
        one = term.selection.one_label
        value = one.value if one is not None else ""
        known = self._exclusive.setdefault(kind, _Exclusive())
        own = known.own.setdefault(value, {})
        step(own, node, sign)
        step(known.all, node, sign)
        if not own:
            del known.own[value]
        if not known.all:
            del self._exclusive[kind]

    def relevant_labels(self, demand: Demand) -> tuple[str | None, ...]:
        """Pods of one namespace for which this is equal are kept away alike."""
        return tuple(demand.labels.get(label) for label in self._labels)

    def against(self, demand: Demand) -> Iterator[tuple[Term, Mapping[str, int]]]:
        """Terms that keep this pod away, with the nodes of those who say so; one stands for all of a kind."""
        for term, nodes in self._terms.items():
            if self._chooses(term.selection, demand):
                yield term, nodes
        for kind, known in self._exclusive.items():
            namespace, label, topology_key = kind
            value = demand.labels.get(label)
            if value is None or namespace != demand.namespace:
                continue
            nodes = minus(known.all, known.own.get(value, {}))
            if nodes:
                key = f"others of {namespace}/{label}={value}".encode()
                selection = Selection(frozenset((namespace,)), None, None, key)
                yield Term(selection, topology_key), nodes


def _kind_of(term: Term) -> _Kind | None:
    one = term.selection.one_label
    if one is None or not one.others:
        return None
    (namespace,) = term.selection.namespaces
    return namespace, one.label, term.topology_key


def _labels_of(term: Term) -> set[str]:
    selector = term.selection.selector
    if selector is None:
        return set()
    return {*selector.match_labels, *(requirement.key for requirement in selector.match_expressions)}
