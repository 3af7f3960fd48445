"""The plan: pure, stable, and complete for every combination of objects."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kajitori.base.errors import InvalidManifest
from kajitori.engines.envoy import find_envoy
from kajitori.gateway import route_translation
from kajitori.gateway.conditions import StatusUpdate
from kajitori.gateway.envoy.encode import Encoder, encoder
from kajitori.gateway.envoy.schema import load_schema, read_descriptors, schema
from kajitori.gateway.envoy.xds import Snapshot
from kajitori.gateway.plan import Plan, make_plan
from kajitori.gateway.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET, TYPES
from kajitori.gateway.routes.hostnames import covers, intersect, narrower
from kajitori.gateway.status import complete_status
from tests.gateway.workbench import ai_route, backend, gateway, key_policy, observe

SCHEMAS = [
    {"name": "OpenAI"},
    {"name": "OpenAI", "prefix": "x/v1"},
    {"name": "AzureOpenAI", "version": "2025-01-01"},
    {"name": "AzureOpenAI"},
    {"name": "Anthropic"},
]
NAMES = st.sampled_from(["a", "b", "c", "missing"])
MODELS = st.text(alphabet='ab %"/é\U0001f600', min_size=1, max_size=6).map(lambda text: text.strip() or "x")


@st.composite
def worlds(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A gateway, backends of all dialects with and without keys, and routes over them, some of them broken."""
    documents: list[dict[str, Any]] = [gateway(8080)]
    for name in ("a", "b", "c"):
        documents += backend(name, draw(st.integers(1, 65535)), draw(st.sampled_from(SCHEMAS)))
        policy = draw(st.sampled_from(["none", "whole", "secretless"]))
        if policy != "none":
            documents += key_policy(name, f"key-{name}")[1 if policy == "secretless" else 0 :]
    for number in range(draw(st.integers(0, 4))):
        refs = [
            {
                "name": draw(NAMES),
                "weight": draw(st.integers(0, 3)),
                "priority": draw(st.integers(0, 2)),
                **draw(st.sampled_from([{}, {"modelNameOverride": "other"}])),
                **draw(st.sampled_from([{}, {"headerMutation": {"set": [{"name": "X-A", "value": "1"}]}}])),
                **draw(st.sampled_from([{}, {"bodyMutation": {"remove": ["seed"]}}])),
            }
            for _ in range(draw(st.integers(0, 3)))
        ]
        documents.append(ai_route(f"r{number}", draw(MODELS), *refs))
    return documents


def routes_of(plan: Plan) -> list[dict[str, Any]]:
    return [
        route
        for table in plan.resources.by_type[ROUTES].values()
        for host in table["virtual_hosts"]
        for route in host["routes"]
    ]


@settings(max_examples=60, deadline=None)
@given(worlds(), st.randoms(use_true_random=False))
def test_the_order_in_which_objects_are_seen_changes_nothing(
    documents: list[dict[str, Any]], random: Any
) -> None:
    plan = make_plan(observe(*documents))
    shuffled = list(documents)
    random.shuffle(shuffled)
    other = make_plan(observe(*shuffled))
    assert json.dumps(plan.resources.by_type, sort_keys=True) == json.dumps(
        other.resources.by_type, sort_keys=True
    )
    assert sorted(map(repr, plan.statuses)) == sorted(map(repr, other.statuses))


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_every_plan_is_one_that_this_envoy_understands_and_names_nothing_that_is_not_there(
    documents: list[dict[str, Any]],
) -> None:
    plan = make_plan(observe(*documents))
    for kind, items in plan.resources.by_type.items():
        for value in items.values():
            encoder().encode(kind, value)
    clusters = plan.resources.by_type[CLUSTER]
    for route in routes_of(plan):
        if "inline_cluster_specifier_plugin" not in route.get("route", {}):
            continue
        specifier = route["route"]["inline_cluster_specifier_plugin"]["extension"]["typed_config"]
        for group in specifier["priority_groups"]:
            assert group["clusters"]
            assert all(item["cluster_name"] in clusters and item["weight"] > 0 for item in group["clusters"])
    secrets = plan.resources.by_type[SECRET]
    for text in map(json.dumps, clusters.values()):
        assert not [value for value in ("key-a", "key-b", "key-c") if f'"{value}"' in text]
        for name in ("a", "b", "c"):
            if f"secret/default/{name}-key/apiKey" in text:
                assert f"secret/default/{name}-key/apiKey" in secrets
    for cluster in clusters.values():
        if cluster["type"] == "EDS":
            assert cluster["eds_cluster_config"]["service_name"] in plan.resources.by_type[ENDPOINTS]


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_no_backend_is_sent_the_credentials_of_another(documents: list[dict[str, Any]]) -> None:
    plan = make_plan(observe(*documents))
    for route in routes_of(plan):
        if "inline_cluster_specifier_plugin" not in route.get("route", {}):
            continue
        specifier = route["route"]["inline_cluster_specifier_plugin"]["extension"]["typed_config"]
        names = [item["cluster_name"] for group in specifier["priority_groups"] for item in group["clusters"]]
        texts = [json.dumps(plan.resources.by_type[CLUSTER][name]) for name in names]
        if any("credential_injector" in text for text in texts):
            assert all(
                '{"remove": "authorization"}' in text and '{"remove": "api-key"}' in text for text in texts
            )


