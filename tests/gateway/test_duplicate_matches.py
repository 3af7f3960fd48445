"""Two routes for one model: the younger one is told of the older one."""

from __future__ import annotations

from typing import Any

from kajitori.gateway.plan import make_plan
from tests.gateway.workbench import ai_route, backend, gateway, observe


def aged(document: dict[str, Any], day: int) -> dict[str, Any]:
    document["metadata"]["creationTimestamp"] = f"2026-01-{day:02}T00:00:00Z"
    return document


def messages(*documents: dict[str, Any]) -> dict[str, str]:
    plan = make_plan(observe(gateway(8080), *backend("one", 9), *documents))
    return {
        update.name: update.status["conditions"][0]["message"]
        for update in plan.statuses
        if update.resource.kind == "AIGatewayRoute"
    }


def test_a_younger_route_for_the_same_model_names_the_older_one() -> None:
    told = messages(
        aged(ai_route("young", "m", {"name": "one"}), 2), aged(ai_route("old", "m", {"name": "one"}), 1)
    )
    assert "AIGatewayRoute default/old is older and comes first for model m" in told["young"]
    assert "comes first" not in told["old"]


def test_other_models_and_other_hosts_are_no_doubles() -> None:
    told = messages(
        aged(ai_route("first", "m", {"name": "one"}), 1),
        aged(ai_route("other-model", "n", {"name": "one"}), 2),
        aged(ai_route("other-host", "m", {"name": "one"}, hostnames=["models.example.com"]), 3),
    )
    assert not any("comes first" in message for message in told.values())
