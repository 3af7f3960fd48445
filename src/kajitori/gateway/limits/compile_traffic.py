"""`rateLimit.global` of a BackendTrafficPolicy to limits. Pure.

Where a rule counts what an answer cost, Envoy Gateway looks before a request and charges after it. Here what is left, up
to what the request may take, is reserved meanwhile, so that requests at once cannot all pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kajitori.api.envoygateway.rate_limit import UNIT_SECONDS
from kajitori.gateway.limits.compile_selectors import client_selectors
from kajitori.gateway.limits.limit import COST_PREFIX, REQUESTS, Limit, Selector, Window

if TYPE_CHECKING:
    from collections.abc import Collection

    from kajitori.api.envoygateway.rate_limit import GlobalRateLimit, RateLimitCostSpecifier, RateLimitRule

METADATA_NAMESPACE = "io.envoy.ai_gateway"


class _Cost(msgspec.Struct):
    """fixed: for each request. key: of the cost that is taken when the answer is done."""

    fixed: int = 0
    key: str = ""


def traffic_limits(
    policy: str, rate: GlobalRateLimit, costs: Collection[str], problems: list[str]
) -> list[Limit]:
    """The limits of a policy (namespace/name). costs: metadata keys that its routes compute."""
    found: list[Limit] = []
    for number, rule in enumerate(rate.rules):
        where = f"spec.rateLimit.global.rules[{number}]"
        limit = _limit(f"BackendTrafficPolicy {policy}, rule {number}", rule, where, costs, problems)
        if limit is not None:
            found.append(limit)
    return found


def on_rules(limit: Limit, rules: Collection[int] | None) -> Limit:
    """The limit for some rules of a route; None: for all."""
    if rules is None:
        return limit
    selector = Selector("rule", "OneOf", ",".join(str(number) for number in sorted(rules)))
    return msgspec.structs.replace(limit, selectors=(selector, *limit.selectors))


def _limit(
    name: str, rule: RateLimitRule, where: str, costs: Collection[str], problems: list[str]
) -> Limit | None:
    selectors = client_selectors(rule.client_selectors, f"{where}.clientSelectors", problems)
    cost = _cost(rule, where, costs, problems)
    if rule.limit.from_metadata is not None:
        problems.append(f"{where}.limit.fromMetadata: requests cannot bring a limit; {where}.limit holds")
    if selectors is None or cost is None:
        problems.append(f"{where}: the rule is left out")
        return None
    if not rule.shared:
        selectors = (*selectors, Selector("route", "Distinct"))
    return Limit(
        name=name,
        counts=f"{COST_PREFIX}{cost.key}" if cost.key else REQUESTS,
        amount=float(rule.limit.requests),
        window=Window("Fixed", float(UNIT_SECONDS[rule.limit.unit])),
        selectors=selectors,
        shadow=rule.shadow_mode,
        request_amount=cost.fixed,
        clip=bool(cost.key),
        headers=rule.x_rate_limit_headers != "Off",
        told=rule.x_rate_limit_headers == "DraftVersion03",
    )


def _cost(rule: RateLimitRule, where: str, costs: Collection[str], problems: list[str]) -> _Cost | None:
    given = rule.cost
    request = given.request if given is not None else None
    response = given.response if given is not None else None
    cost = _Cost()
    good = True
    if request is None:
        cost.fixed = 1
    elif request.from_ == "Number":
        cost.fixed = request.number or 0
    else:
        problems.append(f"{where}.cost.request.metadata: what a request costs is not known as it comes")
        good = False
    if response is not None:
        good = _response(response, cost, where, costs, problems) and good
    return cost if good else None


def _response(
    response: RateLimitCostSpecifier, cost: _Cost, where: str, costs: Collection[str], problems: list[str]
) -> bool:
    if response.from_ == "Number":
        cost.fixed += response.number or 0
        return True
    reference = response.metadata
    place = f"{where}.cost.response.metadata"
    if reference is None or reference.namespace != METADATA_NAMESPACE:
        problems.append(f"{place}: costs stand in namespace {METADATA_NAMESPACE} only")
        return False
    if reference.key not in costs:
        # A policy of a Gateway may come before its route; until then nothing is counted.
        problems.append(
            f"{place}.key: no route of the policy has a cost {reference.key}, so it counts nothing"
        )
    cost.key = reference.key
    return True
