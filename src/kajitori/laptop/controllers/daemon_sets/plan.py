"""Which daemons to make and which to delete: to have one on each node that suits, and to bring a new template out. Pure.

First every node gets what it lacks and loses what is too much; only when nothing is left to do there does an update
take its next step, within `maxUnavailable` or, where new pods come beside the old ones, `maxSurge`.

Source of the meaning: Kubernetes' documentation of DaemonSet, and the steps of kube-controller-manager.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from kajitori.laptop.controllers.amounts import resolve
from kajitori.laptop.controllers.daemon_sets.placement import (
    Placement,
    Rules,
    is_updated,
    target_node,
)
from kajitori.laptop.controllers.daemon_sets.views import DaemonSetStatusView, DaemonSetView
from kajitori.laptop.controllers.pods import is_available
from kajitori.laptop.controllers.views import NodeView, PodView

# More at once would hold the server up for everybody else; the rest follows in the next round.
MOST_AT_ONCE = 250
_NOWHERE = Placement(run=False, stay=False)


class World(msgspec.Struct, frozen=True, kw_only=True):
    """What is known. hash: of the present template's revision. backoff_seconds: how long a node's failed pod must
    still be left alone, by node."""

    daemon_set: DaemonSetView
    nodes: Sequence[NodeView]
    pods: Sequence[PodView]
    hash: str
    backoff_seconds: Mapping[str, float]
    now: float


class Changes(msgspec.Struct, frozen=True):
    """create: nodes that get a pod. failed, succeeded: of the deleted pods those that ended, to be told.
    wait_seconds: when a failed pod's back-off is over."""

    create: list[str]
    delete: list[PodView]
    failed: list[PodView]
    succeeded: list[PodView]
    wait_seconds: float | None = None

    @property
    def is_empty(self) -> bool:
        return not self.create and not self.delete


class Layout:
    """The world by nodes: where pods belong and where they are."""

    def __init__(self, world: World) -> None:
        rules = Rules(world.daemon_set)
        self.world = world
        self.places = {node.metadata.name: rules.place(node) for node in world.nodes}
        self.pods: dict[str, list[PodView]] = {}
        for pod in world.pods:
            node = target_node(pod)
            if node and not (pod.has_ended and pod.is_deleting):
                self.pods.setdefault(node, []).append(pod)
        for pods in self.pods.values():
            pods.sort(key=_age)

    @property
    def wanted(self) -> list[str]:
        """Nodes that shall have a pod."""
        return [name for name, place in self.places.items() if place.run]

    def is_available(self, pod: PodView) -> bool:
        return is_available(pod, self.world.daemon_set.spec.min_ready_seconds, self.world.now)

    def is_updated(self, pod: PodView) -> bool:
        return is_updated(self.world.daemon_set, pod, self.world.hash)


def _age(pod: PodView) -> tuple[bool, str, str]:
    """Bound ones first, then the oldest."""
    return not pod.spec.node_name, pod.metadata.creation_timestamp, pod.metadata.name


def plan_changes(layout: Layout) -> Changes:
    """What to do now: see to the nodes, or, if all is well there, take a step of the update."""
    changes = _manage(layout)
    if not changes.is_empty or layout.world.daemon_set.spec.update_strategy.type != "RollingUpdate":
        return changes
    most_surge, most_unavailable = limits(layout.world.daemon_set, len(layout.wanted))
    rolled = _roll_surging(layout, most_surge) if most_surge else _roll(layout, most_unavailable)
    return msgspec.structs.replace(rolled, wait_seconds=changes.wait_seconds)


def limits(daemon_set: DaemonSetView, wanted: int) -> tuple[int, int]:
    """maxSurge and maxUnavailable in pods."""
    rolling = daemon_set.spec.update_strategy.rolling_update
    if daemon_set.spec.update_strategy.type != "RollingUpdate" or rolling is None:
        return 0, 0
    surge = resolve(rolling.max_surge, wanted, round_up=True)
    unavailable = resolve(rolling.max_unavailable, wanted, round_up=True)
    return surge, unavailable or int(surge == 0 and wanted > 0)


def _manage(layout: Layout) -> Changes:
    changes = Changes([], [], [], [])
    waits: list[float] = []
    for node, place in layout.places.items():
        pods = layout.pods.get(node)
        if place.run and pods is None:
            changes.create.append(node)
        elif place.stay:
            waits += _see_to(layout, node, pods or [], place, changes)
        elif pods:
            changes.delete.extend([pod for pod in pods if not pod.is_deleting])
    for node, pods in layout.pods.items():
        if node not in layout.places:
            # Meant for a node that is not there: nothing will ever bind them.
            changes.delete.extend([pod for pod in pods if not pod.spec.node_name])
    return Changes(
        changes.create[:MOST_AT_ONCE],
        changes.delete[:MOST_AT_ONCE],
        changes.failed,
        changes.succeeded,
        min(waits, default=None),
    )


