"""Why a group is begun anew: who failed, how, and by whose hand.

A restart is found once, in the pods that are still there, and then carried: through the deletion of the group,
where its pods are no more, to the pods of the next incarnation, which take its sentence along as an annotation and
an event. How often a group may fail, and how long it then waits, is for `budget` to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from kajitori.api.leaderworkerset import v1
from kajitori.base.clock import parse_rfc3339
from kajitori.groups.leader_worker_sets.last_lines import last_lines
from kajitori.groups.leader_worker_sets.observed import ContainerStatus, Pod, Terminated

How = Literal["deleted", "container restarted", "failed", "gone", "not placed", "lifted"]
Outcome = Literal["Recreated", "InPlace", "Failed"]
# Restarts that were taken for good, by pod and container.
RestartCounts = Mapping[str, Mapping[str, int]]

_NONE_ACCEPTED: RestartCounts = {}
# What Kubernetes says of a pod that it takes away (condition DisruptionTarget), in words.
_DISRUPTIONS = {
    "PreemptionByScheduler": "preempted by the scheduler for a pod of higher priority",
    "DeletionByTaintManager": "driven out by a taint of its node",
    "EvictionByEvictionAPI": "evicted through the API, as a drain does",
    "DeletionByPodGC": "removed because its node was lost",
    "TerminationByKubelet": "stopped by its node",
}
_WORDLESS = ("", "Error", "Completed")


class Blame(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The pod that began it. how: what happened to it. by: who asked for the deletion, where that is known.

    reason, message: of the pod (`Evicted`), or of the container if it alone failed (`OOMKilled`). container_reason: of
    the container of a pod that failed. node_state: what is wrong with the node, such as `is NotReady`. last_log: the
    last lines that the container wrote, without secrets.
    """

    pod: str
    pod_uid: str = ""
    worker: int = 0
    node: str = ""
    node_state: str = ""
    how: How
    container: str = ""
    exit_code: int | None = None
    signal: int | None = None
    reason: str = ""
    message: str = ""
    container_reason: str = ""
    by: str = ""
    last_log: str = ""

    def sentence(self) -> str:
        """What happened, without a full stop and without the log."""
        node = f" on {self.node}" if self.node else ""
        if self.node_state:
            node += f", which {self.node_state},"
        match self.how:
            case "deleted":
                by = f" by {self.by}" if self.by else ""
                why = _DISRUPTIONS.get(self.reason) or self.message or self.reason
                return f"pod {self.pod}{node} was deleted{by}" + (f": {why}" if why else "")
            case "gone":
                by = f"; deleted by {self.by}" if self.by else ""
                return f"pod {self.pod}{node} is gone without a trace{by}"
            case "failed":
                why = ": ".join(part for part in (self.reason, self.message) if part)
                did = "ended" if self.exit_code == 0 and not why else "failed"
                return f"pod {self.pod}{node} {did}" + (f": {why}" if why else "") + self._ending(", ")
            case "not placed":
                return f"pod {self.pod}{node} has no place: {self.reason}"
            case "lifted":
                return f"the failed group of pod {self.pod} was to be tried again"
            case _:
                return f"container {self.container} of pod {self.pod}{node} restarted{self._ending(': ')}"

    def story(self) -> str:
        """The sentence, and the last lines of the log if there are any."""
        if not self.last_log:
            return self.sentence()
        lines = " | ".join(line.strip() for line in self.last_log.splitlines() if line.strip())
        return f"{self.sentence()}; it last wrote: {lines}"

    def _ending(self, before: str) -> str:
        if self.exit_code is None:
            return ""
        code = f"exit code {self.exit_code}"
        signal = self.signal or (self.exit_code - 128 if 128 < self.exit_code < 160 else 0)
        parts = [code, *([f"signal {signal}"] if signal else [])]
        why = self.container_reason if self.how == "failed" else self.reason
        if why not in _WORDLESS:
            parts.append(why)
        return before + ", ".join(parts)


