"""GRPCRoutes of the Gateway API to routes of Envoy: rules of an HTTPRoute but for the matches and HTTP/2 upstream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kajitori.api.gateway.grpc_route import GRPCRoute, GRPCRouteMatch
from kajitori.api.gateway.http_route import HTTPBackendRef, HTTPRouteFilter, HTTPRouteRule
from kajitori.gateway.routes.matches import grpc_match
from kajitori.gateway.routes.rule_context import RuleContext
from kajitori.gateway.routes.rules import rule_entries

if TYPE_CHECKING:
    from kajitori.api.gateway.grpc_route import GRPCBackendRef, GRPCRouteFilter, GRPCRouteRule
    from kajitori.gateway.observed import Index
    from kajitori.gateway.routes.tables import Entry
    from kajitori.gateway.world import World


def translate_grpc_route(index: Index, world: World, route: GRPCRoute) -> tuple[list[Entry], RuleContext]:
    """The routes of Envoy for one GRPCRoute, and what is amiss with it; clusters go to `world`."""
    context = RuleContext(index, world, "GRPCRoute", route.metadata)
    entries: list[Entry] = []
    for number, rule in enumerate(route.spec.rules):
        matches = [grpc_match(match) for match in rule.matches or [GRPCRouteMatch()]]
        entries += rule_entries(context, _as_http(rule), number, matches)
    return entries, context


def _as_http(rule: GRPCRouteRule) -> HTTPRouteRule:
    return HTTPRouteRule(
        name=rule.name,
        filters=[_filter(item) for item in rule.filters],
        backend_refs=[_backend(ref) for ref in rule.backend_refs],
        session_persistence=rule.session_persistence,
    )


def _filter(item: GRPCRouteFilter) -> HTTPRouteFilter:
    return HTTPRouteFilter(**msgspec.structs.asdict(item))


def _backend(ref: GRPCBackendRef) -> HTTPBackendRef:
    fields = msgspec.structs.asdict(ref)
    fields["filters"] = [_filter(item) for item in ref.filters]
    return HTTPBackendRef(**fields)
