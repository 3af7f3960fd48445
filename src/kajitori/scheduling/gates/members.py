"""How a gang stands on its way to its nodes, from its pods alone. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from kajitori.base.clock import parse_rfc3339
from kajitori.model.gang import GATE, RELEASED_ANNOTATION, Gang, gang_of
from kajitori.scheduling.gates.opening import tied_to
from kajitori.scheduling.views import PodView

# A scheduler that refuses may have been behind by a moment, or may be clearing the node.
REFUSED_SECONDS = 5.0
CLEARING_SECONDS = 60.0
# A part of a gang holds its places for so long if the gang itself sets no deadline.
HOLDING_SECONDS = 60.0


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """The living pods of a gang by how far they are.

    waiting: behind our gate. tied: opened, not bound yet. bound: on their nodes. over: it was given up, or is being taken
    back by whoever made it. ready_to_place: all pods are there and only our gate holds those that wait.
    """

    gang: Gang
    waiting: Sequence[PodView]
    tied: Sequence[PodView]
    bound: Sequence[PodView]
    over: bool
    ready_to_place: bool

    @property
    def settled(self) -> bool:
        """Nothing is left to do for it."""
        return self.over or not (self.waiting or self.tied)

    @property
    def holds(self) -> bool:
        """A part of it has places already."""
        return bool(self.tied or self.bound)


def is_gated(pod: PodView) -> bool:
    return any(gate.name == GATE for gate in pod.spec.scheduling_gates)


def standing_of(pods: Sequence[PodView]) -> Standing | None:
    """None where no pod says sensibly what gang it is of."""
    alive = sorted((pod for pod in pods if not pod.has_ended), key=lambda pod: pod.metadata.name)
    gangs = [gang for pod in alive if (gang := gang_of(pod.metadata.labels, pod.metadata.annotations))]
    if not gangs:
        return None
    dying = any(pod.metadata.deletion_timestamp is not None for pod in alive)
    given_up = any(RELEASED_ANNOTATION in pod.metadata.annotations for pod in alive)
    waiting = [pod for pod in alive if is_gated(pod)]
    only_ours = all(len(pod.spec.scheduling_gates) == 1 for pod in waiting)
    # A Job makes no pod again that has done its work; the others need not wait for it.
    done = sum(pod.status.phase == "Succeeded" for pod in pods)
    return Standing(
        gang=gangs[0],
        waiting=waiting,
        tied=[pod for pod in alive if not is_gated(pod) and not pod.spec.node_name],
        bound=[pod for pod in alive if pod.spec.node_name],
        over=dying or given_up,
        ready_to_place=bool(waiting) and only_ours and len(alive) + done >= gangs[0].size,
    )


class Failure(msgspec.Struct, frozen=True):
    """Why a gang is given up: the pod that began it, and a sentence."""

    pod: PodView
    reason: str


def facts_of(standing: Standing) -> set[str]:
    """What is the matter with it that may not be so for long: that it holds a part, and pods that are refused (uids)."""
    if standing.settled:
        return set()
    facts = {pod.metadata.uid for pod in standing.tied if _refusal(pod) is not None}
    return facts | {HOLDS} if standing.holds else facts


HOLDS = "holds"


def failure_of(
    standing: Standing, now: float, since: Mapping[str, float], exists: Callable[[str], bool]
) -> tuple[Failure | None, float | None]:
    """Why a gang must let go of what it holds, or when to ask again (seconds since 1970).

    since: when each of its facts came to be. exists: whether there is a node of this name.
    """
    if standing.settled or not standing.holds:
        return None, None
    due: list[float] = []
    for pod in standing.tied:
        node = tied_to(pod)
        if node and not exists(node):
            return Failure(pod, f"node {node}, which was chosen for it, is gone"), None
        refusal = _refusal(pod)
        if refusal is not None:
            # A node that is being cleared for it is worth the wait.
            patience = CLEARING_SECONDS if pod.status.nominated_node_name else REFUSED_SECONDS
            due.append(since[pod.metadata.uid] + patience)
            if due[-1] <= now:
                return Failure(pod, f"the scheduler refuses {node or 'it'}: {refusal}"), None
    patience = standing.gang.deadline_seconds
    if patience is None and _begins(standing):
        patience = HOLDING_SECONDS
    if patience is not None:
        due.append(since[HOLDS] + patience)
        if due[-1] <= now:
            first = (*standing.waiting, *standing.tied)[0]
            return Failure(first, _held(standing, patience)), None
    return None, min(due, default=None)


def _held(standing: Standing, seconds: float) -> str:
    gang, held = standing.gang, len(standing.bound)
    return (
        f"{held} of {gang.size} pods of gang {gang.name} have held nodes for {seconds:g} s without the rest"
    )


def _begins(standing: Standing) -> bool:
    """Whether this is a gang that came apart on its way, and not one that has lost and replaced a pod."""
    made = [
        [parse_rfc3339(pod.metadata.creation_timestamp) for pod in pods if pod.metadata.creation_timestamp]
        for pods in ((*standing.waiting, *standing.tied), (*standing.tied, *standing.bound))
    ]
    return all(made) and max(made[0]) - min(made[1]) < HOLDING_SECONDS


def _refusal(pod: PodView) -> str | None:
    condition = pod.condition("PodScheduled")
    if condition.get("status") == "False" and condition.get("reason") == "Unschedulable":
        return str(condition.get("message", ""))
    return None
