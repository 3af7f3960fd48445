"""SecurityPolicies, keys and tenants on an API server: what is refused there, and how what is taken takes hold."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from kajitori.api.resource import AI_GATEWAY_ROUTES, API_KEYS, SECRETS, SECURITY_POLICIES, TENANTS
from kajitori.base.errors import Invalid
from tests.gateway.cluster import Cluster, running_cluster
from tests.gateway.keys.objects import api_key, asking, key_text, tenant
from tests.gateway.security.objects import GATEWAY, policy
from tests.gateway.workbench import ai_route, backend, gateway, running_provider
from tests.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[Cluster]:
    async with running_cluster() as found:
        yield found


async def told(cluster: Cluster, text: str) -> dict[str, Any]:
    """Waits until a condition of the policy says something."""
    found: dict[str, Any] = {}

    async def is_told() -> dict[str, Any] | None:
        nonlocal found
        found = await cluster.status(SECURITY_POLICIES, "p")
        for ancestor in found.get("ancestors", ()):
            if any(text in each["message"] for each in ancestor["conditions"]):
                return ancestor
        return None

    return await eventually(is_told, lambda: f"{text!r} in {found}")


async def answered(cluster: Cluster, status: int, **headers: str) -> None:
    await cluster.answered(status, {"model": "m", "messages": []}, **headers)


async def test_a_policy_and_its_secret_take_hold_and_are_told(cluster: Cluster) -> None:
    async with running_provider() as provider:
        await cluster.apply(
            gateway(cluster.bench.port), *backend("a", provider.port), ai_route("r", "m", {"name": "a"})
        )
        await answered(cluster, 200)
        keys = {"credentialRefs": [{"name": "keys"}], "extractFrom": [{"headers": ["x-api-key"]}]}
        await cluster.apply(policy("p", apiKeyAuth=keys))
        refused = await told(
            cluster, "Secret default/keys, named by SecurityPolicy default/p, does not exist"
        )
        assert refused["ancestorRef"]["name"] == "gateway"
        await answered(cluster, 500)
        await cluster.apply({"kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"ann": "first"}})
        await told(cluster, "the policy holds")
        await answered(cluster, 200, **{"x-api-key": "first"})
        await cluster.apply({"kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"ann": "second"}})
        await answered(cluster, 401, **{"x-api-key": "first"})
        await answered(cluster, 200, **{"x-api-key": "second"})
        await cluster.client.delete(SECRETS, "keys", "default")
        await answered(cluster, 500, **{"x-api-key": "second"})
        await cluster.client.delete(SECURITY_POLICIES, "p", "default")
        await answered(cluster, 200)


async def test_an_annotation_asks_for_keys_and_tenants_count_theirs(cluster: Cluster) -> None:
    async with running_provider() as provider:
        route = ai_route("r", "m", {"name": "a"})
        await cluster.apply(gateway(cluster.bench.port), *backend("a", provider.port), route)
        await answered(cluster, 200)
        await cluster.apply(asking(route))
        await answered(cluster, 401)
        await cluster.apply(api_key("aaaaaa", tenantRef={"name": "t"}))
        found = await cluster.condition(API_KEYS, "aaaaaa", "NotAccepted")
        assert found["message"] == "Tenant default/t does not exist"
        await cluster.apply(tenant("t", models=["m"]))
        await cluster.condition(API_KEYS, "aaaaaa", "Accepted")
        await answered(cluster, 200, authorization=f"Bearer {key_text('aaaaaa')}")
        await cluster.condition(TENANTS, "t", "Accepted")
        assert (await cluster.status(TENANTS, "t"))["keys"] == 1
        await cluster.client.delete(API_KEYS, "aaaaaa", "default")
        await answered(cluster, 401, authorization=f"Bearer {key_text('aaaaaa')}")
        await cluster.client.delete(AI_GATEWAY_ROUTES, "r", "default")


PROVIDER = {"name": "x", "localJWKS": {"inline": "{}"}}
SERVICE = {"name": "s", "port": 80}
OIDC = {"provider": {"issuer": "https://i"}, "clientID": "c", "clientSecret": {"name": "s"}}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no target": ({"targetRefs": None}, "say whom the policy is for"),
    "target of another group": ({"targetRefs": [{**GATEWAY, "group": "x.io"}]}, "is of group gateway"),
    "target of another kind": ({"targetRefs": [{**GATEWAY, "kind": "Service"}]}, "is of group gateway"),
    "merging for a Gateway": ({"mergeType": "JSONMerge"}, "mergeType is for policies of routes"),
    "no keys": ({"jwt": {"providers": [{"name": "x"}]}}, "remoteJWKS or localJWKS must be given"),
    "two sorts of keys": (
        {"jwt": {"providers": [{**PROVIDER, "remoteJWKS": {"uri": "https://i"}}]}}, "exclude each other"),
    "keys by the wrong name": (
        {"jwt": {"providers": [{"name": "x", "localJWKS": {"type": "ValueRef", "inline": "{}"}}]}}, "what type names"),
    "no providers": ({"jwt": {"providers": []}}, "providers"),
    "optional and open": ({"jwt": {"providers": [PROVIDER], "optional": True, "failOpen": True}}, "exclude each other"),
    "rules without tokens": (
        {"authorization": {"rules": [{"action": "Allow", "principal": {"jwt": {"provider": "x", "scopes": ["a"]}}}]}},
        "authorization by tokens needs jwt"),
    "rules for nobody": ({"authorization": {"rules": [{"action": "Allow", "principal": {}}]}}, "must be given"),
    "rules without principal": ({"authorization": {"rules": [{"action": "Allow"}]}}, "principal or cel must be given"),
    "neither service": ({"extAuth": {}}, "grpc or http must be given"),
    "both services": (
        {"extAuth": {"grpc": {"backendRefs": [SERVICE]}, "http": {"backendRefs": [SERVICE]}}}, "exclude each other"),
    "no backend": ({"extAuth": {"http": {"backendRefs": []}}}, "backendRef or backendRefs must be given"),
    "backend of another kind": (
        {"extAuth": {"http": {"backendRefs": [{**SERVICE, "kind": "Pod"}]}}}, "Service, ServiceImport or Backend"),
    "two clients": ({"oidc": {**OIDC, "clientIDRef": {"name": "s"}}}, "one of clientID and clientIDRef"),
    "no place of keys": ({"apiKeyAuth": {"credentialRefs": [], "extractFrom": []}}, "extractFrom"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
async def test_what_upstream_refuses_is_refused(cluster: Cluster, case: str) -> None:
    spec, said = REFUSED[case]
    document = policy("bad", **spec)
    document["spec"] = {key: value for key, value in document["spec"].items() if value is not None}
    with pytest.raises(Invalid, match=said):
        await cluster.apply(document)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"id": "Big"}, "spec.id"),
        ({"hashes": []}, "spec.hashes"),
        ({"hashes": [{"sha256": "ab"}]}, "sha256"),
        ({"models": ["a*b"]}, "models"),
        (
            {"hashes": [{"sha256": "a" * 64, "notBefore": "2026-02-01T00:00:00Z", "notAfter": "2026-01-01T00:00:00Z"}]},
            "notBefore must be earlier",
        ),
    ],
)  # fmt: skip
async def test_keys_that_cannot_be_are_refused(cluster: Cluster, spec: dict[str, Any], said: str) -> None:
    document = api_key("bad")
    document["spec"] = {"id": "abcdef", **document["spec"], **spec}
    if "id" not in spec:
        document["spec"]["id"] = "abcdef"
    with pytest.raises(Invalid, match=said):
        await cluster.apply(document)
