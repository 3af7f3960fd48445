"""A gateway-only home: its objects are those of a file, its processes the same as a cluster's gateway has.

Flows in: manifests. Flows out: objects in the home's own API server, and what its controller says of them.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kajitori.api.crds import all_crds
from kajitori.api.resource import CUSTOM_RESOURCE_DEFINITIONS, NAMESPACES, Resource
from kajitori.base.errors import AlreadyExists, NotFound
from kajitori.gateway.routes.duplicate_matches import COMES_FIRST
from kajitori.kube.direct import DirectClient

FIELD_MANAGER = "kaji-gateway-run"
# Kinds of these groups do something here; of the core group, those that they refer to.
GROUPS = (
    "gateway.networking.k8s.io",
    "gateway.envoyproxy.io",
    "aigateway.envoyproxy.io",
    "gateway.kajitori.dev",
)
_DATA_KINDS = ("Namespace", "Secret", "ConfigMap", "Service", "EndpointSlice")
# Conditions that are bad when they are True. `Overridden` is none of them: who gives a rule a policy of its own means it.
_BAD_IF_TRUE = ("NotAccepted", "Conflicted", "PartiallyInvalid", "Warning")
_APPLIED = "applied.json"
Object = dict[str, Any]


def serves(api_version: str, kind: str) -> bool:
    """Whether an object of this kind has an effect without a cluster."""
    group = api_version.rpartition("/")[0]
    return group in GROUPS or (group in ("", "discovery.k8s.io") and kind in _DATA_KINDS)


def free_port() -> int:
    """A port of this machine that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def install_definitions(client: DirectClient) -> None:
    """Apply the CustomResourceDefinitions of the gateway's kinds."""
    for definition in all_crds():
        if definition["spec"]["group"] in GROUPS:
            path = CUSTOM_RESOURCE_DEFINITIONS.path(None, definition["metadata"]["name"])
            client.apply(path, definition, {"fieldManager": FIELD_MANAGER, "force": "true"})


def make_namespaces(client: DirectClient, names: Sequence[str]) -> None:
    """Files of a gateway name namespaces and seldom bring them."""
    for name in dict.fromkeys(names):
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        try:
            client.request("POST", NAMESPACES.path(), body=json.dumps(body).encode())
        except AlreadyExists:
            continue


def remove_former(client: DirectClient, home: Path, now: Sequence[tuple[Resource, str, str]]) -> list[str]:
    """Delete what the file had before and has no more; returns their names as `Kind namespace/name`.

    now: resource, namespace and name of each object that it has.
    """
    path = home / _APPLIED
    former: list[dict[str, str]] = json.loads(path.read_text()) if path.exists() else []
    kept = {resource.path(namespace, name) for resource, namespace, name in now}
    removed: list[str] = []
    for item in former:
        if item["path"] in kept:
            continue
        try:
            client.request("DELETE", item["path"])
            removed.append(item["title"])
        except NotFound:
            continue
    items = [
        {
            "path": resource.path(namespace, name),
            "title": f"{resource.kind} {namespace}/{name}"
            if resource.namespaced
            else f"{resource.kind} {name}",
        }
        for resource, namespace, name in now
    ]
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps(items))
    scratch.replace(path)
    return removed


def settled(obj: Object) -> bool:
    """Whether the controller has looked at this very generation of an object."""
    found = conditions(obj)
    generation = obj["metadata"].get("generation", 0)
    return bool(found) and all(item.get("observedGeneration", generation) >= generation for item in found)


def conditions(obj: Object) -> list[Object]:
    """Of the object, of its listeners, of each parent or ancestor."""
    status: Object = obj.get("status") or {}
    found: list[Object] = list(status.get("conditions") or ())
    for member in ("parents", "ancestors", "listeners"):
        for part in status.get(member) or ():
            found += part.get("conditions") or ()
    return found


def problems(obj: Object) -> list[str]:
    """What its conditions say is wrong, or honoured less than fully, each once."""
    found: dict[str, None] = {}
    for item in conditions(obj):
        bad = item["status"] == ("True" if item["type"] in _BAD_IF_TRUE else "False")
        message = item.get("message") or item.get("reason", "")
        if bad:
            found[f"{item['type']}: {message}" if item["status"] == "False" else message] = None
        elif "not honoured" in message or COMES_FIRST in message:
            found[message] = None
    return list(found)


def listening(gateways: Sequence[Object], address: str) -> list[str]:
    """The URLs at which the programmed listeners of these Gateways serve."""
    host = "localhost" if address in ("127.0.0.1", "0.0.0.0") else address
    found: list[str] = []
    for gateway in gateways:
        ready = {
            item["name"]
            for item in (gateway.get("status") or {}).get("listeners") or ()
            if any(each["type"] == "Programmed" and each["status"] == "True" for each in item["conditions"])
        }
        for listener in gateway["spec"]["listeners"]:
            scheme = {"HTTP": "http", "HTTPS": "https"}.get(listener["protocol"])
            if scheme and listener["name"] in ready:
                found.append(f"{scheme}://{host}:{listener['port']}")
    return list(dict.fromkeys(found))


def when_settled(look: Callable[[], list[Object]], attempts: int, wait: Callable[[], None]) -> list[Object]:
    """The objects as soon as all are settled, or as they are after so many looks."""
    for _ in range(attempts):
        objects = look()
        if all(settled(item) for item in objects):
            return objects
        wait()
    return look()
