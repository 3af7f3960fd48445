"""Policies on an API server: what is refused there, how traffic gets tokens, and that secrets show nowhere."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from kajitori.api.resource import AI_GATEWAY_ROUTES, AI_SERVICE_BACKENDS, BACKEND_SECURITY_POLICIES, SECRETS
from kajitori.base.errors import Invalid
from tests.gateway.cluster import RESOURCES, Cluster, running_cluster
from tests.gateway.credentials.endpoints import (
    CLIENT_SECRET,
    PRIVATE_KEY,
    ROLE_KEYS,
    Clouds,
    running_clouds,
    service_account,
)
from tests.gateway.credentials.policies import (
    aws_file,
    aws_login,
    azure_secret,
    gcp_key,
    login,
    policy,
    secret,
)
from tests.gateway.workbench import ai_route, backend, gateway, key_policy, running_provider

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place() -> AsyncIterator[tuple[Cluster, Clouds]]:
    async with running_clouds() as clouds, running_cluster(surroundings=clouds.surroundings()) as cluster:
        await cluster.apply(gateway(cluster.bench.port))
        yield cluster, clouds


def named(documents: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The same policy and Secret for backend `name`."""
    text = json.dumps(documents)
    found: list[dict[str, Any]] = json.loads(text)
    for item in found:
        if item["kind"] == "BackendSecurityPolicy":
            item["metadata"]["name"] = name
            item["spec"]["targetRefs"][0]["name"] = name
    return found


async def test_secrets_are_used_and_show_nowhere(
    place: tuple[Cluster, Clouds], caplog: pytest.LogCaptureFixture
) -> None:
    cluster, clouds = place
    bench = cluster.bench
    caplog.set_level(logging.DEBUG)
    key, file_secret = "sk-live-Zq8-api-key", "file/secret+Zq8"
    async with running_provider() as provider:
        policies = {
            "key": key_policy("key", key),
            "file": aws_file(f"[default]\naws_access_key_id=AKIAFILE\naws_secret_access_key={file_secret}\n"),
            "azure": azure_secret(),
            "role": aws_login(clouds.url + "/issuer"),
            "google": gcp_key(service_account(clouds.url + "/google-token")),
        }
        for name, documents in policies.items():
            if name != "key":
                documents = named(documents, name)
            await cluster.apply(
                *backend(name, provider.port), *documents, ai_route(name, f"model-{name}", {"name": name})
            )
        for name in policies:
            await cluster.answered(200, {"model": f"model-{name}"})
        sent = {seen.json["model"]: seen.headers["authorization"] for seen in provider.seen}
        assert sent["model-key"] == f"Bearer {key}"
        assert sent["model-azure"].startswith("Bearer token-")
        assert sent["model-role"].startswith(f"AWS4-HMAC-SHA256 Credential={ROLE_KEYS[0]}/")
        tokens = {value.removeprefix("Bearer ") for value in sent.values() if "token-" in value}
        # Something goes wrong as well, and what the endpoint says repeats the secret.
        await cluster.apply(secret("app", client_secret="wrong-Zq8-secret"))
        wrong = await cluster.condition(
            BACKEND_SECURITY_POLICIES, "azure", "Accepted", reason="Accepted", message="AADSTS"
        )
        assert "Invalid client secret provided: ***" in wrong["message"]
        assert "the present token goes on" in wrong["message"]
        await cluster.answered(200, {"model": "model-azure"})

    pid = bench.envoy.pid if bench.envoy else 0
    places = {
        "config_dump": await bench.admin("/config_dump?include_eds"),
        "clusters": await bench.admin("/clusters"),
        "Envoy's log": bench.log(),
        "our log": caplog.text,
        "ps": _read(Path(f"/proc/{pid}/cmdline"), Path(f"/proc/{pid}/environ")),
        "files": _read(*bench.folder.rglob("*")),
        "objects": json.dumps(
            [
                (await cluster.client.list(resource)).items
                for resource in RESOURCES.values()
                if resource is not SECRETS
            ]
        ),
    }
    assert "[redacted]" in places["config_dump"]
    hidden = {
        key,
        file_secret,
        CLIENT_SECRET,
        "wrong-Zq8-secret",
        *ROLE_KEYS[1:],
        PRIVATE_KEY[100:140],
        *tokens,
    }
    for where, text in places.items():
        assert not [each for each in hidden if each in text], where


def _read(*files: Path) -> str:
    return " ".join(file.read_bytes().decode("latin-1") for file in files if file.is_file())


