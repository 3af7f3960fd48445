"""The controller on an embedded API server with a real Envoy: objects in, traffic and statuses out."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import yaml

from kajitori.api.resource import (
    AI_GATEWAY_ROUTES,
    AI_SERVICE_BACKENDS,
    AI_TRAFFIC_POLICIES,
    BACKEND_SECURITY_POLICIES,
    EVENTS,
    GATEWAY_CLASSES,
    GATEWAYS,
    HTTP_ROUTES,
    Resource,
)
from kajitori.base.errors import Invalid
from kajitori.gateway import problem_events
from kajitori.gateway.controller import GatewayController
from tests.gateway.cluster import QUESTION, Cluster
from tests.gateway.workbench import Provider, ai_route, backend, gateway, key_policy
from tests.waiting import eventually


async def test_objects_become_traffic_and_their_statuses_say_so(cluster: Cluster, first: Provider) -> None:
    port = cluster.bench.port
    await cluster.apply(gateway(port), *backend("a", first.port), ai_route("route", "gpt-4o", {"name": "a"}))
    await cluster.answered(200)
    await cluster.condition(GATEWAY_CLASSES, "kajitori", "Accepted", status="True")
    await cluster.condition(GATEWAYS, "gateway", "Programmed", status="True")
    await cluster.condition(AI_GATEWAY_ROUTES, "route", "Accepted", status="True")
    await cluster.condition(AI_SERVICE_BACKENDS, "a", "Accepted", status="True")

    async def one_is_attached() -> dict[str, Any] | None:
        found = await cluster.status(GATEWAYS, "gateway")
        return found if found["listeners"][0]["attachedRoutes"] == 1 else None

    status = await eventually(one_is_attached, "a route is attached")
    assert status["addresses"] == [{"type": "IPAddress", "value": "127.0.0.1"}]
    assert {item["observedGeneration"] for item in status["conditions"]} == {1}


async def test_what_is_missing_is_named_and_mended_by_its_arrival(cluster: Cluster, first: Provider) -> None:
    secret, policy = key_policy("a", "the-key")
    await cluster.apply(gateway(cluster.bench.port), ai_route("route", "gpt-4o", {"name": "a"}))
    reply = await cluster.answered(503)
    assert "AIServiceBackend default/a does not exist" in reply.json["error"]["message"]
    told = await cluster.condition(AI_GATEWAY_ROUTES, "route", "NotAccepted", status="True")
    assert "default/a" in told["message"]
    await cluster.apply(*backend("a", first.port), policy)
    told = await cluster.condition(BACKEND_SECURITY_POLICIES, "a-key", "NotAccepted", status="True")
    assert "Secret default/a-key" in told["message"]
    await cluster.apply(
        {**secret, "data": {"apiKey": base64.b64encode(b"the-key\n").decode()}, "stringData": {}}
    )
    await cluster.answered(200)
    assert first.seen[-1].headers["authorization"] == "Bearer the-key"
    await cluster.condition(AI_GATEWAY_ROUTES, "route", "Accepted", status="True")
    status = await cluster.status(AI_GATEWAY_ROUTES, "route")
    assert [item["type"] for item in status["conditions"]] == ["Accepted"]
    await cluster.client.delete(AI_GATEWAY_ROUTES, "route", "default")
    await cluster.answered(404)


async def events(cluster: Cluster, name: str) -> list[tuple[str, str]]:
    """Reason and type of the events about an object, in their order."""
    found = (await cluster.client.list(EVENTS, "default")).items
    about = [event for event in found if event["regarding"]["name"] == name]
    return [(event["reason"], event["type"]) for event in sorted(about, key=lambda each: each["eventTime"])]


async def until_events(cluster: Cluster, name: str, wanted: list[tuple[str, str]]) -> None:
    async def told() -> bool:
        return await events(cluster, name) == wanted

    await eventually(told, f"{wanted} of {name}")


async def test_what_is_mended_at_once_leaves_no_event_and_what_stays_leaves_two(
    cluster: Cluster, first: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(problem_events, "QUIET_SECONDS", 2.0)
    documents = backend("a", first.port)
    await cluster.apply(
        gateway(cluster.bench.port), ai_route("together", "gpt-4o", {"name": "a"}), *documents
    )
    await cluster.apply(ai_route("apart", "other", {"name": "b"}))
    await until_events(cluster, "apart", [("NotAccepted", "Warning")])
    await cluster.apply(*backend("b", first.port))
    await until_events(cluster, "apart", [("NotAccepted", "Warning"), ("Accepted", "Normal")])
    assert await events(cluster, "together") == []


async def test_a_service_is_a_backend_by_its_ready_endpoints(cluster: Cluster, first: Provider) -> None:
    service = {
        "kind": "Service",
        "metadata": {"name": "model"},
        "spec": {"ports": [{"name": "http", "port": 80, "targetPort": "web"}]},
    }
    endpoint = {"addresses": ["127.0.0.1"], "conditions": {"ready": True}}
    slice_ = {
        "kind": "EndpointSlice",
        "metadata": {"name": "model-x", "labels": {"kubernetes.io/service-name": "model"}},
        "addressType": "IPv4",
        "endpoints": [endpoint],
        "ports": [{"name": "http", "port": first.port, "protocol": "TCP"}],
    }
    backends = backend("a", 1)
    backends[0]["spec"] = {
        "endpoints": [{"fqdn": {"hostname": "model.default.svc.cluster.local", "port": 80}}]
    }
    await cluster.apply(
        service, slice_, gateway(cluster.bench.port), *backends, ai_route("route", "gpt-4o", {"name": "a"})
    )
    await cluster.answered(200)
    await cluster.apply({**slice_, "endpoints": [{**endpoint, "conditions": {"ready": False}}]})
    await cluster.answered(503)
    await cluster.apply(slice_)
    await cluster.answered(200)
    direct = backend("b", 1)[1]
    direct["spec"]["backendRef"] = {"group": "", "kind": "Service", "name": "model", "port": 80}
    await cluster.apply(direct, ai_route("two", "direct", {"name": "b"}))
    await cluster.answered(200, {**QUESTION, "model": "direct"})


async def test_an_http_route_is_told_what_became_of_it(cluster: Cluster) -> None:
    route = {
        "kind": "HTTPRoute",
        "metadata": {"name": "web"},
        "spec": {
            "parentRefs": [{"name": "gateway"}],
            "rules": [
                {"backendRefs": [{"name": "nothing", "port": 80}]},
                {"filters": [{"type": "ExternalAuth", "externalAuth": {"protocol": "HTTP"}}]},
            ],
        },
    }
    await cluster.apply(gateway(cluster.bench.port), route)
    await cluster.condition(HTTP_ROUTES, "web", "Accepted", status="True", reason="Accepted")
    told = await cluster.condition(HTTP_ROUTES, "web", "ResolvedRefs", status="False")
    assert told["reason"] == "BackendNotFound"
    told = await cluster.condition(HTTP_ROUTES, "web", "PartiallyInvalid", status="True")
    assert "rules[1].filters[0]: ExternalAuth is not honoured" in told["message"]
    parent = (await cluster.status(HTTP_ROUTES, "web"))["parents"][0]
    assert parent["controllerName"] == "kajitori.dev/gateway-controller"
    assert parent["parentRef"]["name"] == "gateway"


_FOR_ROUTE = "targetRefs: [{group: aigateway.envoyproxy.io, kind: AIGatewayRoute, name: r}]"
INVALID = (
    f"""
