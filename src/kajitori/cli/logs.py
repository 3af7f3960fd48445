"""What a container printed.

kaji logs web                   kaji logs web -c sidecar -f
kaji logs web --previous        kaji logs -l app=web --tail 20
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from kajitori.api.resource import PODS
from kajitori.base.errors import BadRequest, KajitoriError, NotFound, UsageError
from kajitori.cli.connection import Cluster, cluster_arguments, open_cluster


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "pod", nargs="?", help="a pod, or RESOURCE/NAME of what owns pods (deployment/web, lws/name)"
    )
    parser.add_argument("-c", "--container")
    parser.add_argument("-f", "--follow", action="store_true")
    parser.add_argument("-p", "--previous", action="store_true", help="of the container's previous run")
    parser.add_argument("-l", "--selector", default="", help="of all pods with these labels")
    parser.add_argument("--tail", type=int, help="only the last lines")
    parser.add_argument("--since", help="only newer than this, such as 5m")
    parser.add_argument("--timestamps", action="store_true")
    cluster_arguments(parser)


def run(options: argparse.Namespace) -> int:
    cluster = open_cluster(options)
    pods = _pods(cluster, options)
    if options.follow and len(pods) > 1:
        raise UsageError("one pod can be followed at a time", hint=f"kaji logs {pods[0]} -f")
    query = {
        "container": options.container,
        "follow": "true" if options.follow else None,
        "previous": "true" if options.previous else None,
        "tailLines": str(options.tail) if options.tail is not None else None,
        "timestamps": "true" if options.timestamps else None,
        "sinceSeconds": _seconds(options.since),
    }
    wanted = {key: value for key, value in query.items() if value}
    for pod in pods:
        prefix = f"[{pod}] ".encode() if len(pods) > 1 else b""
        printed = False
        try:
            for line in cluster.client.lines(PODS.path(cluster.namespace, pod, "log"), query=wanted):
                printed = True
                sys.stdout.buffer.write(prefix + line)
                sys.stdout.buffer.flush()
        except BadRequest as error:
            if "is waiting to start" in error.message:
                error.hint = error.hint or f"`kaji explain pod/{pod}` tells why"
            raise
        if not printed and not cluster.get(PODS, pod)["spec"].get("nodeName"):
            raise KajitoriError(f"pod {pod!r} has no node yet", hint=f"`kaji explain pod/{pod}` tells why")
    return 0


def _pods(cluster: Cluster, options: argparse.Namespace) -> list[str]:
    if options.selector:
        found = cluster.objects(PODS, labelSelector=options.selector)
        if not found:
            raise UsageError(f"no pod with {options.selector} in namespace {cluster.namespace}")
        return [pod["metadata"]["name"] for pod in found]
    if not options.pod:
        raise UsageError("of which pod?", hint="kaji get pods lists them")
    word, _, name = str(options.pod).rpartition("/")
    if not word or word in ("pod", "pods", "po"):
        return [name]
    owner = cluster.get(cluster.find(word).resource, name)
    found = [pod["metadata"]["name"] for pod in _owned_pods(cluster, owner["metadata"]["uid"])]
    if not found:
        raise NotFound(f"{word}/{name} has no pods")
    return found


def _owned_pods(cluster: Cluster, uid: str) -> list[dict[str, Any]]:
    """The pods that the object owns, directly or through one more owner (Deployment, ReplicaSet, Pod)."""
    owners = {uid}
    replica_sets = cluster.objects(cluster.find("replicasets").resource)
    for item in replica_sets:
        if any(owner["uid"] == uid for owner in item["metadata"].get("ownerReferences") or ()):
            owners.add(item["metadata"]["uid"])
    return [
        pod
        for pod in cluster.objects(PODS)
        if any(owner["uid"] in owners for owner in pod["metadata"].get("ownerReferences") or ())
    ]


def _seconds(text: str | None) -> str | None:
    if text is None:
        return None
    from kajitori.base.duration import parse_duration_seconds

    try:
        return str(max(1, round(parse_duration_seconds(text))))
    except ValueError as error:
        raise UsageError(str(error), where="--since") from None
