"""A group that gets only a part of what it needs gives it back after its deadline, and tries again later.

What it needs is a node for each of its pods, and that the API server takes them at all (a quota may not). A group
that is not placed as a whole within its deadline (annotation `gang-deadline-seconds`) is deleted, so that others can
use what it held; it waits 2, 4, 8 ... 300 s, each time a little longer or shorter than its neighbours, and begins
anew. Such attempts are counted apart from restarts, since nothing failed. Meanwhile the condition `Blocked` says how
many pods were placed, and what the scheduler or the API server said of the others.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from kajitori.api.leaderworkerset import v1
from kajitori.base.clock import parse_rfc3339
from kajitori.base.reason import Reason
from kajitori.base.whole_numbers import whole_number
from kajitori.groups.leader_worker_sets.budget import count_annotations, restarts_of
from kajitori.groups.leader_worker_sets.identity import group_word
from kajitori.groups.leader_worker_sets.observed import RESTARTED_BECAUSE_ANNOTATION, Pod, World
from kajitori.groups.leader_worker_sets.options import GANG_DEADLINE_SECONDS
from kajitori.groups.leader_worker_sets.restart import Blame, Restart
from kajitori.model.gang import RELEASED_ANNOTATION

RELEASES_ANNOTATION = "groups.kajitori.dev/releases"
FIRST_DELAY_SECONDS = 2.0
LONGEST_DELAY_SECONDS = 300.0
_NAMED_GROUPS = 3


def deadline_seconds(lws: v1.LeaderWorkerSet) -> int | None:
    """How long a group may hold a part of what it needs; None for as long as it takes."""
    text = lws.metadata.annotations.get(GANG_DEADLINE_SECONDS, "").strip()
    return whole_number(text)


def find_release(world: World, members: Sequence[Pod], size: int) -> Blame | None:
    """Why a group must let go of what it has, to begin anew; None if it may keep it.

    Either whoever places it gave it up, or its deadline is over. members: of one incarnation.
    """
    for pod in members:
        if RELEASED_ANNOTATION in pod.metadata.annotations and not pod.dying:
            return _release(pod, pod.metadata.annotations[RELEASED_ANNOTATION])
    seconds = deadline_seconds(world.set)
    due = _release_due(world, members, seconds)
    if due is None or due > world.now:
        return None
    waiting = next((pod for pod in members if not pod.spec.node_name), members[0])
    return _release(waiting, f"{_placement(world, members, size)}, and {seconds} s are over")


def next_release(world: World) -> float | None:
    """When the next group must let go, or may try again, if nothing changes; seconds since 1970, None if none does."""
    seconds = deadline_seconds(world.set)
    if seconds is None:
        return None
    groups: dict[tuple[int, str], list[Pod]] = defaultdict(list)
    for pod in world.pods:
        groups[pod.group, pod.incarnation].append(pod)
    found = [_release_due(world, members, seconds) for members in groups.values()]
    found += [refusal.until for refusal in world.refused.values()]
    return min((due for due in found if due is not None and due > world.now), default=None)


def _release_due(world: World, members: Sequence[Pod], seconds: int | None) -> float | None:
    """When a group that holds a part of what it needs must let go."""
    if seconds is None or not members:
        return None
    waiting = [pod for pod in members if not pod.spec.node_name and not pod.dying]
    if members[0].group in world.refused and len(members) < _size(members):
        # Pods that wait for a node use up a quota as well.
        waiting = list(members)
    elif not waiting or len(waiting) == len(members):
        return None
    made = [pod.metadata.creation_timestamp for pod in waiting if pod.metadata.creation_timestamp]
    return max(map(parse_rfc3339, made)) + seconds if made else None


def _size(members: Sequence[Pod]) -> int:
    text = members[0].metadata.annotations.get(v1.SIZE_ANNOTATION, "")
    return whole_number(text) or 0


def _release(pod: Pod, reason: str) -> Blame:
    return Blame(
        pod=pod.name,
        pod_uid=pod.metadata.uid,
        worker=pod.worker,
        node=pod.spec.node_name,
        how="not placed",
        reason=reason,
    )


def _placement(world: World, members: Sequence[Pod], size: int) -> str:
    """How many pods have a node, and why one of the others has none."""
    placed = sum(bool(pod.spec.node_name) for pod in members)
    text = f"{placed} of {size} pods were placed"
    refusal = world.refused.get(members[0].group)
    if refusal is not None and len(members) < size:
        return f"{text} and {size - len(members)} refused: {refusal.message}"
    for pod in members:
        if said := _scheduler_says(pod):
            return f"{text}; of pod {pod.name} the scheduler says: {said}"
    return text


def _scheduler_says(pod: Pod) -> str:
    if pod.spec.node_name:
        return ""
    found = [one for one in pod.status.conditions if one.type == "PodScheduled" and one.status == "False"]
    return (found[0].message or found[0].reason) if found else ""


def releases_of(pod: Pod) -> int:
    """Attempts in a row that led to this pod."""
    text = pod.metadata.annotations.get(RELEASES_ANNOTATION, "")
    return whole_number(text) or 0


def begin_release(blame: Blame, leader: Pod, now: float) -> Restart:
    """The release of the leader's group. Nothing failed, so the restarts that it had are no more than before."""
    releases = releases_of(leader) + 1
    delay = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** min(releases - 1, 30))
    # Groups that stood in each other's way shall not come back together.
    apart = zlib.crc32(leader.incarnation.encode()) % 1000 / 2000
    return Restart(
        incarnation=leader.incarnation,
        revision=leader.revision,
        blame=blame,
        count=restarts_of(leader),
        releases=releases,
        not_before=now + delay * (1 + apart),
    )