- kind: AITrafficPolicy
  spec: {{targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r}}]}}
- kind: AITrafficPolicy
  spec: {{{_FOR_ROUTE}, fallback: {{chainHeader: X-Kajitori-Order}}}}
- kind: AITrafficPolicy
  spec: {{{_FOR_ROUTE}, fallback: {{allowedBackends: [a]}}}}
- kind: AITrafficPolicy
  spec: {{{_FOR_ROUTE}, fallback: {{onSaturation: {{whenAllSaturated: Refuse}}}}}}
- kind: AITrafficPolicy
  spec: {{{_FOR_ROUTE}, streams: {{firstByteTimeout: 1m, idleTimeout: 59s}}}}
- kind: AITrafficPolicy
  spec: {{{_FOR_ROUTE}, hedging: {{after: 1s, maxExtra: 4}}}}
"""
    + """
- kind: AIGatewayRoute
  spec: {rules: [{name: route-not-found}]}
- kind: AIGatewayRoute
  spec: {rules: [{name: a}, {name: a}]}
- kind: AIGatewayRoute
  spec: {parentRefs: [{name: x, kind: Service}], rules: []}
- kind: AIGatewayRoute
  spec: {rules: [{backendRefs: [{name: a, group: inference.networking.k8s.io, kind: InferencePool}, {name: b}]}]}
- kind: AIGatewayRoute
  spec: {rules: [{backendRefs: [{name: a, kind: InferencePool}]}]}
- kind: AIGatewayRoute
  spec: {rules: [{backendRefs: [{name: a, weight: -1}]}]}
- kind: AIGatewayRoute
  spec: {rules: [], llmRequestCosts: [{metadataKey: a, type: CEL}]}
- kind: AIGatewayRoute
  spec: {rules: [], llmRequestCosts: [{metadataKey: a, type: Tokens}]}
