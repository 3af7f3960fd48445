"""A group that serves is taken out of the endpoints before it is stopped, so that what it has begun can end.

A drain begins with a note of its time on the leader, and with the condition of its readiness gate going False; Services
then send it nothing new. The group is deleted when its time is over, or as soon as its engine says that nothing is
left to do. Only what is stopped on purpose is drained: a scale-down, an update, a surge that has done its work. A
group that fails meanwhile is deleted at once, and one that is wanted after all comes back.

The note is on the pod, so a controller that dies in between loses nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from kajitori.base.clock import parse_rfc3339
from kajitori.groups.leader_worker_sets.actions import BeginDrain, SetGroupReady
from kajitori.groups.leader_worker_sets.observed import DRAINING_ANNOTATION, Pod
from kajitori.groups.leader_worker_sets.readiness import gate_of, is_draining, plan_group_ready

# Endpoints reach the proxies a moment later, and a request may come until then: an engine is not believed to be idle
# before.
SETTLE_SECONDS = 2.0
POLL_SECONDS = 1.0


class Drain(msgspec.Struct, frozen=True, kw_only=True):
    """Where the drain of one group stands. done: it can be deleted. look_again: seconds since 1970, if it cannot."""

    done: bool
    actions: Sequence[BeginDrain | SetGroupReady] = ()
    begins: bool = False
    look_again: float | None = None


DONE = Drain(done=True)


def plan_drain(pods: Sequence[Pod], drain_seconds: int, now: float, idle: Collection[str]) -> Drain:
    """What comes before the deletion of a group that is to be stopped. idle: uids of leaders with nothing to do.

    pods: all of the group. Without a drain, a gate or a leader that is in the endpoints there is nothing to wait for.
    """
    leader = next((pod for pod in pods if pod.worker == 0), None)
    if drain_seconds == 0 or leader is None or not gate_of(leader) or _fails(pods):
        return DONE
    if not is_draining(leader):
        if not leader.ready:
            return DONE
        begin = BeginDrain(leader, gate_of(leader), now)
        return Drain(done=False, actions=[begin], begins=True, look_again=now + _first_look(drain_seconds))
    since = draining_since(leader, now)
    over = since + drain_seconds
    settled = since + min(SETTLE_SECONDS, drain_seconds)
    if now >= over or (now >= settled and leader.metadata.uid in idle):
        return DONE
    # Its condition may not have been written by whoever began.
    condition = plan_group_ready(leader, pods, len(pods))
    look_again = settled if now < settled else min(over, now + POLL_SECONDS)
    return Drain(done=False, actions=[condition] if condition else [], look_again=look_again)


def _first_look(drain_seconds: int) -> float:
    return min(SETTLE_SECONDS, drain_seconds)


def draining_since(leader: Pod, now: float) -> float:
    """When its drain began, seconds since 1970. Never later than now, and a time that nobody can read is long ago."""
    try:
        return min(now, parse_rfc3339(leader.metadata.annotations[DRAINING_ANNOTATION]))
    except ValueError:
        return 0.0


def may_be_idle(leader: Pod, now: float) -> bool:
    """Whether it is time to ask the engine of a draining leader if it has anything left to do."""
    return is_draining(leader) and not leader.dying and now >= draining_since(leader, now) + SETTLE_SECONDS


def _fails(pods: Sequence[Pod]) -> bool:
    """Whether a pod of the group ended or is being deleted, so that there is nothing left to wait for."""
    return any(pod.dying or pod.status.phase in ("Failed", "Succeeded") for pod in pods)
