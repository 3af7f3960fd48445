"""What a configuration leaves to the cluster that it was written for: the GatewayClass, and where routes come alone, their
Gateway. `kaji up` has both; without a cluster they are taken to be there. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_GATEWAY_API = "gateway.networking.k8s.io"
_CLASS = "kajitori"
_CONTROLLER = "kajitori.dev/gateway-controller"
_ROUTES = ("AIGatewayRoute", "HTTPRoute", "GRPCRoute")
Object = dict[str, Any]


def assumed(objects: Sequence[Object], port: int) -> tuple[list[Object], list[str]]:
    """What is to be there besides, and a sentence for each Gateway of it. port: where such a Gateway listens."""
    gateways = [item for item in objects if item["kind"] == "Gateway"]
    found: list[Object] = []
    told: list[str] = []
    if not gateways:
        for (namespace, name), listeners in _parents(objects, port).items():
            spec = {"gatewayClassName": _CLASS, "listeners": list(listeners.values())}
            metadata = {"name": name, "namespace": namespace}
            made = {"apiVersion": f"{_GATEWAY_API}/v1", "kind": "Gateway", "metadata": metadata, "spec": spec}
            gateways.append(made)
            found.append(made)
            ports = ", ".join(str(each["port"]) for each in listeners.values())
            told.append(
                f"Gateway {namespace}/{name} is not in the file; it is taken to be there and to have port {ports}"
            )
    known = {item["metadata"].get("name") for item in objects if item["kind"] == "GatewayClass"}
    named = ((item.get("spec") or {}).get("gatewayClassName") for item in gateways)
    wanted = dict.fromkeys(str(name) for name in named if name)
    classes: list[Object] = [
        {
            "apiVersion": f"{_GATEWAY_API}/v1",
            "kind": "GatewayClass",
            "metadata": {"name": name},
            "spec": {"controllerName": _CONTROLLER},
        }
        for name in wanted
        if name not in known
    ]
    return [*classes, *found], told


def strangers(item: Object, objects: Sequence[Object]) -> list[str]:
    """The Gateways, as namespace/name, that a route names and that are not among the objects."""
    there = {_place(each) for each in objects if each["kind"] == "Gateway"}
    return [
        f"{namespace}/{name}" for namespace, name, _ in _references(item) if (namespace, name) not in there
    ]


def _parents(objects: Sequence[Object], port: int) -> dict[tuple[str, str], dict[str, Object]]:
    """The listeners, by their names, of each Gateway that a route names."""
    found: dict[tuple[str, str], dict[str, Object]] = {}
    for item in objects:
        for namespace, name, reference in _references(item):
            section = reference.get("sectionName") or "http"
            found.setdefault((namespace, name), {})[section] = {
                "name": section,
                "protocol": "HTTP",
                "port": reference.get("port") or port,
                "allowedRoutes": {"namespaces": {"from": "All"}},
            }
    return found


def _references(item: Object) -> list[tuple[str, str, Object]]:
    """Namespace, name and reference of each Gateway that a route names."""
    if item["kind"] not in _ROUTES:
        return []
    own, _ = _place(item)
    parents = (item.get("spec") or {}).get("parentRefs")
    return [
        (each.get("namespace") or own, each["name"], each)
        for each in (parents if isinstance(parents, list) else ())
        if isinstance(each, dict) and each.get("name") and each.get("kind", "Gateway") == "Gateway"
    ]


def _place(item: Object) -> tuple[str, str]:
    metadata = item.get("metadata") or {}
    return str(metadata.get("namespace") or "default"), str(metadata.get("name"))
