"""A small cluster in which everything refers to something else, each object in several forms: for tests of plans that follow
each other."""

from __future__ import annotations

import base64
from typing import Any

from tests.gateway.keys.objects import api_key, asking, tenant
from tests.gateway.workbench import CLASS

AI, GATEWAY_API, ENVOY = "aigateway.envoyproxy.io", "gateway.networking.k8s.io", "gateway.envoyproxy.io"
Document = dict[str, Any]


def _object(kind: str, name: str, namespace: str = "default", **parts: Any) -> Document:
    metadata = {"name": name, "namespace": namespace, **parts.pop("metadata", {})}
    spec = {"spec": parts.pop("spec")} if "spec" in parts else {}
    return {"kind": kind, "metadata": metadata, **spec, **parts}


def _gateway(
    name: str, port: int, *more: Document, metadata: Document | None = None, **listener: Any
) -> Document:
    listeners = [{"name": "http", "protocol": "HTTP", "port": port, **listener}, *more]
    spec = {"gatewayClassName": "kajitori", "listeners": listeners}
    return _object("Gateway", name, metadata=metadata or {}, spec=spec)


def _parent(*names: str) -> list[Document]:
    return [{"name": name, "namespace": "default"} for name in names]


def _ai_route(name: str, namespace: str, rules: list[Document], *parents: str, metadata: Document | None = None, **spec: Any) -> Document:  # fmt: skip
    given = {"parentRefs": _parent(*(parents or ("gateway",))), "rules": rules, **spec}
    metadata = {"uid": f"uid-{namespace}-{name}", **(metadata or {})}
    return _object("AIGatewayRoute", name, namespace, metadata=metadata, spec=given)


def _rule(model: str, *refs: Document, **rule: Any) -> Document:
    match = {"headers": [{"type": "Exact", "name": "x-ai-eg-model", "value": model}]}
    return {"matches": [match], "backendRefs": list(refs), **rule}


def _ref(name: str, **ref: Any) -> Document:
    return {"name": name, **ref}


def _ai_backend(name: str, kind: str, to: str, namespace: str = "default", schema: str = "OpenAI", **spec: Any) -> Document:  # fmt: skip
    group, port = (ENVOY, {}) if kind == "Backend" else ("", {"port": 80})
    reference = {"group": group, "kind": kind, "name": to, **port, **spec.pop("ref", {})}
    return _object("AIServiceBackend", name, namespace, spec={"schema": {"name": schema}, "backendRef": reference, **spec})  # fmt: skip


def _backend(name: str, endpoint: Document, namespace: str = "default", **spec: Any) -> Document:
    return _object("Backend", name, namespace, spec={"endpoints": [endpoint], **spec})


def _grant(name: str, source: tuple[str, str], to: tuple[str, str], only: str | None = None) -> Document:
    target = {"group": to[0], "kind": to[1], **({"name": only} if only else {})}
    return _object(
        "ReferenceGrant",
        name,
        "other",
        spec={"from": [{"group": source[0], "kind": source[1], "namespace": "default"}], "to": [target]},
    )


