"""How far a rollout has come, from the object's status alone, and waiting until it is done."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from kajitori.base.errors import Gone, KajitoriError
from kajitori.cli.output import paint

if TYPE_CHECKING:
    from kajitori.cli.rollout import Target

# Conditions of ours that say that nothing will come of it as things are.
_STUCK = ("kajitori.dev/Blocked", "kajitori.dev/DoesNotFit", "kajitori.dev/GroupsFailed", "Failed")
_PAUSED = "kajitori.dev/Paused"
_SHORTEST_WATCH_SECONDS = 1.0
_LONGEST_WATCH_SECONDS = 60.0


@dataclass(frozen=True)
class Progress:
    """state: `stuck` may still become `done` when somebody else does something; `failed` will not."""

    state: Literal["going", "done", "stuck", "failed"]
    text: str


def progress(kind: str, obj: dict[str, Any]) -> Progress:
    """How the object stands. kind: of those that have rollouts."""
    metadata, status = obj["metadata"], obj.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return Progress("failed", "it is being deleted")
    if kind != "JobSet" and status.get("observedGeneration", 0) < metadata.get("generation", 0):
        return Progress("going", f"its controller has not seen generation {metadata['generation']} yet")
    conditions = {each["type"]: each for each in status.get("conditions") or ()}
    true = {kind: each for kind, each in conditions.items() if each.get("status") == "True"}
    counts = {"LeaderWorkerSet": _set_counts, "DisaggregatedSet": _role_counts, "JobSet": _job_counts}[kind](
        obj
    )
    stuck = next((true[each] for each in _STUCK if each in true), None)
    if stuck is not None:
        state = "failed" if stuck["type"] == "Failed" else "stuck"
        return Progress(state, f"{counts}; {_reason(stuck)}")
    if kind == "JobSet":
        return _job_progress(obj, true, counts)
    if "Available" in true and not (kind == "LeaderWorkerSet" and _surge_goes_on(obj)):
        return Progress("done", counts)
    # Conditions lag behind the annotation, by which somebody may have resumed it.
    if (metadata.get("annotations") or {}).get("groups.kajitori.dev/paused") == "true":
        paused = true.get(_PAUSED) or true.get("Progressing") or {}
        if "is paused" in paused.get("message", ""):
            since = f", since {paused['lastTransitionTime']}" if paused.get("lastTransitionTime") else ""
            return Progress("stuck", f"{counts}; {_reason(paused)}{since}")
    return Progress("going", counts)


def _reason(condition: dict[str, Any]) -> str:
    return str(condition.get("message") or condition.get("reason") or condition["type"]).strip()


def _surge_goes_on(lws: dict[str, Any]) -> bool:
    """Groups beyond those wanted are still to go; with a partition they stay."""
    rolling = (lws["spec"].get("rolloutStrategy") or {}).get("rollingUpdateConfiguration") or {}
    there = (lws.get("status") or {}).get("replicas", 0)
    return not rolling.get("partition") and there > lws["spec"].get("replicas", 1)


def _set_counts(lws: dict[str, Any]) -> str:
    status, spec = lws.get("status") or {}, lws["spec"]
    wanted, there = spec.get("replicas", 1), status.get("replicas", 0)
    rolling = (spec.get("rolloutStrategy") or {}).get("rollingUpdateConfiguration") or {}
    partition = min(rolling.get("partition") or 0, wanted)
    # Groups in excess are counted among those that are updated.
    updated = min(status.get("updatedReplicas", 0), wanted)
    text = f"{updated} of {wanted} groups updated, {status.get('readyReplicas', 0)} ready"
    if there > wanted:
        text += f", {there - wanted} more than wanted"
    if partition:
        text += f" (groups below partition {partition} keep their revision)"
    return text


def _role_counts(obj: dict[str, Any]) -> str:
    wanted = {
        role["name"]: (role.get("spec") or {}).get("replicas", 1) for role in obj["spec"].get("roles") or ()
    }
    slices = obj["spec"].get("slices", 1)
    parts = [
        f"{role['name']}: {role.get('updatedReplicas', 0)} of {wanted.get(role['name'], 0) * slices} groups updated,"
        f" {role.get('readyReplicas', 0)} ready"
        for role in (obj.get("status") or {}).get("roleStatuses") or ()
    ]
    return "; ".join(parts) or "no role has a status yet"


def _job_counts(obj: dict[str, Any]) -> str:
    wanted = {job["name"]: job.get("replicas", 1) for job in obj["spec"].get("replicatedJobs") or ()}
    parts = [
        f"{job['name']}: {job.get('ready', 0)} of {wanted.get(job['name'], 0)} jobs ready,"
        f" {job.get('succeeded', 0)} succeeded, {job.get('failed', 0)} failed"
        for job in (obj.get("status") or {}).get("replicatedJobsStatus") or ()
    ]
    return "; ".join(parts) or "no job has a status yet"


def _job_progress(obj: dict[str, Any], true: dict[str, Any], counts: str) -> Progress:
    if "Completed" in true:
        return Progress("done", f"{counts}; it is completed")
    if obj["spec"].get("suspend"):
        return Progress("stuck", f"{counts}; it is suspended")
    jobs = {job["name"]: job for job in (obj.get("status") or {}).get("replicatedJobsStatus") or ()}
    up = all(
        jobs.get(each["name"], {}).get("ready", 0) + jobs.get(each["name"], {}).get("succeeded", 0)
        >= each.get("replicas", 1)
        for each in obj["spec"].get("replicatedJobs") or ()
    )
    return Progress("done" if up else "going", counts)


def watch_rollout(target: Target, *, watch: bool, timeout_seconds: float) -> int:
    """Print each change until it is done; returns 0 then. timeout_seconds: 0 for as long as it takes.

    What is stuck ends it with 1, unless a timeout says how long to hope.
    """
    kind = target.resource.kind
    deadline = time.monotonic() + timeout_seconds if timeout_seconds else None
    now = Progress("going", "")
    for obj in _states(target, deadline) if watch else [target.object]:
        before, now = now, progress(kind, obj)
        if now == before:
            continue
        if now.state == "done":
            print(f"{paint('✓', '32')} {target.word} is rolled out: {now.text}", flush=True)
            return 0
        if now.state == "failed" or (now.state == "stuck" and (deadline is None or not watch)):
            raise KajitoriError(f"{target.word}: {now.text}")
        print(f"{paint('…', '33')} {target.word}: {now.text}", flush=True)
    if not watch:
        return 1
    raise KajitoriError(
        f"{target.word} was not rolled out within {timeout_seconds:g} s: {now.text}",
        hint=f"kaji explain {target.word}",
    )


def _states(target: Target, deadline: float | None) -> Iterator[dict[str, Any]]:
    """The object as it is and each time that it changes; ends with the deadline. Raises NotFound once it is gone."""
    cluster, resource = target.cluster, target.resource
    obj = target.object
    yield obj
    while True:
        left = _LONGEST_WATCH_SECONDS if deadline is None else deadline - time.monotonic()
        if left <= 0:
            return
        query = {
            "fieldSelector": f"metadata.name={target.name}",
            "resourceVersion": obj["metadata"]["resourceVersion"],
            "timeoutSeconds": str(round(min(_LONGEST_WATCH_SECONDS, max(_SHORTEST_WATCH_SECONDS, left)))),
        }
        try:
            for event in cluster.watch(resource.path(cluster.namespace), query, "application/json"):
                if event["type"] == "ERROR":
                    break
                obj = event["object"]
                if event["type"] == "DELETED":
                    raise KajitoriError(f"{target.word} was deleted")
                yield obj
                if deadline is not None and time.monotonic() >= deadline:
                    return
        except Gone:
            pass
        # Whatever ended the watch, what it may have missed is in the object.
        obj = cluster.get(resource, target.name)
        yield obj
