"""Credentials that requests bring themselves."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Value

from kajitori.gateway.credentials.exchange import Concealed, Token, TokenState
from kajitori.gateway.credentials.filters import CAPTURE_FILTER
from kajitori.gateway.plan import make_plan
from kajitori.gateway.resources import ROUTES, TYPE
from tests.gateway.credentials.policies import azure_secret, gcp_key, policy, secret
from tests.gateway.credentials.signatures import check
from tests.gateway.workbench import (
    Provider,
    Workbench,
    ai_route,
    backend,
    gateway,
    key_policy,
    observe,
    running_provider,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

HEADERS: dict[str, Any] = {"fromRequestHeaders": {}}
STRICT: dict[str, Any] = {"fromRequestHeaders": {"fallbackToConfigured": False}}
_MISSING = "missing upstream credential: this backend is asked with one that comes with the request"


def keys(kind: str, member: str) -> list[dict[str, Any]]:
    return key_policy("a", "configured", kind, member)[::-1]


KINDS: dict[str, tuple[list[dict[str, Any]], str, str, str]] = {
    "APIKey": (keys("APIKey", "apiKey"), "x-aigw-api-key", "authorization", "Bearer "),
    "AnthropicAPIKey": (
        keys("AnthropicAPIKey", "anthropicAPIKey"),
        "x-aigw-anthropic-api-key",
        "x-api-key",
        "",
    ),
    "AzureAPIKey": (keys("AzureAPIKey", "azureAPIKey"), "x-aigw-azure-api-key", "api-key", ""),
    "AzureCredentials": (azure_secret(), "x-aigw-azure-access-token", "authorization", "Bearer "),
    "GCPCredentials": (gcp_key("{}"), "x-aigw-gcp-access-token", "authorization", "Bearer "),
}


async def apply(
    bench: Workbench,
    provider: Provider,
    documents: list[dict[str, Any]],
    override: Any,
    earlier: dict[str, str] | None = None,
) -> None:
    """One backend with this policy. earlier: header -> member of metadata `earlier` that a filter makes of it."""
    documents[0]["spec"]["credentialOverride"] = override
    objects = [gateway(bench.port), *backend("a", provider.port), *documents]
    state = TokenState(Token(Concealed("configured"), 2e9))
    observed = observe(*objects, ai_route("r", "m", {"name": "a"}))
    plan = make_plan(msgspec.structs.replace(observed, tokens={("default", "p"): state}))
    if earlier:
        (table,) = plan.resources.by_type[ROUTES].values()
        rules = [
            {
                "header": header,
                "on_header_present": {
                    "metadata_namespace": "earlier",
                    "key": key,
                    "type": "PROTOBUF_VALUE",
                    "encode": "BASE64",
                },
                "remove": True,
            }
            for header, key in earlier.items()
        ]
        config = {"@type": TYPE + "envoy.extensions.filters.http.header_to_metadata.v3.Config", "request_rules": rules}  # fmt: skip
        for host in table["virtual_hosts"]:
            host["typed_per_filter_config"] = {CAPTURE_FILTER: config}
    bench.set_resources("gateway", plan.resources)
    await bench.settled()


def brought(value: Any) -> str:
    """As that filter takes it: text or a struct."""
    return base64.b64encode(ParseDict(value, Value()).SerializeToString()).decode()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_header_of_the_client_takes_the_place_of_what_is_configured(
    kind: str, bench: Workbench, provider: Provider
) -> None:
    documents, name, header, prefix = KINDS[kind]
    usable = kind != "GCPCredentials"  # that key of a service account is none; nobody needs it here
    if usable:
        await apply(bench, provider, documents, HEADERS)
        assert (await bench.post({"model": "m"}, headers={name: "clients-own"})).status == 200
        assert provider.seen[-1].headers[header] == prefix + "clients-own"
        assert (await bench.post({"model": "m"})).status == 200
        assert provider.seen[-1].headers[header] == prefix + "configured"
    await apply(bench, provider, documents, STRICT)
    assert (await bench.post({"model": "m"}, headers={name: "clients-own"})).status == 200
    assert provider.seen[-1].headers[header] == prefix + "clients-own"
    count = len(provider.seen)
    reply = await bench.post({"model": "m"}, headers={"authorization": "Bearer of-another"})
    assert (reply.status, reply.json["error"]["message"]) == (401, _MISSING)
    assert reply.json["error"]["type"] == "Unauthorized"
    assert len(provider.seen) == count
    assert not [each for seen in provider.seen for each in seen.headers if each.startswith("x-aigw")]


async def test_a_header_may_have_a_name_of_its_own(bench: Workbench, provider: Provider) -> None:
    documents = keys("APIKey", "apiKey")
    given = {"fromRequestHeaders": {"header": "X-My-Key", "fallbackToConfigured": False}}
    await apply(bench, provider, documents, given)
    assert (await bench.post({"model": "m"}, headers={"x-my-key": "mine"})).status == 200
    assert provider.seen[-1].headers["authorization"] == "Bearer mine"
    assert "x-my-key" not in provider.seen[-1].headers
    assert (await bench.post({"model": "m"}, headers={"x-aigw-api-key": "mine"})).status == 401
    given = {"fromRequestHeaders": {"header": "Authorization", "fallbackToConfigured": False}}
    await apply(bench, provider, documents, given)
    assert (await bench.post({"model": "m"}, headers={"authorization": "bearer mine"})).status == 200
    assert provider.seen[-1].headers["authorization"] == "bearer mine"


async def test_each_backend_of_a_rule_gets_its_own_header_and_no_other(
    bench: Workbench, provider: Provider
) -> None:
    async with running_provider(Provider(status=503)) as first:
        azure = [secret("b-key", apiKey="configured-b"), policy(
            "AzureAPIKey", "b", "pb", azureAPIKey={"secretRef": {"name": "b-key"}}, credentialOverride=HEADERS
        )]  # fmt: skip
        plain = keys("APIKey", "apiKey")
        plain[0]["spec"]["credentialOverride"] = HEADERS
        route = ai_route("r", "m", {"name": "a"}, {"name": "b", "priority": 1})
        await bench.apply(
            gateway(bench.port),
            *backend("a", first.port),
            *backend("b", provider.port),
            *plain,
            *azure,
            route,
        )
        own = {"x-aigw-api-key": "for-a", "x-aigw-azure-api-key": "for-b"}
        assert (await bench.post({"model": "m"}, headers=own)).status == 200
        assert first.seen[-1].headers["authorization"] == "Bearer for-a"
        assert provider.seen[-1].headers["api-key"] == "for-b"
        for seen, foreign in ((first.seen[-1], "for-b"), (provider.seen[-1], "for-a")):
            assert foreign not in str(seen)
            assert not [name for name in seen.headers if name.startswith("x-aigw")]


async def test_metadata_of_an_earlier_filter_may_bring_it(bench: Workbench, provider: Provider) -> None:
    given = {"fromDynamicMetadata": {"namespace": "earlier", "key": "its-key"}}
    await apply(bench, provider, keys("APIKey", "apiKey"), given, earlier={"x-its-key": "its-key"})
    assert (await bench.post({"model": "m"})).status == 200
    assert provider.seen[-1].headers["authorization"] == "Bearer configured"
    assert (await bench.post({"model": "m"}, headers={"x-its-key": brought("from-it")})).status == 200
    assert provider.seen[-1].headers["authorization"] == "Bearer from-it"
    given = {"fromDynamicMetadata": {"namespace": "none", "fallbackToConfigured": False}}
    await apply(bench, provider, keys("APIKey", "apiKey"), given)
    assert (await bench.post({"model": "m"}, headers={"x-aigw-api-key": "x"})).status == 401


async def test_metadata_may_bring_the_three_parts_for_aws(bench: Workbench, provider: Provider) -> None:
    aws = policy("AWSCredentials", awsCredentials={"region": "eu-west-1"})
    given = {"fromDynamicMetadata": {"namespace": "earlier", "fallbackToConfigured": False}}
    member = "x-aigw-aws-credentials"
    await apply(bench, provider, [aws], given, earlier={"x-its-key": member})
    parts = {
        "accessKeyId": "AKIAEARLIER",
        "secretAccessKey": "earlier-secret",
        "sessionToken": "earlier-session",
    }
    assert (await bench.post({"model": "m"}, headers={"x-its-key": brought(parts)})).status == 200
    seen = provider.seen[-1]
    assert check("earlier-secret", "POST", seen.path, seen.headers, seen.body)[0] == "AKIAEARLIER"
    assert seen.headers["x-amz-security-token"] == "earlier-session"
    del parts["secretAccessKey"]
    for headers in ({}, {"x-its-key": brought(parts)}, {"x-its-key": brought("text")}):
        assert (await bench.post({"model": "m"}, headers=headers)).status == 401


async def test_without_an_override_such_headers_go_nowhere(bench: Workbench, provider: Provider) -> None:
    await bench.apply(gateway(bench.port), *backend("a", provider.port), ai_route("r", "m", {"name": "a"}))
    own = {"x-aigw-api-key": "x", "x-aigw-aws-secret-access-key": "x", "x-ai-eg-upstream-host": "evil"}
    assert (await bench.post({"model": "m"}, headers=own)).status == 200
    assert not [name for name in provider.seen[-1].headers if name.startswith(("x-aigw", "x-ai-eg"))]


async def test_a_client_of_anthropic_is_refused_in_its_own_dialect(
    bench: Workbench, provider: Provider
) -> None:
    documents = keys("AnthropicAPIKey", "anthropicAPIKey")
    documents[0]["spec"]["credentialOverride"] = STRICT
    schema = {"name": "Anthropic"}
    await bench.apply(
        gateway(bench.port),
        *backend("a", provider.port, schema),
        *documents,
        ai_route("r", "m", {"name": "a"}),
    )
    reply = await bench.post({"model": "m", "max_tokens": 1, "messages": []}, "/v1/messages")
    error = {"type": "authentication_error", "message": _MISSING}
    assert (reply.status, reply.json["error"]) == (401, error)
    own = {"x-aigw-anthropic-api-key": "mine"}
    assert (
        await bench.post({"model": "m", "max_tokens": 1, "messages": []}, "/v1/messages", own)
    ).status == 200
    assert provider.seen[-1].headers["x-api-key"] == "mine"
