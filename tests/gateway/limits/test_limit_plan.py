"""From BackendTrafficPolicies, QuotaPolicies, Budgets and PriceLists to limits, and what their statuses say."""

from __future__ import annotations

from typing import Any

import pytest

from kajitori.gateway.accounting.accountant_policy import Price
from kajitori.gateway.limits.limit import Limit, Selector, Window
from kajitori.gateway.limits.matching import CompiledLimit
from kajitori.gateway.plan import Plan, make_plan
from tests.gateway.workbench import ai_route, backend, gateway, observe

COSTS = [{"metadataKey": "total", "type": "TotalToken"}]
ROUTE = ai_route(
    "route", "m", {"name": "a", "modelNameOverride": "large"}, {"name": "b"}, llmRequestCosts=COSTS
)
THINGS = (gateway(8080), *backend("a", 1), *backend("b", 2))


def plan(*documents: dict[str, Any], route: dict[str, Any] = ROUTE) -> Plan:
    return make_plan(observe(*THINGS, route, *documents))


def limits_of(made: Plan, route: str = "default/route") -> list[Limit]:
    return [made.policy.limits[number] for number in made.policy.routes[route].limits]


def told(made: Plan, kind: str, name: str = "") -> str:
    for update in made.statuses:
        if update.resource.kind == kind and name in ("", update.name):
            conditions = update.status.get("conditions") or update.status["ancestors"][0]["conditions"]
            return "; ".join(f"{each['type']}={each['status']}: {each['message']}" for each in conditions)
    raise AssertionError(f"nothing is told of {kind} {name}")


def traffic(
    *rules: dict[str, Any], kind: str = "Gateway", name: str = "gateway", **target: Any
) -> dict[str, Any]:
    reference = {"group": "gateway.networking.k8s.io", "kind": kind, "name": name, **target}
    return {
        "kind": "BackendTrafficPolicy",
        "metadata": {"name": "traffic"},
        "spec": {
            "targetRefs": [reference],
            "rateLimit": {"type": "Global", "global": {"rules": list(rules)}},
        },
    }


def rule(requests: int = 10, unit: str = "Hour", **fields: Any) -> dict[str, Any]:
    return {"limit": {"requests": requests, "unit": unit}, **fields}


def response_cost(
    key: str = "total", namespace: str = "io.envoy.ai_gateway", number: int | None = 0
) -> dict[str, Any]:
    cost: dict[str, Any] = {
        "response": {"from": "Metadata", "metadata": {"namespace": namespace, "key": key}}
    }
    if number is not None:
        cost["request"] = {"from": "Number", "number": number}
    return {"cost": cost}


def test_a_rule_without_costs_counts_requests_of_each_route() -> None:
    (found,) = limits_of(plan(traffic(rule())))
    assert found.name == "BackendTrafficPolicy default/traffic, rule 0"
    assert (found.counts, found.amount, found.request_amount) == ("requests", 10, 1)
    assert found.window == Window("Fixed", 3600.0)
    assert found.selectors == (Selector("route", "Distinct"),)
    assert (found.strict, found.clip) == (True, False)


def test_a_shared_rule_is_one_bucket_for_all_routes() -> None:
    (found,) = limits_of(plan(traffic(rule(shared=True))))
    assert found.selectors == ()


def test_costs_of_an_answer_are_counted_by_their_key() -> None:
    (found,) = limits_of(plan(traffic(rule(**response_cost()))))
    assert (found.counts, found.request_amount, found.clip) == ("cost:total", 0, True)
    # Without a cost of the request each one counts 1 besides, as Envoy Gateway has it.
    (found,) = limits_of(plan(traffic(rule(**response_cost(number=None)))))
    assert found.request_amount == 1