@settings(max_examples=40, deadline=None)
@given(worlds(), worlds())
def test_a_snapshot_encodes_only_what_differs_and_forgets_what_is_gone(
    one: list[dict[str, Any]], other: list[dict[str, Any]]
) -> None:
    snapshot = Snapshot(Encoder(schema()))
    before = make_plan(observe(*one)).resources
    snapshot.set_resources("gateway", before)
    kept = {kind: dict(items) for kind, items in snapshot.resources.items()}
    assert not snapshot.set_resources("gateway", make_plan(observe(*one)).resources)
    after = make_plan(observe(*other)).resources
    snapshot.set_resources("gateway", after)
    for kind in TYPES:
        assert snapshot.resources[kind].keys() == after.by_type[kind].keys()
        for name, encoded in snapshot.resources[kind].items():
            if before.by_type[kind].get(name) == after.by_type[kind][name]:
                assert encoded is kept[kind][name]


def statuses(plan: Plan, kind: str) -> dict[str, StatusUpdate]:
    return {item.name: item for item in plan.statuses if item.resource.kind == kind}


def test_a_gateway_of_another_class_is_none_of_our_business() -> None:
    foreign = gateway(8080)
    foreign["spec"]["gatewayClassName"] = "istio"
    plan = make_plan(observe(foreign, ai_route("r", "m")))
    assert not plan.statuses or {item.resource.kind for item in plan.statuses} == {"GatewayClass"}
    assert not plan.resources.by_type[ROUTES]


def test_envoy_gateways_controller_name_is_served_too() -> None:
    foreign = {
        "kind": "GatewayClass",
        "metadata": {"name": "eg"},
        "spec": {"controllerName": "gateway.envoyproxy.io/gatewayclass-controller"},
    }
    used = gateway(8080)
    used["spec"]["gatewayClassName"] = "eg"
    plan = make_plan(observe(foreign, used))
    assert statuses(plan, "GatewayClass")["eg"].status["conditions"][0]["status"] == "True"
    assert statuses(plan, "Gateway")["gateway"].status["conditions"][1]["type"] == "Programmed"


@pytest.mark.parametrize(
    ("allowed", "attached"),
    [
        ({"from": "Same"}, False),
        ({"from": "All"}, True),
        ({"from": "None"}, False),
        ({"from": "Selector", "selector": {"matchLabels": {"team": "x"}}}, True),
        (
            {
                "from": "Selector",
                "selector": {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["x"]}]},
            },
            False,
        ),
    ],
)
def test_a_listener_says_which_namespaces_may_attach(allowed: dict[str, Any], attached: bool) -> None:
    route = ai_route("r", "m", {"name": "a"})
    route["metadata"]["namespace"] = "team"
    route["spec"]["parentRefs"] = [{"name": "gateway", "namespace": "default"}]
    namespace = {"kind": "Namespace", "metadata": {"name": "team", "labels": {"team": "x"}}}
    plan = make_plan(observe(gateway(8080, allowedRoutes={"namespaces": allowed}), namespace, route))
    message = statuses(plan, "AIGatewayRoute")["r"].status["conditions"][0]["message"]
    assert ("no listener allows" not in message) == attached
    assert statuses(plan, "Gateway")["gateway"].status["listeners"][0]["attachedRoutes"] == int(attached)


