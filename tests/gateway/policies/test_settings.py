"""Settings of policies as Envoy has them, and how routes and clusters are shaped by them, without an Envoy."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.api.envoygateway.cluster_settings import ClusterSettings, Retry
from kajitori.api.envoygateway.envoy_proxy import EnvoyProxyStatus
from kajitori.api.envoygateway.rate_limit import LocalRateLimit
from kajitori.api.resource import ENVOY_PROXIES
from kajitori.base.duration import protobuf_duration
from kajitori.gateway.conditions import StatusUpdate
from kajitori.gateway.plan import Plan, make_plan
from kajitori.gateway.policies.cluster_settings import with_settings
from kajitori.gateway.policies.local_rate_limit import local_rate_limit
from kajitori.gateway.policies.retries import by_priority, retry_policy
from kajitori.gateway.resilience.order import Choice, tiers_of
from kajitori.gateway.resources import CLUSTER, ROUTES
from kajitori.gateway.status import complete_status

from ..workbench import ai_route, backend, gateway, observe
from .traffic import policy

OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def cluster(**more: Any) -> dict[str, Any]:
    place = {
        "address": {"socket_address": {"address": "10.0.0.1", "port_value": 80}},
        "hostname": "a.example",
    }
    return {
        "name": "c",
        "type": "STRICT_DNS",
        "load_assignment": {"cluster_name": "c", "endpoints": [{"lb_endpoints": [{"endpoint": place}]}]},
        "typed_extension_protocol_options": {
            OPTIONS: {"explicit_http_config": {"http_protocol_options": {}}}
        },
        **more,
    }


def settings(**raw: Any) -> ClusterSettings:
    return msgspec.convert(raw, ClusterSettings)


@pytest.mark.parametrize(
    ("text", "made"),
    [("1h", "3600s"), ("150ms", "0.15s"), ("0s", "0s"), ("1m30s", "90s"), ("90001ms", "90.001s")],
)
def test_durations_are_written_as_protobuf_reads_them(text: str, made: str) -> None:
    assert protobuf_duration(text) == made


def test_a_health_check_asks_by_the_name_of_the_backend_and_counts_statuses_as_ranges() -> None:
    check = {
        "type": "HTTP",
        "http": {
            "path": "/health",
            "method": "post",
            "expectedStatuses": [204, 200, 201, 200],
            "requestBody": {"type": "Text", "text": "hi"},
            "expectedResponse": {"type": "Binary", "binary": "aGk="},
        },
    }
    (made,) = with_settings(cluster(), settings(healthCheck={"active": check}))["health_checks"]
    http = made["http_health_check"]
    assert (http["host"], http["method"]) == ("a.example", "POST")
    assert http["expected_statuses"] == [{"start": 200, "end": 202}, {"start": 204, "end": 205}]
    assert http["send"] == http["receive"][0] == {"text": b"hi".hex()}
    service = cluster(eds_cluster_config={"service_name": "service/ai/vllm/8000"})
    (made,) = with_settings(service, settings(healthCheck={"active": check}))["health_checks"]
    assert made["http_health_check"]["host"] == "vllm.ai.svc"


def test_settings_leave_the_original_cluster_alone() -> None:
    original = cluster()
    before = json.dumps(original)
    wanted = settings(
        timeout={"http": {"connectionIdleTimeout": "9s"}},
        http2={"maxConcurrentStreams": 5},
        loadBalancer={"type": "RoundRobin", "slowStart": {"window": "5s"}},
        proxyProtocol={"version": "V1"},
    )
    made = with_settings(original, wanted, use_client_protocol=True)
    assert json.dumps(original) == before
    options = made["typed_extension_protocol_options"][OPTIONS]
    assert options["common_http_protocol_options"] == {"idle_timeout": "9s"}
    assert options["use_downstream_protocol_config"]["http2_protocol_options"] == {
        "max_concurrent_streams": 5
    }
    assert made["round_robin_lb_config"] == {"slow_start_config": {"slow_start_window": "5s"}}
    assert made["transport_socket"]["typed_config"]["transport_socket"]["name"].endswith("raw_buffer")


_tiers = st.lists(st.integers(1, 3), min_size=1, max_size=4)


@given(_tiers, st.integers(0, 12), st.integers(0, 3))
def test_attempts_go_round_the_priorities_as_the_policy_says(
    sizes: list[int], retries: int, each: int
) -> None:
    choices = [
        Choice(f"{priority}-{number}", "x", priority=priority)
        for priority, size in enumerate(sizes)
        for number in range(size)
    ]
    retry = Retry(num_retries=retries, num_attempts_per_priority=each or None)
    action: dict[str, Any] = {
        "retry_policy": retry_policy(retry, {}),
        "inline_cluster_specifier_plugin": {"extension": {"typed_config": {}}},
    }
    by_priority(action, tiers_of(choices), retry)
    config = action["inline_cluster_specifier_plugin"]["extension"]["typed_config"]
    groups = config["priority_groups"]
    assert action["retry_policy"]["refresh_cluster_on_retry"] is True
    for attempt in range(retries + 1):
        wanted = attempt // each % len(sizes) if each else 0
        named = [item["cluster_name"] for item in groups[attempt % len(groups)]["clusters"]]
        assert {name.split("-")[0] for name in named} == {str(wanted)}


def test_limits_that_envoy_cannot_hold_are_told() -> None:
    rules = [
        {"limit": {"requests": 5, "unit": "Minute"}},
        {"limit": {"requests": 5, "unit": "Minute"}},
        {
            "clientSelectors": [{"sourceCIDR": {"value": "10.0.0.0/99"}}],
            "limit": {"requests": 0, "unit": "Second"},
        },
    ]
    problems: list[str] = []
    local_rate_limit(msgspec.convert({"rules": rules}, LocalRateLimit), "spec.rateLimit.local", problems)
    told = "\n".join(problems)
    for text in (
        "rules[1]: only one rule",
        "rules[2].limit.requests: 0",
        "rules[2].clientSelectors",
        "whole multiple",
    ):
        assert text in told


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (
            {"timeout": {"tcp": {"connectTimeout": "0s"}}},
            "spec.timeout.tcp.connectTimeout: must be more than 0",
        ),
        (
            {"healthCheck": {"active": {"type": "HTTP", "http": {"path": "/", "method": "ASK"}}}},
            "spec.healthCheck.active.http.method: 'ASK'",
        ),
        ({"healthCheck": {"passive": {"interval": "0s"}}}, "spec.healthCheck.passive.interval"),
        ({"connection": {"preconnect": {"predictivePercent": 400}}}, "predictivePercent: more than 300"),
        (
            {"http2": {"initialStreamWindowSize": "1Ki"}},
            "spec.http2.initialStreamWindowSize: must be from 65535",
        ),
        ({"requestBuffer": {"limit": "much"}}, "spec.requestBuffer.limit"),
        ({"connection": {"bufferLimit": "9Gi"}}, "spec.connection.bufferLimit: must be more than 0"),
        (
            {"telemetry": {"tracing": {"spanName": {"client": "%", "server": ""}}}},
            "spec.telemetry.tracing.spanName",
        ),
        (
            {
                "responseOverride": [
                    {
                        "match": {
                            "responseHeaders": [
                                {"name": "a", "value": {"type": "RegularExpression", "value": "("}}
                            ]
                        },
                        "response": {},
                    }
                ]
            },
            "is no regular expression",
        ),
        (
            {
                "rateLimit": {
                    "local": {
                        "rules": [
                            {
                                "clientSelectors": [{"path": {"type": "RegularExpression", "value": "["}}],
                                "limit": {"requests": 1, "unit": "Hour"},
                            }
                        ]
                    }
                }
            },
            "spec.rateLimit.local.rules[0].clientSelectors: path",
        ),
    ],
)
def test_what_envoy_would_refuse_is_told_and_not_sent(spec: dict[str, Any], told: str) -> None:
    plan = plan_of(ai_route("route", "m", {"name": "a"}), policy(**spec))
    (status,) = [item.status for item in plan.statuses if item.resource.kind == "BackendTrafficPolicy"]
    (accepted, *_) = status["ancestors"][0]["conditions"]
    assert accepted["status"] == "False"
    assert told in accepted["message"]
    assert told.split(":")[0] in json.dumps(plan.resources.by_type[ROUTES])


def plan_of(*documents: dict[str, Any]) -> Plan:
    return make_plan(observe(gateway(8080), *backend("a", 1), *backend("b", 2), *documents))


def test_routes_under_the_same_policy_share_the_copies_of_their_clusters() -> None:
    routes = [
        ai_route(f"route-{n}", f"m-{n}", {"name": "a"}, {"name": "b", "priority": 1}) for n in range(20)
    ]
    plain = plan_of(*routes)
    timeout = {"tcp": {"connectTimeout": "1s"}}
    shaped = plan_of(*routes, policy("Gateway", "gateway", timeout=timeout))
    assert len(shaped.resources.by_type[CLUSTER]) == len(plain.resources.by_type[CLUSTER])
    assert all(item["connect_timeout"] == "1s" for item in shaped.resources.by_type[CLUSTER].values())
    assert set(shaped.backends.values()) == set(plain.backends.values())
    assert shaped.backends.keys() == shaped.resources.by_type[CLUSTER].keys()


def test_a_route_without_the_policy_keeps_the_plain_clusters() -> None:
    routes = [ai_route(name, name, {"name": "a"}) for name in ("one", "two")]
    plan = plan_of(*routes, policy("HTTPRoute", "one", timeout={"tcp": {"connectTimeout": "1s"}}))
    timeouts = sorted(item["connect_timeout"] for item in plan.resources.by_type[CLUSTER].values())
    assert timeouts == ["1s", "3s"]


def test_what_concerns_requests_only_makes_no_copy_of_a_cluster() -> None:
    route = ai_route("route", "m", {"name": "a"})
    timeout = {"http": {"requestTimeout": "9s", "streamIdleTimeout": "5s"}}
    fault = {"abort": {"httpStatus": 500}}
    plan = plan_of(route, policy(retry={"numRetries": 5}, faultInjection=fault, timeout=timeout))
    assert plan.resources.by_type[CLUSTER] == plan_of(route).resources.by_type[CLUSTER]


@pytest.mark.parametrize(("merge_type", "rules"), [("StrategicMerge", 2), ("JSONMerge", 1)])
def test_merged_local_limits_hold_side_by_side_or_replace_each_other(merge_type: str, rules: int) -> None:
    def limit(header: str) -> dict[str, Any]:
        chosen = {
            "clientSelectors": [{"headers": [{"name": header, "type": "Distinct"}]}],
            "limit": {"requests": 1, "unit": "Hour"},
        }
        return {"local": {"rules": [chosen, {"limit": {"requests": 9, "unit": "Second"}}]}}

    plan = plan_of(
        ai_route("route", "m", {"name": "a"}),
        policy("Gateway", "gateway", rateLimit=limit("x-theirs")),
        policy("HTTPRoute", "route", rateLimit=limit("x-ours"), mergeType=merge_type),
    )
    (table,) = plan.resources.by_type[ROUTES].values()
    configs = [
        route["typed_per_filter_config"]["envoy.filters.http.local_ratelimit"]
        for host in table["virtual_hosts"]
        for route in host["routes"]
        if route["name"].startswith("ai/default/route")
        and "envoy.filters.http.local_ratelimit" in route.get("typed_per_filter_config", {})
    ]
    assert configs
    assert all(len(config["descriptors"]) == rules for config in configs)
    assert "x-ours" in json.dumps(configs)


def test_a_policy_of_one_listener_leaves_the_others_as_they_are() -> None:
    def listeners(*documents: dict[str, Any]) -> dict[str, Any]:
        shared = gateway(8080)
        shared["spec"]["listeners"] = [
            {"name": "a", "protocol": "HTTP", "port": 8080, "hostname": "a.example"},
            {"name": "b", "protocol": "HTTP", "port": 8080, "hostname": "b.example"},
        ]
        route = ai_route("route", "m", {"name": "a"})
        plan = make_plan(observe(shared, *backend("a", 1), route, *documents))
        (table,) = plan.resources.by_type[ROUTES].values()
        return {host["name"]: host for host in table["virtual_hosts"]}

    before = listeners()
    after = listeners(policy("Gateway", "gateway", "a", faultInjection={"abort": {"httpStatus": 500}}))
    assert after["b.example"] == before["b.example"]
    assert "envoy.filters.http.fault" in json.dumps(after["a.example"])


def test_the_status_of_an_envoy_proxy_has_entries_without_a_controller() -> None:
    ancestor = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "default", "name": "g"}
    state = {"type": "Accepted", "status": "True", "reason": "Accepted", "message": "m"}
    wanted = StatusUpdate(
        ENVOY_PROXIES, "default", "x", 1, {"ancestors": [{"ancestorRef": ancestor, "conditions": [state]}]}
    )
    written = complete_status(wanted, None, "2026-01-01T00:00:00Z")
    assert written is not None
    current = msgspec.convert(written, EnvoyProxyStatus)
    assert complete_status(wanted, current, "2026-02-02T00:00:00Z") is None