PROBLEMS: dict[str, tuple[list[dict[str, Any]], str]] = {
    "key missing": (
        [policy("APIKey", apiKey={"secretRef": {"name": "s"}}), secret("s", other="hidden")],
        "Secret default/s has no key 'apiKey'",
    ),
    "secret missing": (
        [policy("APIKey", apiKey={"secretRef": {"name": "nowhere"}})],
        "Secret default/nowhere, named by BackendSecurityPolicy default/p, does not exist",
    ),
    "line break": (
        [policy("APIKey", apiKey={"secretRef": {"name": "s"}}), secret("s", apiKey="hidden\r\nx-evil: 1")],
        "Secret default/s: 'apiKey' has a line break",
    ),
    "beyond ASCII": (
        [policy("APIKey", apiKey={"secretRef": {"name": "s"}}), secret("s", apiKey="hidd\u00e9n")],
        "characters beyond ASCII",
    ),
    "empty": (
        [policy("APIKey", apiKey={"secretRef": {"name": "s"}}), secret("s", apiKey=" \n")],
        "Secret default/s: 'apiKey' is empty",
    ),
    "not a Secret": (
        [policy("APIKey", apiKey={"secretRef": {"name": "s", "kind": "ConfigMap"}})],
        "only a Secret can be read",
    ),
    "no JSON": (gcp_key("hidden"), "'service_account.json' cannot be used: that is not JSON"),
    "no key": (gcp_key(service_account("https://x", private_key="hidden")), "private_key is no private key in PEM"),
    "another type": (gcp_key('{"type":"external_account"}'), "its type is 'external_account'"),
    "no profile": (aws_file("[a]\nhidden=1", profile="b"), "Secret default/aws: 'credentials' cannot be used: there is no profile 'b'"),
    "no address": (
        [policy("AzureCredentials", azureCredentials={"clientID": "c", "tenantID": "t", "oidcExchangeToken": login("file:///etc/passwd")}), secret("login", client_secret="hidden")],
        "'file:///etc/passwd' is no address of an OpenID provider",
    ),
}  # fmt: skip


async def test_what_is_wrong_with_a_secret_is_told_without_its_value(place: tuple[Cluster, Clouds]) -> None:
    cluster, _ = place
    async with running_provider() as other:
        route = ai_route("wrong", "model-wrong", {"name": "a"}, {"name": "other", "priority": 1})
        await cluster.apply(*backend("a", 9), *backend("other", other.port), route)
        for documents, message in PROBLEMS.values():
            await cluster.apply(*documents)
            await cluster.condition(BACKEND_SECURITY_POLICIES, "p", "NotAccepted", message=message)
            assert "hidd" not in json.dumps(await cluster.status(BACKEND_SECURITY_POLICIES, "p"))
            await cluster.answered(200, {"model": "model-wrong"})  # the other priority goes on
            await cluster.client.delete(BACKEND_SECURITY_POLICIES, "p", "default")


SECRET_REF: dict[str, Any] = {"secretRef": {"name": "s"}}
AZURE: dict[str, Any] = {"clientID": "c", "tenantID": "t", "clientSecretRef": {"name": "s"}}
FEDERATION: dict[str, Any] = {
    "projectID": "1", "workloadIdentityPoolName": "p", "workloadIdentityProviderName": "q", "oidcExchangeToken": login("https://i")
}  # fmt: skip
GCP: dict[str, Any] = {"projectName": "p", "region": "r"}


def without(given: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in names}