def test_a_reference_across_namespaces_needs_a_grant() -> None:
    other = [dict(item, metadata={"name": "a", "namespace": "other"}) for item in backend("a", 1)]
    route = ai_route("r", "m", {"name": "a", "namespace": "other"})
    grant = {
        "kind": "ReferenceGrant",
        "metadata": {"name": "g", "namespace": "other"},
        "spec": {
            "from": [{"group": "aigateway.envoyproxy.io", "kind": "AIGatewayRoute", "namespace": "default"}],
            "to": [{"group": "aigateway.envoyproxy.io", "kind": "AIServiceBackend"}],
        },
    }
    refused = make_plan(observe(gateway(8080), *other, route))
    assert "ReferenceGrant" in statuses(refused, "AIGatewayRoute")["r"].status["conditions"][0]["message"]
    granted = make_plan(observe(gateway(8080), *other, route, grant))
    assert statuses(granted, "AIGatewayRoute")["r"].status["conditions"][0]["type"] == "Accepted"


def test_what_is_not_honoured_is_named() -> None:
    documents = [
        gateway(8443, protocol="TLS", tls={"mode": "Passthrough"}),
        *backend("a", 1, {"name": "AWSBedrock"}),
        *backend("b", 1),
        *key_policy("b", "x")[:1],
        ai_route("r", "m", {"name": "pool", "group": "inference.networking.k8s.io", "kind": "InferencePool"}),
        ai_route("s", "m2", {"name": "a"}),
    ]
    plan = make_plan(observe(*documents))
    listener = statuses(plan, "Gateway")["gateway"].status["listeners"][0]["conditions"][0]
    assert (listener["status"], listener["reason"]) == ("False", "UnsupportedProtocol")
    assert "pools are not served" in statuses(plan, "AIGatewayRoute")["r"].status["conditions"][0]["message"]
    assert "schema AWSBedrock" in statuses(plan, "AIServiceBackend")["a"].status["conditions"][0]["message"]


def test_a_cost_that_cannot_be_computed_is_refused_with_its_place() -> None:
    costs = [
        {"metadataKey": "good", "type": "CEL", "cel": "input_tokens + output_tokens"},
        {"metadataKey": "typo", "type": "CEL", "cel": "inputtokens + 1"},
        {"metadataKey": "text", "type": "CEL", "cel": "model"},
        {"metadataKey": "negative", "type": "CEL", "cel": "-1"},
    ]
    plan = make_plan(
        observe(gateway(8080), *backend("a", 1), ai_route("r", "m", {"name": "a"}, llmRequestCosts=costs))
    )
    told = statuses(plan, "AIGatewayRoute")["r"].status["conditions"][0]
    assert told["type"] == "NotAccepted"
    for key in ("typo", "text", "negative"):
        assert f"llmRequestCosts[{key}].cel" in told["message"]
    assert [cost.key for cost in plan.policy.routes["default/r"].costs] == ["good"]


def test_without_an_envoy_no_gateway_claims_to_be_programmed() -> None:
    plan = make_plan(observe(gateway(8080)), envoys=0)
    programmed = statuses(plan, "Gateway")["gateway"].status["conditions"][1]
    assert (programmed["status"], programmed["reason"]) == ("False", "Pending")


def test_a_status_keeps_its_times_and_the_parents_of_others() -> None:
    document = {
        "kind": "HTTPRoute",
        "metadata": {"name": "web", "generation": 2},
        "spec": {"parentRefs": [{"name": "gateway"}, {"name": "theirs"}]},
        "status": {
            "parents": [
                {"parentRef": {"name": "theirs"}, "controllerName": "example.com/other", "conditions": []}
            ]
        },
    }
    observed = observe(gateway(8080), document)
    update = statuses(make_plan(observed), "HTTPRoute")["web"]
    status = complete_status(update, observed.http_routes[0].status, "2026-01-01T00:00:00Z")
    assert status is not None
    assert [parent["controllerName"] for parent in status["parents"]] == [
        "example.com/other",
        "kajitori.dev/gateway-controller",
    ]
    again = observe(gateway(8080), {**document, "status": status})
    update = statuses(make_plan(again), "HTTPRoute")["web"]
    assert complete_status(update, again.http_routes[0].status, "2026-02-02T00:00:00Z") is None


HOSTS = st.sampled_from(
    ["*", "*.example.com", "*.a.example.com", "a.example.com", "b.a.example.com", "x.org"]
)


