"""A backend that is missing takes no other with it."""

from __future__ import annotations

from typing import Any

from kajitori.gateway.plan import Plan, make_plan
from kajitori.gateway.resources import ROUTES
from tests.gateway.workbench import Provider, Workbench, ai_route, backend, gateway, observe

QUESTION = {"model": "m", "messages": []}


def told(plan: Plan, name: str = "r") -> dict[str, Any]:
    status = next(item.status for item in plan.statuses if item.resource.kind == "AIGatewayRoute")
    return status["conditions"][0]


async def test_a_backend_that_is_missing_leaves_its_siblings_serving(
    bench: Workbench, first: Provider
) -> None:
    route = ai_route("r", "m", {"name": "missing"}, {"name": "a", "priority": 1})
    plan = await bench.apply(gateway(bench.port), *backend("a", first.port), route)
    assert (await bench.post(QUESTION)).status == 200
    condition = told(plan)
    assert condition["type"] == "Accepted"
    assert "rules[0] serves without one of its backends" in condition["message"]
    assert "AIServiceBackend default/missing does not exist" in condition["message"]


def test_a_rule_without_any_backend_is_not_accepted() -> None:
    plan = make_plan(observe(gateway(8080), ai_route("r", "m", {"name": "missing"})))
    assert told(plan)["type"] == "NotAccepted"


def test_a_backend_marked_as_fallback_comes_after_the_others_where_the_rule_says_nothing() -> None:
    last = backend("last", 1)
    last[0]["spec"]["fallback"] = True
    route = ai_route("r", "m", {"name": "last"}, {"name": "a"})
    plan = make_plan(observe(gateway(8080), *last, *backend("a", 2), route))
    text = repr(plan.resources.by_type[ROUTES])
    assert text.index("ai/default/a") < text.index("ai/default/last")


def test_an_expression_that_envoy_would_refuse_leaves_its_match_out() -> None:
    route = ai_route("r", "m", {"name": "a"})
    route["spec"]["rules"][0]["matches"][0]["headers"][0] |= {"type": "RegularExpression", "value": "(m"}
    plan = make_plan(observe(gateway(8080), *backend("a", 1), route))
    assert "rules[0].matches[0] is left out" in told(plan)["message"]
    assert "(m" not in repr(plan.resources.by_type[ROUTES])
