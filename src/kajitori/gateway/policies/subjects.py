"""What a policy can be for: Gateways of ours with their listeners, and routes with their rules. Pure."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from kajitori.api.gateway.grpc_route import GRPCRoute
from kajitori.api.gateway.shared import GROUP

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kajitori.gateway.observed import Index, Observed
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
        self._observed: Observed | None = observed

    @cached_property
    def _found(self) -> tuple[dict[RouteKey, RouteSubject], set[RouteKey]]:
        """Only looked for where a policy is for a route: there are many, and most policies are for Gateways."""
        observed = self._observed
        assert observed is not None
        return self._take((*observed.ai_routes, *observed.http_routes, *observed.grpc_routes))

    @property
    def routes(self) -> dict[RouteKey, RouteSubject]:
        return self._found[0]

    @property
    def foreign_routes(self) -> set[RouteKey]:
        return self._found[1]

    def finish(self) -> None:
        """Looks at nothing more, so that what is kept of it does not keep all objects of its time."""
        self._observed = None

    def _take(self, routes: Iterable[Any]) -> tuple[dict[RouteKey, RouteSubject], set[RouteKey]]:
        found: dict[RouteKey, RouteSubject] = {}
        foreign: set[RouteKey] = set()
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
                foreign.add(key)
                continue
            rules = frozenset(rule.name for rule in spec.rules if rule.name)
            known = found.get(key)
            if known is not None:
                # An AIGatewayRoute and the HTTPRoute that was made of it.
                rules |= known.rules
                parents = tuple(dict.fromkeys(known.parents + parents))
            found[key] = RouteSubject(rules, parents, metadata.labels, metadata.creation_timestamp or "")
        return found, foreign - found.keys()
