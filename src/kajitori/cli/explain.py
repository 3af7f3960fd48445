"""Why: what was decided about an object or a request, by whom, and what would change it.

  kaji explain pod/web-0            why it waits, why it was restarted, and by whom
  kaji explain lws/deepseek         a group's story: restarts with the last lines of their logs, revisions, events
  kaji explain deployment/web       why its pods are stuck; also jobs, jobsets, disaggregatedsets
  kaji explain aigatewayroute/gpt   why a route does not serve
  kaji explain request ID           which backends were tried, what each answered, what it cost

It reads records (conditions, events, the API server's audit, the gateway's ledger) and re-derives nothing.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from kajitori.api.resource import Resource
from kajitori.base.clock import parse_rfc3339
from kajitori.base.duration import format_age
from kajitori.base.errors import ApiError, NotFound, UsageError
from kajitori.cli import explain_gateway as gateway
from kajitori.cli.connection import (
    Cluster,
    cluster_arguments,
    cluster_config,
    is_local,
    local_home,
    open_cluster,
)
from kajitori.cli.events import events_of
from kajitori.cli.members import between, has_members, pod_warnings, pods_of, stuck_pods
from kajitori.cli.output import paint
from kajitori.cli.timeline import Entry, merged, print_timeline

# Conditions that are good when False.
_GOOD_WHEN_FALSE = (
    "Pressure",
    "Unavailable",
    "NotAccepted",
    "UpdateInProgress",
    "Conflicted",
    "DisruptionTarget",
    "Failed",
    "FailureTarget",
    "ReplicaFailure",
    "Blocked",
    "DoesNotFit",
    "FieldsNotHonoured",
    "Paused",
    "PartiallyInvalid",
    "Warning",
    "Exhausted",
)
# Conditions that describe rather than judge.
_PLAIN = (
    "kajitori.dev/Simulated",
    "Progressing",
    "PodScheduled",
    "Suspended",
    "RestartingJobSet",
    "StartupPolicyInProgress",
    "StartupPolicyCompleted",
    "Overridden",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", help="RESOURCE/NAME, RESOURCE, or the word request")
    parser.add_argument("name", nargs="?", help="the object's name, or the request's id")
    parser.add_argument(
        "--all", action="store_true", help="everything that happened, not just the last forty"
    )
    parser.add_argument("-o", dest="form", choices=("json",), help="of a request: all that is known, as JSON")
    cluster_arguments(parser)


def run(options: argparse.Namespace) -> int:
    word, _, name = str(options.what).partition("/")
    name = name or options.name
    if word in ("request", "requests", "req"):
        if not name:
            raise UsageError(
                "explain which request?", hint="kaji explain request ID, the x-request-id of its answer"
            )
        return _explain_request(options, name)
    if not name:
        raise UsageError(
            "explain which one?", hint=f"kaji explain {word}/NAME, of those that `kaji get {word}` lists"
        )
    if options.form:
        raise UsageError(
            f"-o {options.form} is for requests", hint=f"kaji get {word}/{name} -o {options.form}"
        )
    cluster = open_cluster(options)
    resource = cluster.find(word).resource
    return explain_object(cluster, resource, name, every=options.all)


def _explain_request(options: argparse.Namespace, request_id: str) -> int:
    """From the ledger of the local cluster where that is the one that is meant, else from the gateways' own."""
    if is_local(options):
        from kajitori.cli.explain_request import explain_request

        return explain_request(local_home(options), request_id, as_json=options.form == "json")
    from kajitori.cli.ledgers import explain_request_of_cluster

    more = ["-o", options.form] if options.form else []
    return explain_request_of_cluster(cluster_config(options), request_id, more)


def explain_object(cluster: Cluster, resource: Resource, name: str, *, every: bool = False) -> int:
    """Print the object's state, what keeps it from being well, and its timeline. every: however long that is."""
    namespace = cluster.namespace if resource.namespaced else None
    timeline = _timeline(cluster, resource, name, namespace)
    try:
        obj = cluster.get(resource, name)
    except NotFound:
        if not timeline:
            raise
        print(f"{resource.kind} {name} does not exist now.")
        print_timeline(timeline, every=every)
        return 0
    print(paint(_headline(resource, obj), "1"))
    bad = troubles(obj) + gateway.unanswered(cluster, obj)
    if has_members(resource.kind):
        more, timeline = _members(cluster, resource, obj, timeline)
        bad += more
    for line in bad:
        print(f"  {paint('✗', '31')} {line}")
    for line in (*_remarks(obj), *gateway.remarks(obj)):
        print(f"  · {line}")
    _print_owner(obj)
    print_timeline(timeline, every=every)
    if not bad and not timeline:
        print("  nothing is recorded about it: no condition is bad, no event, no change in the audit")
    return 0


