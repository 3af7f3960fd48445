"""Why a gang waits, with its numbers, and what would help. Pure.

The sentence speaks of the domain that comes closest: how many places the gang needs, how many are there, and whether
there could be enough if everything else ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from kajitori.scheduling.gangs.placement import Problem, Shape, able_domains, sums
from kajitori.scheduling.gangs.plan import placed_rows
from kajitori.scheduling.gangs.request import Request, request_of
from kajitori.scheduling.gangs.table import Ints, NodeTable, table_of
from kajitori.scheduling.pods import Decision, decide, written

if TYPE_CHECKING:
    from kajitori.scheduling.demand import Demand
    from kajitori.scheduling.state import ClusterState

_NOUNS = {"hostname": "node", "gpu.clique": "NVLink domain"}
PART_OF_GANG = "node(s) had room for only a part of the gang"


class Refusal(msgspec.Struct, frozen=True):
    """Why a gang waits; the same for every gang that asks the same. need, answer: halves of a sentence about it."""

    nodes: int
    refusals: Mapping[str, int]
    need: str
    answer: str
    hint: str

    def decision(self, demand: Demand) -> Decision:
        """The same words for each of its members."""
        name = demand.gang.name if demand.gang is not None else demand.name
        sentence = f"gang {name} {self.need}; {self.answer}."
        hint = f"{sentence} {self.hint}" if self.hint else sentence
        return Decision(demand=demand, nodes=self.nodes, refusals=dict(self.refusals), hint=hint)


def incomplete(demand: Demand, there: int, size: int) -> Decision:
    """A gang of which not all pods have been made."""
    name = demand.gang.name if demand.gang is not None else demand.name
    return Decision(
        demand=demand,
        words=f"gang {name} has {there} of its {size} pods; none is placed before all are there",
    )


def refuse(members: Sequence[Demand], state: ClusterState) -> Refusal:
    """members: of one gang, for which there is no placement."""
    if not state.nodes:
        return Refusal(0, {}, "waits", "there are no nodes", "")
    table = table_of(state)
    request = request_of(members, state, table)
    single = decide(max(request.members, key=len)[0], state)
    refusals = dict(single.refusals)
    if single.able:
        refusals[PART_OF_GANG] = single.able
    more = bool(placed_rows(members, state, table))
    answer, hint = _answer(request, state, table)
    return Refusal(len(state.nodes), refusals, _need(request, more), answer, single.hint or hint)


def _need(request: Request, more: bool) -> str:
    asked = [_places(len(group), group[0], more) for group in request.members]
    where = "".join(f" in one {noun(label)}" for label in request.required)
    return f"needs {' and '.join(asked)}{where}"


def _places(count: int, demand: Demand, more: bool) -> str:
    named = demand.extended or [name for name in ("cpu", "memory") if demand.requests.get(name)]
    amounts = " and ".join(f"{written(name, demand.requests[name])} {name}" for name in named)
    places = f"{count}{' more' if more else ''} place{'' if count == 1 else 's'}"
    each = " each" if count > 1 else ""
    return f"{places} of {amounts}{each}" if amounts else places


def noun(label: str) -> str:
    """What people call a domain of this label: the last part of its name."""
    last = label.rpartition("/")[2]
    return _NOUNS.get(last, last.removeprefix("topology-").removeprefix("gce-topology-"))


def _answer(request: Request, state: ClusterState, table: NodeTable) -> tuple[str, str]:
    """What comes closest, and what would help."""
    problem = request.problem
    numbers = problem.levels[-1]
    counts = np.array([shape.count for shape in problem.shapes])
    missing_label = next((label for label in request.required if not table.column(label).values), "")
    if missing_label:
        return f"no node has the label {missing_label}", ""
    rooms = np.stack([sums(numbers, shape.fit) for shape in problem.shapes])
    best = int(np.argmax((np.minimum(rooms, counts[:, None]) / counts[:, None]).min(axis=0)))
    has = rooms[:, best].tolist() if rooms.shape[1] else [0] * len(counts)
    text = f"{_domain(request, table, numbers, best)} {' and '.join(map(str, has))}"
    there = " there"
    if not any(has):
        text = f"no {noun(request.required[0]) if request.required else 'node'} has any"
        there = f" in one {noun(request.required[0])}" if request.required else ""
    together = all(room >= count for room, count in zip(has, counts.tolist(), strict=True))
    if together and len(has) > 1:
        text += ", not beside each other"
    if request.odd or together:
        return text, ""
    empty = _when_empty(request, state, table)
    if bool(able_domains(empty, -1).any()):
        short = sum(max(0, count - room) for room, count in zip(has, counts.tolist(), strict=True))
        return text, f"{short} more place{'' if short == 1 else 's'}{there} would do."
    most = int(sums(numbers, empty.shapes[-1].fit).max(initial=0))
    if not request.required:
        return text, f"This cluster will never do: it has {most} when it is empty."
    return text, f"No {noun(request.required[0])} will ever do: the largest has {most} when it is empty."


def _domain(request: Request, table: NodeTable, numbers: Ints, best: int) -> str:
    if not request.required:
        return "all nodes together have"
    row = int(np.argmax(numbers == best))
    values = (table.column(label) for label in request.required)
    name = ", ".join(column.values[column.codes[row]] for column in values if column.codes[row] >= 0)
    return f"the best {noun(request.required[0])} ({name}) has"


def _when_empty(request: Request, state: ClusterState, table: NodeTable) -> Problem:
    """The same question, if no pods were there."""
    problem = request.problem
    free = (
        *(table.capacity(name) for name in request.resources),
        *problem.free[len(request.resources) :],
    )
    shapes: list[Shape] = []
    for group, shape in zip(request.members, problem.shapes, strict=True):
        mask = table.shape(group[0]).mask & (problem.levels[-1] > 0)
        fit = np.where(mask, np.int64(len(state.nodes) * shape.count), 0)
        for amounts, wanted in zip(free, shape.amounts, strict=True):
            if wanted:
                np.minimum(fit, amounts // wanted, out=fit)
        shapes.append(Shape(shape.count, shape.amounts, mask, fit))
    return Problem(free, shapes, problem.levels, problem.tight)
