"""Delete objects.

kaji delete pod web            kaji delete pods -l app=web
kaji delete -f model.yaml      kaji delete lws/deepseek --no-wait
"""

from __future__ import annotations

import argparse
import sys
import time

from kajitori.base.errors import InvalidManifest, NotFound, UsageError
from kajitori.cli.connection import Cluster, cluster_arguments, open_cluster, split_names
from kajitori.cli.manifests import read_manifests

_WAIT_SECONDS = 120.0


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", help="a resource, or RESOURCE/NAME")
    parser.add_argument("names", nargs="*")
    parser.add_argument("-f", "--filename", action="append", help="delete the objects of these files")
    parser.add_argument("-l", "--selector", default="", help="delete what has these labels")
    parser.add_argument(
        "--all", action="store_true", help="delete every object of the resource in the namespace"
    )
    parser.add_argument("--cascade", choices=("background", "foreground", "orphan"), default="background")
    parser.add_argument("--grace-period", type=int, help="seconds a pod may take to end; 0 kills it")
    parser.add_argument("--no-wait", action="store_true", help="do not wait until the objects are gone")
    parser.add_argument("--ignore-not-found", action="store_true")
    cluster_arguments(parser)


def run(options: argparse.Namespace) -> int:
    cluster = open_cluster(options)
    targets = _targets(cluster, options)
    body: dict[str, object] = {"propagationPolicy": str(options.cascade).capitalize()}
    if options.grace_period is not None:
        body["gracePeriodSeconds"] = options.grace_period
    waiting: list[tuple[str, str]] = []
    failed = 0
    for title, path in targets:
        try:
            cluster.client.delete(path, body)
        except NotFound as error:
            if not options.ignore_not_found:
                print(f"kaji: {error}", file=sys.stderr)
                failed += 1
            continue
        print(f"{title} deleted")
        waiting.append((title, path))
    if not options.no_wait:
        for title, path in waiting:
            _wait_until_gone(cluster, title, path)
    return 1 if failed else 0


def _targets(cluster: Cluster, options: argparse.Namespace) -> list[tuple[str, str]]:
    """Title and path of each object to delete; those of files in the opposite of their order."""
    if options.filename:
        found: list[tuple[str, str]] = []
        for manifest in reversed(read_manifests(options.filename)):
            resource = cluster.find_kind(manifest.object["apiVersion"], manifest.object["kind"])
            metadata = manifest.object.get("metadata") or {}
            if not metadata.get("name"):
                raise InvalidManifest("metadata.name is missing", where=manifest.place("metadata"))
            path = resource.path(metadata.get("namespace") or cluster.namespace, metadata["name"])
            found.append((manifest.title, path))
        return found
    if not options.what:
        raise UsageError("what is to be deleted?", hint="kaji delete RESOURCE NAME, or -f FILE")
    word, names = split_names(options.what, options.names, "delete")
    resource = cluster.find(word).resource
    if not names:
        if not options.selector and not options.all:
            raise UsageError(f"which {resource.plural}?", hint="name them, or use -l or --all")
        names = [
            item["metadata"]["name"] for item in cluster.objects(resource, labelSelector=options.selector)
        ]
    return [(f"{resource.kind} {name}", resource.path(cluster.namespace, name)) for name in names]


def _wait_until_gone(cluster: Cluster, title: str, path: str) -> None:
    """Wait until the object is gone, or another has taken its name."""
    deadline = time.monotonic() + _WAIT_SECONDS
    uid = None
    while time.monotonic() < deadline:
        try:
            now = cluster.client.get(path)["metadata"]
        except NotFound:
            return
        if uid is not None and now["uid"] != uid:
            return
        if "deletionTimestamp" not in now:
            return  # already replaced by its controller
        uid = now["uid"]
        time.sleep(0.1)
    print(f"{title} is still there after {_WAIT_SECONDS:.0f} s: its finalizers or its processes hold it")