def _members(
    cluster: Cluster, resource: Resource, obj: dict[str, Any], timeline: list[Entry]
) -> tuple[list[str], list[Entry]]:
    """What is wrong with what stands under it, and the timeline with that of its pods."""
    namespace = obj["metadata"].get("namespace")
    pods = pods_of(cluster, resource, obj)
    found: list[str] = []
    sources: list[list[Entry]] = []
    for kind, child in between(cluster, resource, obj):
        title = f"{kind.kind} {child['metadata']['name']}"
        if kind.kind == "LeaderWorkerSet":
            from kajitori.cli.explain_group import counts, restart_entries

            sources.append(restart_entries(child))
            if troubles(child):
                found.append(f"{title}: {counts(child)}")
        known = (*troubles(obj), *(text for text in troubles(child) if text.startswith("Available is")))
        found += [f"{title}: {text}" for text in troubles(child) if text not in known]
    if resource.kind == "LeaderWorkerSet":
        from kajitori.cli import explain_group as group

        restarts = group.restart_entries(obj)
        timeline = group.without_restart_events(timeline, restarts)
        sources += [restarts, group.revision_entries(cluster, obj), group.condition_entries(obj, timeline)]
        found += [text for text in (group.unready_groups(pods), *group.waits_for(obj, pods)) if text]
    found += stuck_pods(pods, troubles)
    names = {pod["metadata"]["name"] for pod in pods}
    sources.append(pod_warnings(cluster, namespace, names))
    return found, merged(timeline, *sources)


def _headline(resource: Resource, obj: dict[str, Any]) -> str:
    metadata = obj["metadata"]
    place = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    age = format_age(max(0.0, time.time() - parse_rfc3339(metadata["creationTimestamp"])))
    status: dict[str, Any] = obj.get("status") or {}
    parts = [f"{resource.kind} {place}{metadata['name']}", f"{age} old"]
    if "phase" in status:
        parts.append(str(status["phase"]))
    node = (obj.get("spec") or {}).get("nodeName")
    if node:
        parts.append(f"on {node}")
    if resource.kind == "LeaderWorkerSet":
        from kajitori.cli.explain_group import counts

        parts.append(counts(obj))
    if metadata.get("deletionTimestamp"):
        parts.append("being deleted")
    return ", ".join(parts)


def troubles(obj: dict[str, Any]) -> list[str]:
    """Conditions that are not as they should be, and containers that wait or ended badly, with their reasons."""
    status: dict[str, Any] = obj.get("status") or {}
    found: list[str] = []
    for condition in _conditions(status):
        kind, value = condition["type"], condition["status"]
        good = "False" if kind.endswith(_GOOD_WHEN_FALSE) else "True"
        scheduled_badly = kind == "PodScheduled" and value == "False"
        if (kind not in _PLAIN and value != good) or scheduled_badly:
            text = (condition.get("message") or condition.get("reason") or "").strip()
            found.append(f"{kind} is {value}: {text}".rstrip(": "))
    for key in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(key) or ():
            found += _container_troubles(container, obj["metadata"]["name"])
    return found


def _conditions(status: dict[str, Any]) -> list[dict[str, Any]]:
    """Those of the object, of its parents (routes), its ancestors (policies) and its listeners (gateways)."""
    found: list[dict[str, Any]] = list(status.get("conditions") or ())
    for parent in (*(status.get("parents") or ()), *(status.get("ancestors") or ())):
        found += parent.get("conditions") or ()
    for listener in status.get("listeners") or ():
        found += [
            {**each, "type": f"{listener['name']}: {each['type']}"}
            for each in listener.get("conditions") or ()
        ]
    return found


def _container_troubles(container: dict[str, Any], pod: str) -> list[str]:
    name = container["name"]
    state: dict[str, Any] = container.get("state") or {}
    waiting = state.get("waiting") or {}
    found: list[str] = []
    if waiting.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
        found.append(
            f"container {name} waits: {waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
        )
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated")
    if ended and (ended.get("exitCode") or ended.get("signal")):
        how = f"signal {ended['signal']}" if ended.get("signal") else f"exit code {ended.get('exitCode')}"
        text = f": {ended['message']}" if ended.get("message") else ""
        previous = "" if state.get("terminated") or waiting else " --previous"
        logs = (
            f"; `kaji logs {pod} -c {name}{previous}` has its output"
            if ended.get("reason") != "StartError"
            else ""
        )
        found.append(f"container {name} ended with {how} ({ended.get('reason', '')}){text}{logs}")
    return found


def _remarks(obj: dict[str, Any]) -> list[str]:
    return [
        condition.get("message") or condition["type"]
        for condition in (obj.get("status") or {}).get("conditions") or ()
        if condition["type"] == "kajitori.dev/Simulated" and condition["status"] == "True"
    ]


def _print_owner(obj: dict[str, Any]) -> None:
    for owner in obj["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            print(
                f"  · made for {owner['kind']} {owner['name']} (kaji explain {owner['kind'].lower()}/{owner['name']})"
            )


def _timeline(cluster: Cluster, resource: Resource, name: str, namespace: str | None) -> list[Entry]:
    entries = [
        Entry(
            event.at_seconds,
            event.source,
            f"{event.reason}: {event.message}" + (f" (x{event.count})" if event.count > 1 else ""),
            event.type == "Warning",
        )
        for event in events_of(cluster, resource.kind, name, namespace)
    ]
    entries += _audit(cluster, resource, name, namespace)
    return sorted(entries, key=lambda entry: entry.at_seconds)


def _audit(cluster: Cluster, resource: Resource, name: str, namespace: str | None) -> list[Entry]:
    """Creations and deletions by name, from the embedded API server's audit; nothing where a cluster has none."""
    query = {"resource": resource.qualified_name, "name": name, "namespace": namespace or ""}
    try:
        records = cluster.client.get("/kajitori/audit", query=query)["items"]
    except ApiError:
        return []
    return [
        Entry(
            parse_rfc3339(record["time"]),
            f"{record['user']} ({record['userAgent'].partition(' ')[0]})",
            f"{record['verb']} {resource.plural}/{name}",
        )
        for record in records
        if not record.get("subresource")
    ]
