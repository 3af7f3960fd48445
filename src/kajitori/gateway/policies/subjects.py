"""What a policy can be for: Gateways of ours with their listeners, and routes with their rules. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from kajitori.api.gateway.grpc_route import GRPCRoute
from kajitori.api.gateway.shared import GROUP

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kajitori.gateway.observed import Index
    from kajitori.gateway.routes.attachment import Attachment

GatewayKey = tuple[str, str]


class RouteKey(NamedTuple):
    """A route as policies name it. An AIGatewayRoute counts as the HTTPRoute of its name, which stands for it."""

    kind: str
    namespace: str
    name: str


def route_key(route: Any) -> RouteKey:
    """Of an AIGatewayRoute, HTTPRoute or GRPCRoute."""
    kind = "GRPCRoute" if isinstance(route, GRPCRoute) else "HTTPRoute"
    return RouteKey(kind, route.metadata.namespace or "", route.metadata.name or "")


class GatewaySubject(msgspec.Struct, frozen=True):
    """A Gateway of ours. created: RFC 3339."""

    controller: str
    listeners: tuple[str, ...]
    labels: Mapping[str, str]
    created: str


class RouteSubject(msgspec.Struct, frozen=True):
    """A route with a parent of ours. parents: each as Gateway and listener, the latter empty for all.

    rules: their names. created: RFC 3339.
    """

    rules: frozenset[str]
    parents: tuple[tuple[GatewayKey, str], ...]
    labels: Mapping[str, str]
    created: str


class Subjects:
    """gateways, routes: those of ours. foreign_gateways, foreign_routes: others that are there."""

    def __init__(self, index: Index, attachment: Attachment) -> None:
        self.gateways: dict[GatewayKey, GatewaySubject] = {}
        for key, bindings in attachment.bindings.items():
            if bindings:
                metadata = bindings[0].gateway.metadata
                self.gateways[key] = GatewaySubject(
                    bindings[0].controller,
                    tuple(binding.listener.name for binding in bindings),
                    metadata.labels,
                    metadata.creation_timestamp or "",
                )
        observed = index.observed
        self.foreign_gateways = {
            (item.metadata.namespace or "", item.metadata.name or "") for item in observed.gateways
        } - self.gateways.keys()
        self.routes: dict[RouteKey, RouteSubject] = {}
        self.foreign_routes: set[RouteKey] = set()
        self._take((*observed.ai_routes, *observed.http_routes, *observed.grpc_routes))

    def _take(self, routes: Iterable[Any]) -> None:
        for route in routes:
            metadata, spec = route.metadata, route.spec
            namespace = metadata.namespace or ""
            key = route_key(route)
            parents = tuple(
                ((parent.namespace or namespace, parent.name), parent.section_name or "")
                for parent in spec.parent_refs
                if parent.kind == "Gateway" and parent.group in (GROUP, "")
            )
            parents = tuple(parent for parent in parents if parent[0] in self.gateways)
            if not parents:
                self.foreign_routes.add(key)
                continue
            rules = frozenset(rule.name for rule in spec.rules if rule.name)
            known = self.routes.get(key)
            if known is not None:
                # An AIGatewayRoute and the HTTPRoute that was made of it.
                rules |= known.rules
                parents = tuple(dict.fromkeys(known.parents + parents))
            self.routes[key] = RouteSubject(
                rules, parents, metadata.labels, metadata.creation_timestamp or ""
            )
        self.foreign_routes -= self.routes.keys()
