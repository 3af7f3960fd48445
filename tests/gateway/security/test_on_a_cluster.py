"""SecurityPolicies, keys and tenants on an API server: what is refused there, and how what is taken takes hold."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from kajitori.api.crds import all_crds
from kajitori.api.resource import (
    AI_GATEWAY_ROUTES,
    API_KEYS,
    CUSTOM_RESOURCE_DEFINITIONS,
    SECRETS,
    SECURITY_POLICIES,
    TENANTS,
)
from kajitori.base.errors import Invalid
from kajitori.control.runtime import Runtime
from kajitori.gateway import controller
from kajitori.gateway.observed import Settings
from kajitori.kube.client import Client
from kajitori.kube.config import load_config
from kajitori.laptop.apiserver.testing import running_api_server
from tests.gateway.keys.objects import api_key, asking, key_text, tenant
from tests.gateway.security.objects import GATEWAY, policy
from tests.gateway.test_controller import RESOURCES, Cluster, served
from tests.gateway.workbench import CLASS, ai_route, backend, gateway, running_provider, running_workbench

pytestmark = pytest.mark.asyncio(loop_scope="module")
KINDS = {"SecurityPolicy": SECURITY_POLICIES, "APIKey": API_KEYS, "Tenant": TENANTS}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[Cluster]:
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_api_server())
        bench = await stack.enter_async_context(running_workbench())
        client = await stack.enter_async_context(Client(load_config(str(server.kubeconfig))))
        for definition in all_crds():
            await client.apply(CUSTOM_RESOURCE_DEFINITIONS, definition, field_manager="test")
        for resource in (*RESOURCES.values(), *KINDS.values()):
            await served(client, resource)
        runtime = Runtime(client)
        settings = Settings(bind_address="127.0.0.1", access_log=str(bench.access_log))
        controller.register(runtime, bench.ads, bench.ledger, settings)
        stop = asyncio.Event()
        running = asyncio.create_task(runtime.run(stop))
        try:
            found = Cluster(client, bench)
            await found.apply(CLASS)
            yield found
        finally:
            stop.set()
            await running


async def apply(cluster: Cluster, document: dict[str, Any]) -> None:
    resource = KINDS[document["kind"]]
    metadata = {"namespace": "default", **document["metadata"]}
    body = {**document, "apiVersion": resource.api_version, "metadata": metadata}
    await cluster.client.apply(resource, body, field_manager="test")


async def told(cluster: Cluster, text: str) -> dict[str, Any]:
    """Waits until a condition of the policy says something."""
    deadline = asyncio.get_running_loop().time() + 20
    while True:
        found = (await cluster.client.get(SECURITY_POLICIES, "p", "default")).get("status") or {}
        for ancestor in found.get("ancestors", ()):
            if any(text in each["message"] for each in ancestor["conditions"]):
                return ancestor
        assert asyncio.get_running_loop().time() < deadline, (text, found)
        await asyncio.sleep(0.02)


async def answered(cluster: Cluster, status: int, **headers: str) -> None:
    deadline = asyncio.get_running_loop().time() + 20
    while True:
        try:
            reply = await cluster.bench.post({"model": "m", "messages": []}, headers=headers)
        except OSError as error:
            reply = error
        else:
            if reply.status == status:
                return
        assert asyncio.get_running_loop().time() < deadline, reply
        await asyncio.sleep(0.02)


async def test_a_policy_and_its_secret_take_hold_and_are_told(cluster: Cluster) -> None:
    async with running_provider() as provider:
        await cluster.apply(
            gateway(cluster.bench.port), *backend("a", provider.port), ai_route("r", "m", {"name": "a"})
        )
        await answered(cluster, 200)
        keys = {"credentialRefs": [{"name": "keys"}], "extractFrom": [{"headers": ["x-api-key"]}]}
        await apply(cluster, policy("p", apiKeyAuth=keys))
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
        await apply(cluster, api_key("aaaaaa", tenantRef={"name": "t"}))
        found = await cluster.condition(API_KEYS, "aaaaaa", "NotAccepted")
        assert found["message"] == "Tenant default/t does not exist"
        await apply(cluster, tenant("t", models=["m"]))
        await cluster.condition(API_KEYS, "aaaaaa", "Accepted")
        await answered(cluster, 200, authorization=f"Bearer {key_text('aaaaaa')}")
        await cluster.condition(TENANTS, "t", "Accepted")
        assert (await cluster.client.get(TENANTS, "t", "default"))["status"]["keys"] == 1
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
        await apply(cluster, document)


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
        await apply(cluster, document)
