"""Chains that clients name, what answers tell of decisions, and how policies attach."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kajitori.gateway.keys.delivery import LUA_FILTER
from kajitori.gateway.plan import Plan, make_plan
from kajitori.gateway.resources import ROUTES
from tests.gateway.resilience.test_cooling import QUESTION, busy, pair, policy
from tests.gateway.workbench import (
    Provider,
    Workbench,
    ai_route,
    backend,
    gateway,
    observe,
    running_provider,
)
from tests.waiting import eventually

CHAIN = {"chainHeader": "X-Backend-Order"}


async def test_complaint_4_a_client_chooses_the_chain_by_an_allowed_header(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    async with running_provider() as third:
        refs = [{"name": name, "priority": number} for number, name in enumerate("abc")]
        documents = [
            *(
                item
                for name, each in zip("abc", (first, second, third), strict=True)
                for item in backend(name, each.port)
            ),
            ai_route("route", "m", *refs),
            policy(fallback={**CHAIN, "allowedBackends": ["a", "default/c"]}),
        ]
        await bench.apply(gateway(bench.port), *documents)
        third.status = 500
        reply = await bench.post(QUESTION, headers={"x-backend-order": "default/c, a"})
        assert reply.status == 200
        assert [len(each.seen) for each in (first, second, third)] == [1, 0, 1]
        assert not [seen for seen in first.seen + third.seen if "x-backend-order" in seen.headers]
        record = await bench.record(reply)
        assert [item.backend for item in record.attempts] == ["default/c", "default/a"]
        assert record.decision == "default/c, default/a: chain header x-backend-order"
        # Nothing but what it named is tried, and each once.
        reply = await bench.post(QUESTION, headers={"x-backend-order": "c"})
        assert (reply.status, len(third.seen)) == (500, 2)
        # Without the header all goes as configured.
        assert (await bench.post(QUESTION)).status == 200
        assert [len(each.seen) for each in (first, second, third)] == [2, 0, 2]


@pytest.mark.parametrize("named", ["b", "a, nobody", 'a"\\,b', ",", "a," * 17])
async def test_a_chain_with_a_backend_that_is_not_allowed_is_a_400_that_lists_the_allowed(
    bench: Workbench, first: Provider, second: Provider, named: str
) -> None:
    held = policy(fallback={**CHAIN, "allowedBackends": ["a"]})
    await bench.apply(gateway(bench.port), *pair(first, second, held))
    reply = await bench.post(QUESTION, headers={"x-backend-order": named})
    assert reply.status == 400
    message = reply.json["error"]["message"]
    assert message.startswith("x-backend-order names ")
    assert message.endswith(": a") or "more than 16" in message
    assert not first.seen and not second.seen


async def test_a_named_backend_that_is_cooled_comes_last(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    busy(first, **{"retry-after": "60"})
    await bench.apply(gateway(bench.port), *pair(first, second, policy(fallback=CHAIN)))
    for _ in range(3):
        assert (await bench.post(QUESTION, headers={"x-backend-order": "a,b"})).status == 200
    assert (len(first.seen), len(second.seen)) == (1, 3)


@pytest.mark.parametrize("mode", ["Always", "OnRequest", "Never"])
async def test_an_answer_tells_of_the_decision_when_it_shall(
    bench: Workbench, first: Provider, second: Provider, mode: str
) -> None:
    first.status = 500
    await bench.apply(gateway(bench.port), *pair(first, second, policy(decisionHeaders=mode)))
    plain = await bench.post(QUESTION)
    asked = await bench.post(QUESTION, headers={"x-gateway-decision": "show"})
    told = {
        "X-Gateway-Decision": "the configured order",
        "X-Gateway-Backend": "default/b",
        "X-Gateway-Attempts": "2",
    }
    for reply, tells in ((plain, mode == "Always"), (asked, mode != "Never")):
        assert reply.status == 200
        found = {
            name.title(): value
            for name, value in reply.headers.items()
            if name.lower().startswith("x-gateway")
        }
        assert found == (told if tells else {})
    if mode != "Never":
        assert "x-gateway-decision" not in second.seen[-1].headers


def planned(*policies: dict[str, Any]) -> Plan:
    route = ai_route("route", "m", {"name": "a"}, {"name": "b", "priority": 1})
    route["spec"]["rules"][0]["name"] = "one"
    documents = [gateway(8080), *backend("a", 1), *backend("b", 2), route, *policies]
    return make_plan(observe(*documents))


def headers_of_chains(plan: Plan) -> set[str]:
    """By which headers clients may name chains, in all routes of Envoy."""
    tables = [
        route["metadata"]["filter_metadata"].get(LUA_FILTER, {}).get("order_table", {})
        for table in plan.resources.by_type[ROUTES].values()
        for host in table["virtual_hosts"]
        for route in host["routes"]
        if "metadata" in route
    ]
    return {table["chain"]["header"] for table in tables if "chain" in table}


def conditions(plan: Plan, name: str) -> dict[str, dict[str, Any]]:
    (update,) = (
        item for item in plan.statuses if item.resource.kind == "AITrafficPolicy" and item.name == name
    )
    return {item["type"]: item for entry in update.status["ancestors"] for item in entry["conditions"]}


def test_a_policy_for_a_rule_beats_one_for_the_route_and_that_one_the_gateways() -> None:
    def named(name: str, **targets: Any) -> dict[str, Any]:
        return policy(**targets, name=name, fallback={"chainHeader": f"x-{name}"})

    by_gateway = named("gateway", kind="Gateway", section="") | {}
    by_gateway["spec"]["targetRefs"][0]["name"] = "gateway"
    by_route, by_rule = named("route"), named("rule", section="one")
    assert headers_of_chains(planned(by_gateway)) == {"x-gateway"}
    assert headers_of_chains(planned(by_gateway, by_route)) == {"x-route"}
    plan = planned(by_gateway, by_route, by_rule)
    assert headers_of_chains(plan) == {"x-rule"}
    assert conditions(plan, "rule")["Accepted"]["status"] == "True"
    assert "AIGatewayRoute default/route" in conditions(plan, "gateway")["Overridden"]["message"]


def test_of_two_policies_for_one_route_the_older_holds_and_the_other_is_told() -> None:
    younger = policy(name="a-younger", fallback={"chainHeader": "x-younger"})
    older = policy(name="older", fallback={"chainHeader": "x-older"})
    younger["metadata"]["creationTimestamp"] = "2026-02-01T00:00:00Z"
    older["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    plan = planned(younger, older)
    assert headers_of_chains(plan) == {"x-older"}
    refused = conditions(plan, "a-younger")["Accepted"]
    assert (refused["status"], refused["reason"]) == ("False", "Conflicted")
    assert "default/older is older and holds for AIGatewayRoute default/route already" in refused["message"]


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (
            {"fallback": {"cooldown": {"default": "10s", "max": "1s"}}},
            "spec.fallback.cooldown: default is above zero",
        ),
        (
            {"streams": {"firstByteTimeout": "10s", "idleTimeout": "1s"}},
            "spec.streams.firstByteTimeout: at most",
        ),
    ],
)
def test_a_policy_that_cannot_be_does_not_hold_and_says_why(spec: dict[str, Any], told: str) -> None:
    spec = {**spec, "fallback": {**CHAIN, **spec.get("fallback", {})}}
    plan = planned(policy(**spec))
    assert headers_of_chains(plan) == set()
    assert told in conditions(plan, "policy")["Accepted"]["message"]


def test_a_policy_for_a_route_that_is_not_there_says_so() -> None:
    assert (
        "AIGatewayRoute default/nobody does not exist"
        in (conditions(planned(policy("nobody")), "policy")["Accepted"]["message"])
    )


def test_the_route_tells_the_order_in_force_and_what_of_a_policy_has_no_effect() -> None:
    held = policy(
        fallback={**CHAIN, "allowedBackends": ["a", "elsewhere"]},
    )
    (update,) = (item for item in planned(held).statuses if item.resource.kind == "AIGatewayRoute")
    message = update.status["conditions"][0]["message"]
    assert "m: a, then b" in message
    assert "AITrafficPolicy default/policy names elsewhere, not among the backends of m" in message


async def test_policies_that_come_and_go_cut_no_stream_and_change_no_listener(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    first.chunks, first.chunk_seconds = 40, 0.05
    await bench.apply(gateway(bench.port), *pair(first, second))
    stream = asyncio.create_task(bench.post({**QUESTION, "stream": True}))
    await eventually(lambda: len(first.seen) == 1)
    before = await bench.admin("/stats?filter=listener_(modified|in_place_updated|added)")
    for number in range(5):
        held = policy(
            fallback={**CHAIN, "onSaturation": {"maxConcurrentRequests": 10 + number}},
            streams={"idleTimeout": f"{10 + number}s"},
        )
        await bench.apply(gateway(bench.port), *pair(first, second, *([held] if number != 3 else [])))
    assert not stream.done()
    assert (await stream).body.endswith(b"data: [DONE]\n\n")
    assert await bench.admin("/stats?filter=listener_(modified|in_place_updated|added)") == before
