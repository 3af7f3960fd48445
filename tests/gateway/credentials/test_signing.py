"""What backends with AWSCredentials get, held against AWS's own computation."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from kajitori.gateway.credentials.aws import read_credentials_file, signing_region
from kajitori.gateway.credentials.exchange import Concealed, Token, TokenState
from kajitori.gateway.observed import Observed
from kajitori.gateway.plan import make_plan
from tests.gateway.credentials.policies import aws_file, aws_login, policy
from tests.gateway.credentials.signatures import canonical_request, check, signature
from tests.gateway.workbench import (
    Provider,
    Seen,
    Workbench,
    ai_route,
    backend,
    gateway,
    key_policy,
    observe,
    running_provider,
)

SECRET = "wJalr/XUtn+FEMI"
FILE = f"[default]\naws_access_key_id=AKIAFILE\naws_secret_access_key={SECRET}\n"
WITH_SESSION = FILE + "aws_session_token=the/session+token==\n"


def named(
    name: str, port: int, *hostnames: str, schema: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    """A backend that is reached under names of its own."""
    documents = backend(name, port, schema)
    documents[0]["spec"]["endpoints"] = [
        {"hostname": hostname, "ip": {"address": "127.0.0.1", "port": port}} for hostname in hostnames
    ]
    return documents


def checked(seen: Seen, secret: str = SECRET, method: str = "POST") -> tuple[str, str, list[str]]:
    return check(secret, method, seen.path, seen.headers, seen.body)


def test_the_reference_computes_what_aws_documents() -> None:
    """The request `get-vanilla` of AWS's test suite for version 4."""
    headers = {"host": "example.amazonaws.com", "x-amz-date": "20150830T123600Z"}
    request = canonical_request("GET", "/", headers, ["host", "x-amz-date"], b"")
    found = signature(
        "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        "20150830/us-east-1/service/aws4_request",
        headers["x-amz-date"],
        request,
    )
    assert found == "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"


@pytest.mark.asyncio(loop_scope="module")
async def test_a_request_is_signed_as_it_goes_out(bench: Workbench, provider: Provider) -> None:
    host = "bedrock-runtime.us-west-2.amazonaws.com"
    azure = {"name": "AzureOpenAI", "version": "2025-01-01 preview&x"}
    ref = {"name": "a", "modelNameOverride": "anthropic.claude:0/x", "headerMutation": {"set": [{"name": "x-more", "value": "1"}]}}  # fmt: skip
    await bench.apply(
        gateway(bench.port), *named("a", provider.port, host, schema=azure), *aws_file(WITH_SESSION), ai_route("r", "m", ref)
    )  # fmt: skip
    client = {"authorization": "Bearer clients-own", "x-amz-security-token": "clients-own", "x-amz-date": "1"}
    body = {"model": "m", "messages": [{"role": "user", "content": "é" * 70_000}]}
    reply = await bench.post(body, headers=client)
    assert reply.status == 200
    (seen,) = provider.seen
    assert json.loads(seen.body)["model"] == "anthropic.claude:0/x"
    assert "claude%3A0%2Fx" in seen.path
    assert seen.headers["host"] == host
    access, scope, signed = checked(seen)
    assert access == "AKIAFILE"
    assert scope.split("/")[1:] == ["us-west-2", "bedrock", "aws4_request"]  # of the host, not of the policy
    assert seen.headers["x-amz-security-token"] == "the/session+token=="
    assert "x-amz-security-token" in signed
    assert not [name for name in seen.headers if name.startswith(("x-kajitori", "x-aigw", "x-ai-eg"))]
    # The second request finds a connection that is open, so Envoy does things in another order.
    assert (await bench.post(body, headers=client)).status == 200
    checked(provider.seen[1])


@pytest.mark.asyncio(loop_scope="module")
async def test_each_attempt_has_its_own_credentials(bench: Workbench, provider: Provider) -> None:
    async with (
        running_provider(Provider(status=503)) as first,
        running_provider(Provider(status=503)) as second,
    ):
        route = ai_route(
            "r", "m", {"name": "k", "priority": 0}, {"name": "a", "priority": 1}, {"name": "z", "priority": 2}
        )
        documents = [
            *backend("k", first.port), *key_policy("k", "key-of-k"),
            *named("a", second.port, "signed.example.com"), *aws_file(WITH_SESSION),
            *backend("z", provider.port), *key_policy("z", "key-of-z", "AzureAPIKey", "azureAPIKey"),
        ]  # fmt: skip
        await bench.apply(gateway(bench.port), *documents, route)
        assert (await bench.post({"model": "m"})).status == 200
        assert first.seen[0].headers["authorization"] == "Bearer key-of-k"
        _, scope, _ = checked(second.seen[0])
        assert scope.split("/")[1] == "eu-west-1"
        last = provider.seen[0].headers
        assert last["api-key"] == "key-of-z"
        assert not [name for name in last if name.startswith(("authorization", "x-amz-", "x-kajitori"))]