class Restart(msgspec.Struct, frozen=True, kw_only=True):
    """A group on its way out, or gone and not begun anew yet.

    incarnation, revision: of the pods that end. blame: None if it ends for an update or for want of replicas.
    count: restarts in a row. not_before: when it may be begun anew, seconds since 1970. outcome: what is done about it.
    releases: how often in a row it gave back what it held (see `gang_release`).
    """

    incarnation: str
    revision: str
    blame: Blame | None = None
    count: int = 0
    not_before: float = 0.0
    outcome: Outcome = "Recreated"
    releases: int = 0


def find_blame(
    policy: v1.RestartPolicy,
    members: Sequence[Pod],
    size: int,
    complete: bool,
    accepted: RestartCounts = _NONE_ACCEPTED,
) -> Blame | None:
    """What in this incarnation of a group calls for a restart; None if nothing does.

    complete: all its pods were there once, so that a missing one is a loss and not work still to be done.
    accepted: restarts of containers that were dealt with.
    """
    starting = len(members) < size or any(pod.pending for pod in members)
    if policy in ("None", "Default") or (policy == "RecreateGroupAfterStart" and starting):
        # The workers hang on their leader under every policy; one that comes back finds none of its peers.
        return next((end_of(pod) for pod in members if pod.worker == 0 and _ended(pod)), None)
    if blame := blame_of_ending(members, accepted):
        return blame
    if complete and len(members) < size:
        return blame_for_missing(members, size)
    return None


def blame_of_ending(members: Iterable[Pod], accepted: RestartCounts = _NONE_ACCEPTED) -> Blame | None:
    """The first of these pods that failed, or else was deleted."""
    culprits = [(pod, restarted(pod, accepted)) for pod in members if pod.suspect]
    culprits = [(pod, container) for pod, container in culprits if container or _ended(pod)]
    if not culprits:
        return None
    culprit, container = min(culprits, key=lambda found: _when(*found))
    return _restart_of(culprit, container) if container else end_of(culprit)


def blame_for_missing(members: Sequence[Pod], size: int) -> Blame | None:
    there = {pod.worker for pod in members}
    leader = next((pod for pod in members if pod.worker == 0), None)
    missing = next((index for index in range(1, size) if index not in there), None)
    if leader is None or missing is None:
        return None
    return Blame(pod=f"{leader.name}-{missing}", worker=missing, how="gone")


def _ended(pod: Pod) -> bool:
    return pod.dying or pod.status.phase in ("Failed", "Succeeded")


def restarted(pod: Pod, accepted: RestartCounts = _NONE_ACCEPTED) -> ContainerStatus | None:
    """The first container of a living pod that was restarted more often than is accepted."""
    if pod.status.phase not in ("Running", "Pending"):
        return None
    known = accepted.get(pod.name) or {}
    for status in (*pod.status.container_statuses, *pod.status.init_container_statuses):
        if status.restart_count > known.get(status.name, 0):
            return status
    return None


def _when(pod: Pod, container: ContainerStatus | None) -> tuple[float, bool, int]:
    """Orders by time. Times have whole seconds, so what failed of itself goes before what was deleted for it."""
    container = container or (None if pod.dying else _failed_container(pod))
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
        last_log=last_lines(ended.message) if ended else "",
    )


def end_of(pod: Pod) -> Blame:
    """The blame for a pod that is being deleted, or has come to its end."""
    disruption = _disruption(pod)
    # What is deleted ends with an exit code as well; the deletion is what began it.
    if pod.dying:
        return Blame(
            pod=pod.name,
            pod_uid=pod.metadata.uid,
            worker=pod.worker,
            node=pod.spec.node_name,
            how="deleted",
            reason=disruption or pod.status.reason,
            message=pod.status.message,
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
        reason=pod.status.reason or disruption,
        message=pod.status.message,
        container_reason=ended.reason if ended else "",
        last_log=last_lines(ended.message) if ended else "",
    )


def _disruption(pod: Pod) -> str:
    """Why Kubernetes itself takes the pod away; empty if it does not."""
    conditions = pod.status.conditions
    return next(
        (one.reason for one in conditions if one.type == "DisruptionTarget" and one.status == "True"), ""
    )
