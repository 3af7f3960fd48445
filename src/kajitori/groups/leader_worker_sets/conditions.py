"""Two conditions of ours that every way of making pods shares: that rollouts are paused, and that a group cannot fit."""

from __future__ import annotations

from collections.abc import Mapping

from kajitori.base.reason import Reason
from kajitori.groups.leader_worker_sets.feasibility import DOES_NOT_FIT, is_unplaced
from kajitori.groups.leader_worker_sets.observed import World
from kajitori.groups.leader_worker_sets.options import options_of
from kajitori.groups.leader_worker_sets.revision_plan import RevisionPlan

PAUSED = "kajitori.dev/Paused"
# Nodes may come without a pod that tells of it.
LOOK_AGAIN_SECONDS = 30.0


def shared_conditions(world: World, revision: RevisionPlan) -> Mapping[str, Reason | None]:
    """For each of the two why it is true, or None."""
    return {PAUSED: _paused(world, revision), DOES_NOT_FIT: _does_not_fit(world, revision)}


def _paused(world: World, revision: RevisionPlan) -> Reason | None:
    if not options_of(world.set.metadata.annotations).paused:
        return None
    hint = f"`kaji rollout resume lws/{world.name}` lets it go on"
    position = revision.position
    if position.steady:
        return Reason("RolloutPaused", "a change of the templates will wait: rollouts are paused", hint)
    return Reason(
        "RolloutPaused",
        f"the rollout to revision {revision.target.hash} is paused: groups below {position.partition} keep their"
        " revision; scaling and restarts go on",
        hint,
    )


def _does_not_fit(world: World, revision: RevisionPlan) -> Reason | None:
    if world.nodes is None:
        return None
    owners = {world.uid, *(each.metadata.uid for each in world.stateful_sets)}
    waiting = sorted(
        {pod.revision for pod in world.pods if pod.owner_uid in owners and is_unplaced(pod)},
        key=lambda hash: hash != revision.target.hash,
    )
    for hash in waiting:
        templates = revision.target if hash == revision.target.hash else revision.older(hash)
        if templates is not None and (why := world.nodes.cannot_fit(world.set, templates)):
            return why
    return None