@pytest.mark.asyncio(loop_scope="module")
async def test_another_token_is_used_at_once_and_changes_no_cluster(
    bench: Workbench, provider: Provider
) -> None:
    documents = [gateway(bench.port), *backend("a", provider.port), ai_route("r", "m", {"name": "a"})]
    documents += aws_login("https://issuer.invalid")
    clusters: list[Any] = []
    for number in (1, 2):
        token = Token(Concealed(f"ASIA{number} secret/{number} session{number}"), 2e9)
        observed = with_token(observe(*documents), TokenState(token))
        plan = make_plan(observed, bench.ads.rejected)
        bench.set_resources("gateway", plan.resources)
        await bench.settled()
        assert (await bench.post({"model": "m"})).status == 200
        access, scope, _ = checked(provider.seen[-1], f"secret/{number}")
        assert (access, scope.split("/")[1]) == (f"ASIA{number}", "eu-west-1")
        assert provider.seen[-1].headers["x-amz-security-token"] == f"session{number}"
        clusters.append(plan.resources.by_type["envoy.config.cluster.v3.Cluster"])
    assert clusters[0] == clusters[1]


def with_token(observed: Observed, state: TokenState) -> Observed:
    return msgspec.structs.replace(observed, tokens={("default", "p"): state})


@pytest.mark.asyncio(loop_scope="module")
async def test_a_client_may_bring_its_own_keys_for_aws(bench: Workbench, provider: Provider) -> None:
    documents = aws_file(FILE)
    documents[0]["spec"]["credentialOverride"] = {"fromRequestHeaders": {}}
    await bench.apply(
        gateway(bench.port), *backend("a", provider.port), *documents, ai_route("r", "m", {"name": "a"})
    )
    own = {
        "x-aigw-aws-access-key-id": "AKIACLIENT",
        "x-aigw-aws-secret-access-key": "clients/secret",
        "x-aigw-aws-session-token": "clients-session",
    }
    assert (await bench.post({"model": "m"}, headers=own)).status == 200
    access, _, _ = checked(provider.seen[-1], "clients/secret")
    assert access == "AKIACLIENT"
    assert provider.seen[-1].headers["x-amz-security-token"] == "clients-session"
    own.popitem()
    assert (await bench.post({"model": "m"}, headers=own)).status == 200
    checked(provider.seen[-1], "clients/secret")
    assert "x-amz-security-token" not in provider.seen[-1].headers
    # Half of a pair is none, and without one the configured keys serve.
    own.popitem()
    for headers in (own, {}):
        assert (await bench.post({"model": "m"}, headers=headers)).status == 200
        access, _, _ = checked(provider.seen[-1])
        assert access == "AKIAFILE"
    assert not [name for seen in provider.seen for name in seen.headers if name.startswith("x-aigw")]


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("bedrock-runtime.us-east-1.amazonaws.com", "us-east-1"),
        ("bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("vpce-0a-1b.bedrock-runtime.eu-central-1.vpce.amazonaws.com", "eu-central-1"),
        ("Bedrock-Runtime.ap-southeast-2.api.aws.", "ap-southeast-2"),
        ("bedrock-runtime.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("bedrock.us-east-2.amazonaws.com", "us-east-2"),
        ("bedrock-runtime.us-east-1.amazonaws.com.evil.example", "configured"),
        ("s3.us-east-1.amazonaws.com", "configured"),
        ("", "configured"),
    ],
)
def test_the_region_is_that_of_a_real_bedrock_host(host: str, region: str) -> None:
    assert signing_region(host, "configured") == region


def test_several_names_of_one_backend_cannot_be_signed_for() -> None:
    documents = [*named("a", 1, "one.example.com", "two.example.com"), *aws_file(FILE)]
    plan = make_plan(observe(gateway(8080), *documents, ai_route("r", "m", {"name": "a"})))
    (status,) = [item.status for item in plan.statuses if item.resource.kind == "AIGatewayRoute"]
    assert "sign for one name" in status["conditions"][0]["message"]


PROFILES = [
    (
        "[other]\naws_access_key_id=A\naws_secret_access_key=hidden",
        "default",
        "no profile 'default'; there are: other",
    ),
    ("no sections", "default", "no credentials file"),
    ("[default]\naws_access_key_id=A", "default", "no secret key"),
    ("[default]\naws_access_key_id=A\naws_secret_access_key=hid den", "default", "secret key has blanks"),
    ("[default]\nrole_arn=arn:aws:iam::1:role/hidden", "default", "role_arn is not honoured"),
]


@pytest.mark.parametrize(("text", "profile", "message"), PROFILES)
def test_a_credentials_file_that_is_of_no_use_is_told_without_its_values(
    text: str, profile: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_credentials_file(text, profile)
    assert "hid" not in str(caught.value)


def test_a_profile_is_chosen_by_name() -> None:
    text = f"{FILE}[profile two]\naws_access_key_id = AKIATWO\naws_secret_access_key = two%2\naws_session_token = s\n"
    assert read_credentials_file(text, "default") == f"AKIAFILE {SECRET}"
    assert read_credentials_file(text, "two") == "AKIATWO two%2 s"


def test_a_policy_of_aws_without_a_source_waits_for_the_chain() -> None:
    documents = [*backend("a", 1), policy("AWSCredentials", awsCredentials={"region": "eu-west-1"})]
    plan = make_plan(observe(gateway(8080), *documents, ai_route("r", "m", {"name": "a"})))
    (status,) = [item.status for item in plan.statuses if item.resource.kind == "BackendSecurityPolicy"]
    assert "its token is being fetched" in status["conditions"][0]["message"]