@given(HOSTS, st.lists(HOSTS, max_size=3))
def test_a_shared_hostname_is_covered_by_both_sides(listener: str, hostnames: list[str]) -> None:
    for shared in intersect(listener, hostnames):
        assert covers(listener, shared)
        assert not hostnames or any(covers(hostname, shared) for hostname in hostnames)
    for hostname in hostnames:
        if covers(listener, hostname):
            assert hostname in intersect(listener, hostnames)


def test_a_resource_with_an_unknown_field_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidManifest, match=r"load_assignment.endpoints\[0\].*no field 'hosts'"):
        encoder().encode(CLUSTER, {"load_assignment": {"cluster_name": "x", "endpoints": [{"hosts": []}]}})


def test_a_route_table_made_of_parts_is_the_one_made_in_one_piece() -> None:
    plan = make_plan(observe(gateway(8080), *backend("a", 1), ai_route("r", "m", {"name": "a"})))
    (table,) = plan.resources.by_type[ROUTES].values()
    whole = encoder().message(ROUTES, table)
    parsed = schema().message(ROUTES).FromString(encoder().encode(ROUTES, table))
    assert parsed == whole


def test_the_schema_of_the_binary_is_found_and_kept(tmp_path: Any) -> None:
    binary = find_envoy()
    assert len(read_descriptors(binary).file) > 500
    load_schema(binary, tmp_path)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:1000])
    assert "priority_group" in str(
        load_schema(binary, tmp_path)
        .descriptor(
            "envoy.extensions.router.cluster_specifiers.priority_group.v3.PriorityGroupClusterSpecifier"
        )
        .file.name
    )


def test_a_route_says_that_its_only_listener_does_not_serve() -> None:
    documents = (
        gateway(8080),
        {**gateway(8081, "other"), "metadata": {"name": "other"}},
        *backend("a", 1),
        ai_route("lost", "gpt-4o", {"name": "a"}),
        ai_route("both", "gpt-4o", {"name": "a"}, parentRefs=[{"name": "gateway"}, {"name": "other"}]),
        ai_route("fine", "gpt-4o", {"name": "a"}, parentRefs=[{"name": "other"}]),
    )
    said = (
        "Error adding/updating listener(s) http/8080: cannot bind '127.0.0.1:8080': Address already in use\n"
    )
    plan = make_plan(observe(*documents), {f"{LISTENER}/http/8080": said})
    told = {item.name: item.status["conditions"][0] for item in plan.statuses}
    assert told["fine"]["type"] == "Accepted"
    for name in ("lost", "both"):
        assert told[name]["type"] == "NotAccepted"
        assert (
            "Gateway default/gateway: no listener of the route serves: port 8080 is taken"
            in (told[name]["message"])
        )
    (listener,) = next(item for item in plan.statuses if item.name == "gateway").status["listeners"]
    programmed = next(item for item in listener["conditions"] if item["type"] == "Programmed")
    assert programmed["status"] == "False"
    assert programmed["message"].startswith("port 8080 is taken by another process")


def test_a_defect_met_by_one_route_leaves_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    translate = route_translation.translate_ai_route

    def broken(index: Any, world: Any, route: Any, *more: Any) -> Any:
        if route.metadata.name == "bad":
            raise KeyError("unforeseen")
        return translate(index, world, route, *more)

    monkeypatch.setattr(route_translation, "translate_ai_route", broken)
    documents = [
        gateway(8080),
        *backend("a", 1),
        ai_route("bad", "x", {"name": "a"}),
        ai_route("good", "y", {"name": "a"}),
    ]
    plan = make_plan(observe(*documents))
    assert any("default/good" in route["name"] for route in routes_of(plan))
    told = {
        update.name: update.status["conditions"][0]
        for update in plan.statuses
        if update.name in ("bad", "good")
    }
    assert told["good"]["type"] == "Accepted"
    assert told["bad"]["type"] == "NotAccepted"
    assert "defect of the gateway" in told["bad"]["message"]


HOSTS = st.sampled_from(
    ["*", "*.a.example", "*.example", "a.example", "b.a.example", "*.b.a.example", "other"]
)


@given(st.lists(HOSTS))
def test_narrower_hostnames_are_those_that_are_covered_by_another_one(hostnames: list[str]) -> None:
    found = narrower(hostnames)
    assert {pattern: set(names) for pattern, names in found.items()} == {
        pattern: covered
        for pattern in hostnames
        if (covered := {name for name in hostnames if name != pattern and covers(pattern, name)})
    }
