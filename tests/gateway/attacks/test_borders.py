"""Who may write objects in a namespace of theirs cannot reach what is the gateway's or somebody else's by them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.gateway.plan import Plan, make_plan
from kajitori.gateway.routes.commands import problem_of_commands
from tests.gateway.limits.limited_workbench import running_limited_workbench
from tests.gateway.security.objects import for_route, local_jwt, plain_route, policy
from tests.gateway.workbench import Provider, ai_route, backend, gateway, observe


def answering(text: str) -> dict[str, Any]:
    answer = {"statusCode": 200, "body": {"type": "Inline", "inline": text}}
    return {"kind": "HTTPRouteFilter", "metadata": {"name": "answer"}, "spec": {"directResponse": answer}}


def route_with(*filters: dict[str, Any]) -> dict[str, Any]:
    route = plain_route("plain", "/plain")
    route["spec"]["rules"][0]["filters"] = list(filters)
    return route


def changing(**change: Any) -> dict[str, Any]:
    return route_with({"type": "RequestHeaderModifier", "requestHeaderModifier": change})


ANSWER = {"group": "gateway.envoyproxy.io", "kind": "HTTPRouteFilter", "name": "answer"}
ANSWERED = route_with({"type": "ExtensionRef", "extensionRef": ANSWER})


def planned(*documents: dict[str, Any]) -> tuple[Plan, str]:
    """The plan, and all that the objects are told."""
    plan = make_plan(observe(gateway(8080), *backend("a", 1), *documents))
    return plan, json.dumps([update.status for update in plan.statuses])


def sent(plan: Plan) -> str:
    return json.dumps(plan.resources.by_type)


@pytest.mark.parametrize(
    "text", ["%ENVIRONMENT(HOME)%", "100% sure", "%NOTHING%", "%REQ(a", "%REQ(a b)%", "%CEL(1)%"]
)
def test_a_text_shows_nothing_of_envoys_own_and_holds_up_nobody(text: str) -> None:
    plan, told = planned(answering(text), ANSWERED)
    assert "spec.directResponse.body" in told
    # Where it stands in the answer that tells of it, every sign is doubled.
    assert text.replace("%%", "") not in sent(plan).replace("%%", "")


@given(st.text("%REQ(a)?:19 ENVIRONMENT", max_size=30))
def test_a_command_that_is_passed_on_is_of_headers(text: str) -> None:
    assert problem_of_commands(text.replace("%", "%%")) == ""
    assert problem_of_commands(text) or "%ENVIRONMENT" not in text.replace("%%", "")


@pytest.mark.parametrize(
    "path",
    ["/run/kajitori/envoy-admin.sock", "/proc/self/root/run/x/../kajitori/inner.sock", "/home/x/ads.sock/."],
)
def test_no_backend_is_a_socket_of_the_gateway(path: str) -> None:
    there = backend("b", 1)
    there[0]["spec"]["endpoints"] = [{"unix": {"path": path}}]
    plan, told = planned(*there, plain_route("plain", "/", "b"), ai_route("r", "m", {"name": "b"}))
    assert "a socket of the gateway itself" in told
    assert '"pipe"' not in sent(plan)


@pytest.mark.parametrize(
    "change",
    [
        {"set": [{"name": "X-Request-ID", "value": "another"}]},
        {"add": [{"name": "x-kajitori-leg", "value": "1"}]},
        {"remove": ["x-request-id"]},
    ],
)
def test_no_object_changes_what_requests_are_booked_by(change: dict[str, Any]) -> None:
    plan, told = planned(changing(**change))
    assert "books requests by this header" in told
    assert '"another"' not in sent(plan)
    mutation = {"set": change.get("set", []) + change.get("add", []), "remove": change.get("remove", [])}
    plan, told = planned(ai_route("r", "m", {"name": "a", "headerMutation": mutation}))
    assert "books requests by this header" in told
    assert '"another"' not in sent(plan)
    assert '{"remove": "x-request-id"}' not in sent(plan)


@pytest.mark.parametrize(
    "spec",
    [
        {"jwt": local_jwt(claimToHeaders=[{"header": "x-kajitori-leg", "claim": "leg"}])},
        {"extAuth": {"http": {"backendRefs": [{"name": "a"}], "headersToBackend": ["X-Kajitori-Key"]}}},
    ],
)
def test_no_identity_is_made_of_tokens_and_answers_of_other_services(spec: dict[str, Any]) -> None:
    _, told = planned(plain_route("plain", "/"), policy("p", for_route("plain"), **spec))
    assert "books requests by this header" in told


def traffic(**spec: Any) -> dict[str, Any]:
    spec["targetRefs"] = [for_route("r")]
    return {"kind": "BackendTrafficPolicy", "metadata": {"name": "p"}, "spec": spec}


ODD_NAMES = ["a)%%FOO%%REQ(b", "a b", ":path", "content-length", "x-kajitori-facts", "a\nb", "%", "ü"]


async def test_no_name_of_a_header_in_a_limit_ends_envoy(first: Provider) -> None:
    async with running_limited_workbench() as bench:
        rules = [
            {
                "clientSelectors": [{"headers": [{"name": name, "type": "Distinct"}]}],
                "limit": {"requests": 5, "unit": "Hour"},
            }
            for name in [*ODD_NAMES, "x-user"]
        ]
        plan = await bench.apply(
            gateway(bench.port),
            *backend("a", first.port),
            ai_route("r", "gpt-4o", {"name": "a"}),
            {
                "kind": "BackendTrafficPolicy",
                "metadata": {"name": "odd"},
                "spec": {
                    "targetRefs": [for_route("r")],
                    "rateLimit": {"type": "Global", "global": {"rules": rules}},
                },
            },
        )
        told = json.dumps([update.status for update in plan.statuses])
        for number in range(len(ODD_NAMES)):
            assert f"spec.rateLimit.global.rules[{number}]: the rule is left out" in told
        question = {"model": "gpt-4o", "messages": []}
        replies = [await bench.post(question, headers={"x-user": "a"}) for _ in range(6)]
        assert [reply.status for reply in replies] == [200] * 5 + [429]


def test_no_number_of_attempts_keeps_the_gateway_from_planning() -> None:
    retry = {"numRetries": 2**31 - 1, "numAttemptsPerPriority": 2**31 - 1}
    route = ai_route("r", "m", {"name": "a"})
    without, _ = planned(route)
    plan, _ = planned(route, traffic(retry=retry))
    assert len(sent(plan)) < len(sent(without)) + 50_000


@pytest.mark.parametrize(
    "pattern", ["(((a{10}){10}){10}){10}", "(?:a{30}|b){40}", "a{1001}", "\\x{10FFFF}", "a**"]
)
def test_no_expression_holds_up_the_routes_of_others(pattern: str) -> None:
    route = plain_route("plain", "/")
    route["spec"]["rules"][0]["matches"] = [{"path": {"type": "RegularExpression", "value": pattern}}]
    plan, told = planned(route)
    assert "error parsing regexp" in told
    assert json.dumps(pattern) not in sent(plan)


@pytest.mark.parametrize(
    ("text", "good"), [("/\\1/\\\\x", True), ("/\\2", False), ("/\\x", False), ("/\\", False)]
)
def test_what_takes_the_place_of_a_match_names_groups_that_there_are(text: str, good: bool) -> None:
    regex = {"pattern": "^/(.*)$", "substitution": text}
    rewriting = answering("")
    rewriting["spec"] = {"urlRewrite": {"path": {"type": "ReplaceRegexMatch", "replaceRegexMatch": regex}}}
    plan, told = planned(rewriting, ANSWERED)
    assert ("spec.urlRewrite" in told) is not good
    assert ('"regex_rewrite"' in sent(plan)) is good


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"responseOverride": [{"match": {"statusCodes": [{"type": "Range", "range": {"start": 1, "end": 2**40}}]}}]}, "is no range of statuses"),
        ({"responseOverride": [{"match": {}, "response": {"statusCode": 200}}]}, "names neither statusCodes nor"),
        ({"requestBuffer": {"limit": "10m"}}, "must be more than 0"),
        ({"faultInjection": {"abort": {"httpStatus": 600}}}, "600 is no status"),
        ({"responseOverride": [{"match": {"statusCodes": [{"value": 404}]}, "response": {"header": {"set": [{"name": "host", "value": "a"}]}}}]}, "'host' is no name"),
    ],
)  # fmt: skip
def test_what_envoy_would_refuse_of_a_policy_is_told_where_it_stands(spec: dict[str, Any], said: str) -> None:
    _, told = planned(ai_route("r", "m", {"name": "a"}), traffic(**spec))
    assert said in told
