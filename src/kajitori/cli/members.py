"""What an object stands for: the objects that its controller made for it, down to the pods, and why those are stuck."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from kajitori.api.resource import (
    EVENTS,
    JOBS,
    LEADER_WORKER_SETS,
    PODS,
    REPLICA_SETS,
    STATEFUL_SETS,
    Resource,
)
from kajitori.base.errors import ApiError
from kajitori.cli.connection import Cluster
from kajitori.cli.events import to_event
from kajitori.cli.timeline import Entry

Object = dict[str, Any]
# What stands between the object and its pods, and has conditions or events of its own.
_BETWEEN: dict[str, tuple[Resource, ...]] = {
    "Deployment": (REPLICA_SETS,),
    "CronJob": (JOBS,),
    "LeaderWorkerSet": (STATEFUL_SETS,),
    "DisaggregatedSet": (LEADER_WORKER_SETS,),
    "JobSet": (JOBS,),
}
_NAME_LABELS = {
    "LeaderWorkerSet": "leaderworkerset.sigs.k8s.io/name",
    "DisaggregatedSet": "disaggregatedset.x-k8s.io/name",
    "JobSet": "jobset.sigs.k8s.io/jobset-name",
}
_WITH_SELECTOR = ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job")
_MOST_NAMES = 3
# A name that ends in a hash, such as that of a gang.
_OWN_WORDS = re.compile(r"\b[a-z][a-z0-9-]*-[0-9a-z]{8,10}\b")


def has_members(kind: str) -> bool:
    return kind in _BETWEEN or kind in _WITH_SELECTOR


def pods_of(cluster: Cluster, resource: Resource, obj: Object) -> list[Object]:
    """The pods that it stands for, by name; those of others that carry the same labels are left out."""
    selector = _selector(resource.kind, obj)
    if not selector:
        return []
    found = cluster.objects(PODS, obj["metadata"].get("namespace"), labelSelector=selector)
    return sorted(found, key=lambda pod: pod["metadata"]["name"])


def _selector(kind: str, obj: Object) -> str:
    if kind in _NAME_LABELS:
        return f"{_NAME_LABELS[kind]}={obj['metadata']['name']}"
    selector: Object = (obj.get("spec") or {}).get("selector") or {}
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for each in selector.get("matchExpressions") or ():
        values = ",".join(each.get("values") or ())
        forms = {
            "In": f"{each['key']} in ({values})",
            "NotIn": f"{each['key']} notin ({values})",
            "Exists": each["key"],
            "DoesNotExist": f"!{each['key']}",
        }
        parts.append(forms.get(each["operator"], each["key"]))
    return ",".join(parts)


def between(cluster: Cluster, resource: Resource, obj: Object) -> list[tuple[Resource, Object]]:
    """What was made for it and is no pod. Kinds that the cluster does not serve, or does not show, are left out."""
    uid = obj["metadata"]["uid"]
    found: list[tuple[Resource, Object]] = []
    for child in _BETWEEN.get(resource.kind, ()):
        try:
            items = cluster.objects(child, obj["metadata"].get("namespace"))
        except ApiError:
            continue
        found += [
            (child, item)
            for item in items
            if any(owner.get("uid") == uid for owner in item["metadata"].get("ownerReferences") or ())
        ]
    return found


def stuck_pods(pods: Sequence[Object], troubles: Callable[[Object], list[str]]) -> list[str]:
    """Why pods are not ready: each reason once, with the pods of which it is true."""
    by_reason: dict[str, tuple[str, list[str]]] = {}
    for pod in pods:
        name = pod["metadata"]["name"]
        for text in _reasons(pod, troubles):
            by_reason.setdefault(_in_general(text, name), (text, []))[1].append(name)
    return [f"{_names(names)}: {text}" for text, names in by_reason.values()]


def _in_general(text: str, pod: str) -> str:
    """The text without what tells one pod of a kind from another: names, hashes, numbers of groups."""
    return _OWN_WORDS.sub("…", text).replace(pod, "POD")


def _reasons(pod: Object, troubles: Callable[[Object], list[str]]) -> list[str]:
    metadata, status = pod["metadata"], pod.get("status") or {}
    if metadata.get("deletionTimestamp") or status.get("phase") == "Succeeded":
        return []
    found = [text for text in troubles(pod) if not text.startswith(("Ready is", "ContainersReady is"))]
    if found or is_ready(pod):
        return found
    gates = [gate["name"] for gate in (pod.get("spec") or {}).get("schedulingGates") or ()]
    if gates:
        return [f"held by the scheduling gate {', '.join(gates)}"]
    unready = [text for text in troubles(pod) if text.startswith(("Ready is", "ContainersReady is"))]
    return unready[-1:] or [f"not ready ({status.get('phase', 'Pending')})"]


def is_ready(pod: Object) -> bool:
    return any(
        each["type"] == "Ready" and each["status"] == "True"
        for each in (pod.get("status") or {}).get("conditions") or ()
    )


def _names(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"pod {names[0]}"
    more = len(names) - _MOST_NAMES
    return f"pods {', '.join(names[:_MOST_NAMES])}" + (f" and {more} more" if more > 0 else "")


def pod_warnings(cluster: Cluster, namespace: str | None, names: Iterable[str]) -> list[Entry]:
    """Warnings about these pods, those of one text in one entry at its last time."""
    wanted = set(names)
    if not wanted:
        return []
    items = cluster.objects(EVENTS, namespace, fieldSelector="regarding.kind=Pod,type=Warning")
    grouped: dict[tuple[str, str, str], list[Any]] = {}
    for item in items:
        name = (item.get("regarding") or {}).get("name", "")
        if name in wanted:
            event = to_event(item)
            key = (event.source, event.reason, _in_general(event.message, name))
            grouped.setdefault(key, []).append((event, name))
    return [
        Entry(
            max(event.at_seconds for event, _ in members),
            source,
            f"{_names(sorted({name for _, name in members}))}: {reason}: {members[-1][0].message}"
            + _times(sum(event.count for event, _ in members)),
            warning=True,
        )
        for (source, reason, _), members in grouped.items()
    ]


def _times(count: int) -> str:
    return f" (x{count})" if count > 1 else ""