def test_selectors_shadow_mode_and_headers_are_honoured() -> None:
    selectors = [
        {
            "headers": [
                {"name": "X-User", "type": "Distinct"},
                {"name": "x-plan", "value": "free", "invert": True},
                {"name": "x-id", "type": "RegularExpression", "value": "a+"},
            ],
            "methods": [{"value": "POST"}, {"value": "PUT"}],
            "path": {"value": "/v1/chat"},
            "sourceCIDR": {"type": "Distinct", "value": "10.0.0.0/8"},
        }
    ]
    made = plan(
        traffic(rule(clientSelectors=selectors, shadowMode=True, xRateLimitHeaders="Off", shared=True))
    )
    (found,) = limits_of(made)
    assert found.selectors == (
        Selector("header:x-user", "Distinct"),
        Selector("header:x-plan", "Exact", "free", invert=True),
        Selector("header:x-id", "Regex", "a+"),
        Selector("method", "OneOf", "POST,PUT"),
        Selector("path", "Prefix", "/v1/chat"),
        Selector("client", "Cidr", "10.0.0.0/8"),
        Selector("client", "Distinct"),
    )
    assert (found.shadow, found.headers) == (True, False)
    CompiledLimit(found)


@pytest.mark.parametrize(
    ("fields", "sentence", "left"),
    [
        ({"clientSelectors": [{"headers": [{"name": "a", "type": "RegularExpression", "value": "("}]}]}, "clientSelectors[0]", 0),
        ({"cost": {"request": {"from": "Metadata", "metadata": {"namespace": "a", "key": "b"}}}}, "cost.request.metadata", 0),
        (response_cost(namespace="other"), "cost.response.metadata", 0),
        (response_cost("nobody"), "no route of the policy has a cost nobody", 1),
    ],
)  # fmt: skip
def test_what_a_rule_cannot_have_is_named_with_its_place(
    fields: dict[str, Any], sentence: str, left: int
) -> None:
    made = plan(traffic(rule(5, shared=True), rule(**fields)))
    assert len(limits_of(made)) == 1 + left
    message = told(made, "BackendTrafficPolicy")
    assert "Accepted=True" in message
    assert "spec.rateLimit.global.rules[1]" in message
    assert sentence in message


def test_a_limit_from_metadata_is_named_and_the_written_one_holds() -> None:
    item = rule()
    item["limit"]["fromMetadata"] = {"namespace": "a", "key": "b"}
    made = plan(traffic(item))
    assert "rules[0].limit.fromMetadata" in told(made, "BackendTrafficPolicy")
    assert limits_of(made)[0].amount == 10


def test_a_policy_of_one_rule_of_a_route_limits_that_rule() -> None:
    two = ai_route("route", "m", {"name": "a"}, rule={"name": "first"})
    two["spec"]["rules"].append({"name": "second", "matches": [], "backendRefs": [{"name": "b"}]})
    made = plan(traffic(rule(), kind="HTTPRoute", name="route", sectionName="second"), route=two)
    (found,) = limits_of(made)
    assert found.selectors[0] == Selector("rule", "OneOf", "1")


def test_what_is_more_specific_limits_alone() -> None:
    outer = traffic(rule(100))
    inner = traffic(rule(5), kind="HTTPRoute", name="route")
    inner["metadata"] = {"name": "inner"}
    assert [each.amount for each in limits_of(plan(outer, inner))] == [5]


def test_a_limit_holds_for_a_grpc_route_apart_from_an_http_route_of_its_name() -> None:
    grpc = {
        "kind": "GRPCRoute",
        "metadata": {"name": "route"},
        "spec": {"parentRefs": [{"name": "gateway"}], "rules": [{"backendRefs": []}]},
    }
    made = plan(traffic(rule()), grpc)
    assert limits_of(made, "grpc:default/route") == limits_of(made) != []


def quota(name: str = "quota", **spec: Any) -> dict[str, Any]:
    target = {"group": "aigateway.envoyproxy.io", "kind": "AIServiceBackend", "name": "a"}
    return {"kind": "QuotaPolicy", "metadata": {"name": name}, "spec": {"targetRefs": [target], **spec}}


def of_model(model: str, limit: int = 10, **quota_fields: Any) -> dict[str, Any]:
    return {
        "modelName": model,
        "quota": {"defaultBucket": {"limit": limit, "duration": "1d"}, **quota_fields},
    }


