"""The HTTPRoute that stands for an AIGatewayRoute, with its two HTTPRouteFilters, as Envoy AI Gateway makes them.

Policies of others attach to it by its name, and tools read it. The gateway itself routes by the AIGatewayRoute, so
nothing of this has a bearing on traffic. An HTTPRoute of that name that somebody else made is left alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.api.aigateway.v1beta1 import AIGatewayRouteBackendRef, AIGatewayRouteRule
from kajitori.api.resource import HTTP_ROUTE_FILTERS, HTTP_ROUTES, Resource

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kajitori.api.aigateway.v1beta1 import AIGatewayRoute
    from kajitori.gateway.observed import Index, Observed

MARK = "ai-gateway-generated"
MARKS = {MARK: "true", f"gateway.envoyproxy.io/{MARK}": "true"}
NOT_FOUND_RULE = "route-not-found"
NOT_FOUND_TEXT = (
    "No route matches this request. It is likely that its model is not configured at this gateway."
)
_OWNER_API, _OWNER_KIND = "aigateway.envoyproxy.io/v1beta1", "AIGatewayRoute"
_FILTER_GROUP = "gateway.envoyproxy.io"
# What an HTTPRoute may list.
_MOST_BACKENDS = 16
_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class Generated(msgspec.Struct, frozen=True):
    """An object that shall be there."""

    resource: Resource
    namespace: str
    name: str
    manifest: dict[str, Any]


class Unwanted(msgspec.Struct, frozen=True):
    """An object of ours that shall go."""

    resource: Resource
    namespace: str
    name: str
    uid: str


def host_rewrite_name(route: str) -> str:
    return f"ai-eg-host-rewrite-{route}"


def not_found_name(route: str) -> str:
    return f"ai-eg-route-not-found-response-{route}"


def is_generated(item: Any) -> bool:
    """Whether an object was made for an AIGatewayRoute: it says so, and has one as its owner."""
    metadata = item.metadata
    return metadata.annotations.get(MARK) == "true" and any(
        owner.kind == _OWNER_KIND and owner.controller for owner in metadata.owner_references
    )


# What stands for a route changes only with the route and its backends, and every plan asks anew for all routes. Same
# objects, same answer: this spares work, and nothing else.
_KNOWN: dict[str, tuple[AIGatewayRoute, list[Any], list[Generated]]] = {}
_MOST_KNOWN = 20_000


def generate(index: Index, route: AIGatewayRoute) -> list[Generated]:
    """What stands for a route."""
    backends = [
        index.ai_backends.get((ref.namespace or route.metadata.namespace or "", ref.name))
        for rule in route.spec.rules
        for ref in rule.backend_refs
    ]
    uid = route.metadata.uid or ""
    known = _KNOWN.get(uid)
    if (
        known is not None
        and known[0] is route
        and len(known[1]) == len(backends)
        and all(mine is theirs for mine, theirs in zip(known[1], backends, strict=True))
    ):
        return known[2]
    if len(_KNOWN) >= _MOST_KNOWN:
        _KNOWN.clear()
    made = _generate(index, route)
    _KNOWN[uid] = (route, backends, made)
    return made


def _generate(index: Index, route: AIGatewayRoute) -> list[Generated]:
    namespace, name = route.metadata.namespace or "", route.metadata.name or ""
    specs = {
        (HTTP_ROUTE_FILTERS, host_rewrite_name(name)): {"urlRewrite": {"hostname": {"type": "Backend"}}},
        (HTTP_ROUTE_FILTERS, not_found_name(name)): {
            "directResponse": {"statusCode": 404, "body": {"type": "Inline", "inline": NOT_FOUND_TEXT}}
        },
        (HTTP_ROUTES, name): _route_spec(index, route),
    }
    return [
        Generated(resource, namespace, object_name, _manifest(route, resource, object_name, spec))
        for (resource, object_name), spec in specs.items()
    ]


def foreign_names(index: Index, route: AIGatewayRoute) -> list[str]:
    """Objects of others that have the names of those to be generated, in words."""
    namespace, name = route.metadata.namespace or "", route.metadata.name or ""
    found: list[str] = []
    item: Any = index.http_routes.get((namespace, name))
    if item is not None and not is_generated(item):
        found.append(f"HTTPRoute {namespace}/{name}")
    for filter_name in (host_rewrite_name(name), not_found_name(name)):
        item = index.route_filters.get((namespace, filter_name))
        if item is not None and not is_generated(item):
            found.append(f"HTTPRouteFilter {namespace}/{filter_name}")
    return found


def unwanted(observed: Observed, wanted: Iterable[Generated]) -> list[Unwanted]:
    """Generated objects that nothing asks for any more."""
    names = {(item.resource, item.namespace, item.name) for item in wanted}
    there: list[tuple[Resource, Any]] = [
        *((HTTP_ROUTES, item) for item in observed.http_routes),
        *((HTTP_ROUTE_FILTERS, item) for item in observed.route_filters),
    ]
    return [
        Unwanted(resource, *key, item.metadata.uid or "")
        for resource, item in there
        if is_generated(item)
        and (resource, *(key := (item.metadata.namespace or "", item.metadata.name or ""))) not in names
    ]


def _manifest(route: AIGatewayRoute, resource: Resource, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = route.metadata
    kept = {key: value for key, value in metadata.annotations.items() if key != _APPLIED}
    owner = {
        "apiVersion": _OWNER_API,
        "kind": _OWNER_KIND,
        "name": metadata.name,
        "uid": metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {
            "namespace": metadata.namespace,
            "name": name,
            "labels": dict(metadata.labels),
            "annotations": {**kept, **MARKS},
            "ownerReferences": [owner],
        },
        "spec": spec,
    }


def _route_spec(index: Index, route: AIGatewayRoute) -> dict[str, Any]:
    rules = [_rule(index, route, rule) for rule in route.spec.rules]
    rules.append(
        {
            "name": NOT_FOUND_RULE,
            "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
            "filters": [_extension(not_found_name(route.metadata.name or ""))],
        }
    )
    spec: dict[str, Any] = {
        "parentRefs": [_given(msgspec.to_builtins(parent)) for parent in route.spec.parent_refs],
        "rules": rules,
    }
    if route.spec.hostnames:
        spec["hostnames"] = list(route.spec.hostnames)
    return spec


def _rule(index: Index, route: AIGatewayRoute, rule: AIGatewayRouteRule) -> dict[str, Any]:
    path = {"type": "PathPrefix", "value": "/"}
    matches = [
        {
            "path": path,
            "headers": [
                {"type": header.type, "name": header.name, "value": header.value} for header in match.headers
            ],
        }
        for match in rule.matches
    ]
    refs = [_backend_ref(index, route, ref) for ref in rule.backend_refs]
    found: dict[str, Any] = {
        "matches": matches or [{"path": path}],
        "filters": [_extension(host_rewrite_name(route.metadata.name or ""))],
        "backendRefs": [ref for ref in refs if ref is not None][:_MOST_BACKENDS],
    }
    if rule.name:
        found["name"] = rule.name
    if rule.timeouts is not None:
        found["timeouts"] = _given(msgspec.to_builtins(rule.timeouts))
    return found


def _backend_ref(index: Index, route: AIGatewayRoute, ref: AIGatewayRouteBackendRef) -> dict[str, Any] | None:
    """What stands behind an AIServiceBackend; None if that is not there."""
    namespace = route.metadata.namespace or ""
    backend = index.ai_backends.get((ref.namespace or namespace, ref.name))
    if backend is None:
        return None
    to = backend.spec.backend_ref
    where = to.namespace or backend.metadata.namespace or ""
    found: dict[str, Any] = {"group": to.group, "kind": to.kind, "name": to.name, "weight": ref.weight}
    if where != namespace:
        found["namespace"] = where
    if to.port is not None:
        found["port"] = to.port
    return found


def _extension(name: str) -> dict[str, Any]:
    reference = {"group": _FILTER_GROUP, "kind": "HTTPRouteFilter", "name": name}
    return {"type": "ExtensionRef", "extensionRef": reference}


def _given(members: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in members.items() if value is not None}