def _see_to(
    layout: Layout, node: str, pods: Sequence[PodView], place: Placement, changes: Changes
) -> list[float]:
    """One node that may keep its pods; returns the seconds that its failed pod must be left alone."""
    waits: list[float] = []
    running: list[PodView] = []
    for pod in pods:
        if pod.is_deleting:
            continue
        if pod.status.phase == "Failed":
            left = layout.world.backoff_seconds.get(node, 0.0)
            if left > 0:
                waits.append(left)
            else:
                changes.failed.append(pod)
                changes.delete.append(pod)
        elif pod.status.phase == "Succeeded":
            changes.succeeded.append(pod)
            changes.delete.append(pod)
        else:
            running.append(pod)
    if limits(layout.world.daemon_set, 1)[0] == 0:
        changes.delete.extend(running[1:])
    elif not running and place.run:
        changes.create.append(node)
    elif len(running) > 1:
        changes.delete.extend(_surplus(layout, running))
    return waits


def _surplus(layout: Layout, running: Sequence[PodView]) -> list[PodView]:
    """Of several pods on a node: all but the oldest new one, and the oldest old one until the new one serves."""
    new = [pod for pod in running if pod.metadata.labels.get("controller-revision-hash") == layout.world.hash]
    old = [pod for pod in running if pod not in new]
    surplus = [*new[1:], *old[1:]]
    if new and old and (not old[0].is_ready or layout.is_available(new[0])):
        surplus.append(old[0])
    return surplus


class _Pair(msgspec.Struct, frozen=True):
    """The pods of a node that are not on their way out. odd: more than one of either kind."""

    new: PodView | None
    old: PodView | None
    odd: bool


def _pairs(layout: Layout) -> dict[str, _Pair]:
    pairs: dict[str, _Pair] = {}
    for node in [*layout.pods, *(name for name in layout.wanted if name not in layout.pods)]:
        lasting = [pod for pod in layout.pods.get(node, ()) if not pod.is_deleting]
        new = [pod for pod in lasting if layout.is_updated(pod)]
        old = [pod for pod in lasting if not layout.is_updated(pod)]
        pairs[node] = _Pair(new[0] if new else None, old[0] if old else None, len(new) > 1 or len(old) > 1)
    return pairs


def _roll(layout: Layout, most_unavailable: int) -> Changes:
    """Delete old pods, so that the next round puts new ones in their place."""
    unavailable, replaceable, candidates = 0, list[PodView](), list[PodView]()
    for pair in _pairs(layout).values():
        new, old = pair.new, pair.old
        if pair.odd or (new is None) == (old is None):
            unavailable += 1
        elif old is None:
            unavailable += new is not None and not layout.is_available(new)
        elif layout.is_available(old):
            candidates.append(old)
        else:
            # It serves nobody: its replacement costs nothing.
            unavailable += 1
            replaceable.append(old)
    room = max(0, most_unavailable - unavailable)
    return Changes([], [*replaceable, *candidates[:room]][:MOST_AT_ONCE], [], [])


def _roll_surging(layout: Layout, most_surge: int) -> Changes:
    """Make new pods beside the old ones, and delete an old one once its successor is available."""
    delete, leaving, urgent, candidates = list[PodView](), list[PodView](), list[str](), list[str]()
    surging = available = 0
    for node, pair in _pairs(layout).items():
        new, old = pair.new, pair.old
        if pair.odd:
            surging += 1
            continue
        serving = old or new
        available += serving is not None and layout.is_available(serving)
        if old is None:
            continue
        if new is not None:
            if layout.is_available(new):
                delete.append(old)
            else:
                surging += 1
        elif not layout.places.get(node, _NOWHERE).run:
            (leaving if layout.is_available(old) else delete).append(old)
        else:
            (candidates if layout.is_available(old) else urgent).append(node)
    delete += leaving[: max(0, available - len(layout.wanted))]
    create = [*urgent, *candidates[: max(0, most_surge - surging)]]
    return Changes(create[:MOST_AT_ONCE], delete[:MOST_AT_ONCE], [], [])


def plan_status(layout: Layout) -> DaemonSetStatusView:
    """How many nodes shall have a pod, have one, and have one that is ready, available, up to date."""
    daemon_set = layout.world.daemon_set
    first = [layout.pods[node][0] for node in layout.wanted if node in layout.pods]
    ready = [pod for pod in first if pod.is_ready]
    available = sum(layout.is_available(pod) for pod in ready)
    return DaemonSetStatusView(
        desired_number_scheduled=len(layout.wanted),
        current_number_scheduled=len(first),
        number_misscheduled=sum(
            node in layout.pods for node, place in layout.places.items() if not place.run
        ),
        number_ready=len(ready),
        updated_number_scheduled=sum(layout.is_updated(pod) for pod in first),
        number_available=available,
        number_unavailable=len(layout.wanted) - available,
        observed_generation=daemon_set.metadata.generation,
        collision_count=daemon_set.status.collision_count,
    )
