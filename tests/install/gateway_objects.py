"""One object of each kind whose status the gateway writes: where no right may be idle, each of them is needed.

A kind that the gateway comes to serve is added here.
"""

from __future__ import annotations

from typing import Any

from tests.gateway.keys.objects import api_key, tenant
from tests.gateway.security.objects import GATEWAY, policy

_BACKEND = {"group": "aigateway.envoyproxy.io", "kind": "AIServiceBackend", "name": "r"}
_ROUTE = {"group": "aigateway.envoyproxy.io", "kind": "AIGatewayRoute", "name": "one"}
_AUTHORITY = {"group": "", "kind": "ConfigMap", "name": "none"}


def _object(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": name}, "spec": spec}


def gateway_objects() -> list[dict[str, Any]]:
    """For the Gateway `gateway`, the AIServiceBackend `r`, the AIGatewayRoute `one` and the Service `x`."""
    return [
        api_key("aaaaaa"),
        tenant("t", models=["m"]),
        policy("p", cors={"allowOrigins": ["https://a.example.com"]}),
        _object("Budget", "b", amount={"requests": 1000}, window={"sliding": "1h"}),
        _object("PriceList", "l", prices=[{"model": "m", "input": "1"}]),
        _object(
            "QuotaPolicy", "q", targetRefs=[_BACKEND],
            perModelQuotas=[{"modelName": "m", "quota": {"defaultBucket": {"limit": 10, "duration": "1d"}}}],
        ),
        _object("BackendTrafficPolicy", "b", targetRefs=[GATEWAY], timeout={"tcp": {"connectTimeout": "1s"}}),
        _object("ClientTrafficPolicy", "c", targetRefs=[GATEWAY], path={"disableMergeSlashes": True}),
        _object("AITrafficPolicy", "a", targetRefs=[_ROUTE]),
        _object(
            "BackendTLSPolicy", "t", targetRefs=[{"group": "", "kind": "Service", "name": "x"}],
            validation={"hostname": "x.example.com", "caCertificateRefs": [_AUTHORITY]},
        ),
        _object("GRPCRoute", "g", parentRefs=[{"name": "gateway"}], rules=[{"backendRefs": [{"name": "x", "port": 80}]}]),
        _object("GatewayConfig", "g"),
        _object("EnvoyProxy", "e"),
        _object(
            "Gateway", "other", gatewayClassName="kajitori",
            listeners=[{"name": "http", "protocol": "HTTP", "port": 8081}],
            infrastructure={"parametersRef": {"group": "gateway.envoyproxy.io", "kind": "EnvoyProxy", "name": "e"}},
        ),
    ]  # fmt: skip
