"""Why a group is begun anew: who failed, how, and by whose hand.

A restart is found once, in the pods that are still there, and then carried: through the deletion of the group,
where its pods are no more, to the pods of the next incarnation, which take its sentence along as an annotation and
an event. A group that keeps failing waits longer each time before it is begun anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from kajitori.api.leaderworkerset import v1
from kajitori.base.clock import parse_rfc3339
from kajitori.groups.leader_worker_sets.observed import RESTARTS_ANNOTATION, ContainerStatus, Pod, Terminated

FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 300.0
FORGET_AFTER_SECONDS = 600.0


class Blame(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The pod that began it. how: what happened to it. by: who asked for the deletion, where that is known."""

    pod: str
    pod_uid: str = ""
    worker: int = 0
    node: str = ""
    how: Literal["deleted", "container restarted", "failed", "gone", "not placed"]
    container: str = ""
    exit_code: int | None = None
    signal: int | None = None
    reason: str = ""
    by: str = ""

    def sentence(self) -> str:
        """What happened, without a full stop."""
        node = f" on {self.node}" if self.node else ""
        if self.how == "deleted":
            return f"pod {self.pod}{node} was deleted" + (f" by {self.by}" if self.by else "")
        if self.how == "gone":
            return f"pod {self.pod} is gone without a trace" + (f"; deleted by {self.by}" if self.by else "")
        if self.how == "not placed":
            return f"pod {self.pod}{node} has no place: {self.reason}"
        if self.how == "failed":
            why = f": {self.reason}" if self.reason else ""
            return f"pod {self.pod}{node} failed{why}{self._ending(', ')}"
        return f"container {self.container} of pod {self.pod}{node} restarted{self._ending(': ')}"

    def _ending(self, before: str) -> str:
        if self.exit_code is None:
            return ""
        code = f"exit code {self.exit_code}"
        signal = self.signal or (self.exit_code - 128 if 128 < self.exit_code < 160 else 0)
        parts = [code, *([f"signal {signal}"] if signal else [])]
        if self.how != "failed" and self.reason and self.reason != "Error":
            parts.append(self.reason)
        return before + ", ".join(parts)


class Restart(msgspec.Struct, frozen=True, kw_only=True):
    """A group on its way out, or gone and not begun anew yet.

    incarnation, revision: of the pods that end. blame: None if it ends for an update or for want of replicas.
    count: restarts in a row. not_before: when it may be begun anew, seconds since 1970.
    """

    incarnation: str
    revision: str
    blame: Blame | None = None
    count: int = 0
    not_before: float = 0.0


def find_blame(policy: v1.RestartPolicy, members: Sequence[Pod], size: int, complete: bool) -> Blame | None:
    """What in this incarnation of a group calls for a restart; None if nothing does.

    complete: all its pods were there once, so that a missing one is a loss and not work still to be done.
    """
    starting = len(members) < size or any(pod.pending for pod in members)
    if policy in ("None", "Default") or (policy == "RecreateGroupAfterStart" and starting):
        # The workers hang on their leader under every policy; one that comes back finds none of its peers.
        return next((_end_of(pod) for pod in members if pod.worker == 0 and _ended(pod)), None)
    if blame := blame_of_ending(members):
        return blame
    if complete and len(members) < size:
        return _blame_for_missing(members, size)
    return None


def blame_of_ending(members: Iterable[Pod]) -> Blame | None:
    """The first of these pods that failed, or else was deleted."""
    culprits = [pod for pod in members if _ended(pod) or _restarted(pod) is not None]
    if not culprits:
        return None
    culprit = min(culprits, key=_when)
    container = _restarted(culprit)
    return _restart_of(culprit, container) if container else _end_of(culprit)


def _blame_for_missing(members: Sequence[Pod], size: int) -> Blame | None:
    there = {pod.worker for pod in members}
    leader = next((pod for pod in members if pod.worker == 0), None)
    missing = next((index for index in range(1, size) if index not in there), None)
    if leader is None or missing is None:
        return None
    return Blame(pod=f"{leader.name}-{missing}", worker=missing, how="gone")


def _ended(pod: Pod) -> bool:
    return pod.dying or pod.status.phase in ("Failed", "Succeeded")


def _restarted(pod: Pod) -> ContainerStatus | None:
    if pod.status.phase not in ("Running", "Pending"):
        return None
    for status in (*pod.status.container_statuses, *pod.status.init_container_statuses):
        if status.restart_count > 0:
            return status
    return None


def _when(pod: Pod) -> tuple[float, bool, int]:
    """Orders by time. Times have whole seconds, so what failed of itself goes before what was deleted for it."""
    container = _restarted(pod) or (None if pod.dying else _failed_container(pod))
    ended = container and (container.last_state.terminated or container.state.terminated)
    if ended and ended.finished_at:
        return parse_rfc3339(ended.finished_at), False, -pod.worker
    if pod.metadata.deletion_timestamp:
        grace = pod.metadata.deletion_grace_period_seconds or 0
        return parse_rfc3339(pod.metadata.deletion_timestamp) - grace, True, -pod.worker
    return 0.0, False, -pod.worker


def _failed_container(pod: Pod) -> ContainerStatus | None:
    if pod.status.phase not in ("Failed", "Succeeded"):
        return None
    ended = [status for status in pod.status.container_statuses if status.state.terminated]
    return next((status for status in ended if _code(status.state.terminated)), ended[0] if ended else None)


def _code(terminated: Terminated | None) -> int:
    return terminated.exit_code if terminated else 0


def _restart_of(pod: Pod, container: ContainerStatus) -> Blame:
    ended = container.last_state.terminated or container.state.terminated
    return Blame(
        pod=pod.name,
        pod_uid=pod.metadata.uid,
        worker=pod.worker,
        node=pod.spec.node_name,
        how="container restarted",
        container=container.name,
        exit_code=ended.exit_code if ended else None,
        signal=ended.signal if ended else None,
        reason=ended.reason if ended else "",
    )


def _end_of(pod: Pod) -> Blame:
    # What is deleted ends with an exit code as well; the deletion is what began it.
    if pod.dying:
        return Blame(
            pod=pod.name,
            pod_uid=pod.metadata.uid,
            worker=pod.worker,
            node=pod.spec.node_name,
            how="deleted",
        )
    failed = _failed_container(pod)
    ended = failed.state.terminated if failed else None
    return Blame(
        pod=pod.name,
        pod_uid=pod.metadata.uid,
        worker=pod.worker,
        node=pod.spec.node_name,
        how="failed",
        container=failed.name if failed else "",
        exit_code=ended.exit_code if ended else None,
        signal=ended.signal if ended else None,
        reason=pod.status.message or pod.status.reason,
    )


def begin_restart(blame: Blame, leader: Pod | None, member: Pod, now: float) -> Restart:
    """The restart that this blame begins; its delay grows with those that the leader remembers.

    member: any pod of the incarnation that ends.
    """
    count = 1
    if leader is not None and leader.metadata.creation_timestamp:
        lived = now - parse_rfc3339(leader.metadata.creation_timestamp)
        before = leader.metadata.annotations.get(RESTARTS_ANNOTATION, "")
        if lived < FORGET_AFTER_SECONDS and before.isdecimal():
            count += int(before)
    delay = 0.0 if count == 1 else min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** min(count - 2, 30))
    return Restart(
        incarnation=member.incarnation,
        revision=member.revision,
        blame=blame,
        count=count,
        not_before=now + delay,
    )