def annotations_after(restart: Restart, blame: Blame) -> dict[str, str]:
    """What the pods of a group tell of the end that they come back from."""
    annotations = {RESTARTED_BECAUSE_ANNOTATION: blame.sentence()}
    if restart.count or not restart.releases:
        annotations |= count_annotations(restart.count)
    if restart.releases:
        annotations[RELEASES_ANNOTATION] = str(restart.releases)
    return annotations


def may_be_made(world: World, group: int) -> bool:
    """Whether pods of the group may be asked for: not soon after the API server refused one."""
    refusal = world.refused.get(group)
    return refusal is None or refusal.until <= world.now


def gang_blocked(world: World, ends: Mapping[int, Restart], pods: Iterable[Pod]) -> Reason | None:
    """What keeps groups from being whole, for sets with a deadline. pods: the set's own. ends: as planned now."""
    seconds = deadline_seconds(world.set)
    if seconds is None:
        return None
    groups: dict[int, list[Pod]] = defaultdict(list)
    for pod in pods:
        groups[pod.group].append(pod)
    told = {group: text for group, members in groups.items() if (text := _in_the_way(world, members))}
    told |= {
        group: f"none of its pods were made: {refusal.message}"
        for group, refusal in world.refused.items()
        if group not in groups and refusal.until > world.now
    }
    told |= {
        group: end.blame.reason
        for group, end in ends.items()
        if end.blame is not None and end.blame.how == "not placed"
    }
    if not told:
        return None
    named = [f"group {group_word(group)}: {told[group]}" for group in sorted(told)[:_NAMED_GROUPS]]
    more = f"; and {len(told) - len(named)} more groups" if len(told) > len(named) else ""
    return Reason(
        "GangNotPlaced",
        "; ".join(named) + more,
        f"a group gives back what it holds {seconds} s after it was made and tries again later: make room for it,"
        " or ask for less",
    )


def _in_the_way(world: World, members: Sequence[Pod]) -> str:
    """Why the group is not placed as a whole; empty if it is, or if nobody knows yet."""
    size = _size(members)
    if any(pod.dying for pod in members):
        return ""
    missing = len(members) < size and members[0].group in world.refused
    waiting = [pod for pod in members if not pod.spec.node_name]
    again = any(map(releases_of, members))
    refused_by_scheduler = any(
        one.type == "PodScheduled" and one.status == "False" and one.reason == "Unschedulable"
        for pod in waiting
        for one in pod.status.conditions
    )
    if missing or (waiting and (again or refused_by_scheduler)):
        return _placement(world, members, size)
    return ""
