"""Restart in place: the containers of a group begin anew, its pods, nodes and volumes stay.

What costs is not the process but what comes before it: a place, an image, weights on a volume. Where a container of
one pod restarted and all pods live, the other containers are told to end, and their kubelets start them again.

The leader carries the state: a marker with the restart counts from before, from which anybody can tell what is done
and what is left, and in the end the counts that are accepted, which begin no restart any more. A group that does not
come about within its time, whose pods change, or that fails so again and again, is made anew like any other.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kajitori.groups.leader_worker_sets.observed import ContainerStatus, Pod, World
from kajitori.groups.leader_worker_sets.options import RESTART, Options
from kajitori.groups.leader_worker_sets.restart import Blame, RestartCounts

MARKER_ANNOTATION = "groups.kajitori.dev/restarting-in-place"
ACCEPTED_ANNOTATION = "groups.kajitori.dev/accepted-restarts"
DEADLINE_SECONDS = 60.0
# What fails so often needs other pods, perhaps on other nodes.
MOST_IN_A_ROW = 3

Counts = dict[str, dict[str, int]]


class Marker(msgspec.Struct, frozen=True):
    """A restart in place under way. since: seconds since 1970. before: restarts by pod and container at its beginning."""

    since: float
    before: Counts


class RestartContainer(msgspec.Struct, frozen=True):
    """Run the command in the container, if it still is the one that was restarted so often."""

    group: int
    pod: Pod
    container: str
    restarts: int
    command: tuple[str, ...]


def refused_commands(world: World) -> list[str]:
    """For the condition that names what a set asks for and does not get."""
    asked = world.set.metadata.annotations.get(RESTART) == "InPlace"
    if not asked or not world.commands_refused:
        return []
    return [f"annotation {RESTART}: {world.commands_refused}; groups are recreated"]


def marker_of(leader: Pod) -> Marker | None:
    """The restart that the group is in; None if it is in none, or the marker was written by somebody else."""
    text = leader.metadata.annotations.get(MARKER_ANNOTATION)
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=Marker)
    except msgspec.MsgspecError:
        return Marker(0.0, {})


def accepted_restarts(leader: Pod) -> RestartCounts:
    """Restarts that were dealt with in place."""
    text = leader.metadata.annotations.get(ACCEPTED_ANNOTATION)
    if text is None:
        return {}
    try:
        return msgspec.json.decode(text, type=Counts)
    except msgspec.MsgspecError:
        return {}


def can_restart_in_place(
    options: Options, blame: Blame, members: Sequence[Pod], size: int, count: int, refused: str
) -> bool:
    """Whether the pods can stay. count: restarts in a row, this one included. refused: why commands cannot be run."""
    if options.restart != "InPlace" or refused or count > MOST_IN_A_ROW:
        return False
    if blame.how != "container restarted" or len(members) != size:
        return False
    culprit = next((pod for pod in members if pod.name == blame.pod), None)
    # An init container begins the pod; there is nothing beside it yet.
    if culprit is None or all(status.name != blame.container for status in culprit.status.container_statuses):
        return False
    return all(_lives(pod) for pod in members)


def _lives(pod: Pod) -> bool:
    return not pod.dying and pod.status.phase == "Running" and bool(pod.status.container_statuses)


def begin_marker(members: Sequence[Pod], accepted: RestartCounts, now: float) -> dict[str, str | None]:
    """The annotation with which it begins. What nobody has dealt with yet counts as part of it."""
    before = {
        pod.name: {
            status.name: accepted.get(pod.name, {}).get(status.name, 0)
            for status in pod.status.container_statuses
        }
        for pod in members
    }
    return {MARKER_ANNOTATION: _json(Marker(now, before))}


def end_marker(members: Sequence[Pod]) -> dict[str, str | None]:
    """The annotations with which it is done."""
    counts = {
        pod.name: {
            status.name: status.restart_count
            for status in (*pod.status.container_statuses, *pod.status.init_container_statuses)
            if status.restart_count
        }
        for pod in members
    }
    return {MARKER_ANNOTATION: None, ACCEPTED_ANNOTATION: _json(counts)}


def _json(value: Marker | Counts) -> str:
    return msgspec.json.encode(value).decode()


def trouble(marker: Marker, members: Sequence[Pod], size: int, now: float, failure: str) -> str:
    """Why it cannot come about; empty if it can. failure: what became of a command."""
    if failure:
        return failure
    for pod in members:
        if pod.dying:
            return f"pod {pod.name} is being deleted"
        if pod.status.phase != "Running":
            return f"pod {pod.name} is {pod.status.phase}"
    if len(members) < size:
        return f"{size - len(members)} of {size} pods are gone"
    if now - marker.since >= DEADLINE_SECONDS:
        names = [f"{status.name} of pod {pod.name}" for pod, status in _unfinished(marker, members)]
        more = f" and {len(names) - 2} more" if len(names) > 2 else ""
        what = f"container {', '.join(names[:2])}{more} did not restart" if names else "it was not noticed"
        return f"{what} within {DEADLINE_SECONDS:.0f} s"
    return ""


def is_done(marker: Marker, members: Sequence[Pod]) -> bool:
    """Every container was restarted, and runs."""
    return not _unfinished(marker, members)


def containers_to_restart(
    marker: Marker, group: int, members: Sequence[Pod], command: tuple[str, ...]
) -> list[RestartContainer]:
    """Those that still run as they did before."""
    return [
        RestartContainer(group, pod, status.name, status.restart_count, command)
        for pod, status in _unfinished(marker, members)
        if status.state.running is not None and not _was_restarted(marker, pod, status)
    ]


def _unfinished(marker: Marker, members: Sequence[Pod]) -> list[tuple[Pod, ContainerStatus]]:
    return [
        (pod, status)
        for pod in members
        for status in pod.status.container_statuses
        if status.state.running is None or not _was_restarted(marker, pod, status)
    ]


def _was_restarted(marker: Marker, pod: Pod, status: ContainerStatus) -> bool:
    return status.restart_count > marker.before.get(pod.name, {}).get(status.name, 0)
