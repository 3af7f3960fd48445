"""A StatefulSet's status: how many of its pods are there, ready, available, and of which revision. Pure."""

from __future__ import annotations

import msgspec

from kajitori.laptop.controllers.pods import is_available
from kajitori.laptop.controllers.stateful_sets.identity import revision_of
from kajitori.laptop.controllers.stateful_sets.plan import World
from kajitori.laptop.controllers.stateful_sets.views import StatefulSetStatusView, StatefulSetView

# Written even if they are zero.
ALWAYS = frozenset({"replicas", "availableReplicas", "collisionCount"})


def plan_status(world: World, collision_count: int, deleted_for_update: int) -> StatefulSetStatusView:
    """deleted_for_update: pods of this round's counts that have since been deleted to be replaced."""
    stateful_set = world.stateful_set
    current, update = world.current.metadata.name, world.update.metadata.name
    lasting = [pod for pod in world.pods if not pod.is_deleting]
    ready = [pod for pod in world.pods if pod.status.phase == "Running" and pod.is_ready]
    status = StatefulSetStatusView(
        replicas=len(world.pods),
        ready_replicas=len(ready),
        available_replicas=sum(
            is_available(pod, stateful_set.spec.min_ready_seconds, world.now) for pod in ready
        ),
        current_replicas=sum(revision_of(pod) == current for pod in lasting) - deleted_for_update,
        updated_replicas=sum(revision_of(pod) == update for pod in lasting),
        current_revision=current,
        update_revision=update,
        observed_generation=stateful_set.metadata.generation,
        collision_count=collision_count,
    )
    return _completed(stateful_set, status)


def _completed(stateful_set: StatefulSetView, status: StatefulSetStatusView) -> StatefulSetStatusView:
    """Once every pod is of the new revision and ready, the new revision is the current one."""
    wanted = stateful_set.spec.replicas
    if stateful_set.spec.update_strategy.type != "RollingUpdate" or not (
        status.updated_replicas == status.ready_replicas == status.replicas == wanted
    ):
        return status
    return msgspec.structs.replace(
        status, current_replicas=status.updated_replicas, current_revision=status.update_revision
    )


def is_outdated(old: StatefulSetStatusView, new: StatefulSetStatusView) -> bool:
    """Whether the status has to be written: its collision count alone is no reason."""
    return msgspec.structs.replace(new, collision_count=old.collision_count) != old
