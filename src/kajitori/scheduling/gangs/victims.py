"""Who makes way for a gang, and where it then goes. Pure.

All less important units (pods, whole gangs) stand in one order, those that should stay first. For every domain at the same
time it is bisected how many of them, from that end, may stay while the gang fits; the domain that loses least is
chosen. Of those that would have to go there, the ones on nodes that the gang does not use come back, and then each of the
rest in turn as long as the gang still fits: nobody goes in vain, though another choice might spare more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from kajitori.scheduling.gangs.placement import Problem, Shape, able_domains
from kajitori.scheduling.gangs.plan import place_gang, placed_rows
from kajitori.scheduling.gangs.request import Request, request_of
from kajitori.scheduling.gangs.table import Bools, Ints, table_of
from kajitori.scheduling.units import (
    Unit,
    broken_budgets,
    loss,
    lower_units,
    put_back,
    stay_order,
    take_away,
    victims_of,
)

if TYPE_CHECKING:
    from kajitori.scheduling.demand import Demand
    from kajitori.scheduling.state import ClusterState
    from kajitori.scheduling.views import BudgetView

_MOST_PLENTY = 1 << 31
# Domains that are tried in earnest, those that seem to lose least first.
_TRIES = 8


class Room(msgspec.Struct, frozen=True):
    """nodes: of each member by uid, once the victims have gone. violations: of disruption budgets."""

    nodes: dict[str, str]
    victims: list[Demand]
    violations: int


def make_room(
    members: Sequence[Demand], state: ClusterState, budgets: Sequence[BudgetView] = ()
) -> Room | None:
    """None where the gang would not fit even without everything less important. The state stays as it is."""
    priority = min(demand.priority for demand in members)
    if not all(demand.preempts for demand in members) or not state.has_less_important(priority):
        return None
    pods = [pod for node in state.nodes.values() for pod in node.pods.values()]
    units = list(lower_units(pods, priority, state))
    if not units:
        return None
    broken = broken_budgets(units, budgets)
    units.sort(key=lambda unit: (unit.leaving, *stay_order(unit, broken)))
    for unit in units:
        take_away(unit, state)
    away = dict.fromkeys(units)
    try:
        if place_gang(members, state) is None:
            return None
        for names, going in _candidates(members, units, broken, state):
            found = _clear(members, names, going, units, away, state)
            if found is not None:
                victims = victims_of(away)
                return Room(found, victims, sum(victim.uid in broken for victim in victims))
        return None
    finally:
        for unit in away:
            put_back(unit, state)


def _candidates(
    members: Sequence[Demand], units: Sequence[Unit], broken: set[str], state: ClusterState
) -> list[tuple[set[str], set[Unit]]]:
    """Domains, the best first: names of their nodes, and which units seem to have to go there."""
    table = table_of(state)
    request = request_of(members, state, table)
    loosest = request.problem.levels[-1]
    rows = np.array([table.row.get(name, -1) for unit in units for _, name in unit.pods], np.int64)
    ranks = np.repeat(np.arange(len(units)), [len(unit.pods) for unit in units])
    known = rows >= 0
    staying = _most_that_stay(request, len(units), rows[known], ranks[known], units, known)
    there = placed_rows(members, state, table)
    homes = set(loosest[there].tolist())
    found: list[tuple[tuple[int, int, int, int, str], set[str], set[Unit]]] = []
    for domain in np.flatnonzero(staying >= 0).tolist():
        if domain == 0 or (homes and domain not in homes):
            continue
        here = np.flatnonzero(loosest == domain)
        inside = known & np.isin(rows, here) & (ranks >= staying[domain])
        going = {units[rank] for rank in np.unique(ranks[inside]).tolist()}
        victims = victims_of(going)
        names = {table.names[row] for row in here.tolist()}
        found.append((loss(victims, sum(pod.uid in broken for pod in victims)), names, going))
    found.sort(key=lambda each: each[0])
    # Last, what is known to do: anywhere, if all of them go. Pods that keep others away may be in another domain.
    return [*((names, going) for _, names, going in found[:_TRIES]), (set(table.row), set(units))]


def _most_that_stay(
    request: Request,
    count: int,
    rows: Ints,
    ranks: Ints,
    units: Sequence[Unit],
    known: Bools,
) -> Ints:
    """Of each domain, how many units may stay, of those that should stay first; -1 where the gang never fits."""
    problem = request.problem
    numbers = problem.levels[-1]
    pods = [pod for unit in units for pod, _ in unit.pods]
    held = [
        np.array([min(pod.requests.get(name, 0), _MOST_PLENTY << 20) for pod in pods], np.int64)[known]
        for name in request.resources
    ]

    def fits(stay: Ints) -> Bools:
        here = ranks < stay[numbers[rows]]
        free = [amounts.copy() for amounts in problem.free]
        for amounts, each in zip(free, held, strict=False):
            np.subtract.at(amounts, rows[here], each[here])
        shapes = [_refit(shape, free) for shape in problem.shapes]
        return able_domains(Problem(tuple(free), shapes, problem.levels, problem.tight), -1)

    low = np.zeros(int(numbers.max(initial=0)) + 1, np.int64)
    able = fits(low)
    high = np.where(able, count, 0)
    while bool((low < high).any()):
        middle = (low + high + 1) // 2
        good = fits(middle)
        low = np.where(good, middle, low)
        high = np.where(good, high, middle - 1)
        high = np.maximum(high, low)
    return np.where(able, low, -1)


def _refit(shape: Shape, free: Sequence[Ints]) -> Shape:
    fit = shape.fit.copy()
    for amounts, wanted in zip(free, shape.amounts, strict=True):
        if wanted:
            np.minimum(fit, amounts // wanted, out=fit)
    return Shape(shape.count, shape.amounts, shape.mask, np.maximum(fit, 0))


def _clear(
    members: Sequence[Demand],
    names: set[str],
    going: set[Unit],
    units: Sequence[Unit],
    away: dict[Unit, None],
    state: ClusterState,
) -> dict[str, str] | None:
    """Nodes for the gang among these, with as few as possible gone: `away` then has those. All are away before and after None."""
    for unit in units:
        if unit not in going:
            put_back(unit, state)
            del away[unit]
    found = place_gang(members, state, names)
    if found is None:
        # Something that arrays do not say, such as a port, stands in the way: who else may go here?
        for unit in units:
            if unit not in away and any(name in names for _, name in unit.pods):
                take_away(unit, state)
                away[unit] = None
        found = place_gang(members, state, names)
        # Without some of them the gang may fit elsewhere, and then the others need not go.
        names = set(state.nodes)
    if found is not None:
        return _spare(members, names, found, units, away, state)
    for unit in units:
        if unit not in away:
            take_away(unit, state)
            away[unit] = None
    return None


def _spare(
    members: Sequence[Demand],
    names: set[str],
    found: dict[str, str],
    units: Sequence[Unit],
    away: dict[Unit, None],
    state: ClusterState,
) -> dict[str, str]:
    used = set(found.values())
    apart = [unit for unit in units if unit in away and not any(name in used for _, name in unit.pods)]
    found = _bring_back(apart, members, names, away, state) or found
    for unit in units:
        if unit in away:
            found = _bring_back([unit], members, names, away, state) or found
    return found


def _bring_back(
    units: Sequence[Unit],
    members: Sequence[Demand],
    names: set[str],
    away: dict[Unit, None],
    state: ClusterState,
) -> dict[str, str] | None:
    """Let these stay if the gang fits even so."""
    for unit in units:
        put_back(unit, state)
    found = place_gang(members, state, names)
    for unit in units:
        if found is None:
            take_away(unit, state)
        else:
            del away[unit]
    return found
