"""What goes as one when room must be made: a pod by itself, or a gang as a whole. Pure.

Taking one pod of a gang away takes the use of all of them, so they go together or stay together. A unit is as important as
its most important pod.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from kajitori.model.selection import matches

if TYPE_CHECKING:
    from kajitori.scheduling.demand import Demand
    from kajitori.scheduling.state import ClusterState
    from kajitori.scheduling.views import BudgetView


class Unit(msgspec.Struct, frozen=True, eq=False):
    """pods: those that are placed, with the names of their nodes. created: of the oldest of them."""

    pods: list[tuple[Demand, str]]
    priority: int
    created: str

    @property
    def leaving(self) -> bool:
        """It is on its way out already."""
        return all(pod.leaving for pod, _ in self.pods)


def lower_units(pods: Iterable[Demand], priority: int, state: ClusterState) -> Iterator[Unit]:
    """The units of these pods that are less important than that. Each one once."""
    seen: set[str] = set()
    for pod in pods:
        if pod.priority >= priority:
            continue
        if pod.gang is None:
            yield Unit([(pod, state.node_of(pod.uid))], pod.priority, pod.created)
        elif pod.group not in seen:
            seen.add(pod.group)
            mates = list(state.group_pods(pod.group).values())
            highest = max(mate.priority for mate in mates)
            if highest < priority:
                oldest = min(mate.created for mate in mates)
                yield Unit([(mate, state.node_of(mate.uid)) for mate in mates], highest, oldest)


def take_away(unit: Unit, state: ClusterState) -> None:
    for pod, _ in unit.pods:
        state.remove(pod.uid)


def put_back(unit: Unit, state: ClusterState) -> None:
    for pod, node in unit.pods:
        state.place(pod, node)


def broken_budgets(units: Sequence[Unit], budgets: Sequence[BudgetView]) -> set[str]:
    """Uids of pods whose going would break a disruption budget, if all of the units went."""
    if not budgets:
        return set()
    left = {id(budget): budget.status.disruptions_allowed for budget in budgets}
    broken: set[str] = set()
    pods = (pod for unit in units for pod, _ in unit.pods)
    for pod in sorted(pods, key=lambda pod: (-pod.priority, pod.created)):
        for budget in budgets:
            selector = budget.spec.selector
            if budget.metadata.namespace != pod.namespace or selector is None:
                continue
            if not matches(selector, pod.labels) or pod.name in budget.status.disrupted_pods:
                continue
            left[id(budget)] -= 1
            if left[id(budget)] < 0:
                broken.add(pod.uid)
    return broken


def stay_order(unit: Unit, broken: set[str]) -> tuple[bool, int, str]:
    """Those that should stay first, first: whose budget would be broken, then the more important, then the older."""
    return (not any(pod.uid in broken for pod, _ in unit.pods), -unit.priority, unit.created)


def victims_of(units: Iterable[Unit]) -> list[Demand]:
    """Their pods, the most important first."""
    return sorted(
        (pod for unit in units for pod, _ in unit.pods), key=lambda pod: (-pod.priority, pod.created)
    )


def loss(victims: Sequence[Demand], violations: int) -> tuple[int, int, int, int, str]:
    """What it costs when they go; less is better. The last part breaks ties: the youngest of the most important go."""
    priorities = [victim.priority for victim in victims]
    highest = max(priorities, default=0)
    oldest = min((victim.created for victim in victims if victim.priority == highest), default="")
    # A later time is better: the digits are turned round.
    youngest_first = "".join(chr(0x7F - ord(letter)) for letter in oldest)
    return (violations, highest, sum(priorities), len(priorities), youngest_first)
