"""A group is ready as one: its leader is in the endpoints of Services only while all of its pods are ready.

The leader's pod is made with a readiness gate, and the condition of that name says whether the group is whole and
ready. A leader that was made without the gate is left as it is. The condition is written only when it changes.

What starts the workers with `startupPolicy: LeaderReady` is then the leader's containers, not its pod: that one
waits for the workers.
"""

from __future__ import annotations

from collections.abc import Sequence

from kajitori.groups.leader_worker_sets.actions import SetGroupReady
from kajitori.groups.leader_worker_sets.identity import is_hash
from kajitori.groups.leader_worker_sets.observed import DRAINING_ANNOTATION, Pod
from kajitori.groups.leader_worker_sets.options import GROUP_READY, Options

# Of sets whose groups are named by hashes, as kubernetes-sigs/lws has it.
HASH_GROUP_READY = "leaderworkerset.sigs.k8s.io/group-ready"
GATES = (GROUP_READY, HASH_GROUP_READY)


def gate_for(options: Options, group: int, size: int) -> str:
    """The readiness gate of a leader that is made now; empty for none."""
    hashed = is_hash(group)
    alone = size == 1
    if options.drain_seconds or (not alone and (options.group_ready or hashed)):
        return HASH_GROUP_READY if hashed else GROUP_READY
    return ""


def gate_of(leader: Pod) -> str:
    """The readiness gate that the leader was made with; empty for none."""
    gates = (gate.condition_type for gate in leader.spec.readiness_gates)
    return next((gate for gate in gates if gate in GATES), "")


def has_started(leader: Pod) -> bool:
    """Whether workers that wait for their leader may start."""
    if leader.ready or not gate_of(leader):
        return leader.ready
    return not leader.dying and leader.status.phase == "Running" and leader.status.has("ContainersReady")


def is_draining(leader: Pod) -> bool:
    """Whether the group was taken out of the endpoints to be stopped."""
    return DRAINING_ANNOTATION in leader.metadata.annotations


def plan_group_ready(leader: Pod, members: Sequence[Pod], size: int) -> SetGroupReady | None:
    """What is to be written of the group's readiness; None if it stands there already, or nobody asks for it.

    members: the pods of the leader's incarnation.
    """
    gate = gate_of(leader)
    if not gate or leader.dying:
        return None
    missing = _what_is_missing(leader, members, size)
    known = next((one.status for one in leader.status.conditions if one.type == gate), "")
    if missing is None:
        message = f"all {size} pods of the group are ready"
        return None if known == "True" else SetGroupReady(leader, gate, True, "GroupReady", message)
    return None if known == "False" else SetGroupReady(leader, gate, False, *missing)


def _what_is_missing(leader: Pod, members: Sequence[Pod], size: int) -> tuple[str, str] | None:
    """Reason and message; None if nothing is."""
    if is_draining(leader):
        return "Draining", "the group is about to be stopped"
    if not leader.status.has("ContainersReady"):
        return "LeaderNotReady", "the leader's containers are not ready"
    alive = [pod for pod in members if not pod.dying]
    if len(alive) < size:
        return "PodsMissing", f"{len(alive)} of the group's {size} pods are there"
    unready = next((pod.name for pod in alive if pod.worker and not pod.ready), None)
    return ("WorkerNotReady", f"pod {unready} is not ready") if unready else None
