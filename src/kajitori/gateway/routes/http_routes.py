"""HTTPRoutes of the Gateway API to routes of Envoy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kajitori.api.gateway.http_route import HTTPRoute, HTTPRouteMatch
from kajitori.gateway.routes.matches import http_match
from kajitori.gateway.routes.rule_context import RuleContext
from kajitori.gateway.routes.rules import rule_entries

if TYPE_CHECKING:
    from kajitori.gateway.observed import Index
    from kajitori.gateway.routes.tables import Entry
    from kajitori.gateway.world import World


def translate_http_route(index: Index, world: World, route: HTTPRoute) -> tuple[list[Entry], RuleContext]:
    """The routes of Envoy for one HTTPRoute, and what is amiss with it; clusters go to `world`."""
    context = RuleContext(index, world, "HTTPRoute", route.metadata)
    entries: list[Entry] = []
    for number, rule in enumerate(route.spec.rules):
        matches = [http_match(match) for match in rule.matches or [HTTPRouteMatch()]]
        entries += rule_entries(context, rule, number, matches)
    return entries, context
