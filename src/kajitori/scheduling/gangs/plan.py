"""Where a gang goes: its pods and a state in, a node for each out, or none for any. Pure.

Nodes that a member would rather not have are left out first and taken only if the gang does not fit without them.
Members that come when others of the gang are placed already, such as one that replaces a lost one, go as near to those as
there is room. A gang whose members ask odd things of each other is tried pod by pod in one domain after the other.
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING

import numpy as np

from kajitori.scheduling.gangs.placement import Placement, Problem, place, sums, within
from kajitori.scheduling.gangs.request import Request, request_of
from kajitori.scheduling.gangs.table import Bools, NodeTable, table_of
from kajitori.scheduling.pods import decide

if TYPE_CHECKING:
    from kajitori.scheduling.demand import Demand
    from kajitori.scheduling.state import ClusterState

# Domains of a level in which an odd gang is tried; each try costs as much as placing its pods one by one.
_ODD_TRIES = 16


def place_gang(
    members: Sequence[Demand], state: ClusterState, only: Container[str] | None = None
) -> dict[str, str] | None:
    """The node of each member by uid; None where they do not fit together. The state stays as it is.

    members: of one gang, those that have no node. only: names of nodes that come into question, None for all.
    """
    table = table_of(state)
    request = request_of(members, state, table)
    if only is not None:
        request.problem = within(request.problem, np.array([name in only for name in table.names], np.bool_))
    if request.odd:
        return _one_by_one(request, state, table, only)
    there = placed_rows(members, state, table)
    found = None
    liked = _liked(request, table)
    if liked is not None:
        found = _solve(within(request.problem, liked), there)
    found = found or _solve(request.problem, there)
    if found is None:
        return None
    return {
        demand.uid: table.names[row]
        for group, rows in zip(request.members, found.rows, strict=True)
        for demand, row in zip(sorted(group, key=natural_order), rows, strict=True)
    }


def placed_rows(members: Sequence[Demand], state: ClusterState, table: NodeTable) -> list[int]:
    """Rows where pods of the gang are that stay; if there are none, those of its kin, such as a leader that came first."""
    waiting = {demand.uid for demand in members}
    for group in (members[0].group, members[0].kin):
        rows = {
            table.row[name]
            for uid, pod in state.group_pods(group).items()
            if uid not in waiting and not pod.leaving and (name := state.node_of(uid)) in table.row
        }
        if rows:
            return sorted(rows)
    return []


def natural_order(demand: Demand) -> list[tuple[str, int]]:
    """Names with numbers in them by the number: pods of neighbouring ranks are neighbours."""
    return [(text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", demand.name)]


def _liked(request: Request, table: NodeTable) -> Bools | None:
    masks = [table.liked(group[0]) for group in request.members]
    given = [mask for mask in masks if mask is not None]
    return np.logical_and.reduce(given) if given else None


def _solve(problem: Problem, there: Sequence[int]) -> Placement | None:
    if not there:
        return place(problem)
    nodes = np.arange(1, len(problem.levels[-1]) + 1)
    for numbers in (nodes, *problem.levels):
        homes = numbers[there]
        near = np.isin(numbers, homes[homes > 0])
        # Anywhere in the domains where the gang is, as if they were one.
        around = Problem(problem.free, problem.shapes, [near.astype(np.int64)], problem.tight)
        found = place(within(around, near))
        if found is not None:
            return found
    return None


def _one_by_one(
    request: Request, state: ClusterState, table: NodeTable, only: Container[str] | None
) -> dict[str, str] | None:
    members = sorted((demand for group in request.members for demand in group), key=natural_order)
    for numbers in request.problem.levels:
        room = sums(numbers, table.shape(members[0]).fit)
        for domain in np.argsort(-room, kind="stable")[:_ODD_TRIES].tolist():
            if domain == 0:
                continue
            rows = np.flatnonzero(numbers == domain).tolist()
            names = {table.names[row] for row in rows if only is None or table.names[row] in only}
            found = _in_turn(members, state, names)
            if found is not None:
                return found
    return None


def _in_turn(members: Sequence[Demand], state: ClusterState, names: Container[str]) -> dict[str, str] | None:
    """As if they came one by one; those that must wait for company are asked again after the others."""
    placed: dict[str, str] = {}
    waiting = list(members)
    try:
        while waiting:
            later: list[Demand] = []
            for demand in waiting:
                node = decide(demand, state, names).node
                if node:
                    state.place(demand, node)
                    placed[demand.uid] = node
                else:
                    later.append(demand)
            if len(later) == len(waiting):
                return None
            waiting = later
    finally:
        for uid in placed:
            state.remove(uid)
    return placed
