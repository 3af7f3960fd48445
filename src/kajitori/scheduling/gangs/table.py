"""The nodes of a `ClusterState` in arrays: one row a node, followed row by row.

Label values are numbered, one column a label; taints are a column too. What a pod asks of a node by itself is answered
once for each distinct value and looked up for the rest. How many pods of a shape fit on each node is kept, and worked
out anew only for rows that have changed, so that equal gangs cost only the choice.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from kajitori.api.kubernetes.core_v1 import Taint
from kajitori.model.selection import holds
from kajitori.model.taints import first_untolerated, tolerates_unschedulable
from kajitori.scheduling.node_match import suits

if TYPE_CHECKING:
    from kajitori.api.kubernetes.core_v1 import NodeSelectorTerm
    from kajitori.scheduling.demand import Demand
    from kajitori.scheduling.state import ClusterState, NodeState

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

# Amounts beyond this are as good as endless; sums of such still fit.
_MOST = 1 << 52
_MOST_PODS = 1 << 31
_KEPT_SHAPES = 64
# Labels and lists of them that somebody once asked for; the oldest are worked out anew when they are asked for again.
_KEPT_COLUMNS = 256
_KEPT_DOMAINS = 64
_NONE = -1

Value = TypeVar("Value")


class Column(Generic[Value]):
    """The values that nodes have for one question, numbered. codes: of each row, -1 for none."""

    __slots__ = ("codes", "numbers", "read", "values")

    def __init__(self, read: Callable[[NodeState], Value | None]) -> None:
        self.read = read
        self.values: list[Value] = []
        self.numbers: dict[Value, int] = {}
        self.codes: Ints = np.empty(0, np.int64)

    def set_rows(self, rows: Sequence[int], nodes: Sequence[NodeState | None]) -> None:
        self.codes[rows] = [_NONE if node is None else self._number(self.read(node)) for node in nodes]

    def _number(self, value: Value | None) -> int:
        if value is None:
            return _NONE
        number = self.numbers.get(value)
        if number is None:
            number = self.numbers[value] = len(self.values)
            self.values.append(value)
        return number

    def where(self, wanted: Callable[[Value | None], bool]) -> Bools:
        """Rows whose value is wanted; each distinct value is asked about once, and None for those without."""
        answers = np.array([*map(wanted, self.values), wanted(None)], np.bool_)
        return answers[self.codes]


class ShapeRows:
    """Pods of one shape on every node. mask: where such a pod may be at all. fit: how many more of them each node takes."""

    __slots__ = ("demand", "fit", "mask")

    def __init__(self, demand: Demand, mask: Bools, fit: Ints) -> None:
        self.demand = demand
        self.mask = mask
        self.fit = fit


class NodeTable:
    """All nodes of a state. `refresh` before use; it takes what has changed out of the state's lists."""

    def __init__(self, state: ClusterState) -> None:
        self._state = state
        self.names: list[str] = []
        self.row: dict[str, int] = {}
        self._vacant: list[int] = []
        self.present: Bools = np.empty(0, np.bool_)
        self._free: dict[str, Ints] = {}
        self._columns: dict[str, Column[str]] = {}
        self._taints = Column(_taints_of)
        self._shapes: OrderedDict[bytes, ShapeRows] = OrderedDict()
        self._domains: dict[tuple[str, ...], Ints] = {}
        state.changed_nodes.update(dict.fromkeys(state.nodes))
        state.touched_nodes.clear()

    def __len__(self) -> int:
        return len(self.names)

    def refresh(self) -> None:
        """Follow the state."""
        changed, touched = self._state.changed_nodes, self._state.touched_nodes
        if changed:
            self._follow_nodes(changed)
        if touched:
            self._follow_pods([self.row[name] for name in touched if name in self.row])
        changed.clear()
        touched.clear()

    def _follow_nodes(self, names: Iterable[str]) -> None:
        nodes = self._state.nodes
        rows: list[int] = []
        for name in names:
            row = self.row.get(name)
            if name in nodes:
                row = self._new_row(name) if row is None else row
            elif row is not None:
                del self.row[name]
                self.names[row] = ""
                self._vacant.append(row)
            if row is not None:
                rows.append(row)
        rows = sorted(set(rows))
        self._extend()
        known = [nodes.get(self.names[row]) if self.names[row] else None for row in rows]
        self.present[rows] = [node is not None for node in known]
        for column in (self._taints, *self._columns.values()):
            column.set_rows(rows, known)
        for shape in self._shapes.values():
            shape.mask[rows] = [node is not None and _may_take(shape.demand, node) for node in known]
        self._domains.clear()
        self._follow_pods(rows)

    def _new_row(self, name: str) -> int:
        if self._vacant:
            row = self._vacant.pop()
            self.names[row] = name
        else:
            row = len(self.names)
            self.names.append(name)
        self.row[name] = row
        return row

    def _extend(self) -> None:
        more = len(self.names) - len(self.present)
        if not more:
            return
        self.present = np.concatenate([self.present, np.zeros(more, np.bool_)])
        nothing = np.zeros(more, np.int64)
        self._free = {name: np.concatenate([amounts, nothing]) for name, amounts in self._free.items()}
        for column in (self._taints, *self._columns.values()):
            column.codes = np.concatenate([column.codes, nothing + _NONE])
        for shape in self._shapes.values():
            shape.mask = np.concatenate([shape.mask, np.zeros(more, np.bool_)])
            shape.fit = np.concatenate([shape.fit, nothing])

    def _follow_pods(self, rows: list[int]) -> None:
        nodes = [self._state.nodes.get(self.names[row]) for row in rows]
        for resource, amounts in self._free.items():
            amounts[rows] = [_left(node, resource) for node in nodes]
        index = np.array(rows, np.int64)
        for shape in self._shapes.values():
            shape.fit[index] = self._fit(shape.demand, shape.mask[index], index)

    def free(self, resource: str) -> Ints:
        """How much of a resource each node has left; never negative, 0 where there is no node."""
        known = self._free.get(resource)
        if known is None:
            nodes = self._state.nodes
            amounts = [_left(nodes.get(name), resource) for name in self.names]
            known = self._free[resource] = np.array(amounts, np.int64)
        return known

    def capacity(self, resource: str) -> Ints:
        """How much of a resource each node has for pods when it is empty."""
        nodes = self._state.nodes
        offered = [nodes[name].allocatable.get(resource, 0) if name else 0 for name in self.names]
        return np.array([min(amount, _MOST) for amount in offered], np.int64)

    def column(self, label: str) -> Column[str]:
        """The values of a label."""
        known = self._columns.get(label)
        if known is None:
            if len(self._columns) == _KEPT_COLUMNS:
                del self._columns[next(iter(self._columns))]
            known = self._columns[label] = Column(lambda node: node.labels.get(label))
            known.codes = np.full(len(self.names), _NONE, np.int64)
            rows = range(len(self.names))
            known.set_rows(rows, [self._state.nodes.get(name) for name in self.names])
        return known

    def domains(self, labels: tuple[str, ...]) -> Ints:
        """Rows with equal values of all these labels have the same number, from 1; 0 where one is missing.

        No labels: all nodes are one domain.
        """
        known = self._domains.get(labels)
        if known is None:
            known = self.present.astype(np.int64)
            for label in labels:
                column = self.column(label)
                both = np.where((known > 0) & (column.codes >= 0), known * (len(column.values) + 1), 0)
                both = np.where(both > 0, both + column.codes, 0)
                numbers, inverse = np.unique(both, return_inverse=True)
                known = inverse.astype(np.int64) + int(bool(numbers.all()))
            if len(self._domains) == _KEPT_DOMAINS:
                del self._domains[next(iter(self._domains))]
            self._domains[labels] = known
        return known

    def shape(self, demand: Demand) -> ShapeRows:
        """Pods like this one, as far as nodes alone decide and pods there take room."""
        known = self._shapes.get(demand.node_shape)
        if known is None:
            mask = self._mask(demand)
            known = ShapeRows(demand, mask, self._fit(demand, mask, None))
            self._shapes[demand.node_shape] = known
            if len(self._shapes) > _KEPT_SHAPES:
                self._shapes.popitem(last=False)
        else:
            self._shapes.move_to_end(demand.node_shape)
        return known

    def liked(self, demand: Demand) -> Bools | None:
        """Rows that the pod, and those who look after nodes, would rather have it on; None where nobody minds."""
        effects = ("PreferNoSchedule",)
        liked: Bools | None = None
        if any(taint.effect in effects for value in self._taints.values for taint in value.taints):
            liked = self._taints.where(
                lambda value: (
                    value is None or first_untolerated(value.taints, demand.tolerations, effects) is None
                )
            )
        if demand.preferred_nodes:
            weights = np.zeros(len(self.names), np.int64)
            for preferred in demand.preferred_nodes:
                if preferred.preference is not None:
                    weights += preferred.weight * self._term(preferred.preference)
            best = weights == weights.max(initial=0, where=self.shape(demand).fit > 0)
            liked = best if liked is None else liked & best
        return liked

    def _fit(self, demand: Demand, mask: Bools, rows: Ints | None) -> Ints:
        fit = np.full(len(mask), _MOST_PODS, np.int64)
        for resource, wanted in demand.requests.items():
            if wanted > 0:
                free = self.free(resource) if rows is None else self.free(resource)[rows]
                np.minimum(fit, free if wanted == 1 else free // min(wanted, _MOST + 1), out=fit)
        fit[~mask] = 0
        return fit

    def _mask(self, demand: Demand) -> Bools:
        """Taints, node selector and required node affinity."""
        mask = self.present & self._taints.where(lambda taints: taints is None or taints.tolerated(demand))
        for label, value in demand.node_selector.items():
            column = self.column(label)
            mask &= column.codes == column.numbers.get(value, len(column.values))
        if demand.node_terms is not None:
            anywhere = np.zeros(len(mask), np.bool_)
            for term in demand.node_terms:
                anywhere |= self._term(term)
            mask &= anywhere
        return mask

    def _term(self, term: NodeSelectorTerm) -> Bools:
        if not term.match_expressions and not term.match_fields:
            return np.zeros(len(self.names), np.bool_)
        mask = np.ones(len(self.names), np.bool_)
        for requirement in term.match_expressions:
            operator, wanted = requirement.operator, requirement.values
            column = self.column(requirement.key)

            mask &= column.where(partial(holds, operator, wanted))
        for requirement in term.match_fields:
            by_name = requirement.key == "metadata.name"
            mask &= [by_name and holds(requirement.operator, requirement.values, name) for name in self.names]
        return mask


def table_of(state: ClusterState) -> NodeTable:
    """The state's own table, up to date."""
    table = state.table
    if table is None:
        table = state.table = NodeTable(state)
    table.refresh()
    return table


def _left(node: NodeState | None, resource: str) -> int:
    return 0 if node is None else min(max(node.free(resource), 0), _MOST)


class _Taints(NamedTuple):
    """What keeps pods away from a node."""

    unschedulable: bool
    taints: tuple[Taint, ...]

    def tolerated(self, demand: Demand) -> bool:
        if self.unschedulable and not tolerates_unschedulable(demand.tolerations):
            return False
        return first_untolerated(self.taints, demand.tolerations) is None


def _taints_of(node: NodeState) -> _Taints | None:
    if not node.taints and not node.unschedulable:
        return None
    return _Taints(
        node.unschedulable, tuple(msgspec.structs.replace(taint, time_added=None) for taint in node.taints)
    )


def _may_take(demand: Demand, node: NodeState) -> bool:
    if node.unschedulable and not tolerates_unschedulable(demand.tolerations):
        return False
    return first_untolerated(node.taints, demand.tolerations) is None and suits(demand, node)
