"""To what policies attach, which one holds, and what their status says."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kajitori.api.envoygateway.policy import Policy
from kajitori.gateway.policies.attachment import PolicyAttachment, Scope
from kajitori.gateway.policies.merging import merge
from kajitori.gateway.policies.statuses import policy_status
from kajitori.gateway.policies.subjects import RouteKey
from kajitori.gateway.routes.attachment import Place

from .objects import attachment_of, gateway, http_route, policy

OURS = "kajitori.dev/gateway-controller"
ROUTE = RouteKey("HTTPRoute", "default", "chat")


def place(listener: str = "http", gateway_name: str = "gateway") -> Place:
    return Place(8000, "*", ("default", gateway_name), listener)


def names(found: tuple[Policy, ...]) -> list[str]:
    return [item.metadata.name or "" for item in found]


def conditions(attached: PolicyAttachment, item: Policy, **told: Any) -> dict[str, tuple[str, str, str]]:
    """Of the only ancestor: type -> status, reason, message."""
    status = policy_status(attached, item, **told)
    assert status is not None
    (ancestor,) = status["ancestors"]
    return {
        each["type"]: (each["status"], each["reason"], each["message"]) for each in ancestor["conditions"]
    }


def test_a_rule_beats_its_route_beats_the_listener_beats_the_gateway() -> None:
    policies = [
        policy("of-gateway", "Gateway/gateway"),
        policy("of-listener", "Gateway/gateway/http"),
        policy("of-route", "HTTPRoute/chat"),
        policy("of-rule", "HTTPRoute/chat/big"),
    ]
    attached = attachment_of(
        *policies, objects=[gateway(listeners=("http", "other")), http_route("chat", rules=("big", "small"))]
    )
    assert names(attached.chain(ROUTE, "big", place())) == [
        "of-rule",
        "of-route",
        "of-listener",
        "of-gateway",
    ]
    assert names(attached.chain(ROUTE, "small", place())) == ["of-route", "of-listener", "of-gateway"]
    assert names(attached.chain(ROUTE, "", place("other"))) == ["of-route", "of-gateway"]
    other = RouteKey("HTTPRoute", "default", "other")
    assert names(attached.chain(other, "big", place())) == ["of-listener", "of-gateway"]
    assert attached.chain(other, "", place(gateway_name="another")) == ()


def test_of_two_policies_for_one_target_the_older_holds_and_the_other_is_told() -> None:
    young = policy("a-young", "Gateway/gateway", created="2026-02-01T00:00:00Z")
    old = policy("b-old", "Gateway/gateway", created="2026-01-01T00:00:00Z")
    attached = attachment_of(young, old, objects=[gateway()])
    assert attached.at(Scope("Gateway", "default", "gateway")) is old
    assert conditions(attached, old)["Accepted"][:2] == ("True", "Accepted")
    status, reason, message = conditions(attached, young)["Accepted"]
    assert (status, reason) == ("False", "Conflicted")
    assert "default/b-old" in message


def test_policies_of_the_same_age_are_told_apart_by_name() -> None:
    one, other = policy("one", "Gateway/gateway"), policy("other", "Gateway/gateway")
    attached = attachment_of(other, one, objects=[gateway()])
    assert attached.at(Scope("Gateway", "default", "gateway")) is one


def test_a_target_that_does_not_exist_is_named() -> None:
    missing = policy("missing", "HTTPRoute/nowhere")
    attached = attachment_of(missing, objects=[gateway()])
    status = policy_status(attached, missing)
    assert status is not None
    (entry,) = status["ancestors"]
    assert entry["ancestorRef"]["name"] == "nowhere"
    assert entry["controllerName"] == OURS
    assert entry["conditions"][0]["reason"] == "TargetNotFound"
    assert "HTTPRoute default/nowhere does not exist" in entry["conditions"][0]["message"]


def test_a_section_that_does_not_exist_is_named() -> None:
    rule = policy("rule", "HTTPRoute/chat/nothing")
    listener = policy("listener", "Gateway/gateway/nothing")
    attached = attachment_of(rule, listener, objects=[gateway(), http_route("chat", rules=("big",))])
    assert conditions(attached, rule)["Accepted"][1] == "TargetNotFound"
    assert "rule nothing" in conditions(attached, rule)["Accepted"][2]
    assert "listener nothing" in conditions(attached, listener)["Accepted"][2]
    assert not attached


def test_a_gateway_of_another_class_is_none_of_our_business() -> None:
    foreign = {**gateway("foreign"), "spec": {**gateway()["spec"], "gatewayClassName": "theirs"}}
    theirs = policy("theirs", "Gateway/foreign", "HTTPRoute/chat")
    attached = attachment_of(theirs, objects=[foreign, http_route("chat", "foreign")])
    assert policy_status(attached, theirs) is None


def test_a_kind_of_target_that_is_not_served_is_named() -> None:
    item = policy("udp", "UDPRoute/dns")
    attached = attachment_of(item, objects=[gateway()])
    assert "kind UDPRoute are not served" in conditions(attached, item)["Accepted"][2]


def test_a_policy_for_an_http_route_holds_for_the_ai_gateway_route_of_that_name() -> None:
    item = policy("ai", "HTTPRoute/chat/big")
    route = http_route("chat", "gateway/http", rules=("big",), kind="AIGatewayRoute")
    attached = attachment_of(item, objects=[gateway(), route])
    assert names(attached.chain(ROUTE, "big", place())) == ["ai"]
    status = policy_status(attached, item)
    assert status is not None
    assert status["ancestors"][0]["ancestorRef"] == {
        "group": "gateway.networking.k8s.io",
        "kind": "Gateway",
        "namespace": "default",
        "name": "gateway",
        "sectionName": "http",
    }


def test_a_gateways_policy_is_told_where_routes_and_listeners_have_their_own() -> None:
    of_gateway = policy("of-gateway", "Gateway/gateway")
    of_listener = policy("of-listener", "Gateway/gateway/http")
    of_route = policy("of-route", "HTTPRoute/chat")
    of_rule = policy("of-rule", "HTTPRoute/chat/big")
    attached = attachment_of(
        of_gateway, of_listener, of_route, of_rule, objects=[gateway(), http_route("chat", rules=("big",))]
    )
    told = conditions(attached, of_gateway)["Overridden"]
    assert told[:2] == ("True", "Overridden")
    assert "listener http" in told[2]
    assert "HTTPRoute default/chat" in told[2]
    assert "rule big" in conditions(attached, of_route)["Overridden"][2]
    assert "Overridden" not in conditions(attached, of_rule)


def test_a_merged_policy_says_with_which_and_is_not_an_override() -> None:
    of_gateway = policy("of-gateway", "Gateway/gateway")
    of_route = policy("of-route", "HTTPRoute/chat", mergeType="StrategicMerge")
    attached = attachment_of(of_gateway, of_route, objects=[gateway(), http_route("chat")])
    assert "default/of-gateway" in conditions(attached, of_route)["Merged"][2]
    told = conditions(attached, of_gateway)
    assert "HTTPRoute default/chat" in told["Merged"][2]
    assert "Overridden" not in told


def test_selectors_choose_by_labels_and_go_to_other_namespaces_by_a_grant_only() -> None:
    item = policy(
        "by-label",
        targetSelectors=[
            {"kind": "HTTPRoute", "matchLabels": {"team": "red"}, "namespaces": {"from": "All"}},
        ],
    )
    parent = [{"name": "gateway", "namespace": "default"}]
    routes = [
        http_route("red", labels={"team": "red"}),
        http_route("blue", labels={"team": "blue"}),
        *(
            {**http_route("far", labels={"team": "red"}, namespace=namespace)}
            for namespace in ("granted", "closed")
        ),
    ]
    for route in routes[2:]:
        route["spec"]["parentRefs"] = parent
    grant = {
        "kind": "ReferenceGrant",
        "metadata": {"name": "grant", "namespace": "granted"},
        "spec": {
            "from": [
                {
                    "group": "gateway.envoyproxy.io",
                    "kind": "BackendTrafficPolicy",
                    "namespace": "default",
                }
            ],
            "to": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"}],
        },
    }
    attached = attachment_of(item, objects=[gateway(), *routes, grant])
    assert {(scope.namespace, scope.name) for scope in attached.holders()} == {
        ("default", "red"),
        ("granted", "far"),
    }


def test_what_is_not_honoured_is_a_warning_beside_the_acceptance() -> None:
    item = policy("odd", "Gateway/gateway", foo={"bar": 1})
    attached = attachment_of(item, objects=[gateway()])
    told = conditions(attached, item, notes=["spec.foo is not honoured"])
    assert told["Accepted"][0] == "True"
    assert told["Warning"] == ("True", "UnsupportedField", "spec.foo is not honoured")
    assert conditions(attached, item, problems=["spec.x is wrong"])["Accepted"][:2] == ("False", "Invalid")


def test_a_status_speaks_of_sixteen_ancestors_at_most_the_bad_ones_first() -> None:
    gateways = [gateway(f"gateway-{number:02}") for number in range(20)]
    item = policy(
        "many", *(f"Gateway/gateway-{number:02}" for number in range(20)), created="2026-02-01T00:00:00Z"
    )
    older = policy("older", "Gateway/gateway-19", created="2026-01-01T00:00:00Z")
    attached = attachment_of(item, older, objects=gateways)
    status = policy_status(attached, item)
    assert status is not None
    assert len(status["ancestors"]) == 16
    assert status["ancestors"][0]["ancestorRef"]["name"] == "gateway-19"
    assert status["ancestors"][-1]["conditions"][-1]["type"] == "Aggregated"


def test_a_merge_keeps_what_the_route_leaves_out() -> None:
    base = {"retry": {"numRetries": 2, "retryOn": {"triggers": ["5xx"]}}, "timeout": {"tcp": {"x": 1}}}
    over = {"retry": {"numRetries": 5, "retryOn": {"triggers": ["reset"]}}}
    assert merge(base, over, "StrategicMerge") == {
        "retry": {"numRetries": 5, "retryOn": {"triggers": ["reset"]}},
        "timeout": {"tcp": {"x": 1}},
    }


def test_a_strategic_merge_joins_lists_by_their_key_and_a_json_merge_replaces_them() -> None:
    base = {"compressor": [{"type": "Gzip", "minContentLength": 5}, {"type": "Brotli"}]}
    over = {"compressor": [{"type": "Gzip", "gzip": {}}, {"type": "Zstd"}]}
    keys = {"compressor": "type"}
    assert merge(base, over, "StrategicMerge", keys)["compressor"] == [
        {"type": "Gzip", "minContentLength": 5, "gzip": {}},
        {"type": "Brotli"},
        {"type": "Zstd"},
    ]
    assert merge(base, over, "JSONMerge", keys)["compressor"] == over["compressor"]


_json = st.recursive(
    st.integers() | st.booleans() | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from("abc"), _json), st.dictionaries(st.sampled_from("abc"), _json))
def test_whatever_the_route_gives_is_in_the_merge_and_merging_twice_changes_nothing(
    base: dict[str, Any], over: dict[str, Any]
) -> None:
    merged = merge(base, over, "JSONMerge")
    assert set(merged) == set(base) | set(over)
    assert all(merged[key] == value for key, value in over.items() if not isinstance(value, dict))
    assert merge(merged, over, "JSONMerge") == merged