def test_a_quota_of_a_model_limits_a_backend_and_its_buckets_are_one_group() -> None:
    selectors = [{"headers": [{"name": "x-tier", "value": "gold"}]}]
    buckets = [{"clientSelectors": selectors, "quota": {"limit": 50, "duration": "1h"}, "shadowMode": True}]
    made = plan(quota(perModelQuotas=[of_model("large", bucketRules=buckets)]))
    default, gold = limits_of(made)
    assert default.selectors == (
        Selector("backend", "Exact", "default/a"),
        Selector("backend_model", "Exact", "large"),
    )
    assert gold.selectors[2:] == (Selector("header:x-tier", "Exact", "gold"),)
    assert default.group == gold.group != ""
    assert (default.counts, default.window, default.clip) == ("tokens", Window("Sliding", 86_400.0), True)
    assert (gold.shadow, gold.amount) == (True, 50)


def test_a_quota_of_a_service_holds_for_models_without_one_of_their_own() -> None:
    service = {"costExpression": "input_tokens * 2u", "quota": {"limit": 7, "duration": "1m"}}
    made = plan(quota(serviceQuota=service, perModelQuotas=[of_model("large")]))
    _, found = limits_of(made)
    assert found.selectors == (
        Selector("backend", "Exact", "default/a"),
        Selector("backend_model", "OneOf", "large", invert=True),
    )
    assert found.counts == "cel:input_tokens * 2u"


@pytest.mark.parametrize("expression", ["model", "nope + 1u", "input_tokens +", "[1,2,3,4,5,6,7,8,9,10].map(a, [1,2,3,4,5,6,7,8,9,10].map(b, [1,2,3,4,5,6,7,8,9,10].map(c, [1,2,3,4,5,6,7,8,9,10].map(d, [1,2,3,4,5,6,7,8,9,10].map(e, 1))))).size()"])  # fmt: skip
def test_an_expression_of_the_wrong_type_or_too_dear_is_refused_with_its_place(expression: str) -> None:
    made = plan(quota(perModelQuotas=[of_model("large", costExpression=expression)]))
    assert limits_of(made) == []
    message = told(made, "QuotaPolicy")
    assert message.startswith("NotAccepted=True: spec.perModelQuotas[0].quota.costExpression: ")


def test_of_two_quotas_for_one_model_the_first_by_name_holds_and_the_other_is_told() -> None:
    made = plan(
        quota("z", perModelQuotas=[of_model("large", 1)]), quota("b", perModelQuotas=[of_model("large", 2)])
    )
    assert [each.amount for each in limits_of(made)] == [2]
    assert "QuotaPolicy default/b speaks of large at default/a already" in told(made, "QuotaPolicy", "z")


def test_a_quota_without_effect_says_so() -> None:
    made = plan(quota(perModelQuotas=[of_model("small")]))
    assert "spec.perModelQuotas[0]: no route calls small at default/a" in told(made, "QuotaPolicy")
    missing = quota(perModelQuotas=[of_model("large")])
    missing["spec"]["targetRefs"][0]["name"] = "gone"
    assert "AIServiceBackend default/gone does not exist" in told(plan(missing), "QuotaPolicy")


def budget(**spec: Any) -> dict[str, Any]:
    defaults = {"amount": {"usd": "12.50"}, "window": {"calendar": {"unit": "Month"}}, "routes": ["*"]}
    return {"kind": "Budget", "metadata": {"name": "money"}, "spec": {**defaults, **spec}}


def test_a_budget_is_a_limit_with_all_that_it_says() -> None:
    made = plan(
        budget(
            window={"calendar": {"unit": "Week", "timeZone": "Asia/Tokyo"}},
            selectors=[{"fact": "model", "type": "RegularExpression", "value": "m.*"}],
            countApart=["key", "header:X-Team"],
            onStoreLoss="Deny",
            maxReservedOutputTokens=100,
            unpriced="Allow",
            strict=False,
        )
    )
    (found,) = limits_of(made)
    assert found == Limit(
        name="Budget default/money",
        counts="usd",
        amount=12.5,
        window=Window("Calendar", unit="Week", zone="Asia/Tokyo"),
        selectors=(
            Selector("model", "Regex", "m.*"),
            Selector("key", "Distinct"),
            Selector("header:x-team", "Distinct"),
        ),
        strict=False,
        deny_without_store=True,
        output_tokens=100,
        unpriced="Allow",
    )
    assert told(made, "Budget") == "Accepted=True: it holds for 1 route and 0 keys"


