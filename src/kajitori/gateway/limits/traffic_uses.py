"""Which BackendTrafficPolicies limit the requests of a route, gathered over its rules and the places where it serves. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kajitori.gateway.accounting.route_names import GRPC_PREFIX
from kajitori.gateway.limits.limit_plan import PolicyKey, TrafficUse
from kajitori.gateway.limits.strictness import is_strict, problems

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kajitori.api.envoygateway.policy import Policy
    from kajitori.api.envoygateway.rate_limit import GlobalRateLimit
    from kajitori.gateway.policies.backend_traffic import BackendTraffic
    from kajitori.gateway.policies.subjects import RouteKey
    from kajitori.gateway.routes.attachment import ParentOutcome


def traffic_uses(
    traffic: BackendTraffic, route: RouteKey, rules: Sequence[str], outcomes: Iterable[ParentOutcome]
) -> list[TrafficUse]:
    """rules: their names, empty for those without. A limit of any listener of a route holds at all of them."""
    if not traffic.attachment:
        return []
    places = list(dict.fromkeys(place for outcome in outcomes for place in outcome.via))
    found: dict[PolicyKey, tuple[Policy, GlobalRateLimit, set[int]]] = {}
    for number, rule in enumerate(rules):
        for place in places:
            for policy, rate in traffic.rate_limits(route, rule, place):
                if rate.global_ is not None and rate.type != "Local":
                    found.setdefault(policy.key, (policy, rate.global_, set()))[2].add(number)
    name = f"{GRPC_PREFIX if route.kind == 'GRPCRoute' else ''}{route.namespace}/{route.name}"
    return [
        TrafficUse(
            key,
            rate,
            name,
            None if len(numbers) == len(rules) else frozenset(numbers),
            is_strict(policy.metadata),
            tuple(problems(policy.metadata)),
        )
        for key, (policy, rate, numbers) in found.items()
    ]