# Each rule of the definition once: what a spec adds to `targetRefs`, and what the refusal says; empty: accepted.
RULES: list[tuple[dict[str, Any], str]] = [
    ({"type": "APIKey", "apiKey": SECRET_REF}, ""),
    ({"type": "AnthropicAPIKey", "anthropicAPIKey": SECRET_REF}, ""),
    ({"type": "AzureAPIKey", "azureAPIKey": SECRET_REF}, ""),
    ({"type": "AWSCredentials", "awsCredentials": {"region": "r"}}, ""),
    ({"type": "AWSCredentials", "awsCredentials": {"region": "r", "credentialsFile": SECRET_REF}}, ""),
    ({"type": "AWSCredentials", "awsCredentials": {"region": "r", "oidcExchangeToken": login("i", awsRoleArn="a")}}, ""),
    ({"type": "AzureCredentials", "azureCredentials": AZURE}, ""),
    ({"type": "AzureCredentials", "azureCredentials": {**without(AZURE, "clientSecretRef"), "oidcExchangeToken": login("i")}}, ""),
    ({"type": "GCPCredentials", "gcpCredentials": GCP}, ""),
    ({"type": "GCPCredentials", "gcpCredentials": {**GCP, "credentialsFile": SECRET_REF}}, ""),
    ({"type": "GCPCredentials", "gcpCredentials": {**GCP, "workloadIdentityFederationConfig": FEDERATION}}, ""),
    ({"type": "APIKey", "apiKey": SECRET_REF, "credentialOverride": {"fromRequestHeaders": {}}}, ""),
    ({"type": "APIKey", "apiKey": SECRET_REF, "credentialOverride": {"fromDynamicMetadata": {"namespace": "n"}}}, ""),
    ({"type": "APIKey", "apiKey": SECRET_REF, "targetRefs": [{"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "p"}]}, ""),
    ({"type": "Unknown", "apiKey": SECRET_REF}, "spec.type"),
    ({"apiKey": SECRET_REF}, "spec.type"),
    ({"type": "APIKey"}, "apiKey"),
    ({"type": "APIKey", "apiKey": {}}, "secretRef"),
    ({"type": "APIKey", "apiKey": SECRET_REF, "awsCredentials": {"region": "r"}}, "exactly when type is AWSCredentials"),
    ({"type": "APIKey", "apiKey": SECRET_REF, "azureCredentials": AZURE}, "exactly when type is AzureCredentials"),
    ({"type": "APIKey", "apiKey": SECRET_REF, "gcpCredentials": GCP}, "exactly when type is GCPCredentials"),
    ({"type": "AnthropicAPIKey", "apiKey": SECRET_REF}, "anthropicAPIKey"),
    ({"type": "AzureAPIKey", "apiKey": SECRET_REF}, "azureAPIKey"),
    ({"type": "AWSCredentials", "azureCredentials": AZURE}, "awsCredentials"),
    ({"type": "AzureCredentials", "azureCredentials": AZURE, "gcpCredentials": GCP}, "exactly when type is GCPCredentials"),
    ({"type": "GCPCredentials", "apiKey": SECRET_REF}, "gcpCredentials"),
    ({"type": "AWSCredentials", "awsCredentials": {"region": ""}}, "awsCredentials.region"),
    ({"type": "AWSCredentials", "awsCredentials": {"region": "r", "oidcExchangeToken": login("i")}}, "awsRoleArn"),
    ({"type": "AWSCredentials", "awsCredentials": {"region": "r", "oidcExchangeToken": login("i", awsRoleArn="")}}, "awsRoleArn"),
    ({"type": "AzureCredentials", "azureCredentials": {**AZURE, "clientID": ""}}, "azureCredentials.clientID"),
    ({"type": "AzureCredentials", "azureCredentials": {**AZURE, "tenantID": ""}}, "azureCredentials.tenantID"),
    ({"type": "AzureCredentials", "azureCredentials": without(AZURE, "clientSecretRef")}, "exactly one of clientSecretRef"),
    ({"type": "AzureCredentials", "azureCredentials": {**AZURE, "oidcExchangeToken": login("i")}}, "exactly one of clientSecretRef"),
    ({"type": "GCPCredentials", "gcpCredentials": {**GCP, "projectName": ""}}, "gcpCredentials.projectName"),
    ({"type": "GCPCredentials", "gcpCredentials": without(GCP, "region")}, "region"),
    ({"type": "GCPCredentials", "gcpCredentials": {**GCP, "credentialsFile": SECRET_REF, "workloadIdentityFederationConfig": FEDERATION}}, "at most one of credentialsFile"),
    *(
        ({"type": "GCPCredentials", "gcpCredentials": {**GCP, "workloadIdentityFederationConfig": without(FEDERATION, name)}}, name)
        for name in FEDERATION
    ),
    ({"type": "GCPCredentials", "gcpCredentials": {**GCP, "workloadIdentityFederationConfig": {**FEDERATION, "serviceAccountImpersonation": {"serviceAccountName": ""}}}}, "serviceAccountName"),
    ({"type": "AzureCredentials", "azureCredentials": {"clientID": "c", "tenantID": "t", "oidcExchangeToken": login("")}}, "issuer"),
    ({"type": "AzureCredentials", "azureCredentials": {"clientID": "c", "tenantID": "t", "oidcExchangeToken": login("i", oidc={"clientIDRef": {"name": "x"}})}}, "exactly one of clientID"),
    ({"type": "APIKey", "apiKey": SECRET_REF, "credentialOverride": {}}, "exactly one of fromRequestHeaders"),
    ({"type": "APIKey", "apiKey": SECRET_REF, "credentialOverride": {"fromRequestHeaders": {}, "fromDynamicMetadata": {"namespace": "n"}}}, "exactly one of fromRequestHeaders"),
    ({"type": "APIKey", "apiKey": SECRET_REF, "targetRefs": [{"group": "", "kind": "Service", "name": "s"}]}, "targetRefs"),
    ({"type": "APIKey", "apiKey": SECRET_REF, "targetRefs": [{"group": "other.example", "kind": "AIServiceBackend", "name": "s"}]}, "targetRefs"),
    ({"type": "APIKey", "apiKey": SECRET_REF, "targetRefs": [{"group": "aigateway.envoyproxy.io", "kind": "AIServiceBackend", "name": f"b{n}"} for n in range(17)]}, "targetRefs"),
]  # fmt: skip


async def test_the_api_server_refuses_what_no_policy_can_mean(place: tuple[Cluster, Clouds]) -> None:
    cluster, _ = place
    target = [{"group": "aigateway.envoyproxy.io", "kind": "AIServiceBackend", "name": "unused"}]
    for number, (spec, message) in enumerate(RULES):
        body = {
            "apiVersion": "aigateway.envoyproxy.io/v1beta1",
            "kind": "BackendSecurityPolicy",
            "metadata": {"name": f"rule-{number}", "namespace": "default"},
            "spec": {"targetRefs": target, **spec},
        }
        await check_creation(cluster, BACKEND_SECURITY_POLICIES, body, message)


async def check_creation(cluster: Cluster, resource: Any, body: dict[str, Any], message: str) -> None:
    """message: with what the API server refuses the object; empty if it takes it."""
    creation = cluster.client.create(resource, body, dry_run=True)
    if not message:
        await creation
        return
    with pytest.raises(Invalid) as caught:
        await creation
    assert message in str(caught.value), (body["spec"], str(caught.value))


POOL = {"name": "p", "group": "inference.networking.k8s.io", "kind": "InferencePool"}
PARENTS: list[dict[str, Any]] = [{"name": "g"}]
# The same for the other kinds of the AI gateway.
OTHER_RULES: list[tuple[Any, dict[str, Any], str]] = [
    (AI_GATEWAY_ROUTES, {"parentRefs": PARENTS, "rules": [{"backendRefs": [{"name": "a", "weight": 2, "priority": 1}, {"name": "b"}]}]}, ""),
    (AI_GATEWAY_ROUTES, {"parentRefs": [{"name": "g", "kind": "Gateway", "group": "gateway.networking.k8s.io"}], "rules": [{"backendRefs": [POOL]}]}, ""),
    (AI_GATEWAY_ROUTES, {"parentRefs": [{"name": "g", "kind": "Service", "group": ""}], "rules": [{"backendRefs": [{"name": "a"}]}]}, "every parent is a Gateway"),
    (AI_GATEWAY_ROUTES, {"parentRefs": PARENTS, "rules": [{"backendRefs": [POOL, {"name": "a"}]}]}, "exactly one InferencePool"),
    (AI_GATEWAY_ROUTES, {"parentRefs": PARENTS, "rules": [{"backendRefs": [POOL, POOL]}]}, "exactly one InferencePool"),
    (AI_GATEWAY_ROUTES, {"parentRefs": PARENTS, "rules": [{"backendRefs": [without(POOL, "kind")]}]}, "together or not at all"),
    (AI_GATEWAY_ROUTES, {"parentRefs": PARENTS, "rules": [{"backendRefs": [{**POOL, "group": "other.example"}]}]}, "is an InferencePool"),
    (AI_GATEWAY_ROUTES, {"parentRefs": PARENTS, "rules": [{"backendRefs": [{"name": "a"}]}] * 16}, "at most 15"),
    (AI_SERVICE_BACKENDS, {"schema": {"name": "AWSBedrock"}, "backendRef": {"name": "b", "kind": "Backend", "group": "gateway.envoyproxy.io"}}, ""),
    (AI_SERVICE_BACKENDS, {"schema": {"name": "OpenAI"}, "backendRef": {"name": "s", "kind": "Service", "port": 80}}, ""),  # upstream refuses it
    (AI_SERVICE_BACKENDS, {"schema": {"name": "Unknown"}, "backendRef": {"name": "b", "kind": "Backend", "group": "gateway.envoyproxy.io"}}, "schema.name"),
    (AI_SERVICE_BACKENDS, {"schema": {"name": "OpenAI"}, "backendRef": {"name": "b", "kind": "Node", "group": ""}}, "backendRef"),
]  # fmt: skip


async def test_the_api_server_refuses_routes_and_backends_as_upstream_does(
    place: tuple[Cluster, Clouds],
) -> None:
    cluster, _ = place
    for number, (resource, spec, message) in enumerate(OTHER_RULES):
        body = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": f"other-{number}", "namespace": "default"},
            "spec": spec,
        }
        await check_creation(cluster, resource, body, message)