def _secret(name: str, **data: str) -> Document:
    return _object(
        "Secret", name, data={key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
    )


def _key_policy(name: str, target: str, secret: str, **metadata: Any) -> Document:
    spec = {
        "targetRefs": [{"group": AI, "kind": "AIServiceBackend", "name": target}],
        "type": "APIKey",
        "apiKey": {"secretRef": {"name": secret}},
    }
    return _object("BackendSecurityPolicy", name, metadata=metadata, spec=spec)


def _token_policy(name: str, target: str) -> Document:
    azure = {"clientID": "client", "tenantID": "tenant", "clientSecretRef": {"name": "key"}}
    spec = {
        "targetRefs": [{"group": AI, "kind": "AIServiceBackend", "name": target}],
        "type": "AzureCredentials",
        "azureCredentials": azure,
    }
    return _object("BackendSecurityPolicy", name, spec=spec)


def _policy(kind: str, name: str, target: str, metadata: Document | None = None, **spec: Any) -> Document:
    target_kind, target_name, *section = target.split("/")
    group = AI if target_kind == "AIGatewayRoute" else GATEWAY_API
    reference = {"group": group, "kind": target_kind, "name": target_name}
    reference |= {"sectionName": section[0]} if section else {}
    return _object(kind, name, metadata=metadata or {}, spec={"targetRefs": [reference], **spec})


def _slice(*addresses: str, ready: bool = True) -> Document:
    return _object(
        "EndpointSlice",
        "service-1",
        metadata={"labels": {"kubernetes.io/service-name": "service"}},
        addressType="IPv4",
        endpoints=[{"addresses": [address], "conditions": {"ready": ready}} for address in addresses],
        ports=[{"name": "web", "port": 9000, "protocol": "TCP"}],
    )


def _service(**port: Any) -> Document:
    return _object("Service", "service", spec={"ports": [{"name": "web", "port": 80, **port}]})


def _plain_route(
    kind: str, name: str, *parents: str, metadata: Document | None = None, **rule: Any
) -> Document:
    spec = {
        "parentRefs": _parent(*(parents or ("gateway",))),
        "rules": [{"name": "first", "backendRefs": [{"name": "service", "port": 80}], **rule}],
    }
    return _object(kind, name, metadata=metadata or {}, spec=spec)


_IP = {"ip": {"address": "10.0.0.1", "port": 9000}}
_NAME = {"fqdn": {"hostname": "api.example.com", "port": 443}}
_IN_CLUSTER = {"fqdn": {"hostname": "service.default.svc", "port": 80}}
_OLD, _NEW = {"creationTimestamp": "2026-01-01T00:00:00Z"}, {"creationTimestamp": "2026-02-01T00:00:00Z"}
_COST = {"metadataKey": "tokens", "type": "TotalToken"}
_LIMIT = {"type": "Global", "global": {"rules": [{"limit": {"requests": 10, "unit": "Hour"}}]}}
_HEALTH = {"active": {"type": "GRPC", "grpc": {}}}
_BALANCER = {"loadBalancer": {"type": "Random"}}
_CORS = {"cors": {"allowOrigins": ["https://*.example.com"]}}
_KEY_AUTH = {"apiKeyAuth": {"credentialRefs": [{"name": "key"}], "extractFrom": [{"headers": ["x-key"]}]}}
_OF_TEAM_A = {"namespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "a"}}}}
_BUDGET = {"amount": {"tokens": 5}, "window": {"calendar": {"unit": "Month"}}}
_AI_TLS = {"wellKnownCACertificates": "System"}

# fmt: off
# Of each object its forms, the first of which is there at first; that it is missing is one more.
SLOTS: tuple[tuple[Document, ...], ...] = (
    (CLASS, {**CLASS, "spec": {"controllerName": "example.com/other"}}),
    *(
        tuple({"kind": "Namespace", "metadata": {"name": name, "labels": {"team": team}}} for team in "ab")
        for name in ("default", "other")
    ),
    (
        _gateway("gateway", 8000, allowedRoutes={"namespaces": {"from": "All"}}),
        _gateway("gateway", 8000),
        _gateway("gateway", 8001, allowedRoutes=_OF_TEAM_A),
        asking(_gateway("gateway", 8000, hostname="*.example.com")),
        _gateway("gateway", 8000, metadata={"annotations": {"aigateway.envoyproxy.io/gateway-config": "config"}, **_NEW}),
        _gateway("gateway", 8000, {"name": "tls", "protocol": "HTTPS", "port": 8443, "tls": {"certificateRefs": [{"name": "key"}]}}),
        _gateway("gateway", 8000, {"name": "second", "protocol": "HTTP", "port": 8000, "hostname": "a.example.com"}),
    ),
    (
        _gateway("second", 8002, allowedRoutes=_OF_TEAM_A, metadata={"annotations": {"aigateway.envoyproxy.io/gateway-config": "config"}}),
        _gateway("second", 8000, hostname="b.example.com", metadata=_OLD),
    ),
    (
        _ai_route("first", "default", [_rule("one", _ref("a"), _ref("b", priority=1), _ref("c", namespace="other"), name="first")]),
        _ai_route("first", "default", [_rule("one", _ref("a")), _rule("two", _ref("b", weight=0))], "gateway", "second"),
        _ai_route("first", "default", [_rule("one", _ref("a"), _ref("c", namespace="other"))], llmRequestCosts=[_COST]),
        asking(_ai_route("first", "default", [_rule("one", _ref("b", modelNameOverride="x"), _ref("a", weight=3))], metadata=_NEW)),
        _ai_route("first", "default", [_rule("one", _ref("b"))], hostnames=["a.example.com", "*.example.com"]),
        _ai_route("first", "default", [_rule("one", _ref("missing"))], metadata={"labels": {"team": "a"}}),
    ),
    (
        _ai_route("second", "default", [_rule("two", _ref("a"), _ref("b"))], "second", metadata=_OLD),
        _ai_route("second", "default", [_rule("one", _ref("b"), name="first")], "gateway", "second"),
        _ai_route("second", "default", [{"backendRefs": [_ref("a")]}], llmRequestCosts=[{**_COST, "type": "CEL", "cel": "1 +"}]),
    ),
    (_ai_route("third", "other", [_rule("three", _ref("c"))]),),
    (_ai_route("fourth", "default", [_rule("four", _ref("c", namespace="other"))], "second"),),
    (
        _ai_backend("a", "Backend", "a"),
        _ai_backend("a", "Service", "service"),
        _ai_backend("a", "Backend", "b", schema="Anthropic"),
        _ai_backend("a", "Backend", "a", headerMutation={"set": [{"name": "x-a", "value": "1"}]}),
        _ai_backend("a", "Backend", "c", ref={"namespace": "other"}),
    ),
    (
        _ai_backend("b", "Service", "service"),
        _ai_backend("b", "Backend", "b"),
        _ai_backend("b", "Backend", "in-cluster"),
    ),
    (_ai_backend("c", "Backend", "c", "other"), _ai_backend("c", "Backend", "missing", "other")),
    (
        _backend("a", _IP),
        _backend("a", _NAME, tls=_AI_TLS),
        _backend("a", _NAME, tls={"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "text"}]}),
        _backend("a", _NAME, tls={**_AI_TLS, "clientCertificateRef": {"name": "key"}}),
    ),
    (_backend("b", _NAME), _backend("b", _NAME, fallback=True, tls=_AI_TLS), _backend("b", _IP, appProtocols=["gateway.envoyproxy.io/h2c"])),
    (_backend("c", _IP, "other"), _backend("c", {**_IP, "zone": "x"}, "other")),
    (_backend("in-cluster", _IN_CLUSTER),),
    (_backend("d", _NAME, tls={"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "text"}]}),),
    (_service(), _service(port=81), _service(appProtocol="kubernetes.io/h2c")),
    (_slice("10.0.0.1"), _slice("10.0.0.1", "10.0.0.2"), _slice("10.0.0.1", ready=False), _slice()),
    (_secret("key", apiKey="one", client="a", **{"client-secret": "x"}), _secret("key", apiKey="two"), _secret("key", other="x"), _secret("key", apiKey="")),
    (
        _object("ConfigMap", "text", data={"ca.crt": "none", "response.body": "sorry"}),
        _object("ConfigMap", "text", data={"response.body": "gone"}),
    ),
    (_key_policy("p", "a", "key"), _key_policy("p", "b", "key"), _key_policy("p", "a", "missing")),
    (_token_policy("q", "b"), _token_policy("q", "a"), _key_policy("q", "a", "key")),
    (_grant("routes", (AI, "AIGatewayRoute"), (AI, "AIServiceBackend")), _grant("routes", (AI, "AIGatewayRoute"), (AI, "AIServiceBackend"), "x")),
    (_grant("backends", (AI, "AIServiceBackend"), (ENVOY, "Backend")), _grant("backends", (GATEWAY_API, "HTTPRoute"), ("", "Service"))),
    (
        _policy("BackendTrafficPolicy", "traffic", "Gateway/gateway", rateLimit=_LIMIT),
        _policy("BackendTrafficPolicy", "traffic", "HTTPRoute/first", rateLimit=_LIMIT, **_BALANCER),
        _policy("BackendTrafficPolicy", "traffic", "Gateway/gateway", **_BALANCER, retry={"numRetries": 2}),
        _policy("BackendTrafficPolicy", "traffic", "Gateway/gateway", timeout={"http": {"requestTimeout": "nonsense"}}),
        _policy("BackendTrafficPolicy", "traffic", "Gateway/gateway", healthCheck=_HEALTH),
    ),
    (
        _policy("BackendTrafficPolicy", "more", "HTTPRoute/first/first", mergeType="StrategicMerge", timeout={"http": {"requestTimeout": "3s"}}),
        _policy("BackendTrafficPolicy", "more", "Gateway/second/http", metadata=_OLD, circuitBreaker={"maxConnections": 7}),
        _policy("BackendTrafficPolicy", "more", "Gateway/gateway", metadata=_OLD, responseOverride=[
            {"match": {"statusCodes": [{"type": "Value", "value": 404}]}, "response": {"body": {"type": "ValueRef", "valueRef": {"group": "", "kind": "ConfigMap", "name": "text"}}}}]),
    ),
    (_policy("ClientTrafficPolicy", "client", "Gateway/gateway", timeout={"http": {"idleTimeout": "5s"}}),),
    (
        _policy("SecurityPolicy", "safe", "HTTPRoute/first", **_CORS),
        _policy("SecurityPolicy", "safe", "Gateway/gateway", **_KEY_AUTH),
        _policy("SecurityPolicy", "safe", "Gateway/gateway", nonsense={"x": 1}),
    ),
    (
        _policy("AITrafficPolicy", "fall", "AIGatewayRoute/first", fallback={"cooldown": {"defaultDuration": "20s"}}),
        _policy("AITrafficPolicy", "fall", "Gateway/gateway", decisionHeaders="Always"),
        _policy("AITrafficPolicy", "fall", "Gateway/second/http", streams={"onFailure": "Continue"}),
    ),
    (
        _object("GatewayConfig", "config", spec={"globalLLMRequestCosts": [_COST]}),
        _object("GatewayConfig", "config", spec={"forwardProxy": {"address": "10.0.0.9:3128"}}),
    ),
    (api_key("keykey"), api_key("keykey", tenantRef={"name": "team"}), api_key("keykey", budgets=["money"]), api_key("keykey", disabled=True)),
    (tenant("team"), tenant("team", budgets=["money"]), tenant("team", disabled=True)),
    (
        _object("Budget", "money", spec={**_BUDGET, "routes": ["*"]}),
        _object("Budget", "money", spec={**_BUDGET, "routes": ["first"], "selectors": [{"fact": "header:x-a", "value": "1"}]}),
        _object("Budget", "money", spec={**_BUDGET, "strict": False}),
    ),
    (
        _object("QuotaPolicy", "quota", spec={
            "targetRefs": [{"group": AI, "kind": "AIServiceBackend", "name": "a"}],
            "perModelQuotas": [{"modelName": "one", "quota": {"defaultBucket": {"limit": 3, "duration": "1d"}}}]}),
    ),
    (_object("PriceList", "prices", spec={"prices": [{"model": "one", "inputUSD": "1"}]}),),
    (
        _plain_route("HTTPRoute", "web"),
        _plain_route("HTTPRoute", "web", "second", matches=[{"path": {"type": "PathPrefix", "value": "/x"}}], metadata=_OLD),
        asking(_plain_route("HTTPRoute", "web", filters=[{"type": "ExtensionRef", "extensionRef": {"group": ENVOY, "kind": "HTTPRouteFilter", "name": "filter"}}])),
    ),
    (_plain_route("HTTPRoute", "first"),),
    (_plain_route("GRPCRoute", "calls"), _plain_route("GRPCRoute", "calls", "gateway", "second", metadata=_OLD)),
    (_object("HTTPRouteFilter", "filter", spec={"urlRewrite": {"hostname": {"type": "Backend"}}}),),
    (
        _object("BackendTLSPolicy", "tls", spec={
            "targetRefs": [{"group": "", "kind": "Service", "name": "service"}],
            "validation": {"hostname": "x.example.com", "wellKnownCACertificates": "System"}}),
        _object("BackendTLSPolicy", "tls", spec={
            "targetRefs": [{"group": ENVOY, "kind": "Backend", "name": "a"}],
            "validation": {"hostname": "x.example.com", "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "text"}]}}),
    ),
)
# fmt: on
# What is not an object: fields of Observed, and what Envoy refused.
FOREIGN = (frozenset[str](), frozenset({"QuotaPolicy"}), frozenset({"AIGatewayRoute"}))
REFUSED: tuple[dict[str, str], ...] = ({}, {"envoy.config.route.v3.RouteConfiguration/http/8000": "no"})