- kind: AIServiceBackend
  spec: {schema: {name: OpenAI}, backendRef: {name: a, kind: Secret}}
- kind: AIServiceBackend
  spec: {schema: {name: Mistral}, backendRef: {name: a, kind: Backend, group: gateway.envoyproxy.io}}
- kind: BackendSecurityPolicy
  spec: {type: APIKey, azureAPIKey: {secretRef: {name: a}}}
- kind: BackendSecurityPolicy
  spec: {type: APIKey, apiKey: {secretRef: {name: a}}, azureAPIKey: {secretRef: {name: a}}}
- kind: BackendSecurityPolicy
  spec: {type: APIKey, apiKey: {secretRef: {name: a}}, targetRefs: [{group: "", kind: Service, name: a}]}
- kind: Backend
  spec: {endpoints: [{ip: {address: 127.0.0.1, port: 1}, fqdn: {hostname: a.b, port: 1}}]}
- kind: Backend
  spec: {endpoints: [{ip: {address: 127.0.0.1, port: 0}}]}
- kind: Gateway
  spec: {gatewayClassName: kajitori, listeners: [{name: a, port: 80, protocol: HTTP}, {name: b, port: 80, protocol: HTTP}]}
- kind: Gateway
  spec: {gatewayClassName: kajitori, listeners: []}
- kind: HTTPRoute
  spec: {rules: [{matches: [{path: {type: Exact, value: no-slash}}]}]}
- kind: HTTPRoute
  spec: {rules: [{backendRefs: [{name: a}]}]}
"""
)


async def test_the_api_server_refuses_what_upstreams_rules_refuse(cluster: Cluster) -> None:
    for number, document in enumerate(yaml.safe_load(INVALID)):
        with pytest.raises(Invalid) as raised:
            await cluster.apply({**document, "metadata": {"name": f"invalid-{number}"}})
        assert raised.value.causes, document


async def test_a_traffic_policy_holds_and_its_status_says_so(cluster: Cluster, first: Provider) -> None:
    refs = [{"group": "aigateway.envoyproxy.io", "kind": "AIGatewayRoute", "name": "route"}]
    spec = {"targetRefs": refs, "fallback": {"chainHeader": "x-order"}, "streams": {"idleTimeout": "30s"}}
    await cluster.apply(
        gateway(cluster.bench.port),
        *backend("a", first.port),
        ai_route("route", "gpt-4o", {"name": "a"}),
        {"kind": "AITrafficPolicy", "metadata": {"name": "policy"}, "spec": spec},
    )
    await cluster.condition(AI_TRAFFIC_POLICIES, "policy", "Accepted", status="True")
    await cluster.answered(200)
    await cluster.answered(400, **{"x-order": "nobody"})


async def test_v1alpha1_and_v1beta1_show_the_same_object(cluster: Cluster) -> None:
    old = Resource("aigateway.envoyproxy.io", "v1alpha1", "aigatewayroutes", "AIGatewayRoute")
    body = {**ai_route("route", "gpt-4o", {"name": "a"}), "apiVersion": old.api_version}
    body["metadata"]["namespace"] = "default"
    warnings: list[str] = []
    cluster.client.on_warning = lambda *told: warnings.append(str(told))
    await cluster.client.apply(old, body, field_manager="test")
    new = await cluster.client.get(AI_GATEWAY_ROUTES, "route", "default")
    assert new["spec"]["rules"][0]["backendRefs"][0] | {} == {"name": "a", "priority": 0, "weight": 1}
    assert any("v1beta1" in warning for warning in warnings)


async def test_an_object_that_is_deleted_and_made_again_between_two_plans_gets_a_status_again(
    cluster: Cluster, first: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.apply(gateway(cluster.bench.port), *backend("a", first.port))
    await cluster.condition(AI_SERVICE_BACKENDS, "a", "Accepted", status="True")
    seen: set[str | None] = set()
    make_plan = GatewayController._make_plan

    def seeing(self: GatewayController) -> list[Any]:
        seen.update(item.metadata.uid for item in self.observe().ai_backends)
        return []

    with monkeypatch.context() as patch:
        patch.setattr(GatewayController, "_make_plan", seeing)
        await cluster.client.delete(AI_SERVICE_BACKENDS, "a", "default")
        await cluster.apply(*backend("a", first.port))
        made = await cluster.client.get(AI_SERVICE_BACKENDS, "a", "default")
        assert "status" not in made or not made["status"].get("conditions")

        async def is_seen() -> bool:
            return made["metadata"]["uid"] in seen

        await eventually(is_seen, "the new one is seen")
    assert GatewayController._make_plan is make_plan
    await cluster.apply(*backend("b", first.port))
    await cluster.condition(AI_SERVICE_BACKENDS, "a", "Accepted", status="True")
