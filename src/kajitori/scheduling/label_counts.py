"""Counts of pods by the value of one label, for selections that ask about nothing else. Pure.

Groups that want a domain of their own each choose pods by the same label: those with their value, and those with any
other. Counted one selection at a time, every new group would be asked about every pod and every pod about every group;
here all of them share one count, kept as pods come and go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from kajitori.api.kubernetes.meta_v1 import LabelSelector
    from kajitori.scheduling.demand import Demand

Counts = dict[str, int]

# Labels beyond this many are not counted here.
MOST_LABELS = 16


class OneLabel(msgspec.Struct, frozen=True):
    """What a selector says that speaks of one label and one value of it: those with the value, or with any other."""

    label: str
    value: str
    others: bool


def one_label(selector: LabelSelector | None) -> OneLabel | None:
    """None where the selector says more, or something else."""
    if selector is None:
        return None
    if not selector.match_expressions:
        if len(selector.match_labels) != 1:
            return None
        ((label, value),) = selector.match_labels.items()
        return OneLabel(label, value, False)
    labels = {requirement.key for requirement in selector.match_expressions}
    if selector.match_labels or len(labels) != 1:
        return None
    (label,) = labels
    said = sorted((requirement.operator, requirement.values) for requirement in selector.match_expressions)
    match said:
        case [("In", [value])]:
            return OneLabel(label, value, False)
        case [("Exists", _), ("NotIn", [value])]:
            return OneLabel(label, value, True)
        case _:
            return None


class LabelCounts:
    """Pods of one label on each node, by namespace and value."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._by_value: dict[tuple[str, str], Counts] = {}
        self._all: dict[str, Counts] = {}

    def step(self, demand: Demand, node: str, sign: int) -> None:
        """A pod came to a node, or went."""
        value = demand.labels.get(self._label)
        if value is not None:
            step(self._by_value.setdefault((demand.namespace, value), {}), node, sign)
            step(self._all.setdefault(demand.namespace, {}), node, sign)
            if not self._by_value[demand.namespace, value]:
                del self._by_value[demand.namespace, value]

    def count(self, namespace: str, asked: OneLabel) -> Mapping[str, int]:
        """How many each node has; nodes without any are left out."""
        own = self._by_value.get((namespace, asked.value), {})
        if not asked.others:
            return own
        return minus(self._all.get(namespace, {}), own)


def step(counts: Counts, key: str, sign: int) -> None:
    """One more or one less; what is not there is left out."""
    counts[key] = counts.get(key, 0) + sign
    if not counts[key]:
        del counts[key]


def minus(counts: Mapping[str, int], less: Mapping[str, int]) -> Mapping[str, int]:
    """What is left of the counts."""
    if not less:
        return counts
    left = dict(counts)
    for key, count in less.items():
        left[key] -= count
        if not left[key]:
            del left[key]
    return left
