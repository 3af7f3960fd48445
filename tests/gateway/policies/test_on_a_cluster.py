"""What an API server refuses of policies and settings, as Envoy Gateway's definitions do, and what it keeps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from kajitori.base.errors import Invalid
from kajitori.kube.client import Client
from kajitori.kube.config import load_config
from kajitori.laptop.apiserver.testing import running_api_server
from tests.definitions import install_definitions

from ..cluster import completed
from .objects import GROUP

pytestmark = pytest.mark.asyncio(loop_scope="module")
KINDS = ("BackendTrafficPolicy", "ClientTrafficPolicy", "EnvoyProxy", "GatewayConfig")
TO_GATEWAY = {"group": GROUP, "kind": "Gateway", "name": "gateway"}
TO_ROUTE = {"group": GROUP, "kind": "HTTPRoute", "name": "route"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[Client]:
    async with running_api_server() as server, Client(load_config(str(server.kubeconfig))) as found:
        await install_definitions(found, *KINDS)
        yield found


async def apply(client: Client, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    resource, body = completed({"kind": kind, "metadata": {"name": "x"}, "spec": spec})
    found: dict[str, Any] = await client.apply(resource, body, field_manager="test")
    return found


def btp(*targets: dict[str, Any], **spec: Any) -> tuple[str, dict[str, Any]]:
    return "BackendTrafficPolicy", {"targetRefs": list(targets or (TO_ROUTE,)), **spec}


def ctp(*targets: dict[str, Any], **spec: Any) -> tuple[str, dict[str, Any]]:
    return "ClientTrafficPolicy", {"targetRefs": list(targets or (TO_GATEWAY,)), **spec}


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (("BackendTrafficPolicy", {}), "say whom the policy is for"),
        (btp({**TO_ROUTE, "kind": "Service"}), "each of targetRefs is of group"),
        (
            btp({**TO_ROUTE, "kind": "AIGatewayRoute"}),
            "an AIGatewayRoute counts as the HTTPRoute of its name",
        ),
        (btp(TO_GATEWAY, mergeType="StrategicMerge"), "mergeType is for policies of routes"),
        (btp(mergeType="Replace"), "Replace is what happens without mergeType"),
        (btp(compressor=[{"type": "Gzip"}], compression=[{"type": "Gzip"}]), "not both"),
        (btp(requestBuffer={"limit": "1Mi"}, httpUpgrade=[{"type": "websocket"}]), "exclude each other"),
        (btp(loadBalancer={"type": "ConsistentHash"}), "consistentHash is given exactly when"),
        (btp(loadBalancer={"type": "Random", "slowStart": {"window": "1s"}}), "slowStart goes with"),
        (btp(healthCheck={"active": {"type": "HTTP"}}), "http is given exactly when"),
        (btp(retry={"retryOn": {"triggers": ["rainy-day"]}}), "rainy-day"),
        (
            btp(circuitBreaker={"retryBudget": {"percent": {"numerator": 3, "denominator": 2}}}),
            "numerator is not above denominator",
        ),
        (btp(faultInjection={}), "give delay or abort"),
        (btp(faultInjection={"abort": {"httpStatus": 500, "grpcStatus": 1}}), "exactly one of httpStatus"),
        (btp(httpUpgrade=[{"type": "websocket", "connect": {}}]), "connect goes with type CONNECT"),
        (btp(responseOverride=[{"match": {}, "response": {}}]), "give statusCodes or responseHeaders"),
        (
            btp(rateLimit={"local": {"rules": [{"limit": {"requests": 1, "unit": "Fortnight"}}]}}),
            "Fortnight",
        ),
        (
            btp(
                rateLimit={
                    "local": {
                        "rules": [
                            {
                                "limit": {"requests": 1, "unit": "Hour"},
                                "cost": {"response": {"from": "Number", "number": 1}},
                            }
                        ]
                    }
                }
            ),
            "a local limit cannot count",
        ),
        (ctp(TO_ROUTE), "each of targetRefs is of group"),
        (ctp(clientIPDetection={}), "give exactly one of xForwardedFor"),
        (ctp(tls={"minVersion": "1.3", "ciphers": ["x"]}), "ciphers have no effect"),
        (ctp(tls={"minVersion": "1.3", "maxVersion": "1.2"}), "minVersion is not above maxVersion"),
        (ctp(connection={"connectionLimit": {"closeDelay": "1s"}}), "closeDelay needs a value"),
        (
            ctp(headers={"xForwardedClientCert": {"mode": "Sanitize", "certDetailsToAdd": ["URI"]}}),
            "certDetailsToAdd goes with",
        ),
        (
            ("EnvoyProxy", {"telemetry": {"accessLog": {"settings": [{"sinks": [{"type": "File"}]}]}}}),
            "file is given exactly when",
        ),
        (("GatewayConfig", {"forwardProxy": {"address": "no-port"}}), "spec.forwardProxy.address"),
        (
            ("GatewayConfig", {"globalLLMRequestCosts": [{"metadataKey": "x", "type": "CEL"}]}),
            "type CEL needs an expression",
        ),
    ],
)
async def test_what_is_wrong_is_refused_with_the_rule_that_it_breaks(
    client: Client, document: tuple[str, dict[str, Any]], told: str
) -> None:
    with pytest.raises(Invalid) as refusal:
        await apply(client, *document)
    assert told in str(refusal.value)


async def test_what_nobody_honours_is_kept_and_defaults_are_written_in(client: Client) -> None:
    kept = await apply(
        client,
        *btp(retry={"foo": {"bar": 1}}, circuitBreaker={}, healthCheck={"passive": {}}, admissionControl={}),
    )
    spec = kept["spec"]
    assert spec["retry"] == {"foo": {"bar": 1}, "numRetries": 2}
    assert spec["circuitBreaker"]["maxParallelRequests"] == 1024
    assert spec["healthCheck"]["passive"]["consecutive5XxErrors"] == 5
    assert spec["admissionControl"] == {}
    kept = await apply(
        client, "EnvoyProxy", {"provider": {"type": "Kubernetes", "kubernetes": {"x": {"y": 1}}}}
    )
    assert kept["spec"]["provider"]["kubernetes"] == {"x": {"y": 1}}
