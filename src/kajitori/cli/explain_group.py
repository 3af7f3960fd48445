"""The story of a LeaderWorkerSet from its own records: restarts with their last words, revisions, conditions.

All of it is read from the API, and what a cluster does not have is left out: where the definition is upstream's there is no
history of restarts, and the events tell what they tell.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from kajitori.api.leaderworkerset import v1
from kajitori.api.resource import CONTROLLER_REVISIONS
from kajitori.base.clock import parse_rfc3339
from kajitori.base.duration import format_age
from kajitori.cli.connection import Cluster
from kajitori.cli.members import is_ready
from kajitori.cli.timeline import Entry
from kajitori.groups.leader_worker_sets.observed import Revision
from kajitori.groups.leader_worker_sets.options import MAX_RESTARTS
from kajitori.groups.leader_worker_sets.revision_history import history
from kajitori.model.changes import changes, summary

Object = dict[str, Any]
# Events that tell of a restart what its record tells better.
_TOLD_BY_RECORDS = ("RecreateGroup: ", "GroupRestarted: ", "GroupFailed: ", "RestartGroup")
_SAME_MOMENT_SECONDS = 5.0
_KEEPS_FAILING_SECONDS = 600.0
_PHASES = ("Available", "Progressing", "UpdateInProgress")
_HOW = {
    "Deleted": "was deleted",
    "Gone": "is gone without a trace",
    "Failed": "failed",
    "NotPlaced": "was not placed in time",
}


def counts(lws: Object) -> str:
    """The groups in numbers: `3 of 4 groups ready, 2 updated`."""
    status: Object = lws.get("status") or {}
    wanted, there = lws["spec"].get("replicas", 1), status.get("replicas", 0)
    text = f"{status.get('readyReplicas', 0)} of {wanted} groups ready, {status.get('updatedReplicas', 0)} updated"
    return text + (f", {there - wanted} more than wanted" if there > wanted else "")


def waits_for(lws: Object, pods: Sequence[Object]) -> list[str]:
    """What has to happen before all groups are ready, beside what conditions and pods say themselves."""
    status: Object = lws.get("status") or {}
    found: list[str] = []
    if status.get("observedGeneration", 0) < lws["metadata"].get("generation", 0):
        found.append("its controller has not seen the last change yet; does it run?")
    records: list[Object] = status.get("restarts") or []
    newest = {record["group"]: record for record in records}
    for group, record in newest.items():
        attempt, ago = record.get("attempt", 1), time.time() - parse_rfc3339(record["time"])
        left = parse_rfc3339(record["notBefore"]) - time.time() if record.get("notBefore") else 0.0
        again = f"group {group} begins anew in {left:.0f} s" if left > 0 else ""
        if attempt > 1 and ago < _KEEPS_FAILING_SECONDS and record.get("outcome") != "Failed":
            found.append(
                f"group {group} keeps failing: {attempt} restarts in a row, the last {format_age(ago)} ago:"
                f" {_cause(record)}; {again + '; ' if again else ''}the annotation {MAX_RESTARTS} leaves such a group"
                " for inspection"
            )
        elif again:
            found.append(again)
    dying = [pod for pod in pods if pod["metadata"].get("deletionTimestamp")]
    if dying:
        found.append(f"{len(dying)} pods are being deleted")
    return found


def unready_groups(pods: Iterable[Object]) -> str:
    """`groups 1 and 3 are not ready`; empty if all that have pods are."""
    groups: dict[str, bool] = {}
    for pod in pods:
        labels = pod["metadata"].get("labels") or {}
        group = labels.get(v1.GROUP_INDEX_LABEL, "?")
        groups[group] = groups.get(group, True) and is_ready(pod)
    unready = sorted(
        (group for group, ready in groups.items() if not ready), key=lambda word: (len(word), word)
    )
    if not unready:
        return ""
    more = f" and {len(unready) - 8} more" if len(unready) > 8 else ""
    return f"not ready: group{'s' if len(unready) > 1 else ''} {', '.join(unready[:8])}{more}"


def restart_entries(lws: Object) -> list[Entry]:
    """Of the history in the status, each with the last lines of the container that began it."""
    records: list[Object] = (lws.get("status") or {}).get("restarts") or []
    return [
        Entry(
            parse_rfc3339(record["time"]),
            "restart",
            _restart_sentence(record),
            warning=True,
            below=tuple(str(record.get("lastLog") or "").strip().splitlines()),
        )
        for record in records
    ]


def _restart_sentence(record: Object) -> str:
    outcome = {"Failed": "failed and left as it is", "InPlace": "restarted in place"}.get(
        record.get("outcome", ""), "begun anew"
    )
    attempt = record.get("attempt", 0)
    often = f" (restart {attempt} in a row)" if attempt > 1 and record.get("outcome") != "Failed" else ""
    return f"group {record['group']} {outcome}{often}: {_cause(record)}"


def _cause(record: Object) -> str:
    if record.get("how") == "Lifted":
        return "its user wanted it back"
    pod = f"pod {record.get('pod') or '?'}" + (f" on {record['node']}" if record.get("node") else "")
    if record.get("how") == "ContainerRestarted":
        text = f"container {record.get('container') or '?'} of {pod} ended"
    else:
        text = f"{pod} {_HOW.get(record.get('how', ''), 'ended')}"
    details = [
        f"exit code {record['exitCode']}" if record.get("exitCode") is not None else "",
        f"signal {record['signal']}" if record.get("signal") else "",
        str(record.get("reason") or ""),
    ]
    told = ", ".join(each for each in details if each)
    return text + (f": {told}" if told else "") + (f", by {record['by']}" if record.get("by") else "")


def without_restart_events(entries: Iterable[Entry], restarts: Sequence[Entry]) -> list[Entry]:
    """The entries but for events that tell of a restart of which there is a record."""
    times = [entry.at_seconds for entry in restarts]
    return [
        entry
        for entry in entries
        if not entry.what.startswith(_TOLD_BY_RECORDS)
        or not any(abs(at - entry.at_seconds) <= _SAME_MOMENT_SECONDS for at in times)
    ]


def revision_entries(cluster: Cluster, lws: Object) -> list[Entry]:
    """When each revision that is known came, and what it changed."""
    items = cluster.objects(
        CONTROLLER_REVISIONS,
        lws["metadata"].get("namespace"),
        labelSelector=f"{v1.SET_NAME_LABEL}={lws['metadata']['name']}",
    )
    revisions = [msgspec.convert(item, Revision) for item in items]
    uid = lws["metadata"]["uid"]
    known = history(one for one in revisions if one.metadata.controlled_by(uid))
    entries: list[Entry] = []
    before = None
    for past in known:
        text = f": {summary(changes(before.data, past.data))}" if before else ""
        if past.created:
            entries.append(
                Entry(parse_rfc3339(past.created), "revision", f"{past.number} ({past.hash}){text}")
            )
        before = past
    return entries


def condition_entries(obj: Object, told: Sequence[Entry]) -> list[Entry]:
    """When each condition became what it is; those that events tell of anyway are left out. told: the events."""
    return [
        Entry(
            parse_rfc3339(each["lastTransitionTime"]),
            "condition",
            f"{each['type']} became {each['status']}"
            + (f": {each['message']}" if each.get("message") and each["status"] == "True" else ""),
        )
        for each in (obj.get("status") or {}).get("conditions") or ()
        if each.get("lastTransitionTime")
        and each["type"] not in _PHASES
        and not (each.get("message") and any(entry.what.endswith(each["message"]) for entry in told))
    ]