def test_a_budget_that_keys_name_is_found_by_them_and_by_no_route() -> None:
    key = {
        "kind": "APIKey",
        "metadata": {"name": "ann"},
        "spec": {"id": "abc123", "hashes": [{"sha256": "0" * 64}], "budgets": ["money"]},
    }
    made = plan(budget(routes=[]), key)
    assert limits_of(made) == []
    assert made.policy.keys["abc123"].budgets == ("default/money",)
    assert made.policy.limits[made.policy.budgets["default/money"]].amount == 12.5
    assert "it holds for 0 routes and 1 key" in told(made, "Budget")


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (
            {"window": {"calendar": {"unit": "Day", "timeZone": "Mars/Base"}}},
            "spec.window.calendar.timeZone: time zone 'Mars/Base' is not known",
        ),
        (
            {"selectors": [{"fact": "model", "type": "RegularExpression", "value": "("}]},
            "spec.selectors[0]: '(' is no regular expression",
        ),
        ({"routes": ["gone"]}, "spec.routes[0]: no route default/gone serves"),
        ({"routes": []}, "so nothing is charged to it"),
        ({"amount": {"cost": {"metadataKey": "nope", "units": 3}}}, "route default/route has no cost nope"),
    ],
)
def test_a_budget_that_cannot_hold_says_why(spec: dict[str, Any], sentence: str) -> None:
    assert sentence in told(plan(budget(**spec)), "Budget")


def test_prices_hold_for_the_backends_of_their_namespace() -> None:
    entry = {"model": "m*", "input": "0.15", "output": "0.6", "cachedInput": "0.075", "request": "0.001"}
    made = plan(
        {
            "kind": "PriceList",
            "metadata": {"name": "ours"},
            "spec": {"prices": [entry, {"model": "x", "backend": "a"}]},
        }
    )
    first, second = made.policy.prices
    assert first == Price("m*", "default/*", 0.15, 0.6, 0.075, request_usd=0.001)
    assert (second.backend, second.input_usd) == ("default/a", 0.0)
    assert "Accepted=True" in told(made, "PriceList")


@pytest.mark.parametrize(
    ("cel", "sentence"),
    [
        ("model", "a cost must be a number, not string"),
        ("input_token * 2u", "did you mean input_tokens?"),
        ("input_tokens / (output_tokens - output_tokens)", "zero"),
        (".".join(["[1,2,3,4,5,6,7,8,9]", *["map(x, [1,2,3,4,5,6,7,8,9].map(y, [1,2,3,4,5,6,7,8,9].map(z, [1,2,3,4,5,6,7,8,9].map(v, [1,2,3,4,5,6,7,8,9].map(w, 1)))))", "size()"]]), "a cost may take 100000 units"),
        ("int(input_tokens) - 5", "negative"),
    ],
)  # fmt: skip
def test_a_cost_of_the_wrong_type_or_too_dear_is_refused_with_its_place(cel: str, sentence: str) -> None:
    costs = [{"metadataKey": "good", "type": "InputToken"}, {"metadataKey": "bad", "type": "CEL", "cel": cel}]
    made = plan(route=ai_route("route", "m", {"name": "a"}, llmRequestCosts=costs))
    message = told(made, "AIGatewayRoute")
    assert message.startswith("NotAccepted=True")
    assert "llmRequestCosts[bad].cel: " in message
    assert sentence in message
    assert [cost.key for cost in made.policy.routes["default/route"].costs] == ["good"]


def test_a_policy_without_limits_leaves_a_route_alone() -> None:
    made = plan()
    assert made.policy.limits == ()
    assert [target.model for target in made.policy.routes["default/route"].targets] == ["large", ""]
