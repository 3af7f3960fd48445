"""From a policy to a token, against stand-ins of the token endpoints that check what they are sent."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from kajitori.control.runtime import Runtime
from kajitori.gateway.credentials.exchange import ExchangeFailed, Surroundings, Token
from kajitori.gateway.credentials.exchanges import wanted_exchanges
from kajitori.gateway.credentials.tokens import TokenSource
from kajitori.gateway.observed import Index
from tests.gateway.credentials.endpoints import ROLE_KEYS, Clouds, running_clouds, service_account
from tests.gateway.credentials.policies import (
    aws_login,
    azure_login,
    azure_secret,
    gcp_key,
    gcp_login,
    policy,
)
from tests.gateway.workbench import observe

AWS_DEFAULT = [policy("AWSCredentials", awsCredentials={"region": "eu-west-1"})]
GCP_DEFAULT = [policy("GCPCredentials", gcpCredentials={"projectName": "project-1", "region": "us-east5"})]


@pytest.fixture
async def clouds() -> AsyncIterator[Clouds]:
    async with running_clouds() as found:
        yield found


async def fetch(surroundings: Surroundings, documents: list[dict[str, Any]]) -> Token:
    """What the exchange of the one policy among these objects gives."""
    (exchange,) = wanted_exchanges(Index(observe(*documents))).values()
    runtime: Any = Runtime(None)  # type: ignore[arg-type]  no object is read or written
    source = TokenSource(runtime, lambda: None, surroundings)
    try:
        return await source.fetch(exchange)
    finally:
        await source.close()


CASES: dict[str, tuple[Callable[[str], list[dict[str, Any]]], str, list[str]]] = {
    "azure by a client secret": (
        lambda url: azure_secret(),
        "token-1",
        ["/entra/tenant-1/oauth2/v2.0/token"],
    ),
    "azure by a token of another issuer": (
        lambda url: azure_login(url + "/issuer"),
        "token-1",
        ["/issuer/.well-known/openid-configuration", "/issuer/token", "/entra/tenant-1/oauth2/v2.0/token"],
    ),
    "aws by a token of another issuer": (
        lambda url: aws_login(url + "/issuer"),
        " ".join(ROLE_KEYS),
        ["/issuer/.well-known/openid-configuration", "/issuer/token", "/sts/"],
    ),
    "google by the key of a service account": (
        lambda url: gcp_key(service_account(url + "/google-token")),
        "token-1",
        ["/google-token"],
    ),
    "google by the credentials of a person": (
        lambda url: gcp_key(
            json.dumps({"type": "authorized_user", "client_id": "user-1", "client_secret": "x", "refresh_token": "refresh-1"})
        ),
        "token-1",
        ["/google-token"],
    ),
    "google by a token of another issuer": (
        lambda url: gcp_login(url + "/issuer"),
        "federated-1",
        ["/issuer/.well-known/openid-configuration", "/issuer/token", "/google-sts/v1/token"],
    ),
    "google in the name of a service account": (
        lambda url: gcp_login(url + "/issuer", serviceAccountImpersonation={"serviceAccountName": "robot"}),
        "impersonated-1",
        [
            "/issuer/.well-known/openid-configuration",
            "/issuer/token",
            "/google-sts/v1/token",
            "/google-iam/v1/projects/-/serviceAccounts/robot@project-1.iam.gserviceaccount.com:generateAccessToken",
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
async def test_each_kind_of_policy_gets_its_token(case: str, clouds: Clouds) -> None:
    documents, wanted, paths = CASES[case]
    token = await fetch(clouds.surroundings(), documents(clouds.url))
    assert token.secret.text == wanted
    assert token.expires_at
    assert clouds.seen == paths


async def test_an_issuer_is_asked_in_the_way_that_it_wants(clouds: Clouds) -> None:
    await fetch(clouds.surroundings(), azure_login(clouds.url + "/issuer"))
    clouds.issuer_methods = ["client_secret_post"]
    more = {"aud": "api://exchange", "oidc": {"scopes": ["one", "two"], "resources": ["https://r"]}}
    await fetch(clouds.surroundings(), azure_login(clouds.url + "/issuer", **more))
    assert clouds.asked_scopes == ["openid all None []", "one two api://exchange ['https://r']"]


async def test_an_issuer_that_calls_itself_otherwise_is_not_trusted(clouds: Clouds) -> None:
    with pytest.raises(ExchangeFailed, match="calls itself"):
        await fetch(clouds.surroundings(), azure_login(clouds.url + "/issuer/"))
    assert clouds.seen == ["/issuer/.well-known/openid-configuration"]


async def test_a_token_endpoint_that_is_given_needs_no_discovery(clouds: Clouds) -> None:
    provider = {"issuer": "https://nowhere.invalid", "tokenEndpoint": clouds.url + "/issuer/token"}
    await fetch(clouds.surroundings(), azure_login("", oidc={"provider": provider, "scopes": ["one"]}))
    assert clouds.seen[0] == "/issuer/token"


async def test_the_default_chain_of_aws_takes_the_first_that_is_there(clouds: Clouds, tmp_path: Path) -> None:
    (tmp_path / "web-identity").write_text("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJnYXRld2F5In0.c2ln\n")
    (tmp_path / "agent-token").write_text("agent-token")
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = AKIAFILE\naws_secret_access_key = file-secret\n"
    )
    chain = [
        ({"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "env-secret"}, "AKIAENV"),
        ({"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials")}, "AKIAFILE"),
        (
            {
                "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "web-identity"),
                "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/gateway",
            },
            ROLE_KEYS[0],
        ),
        (
            {
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": clouds.url + "/agent",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(tmp_path / "agent-token"),
            },
            "ASIACONTAINER",
        ),
        (
            {"AWS_EC2_METADATA_DISABLED": "", "AWS_EC2_METADATA_SERVICE_ENDPOINT": clouds.url},
            "ASIAMACHINE",
        ),
    ]
    for place, (_, wanted) in enumerate(chain):
        environment: dict[str, str] = {}
        for variables, _ in reversed(chain[place:]):
            environment |= variables
        token = await fetch(clouds.surroundings(**environment), AWS_DEFAULT)
        assert token.secret.text.split(" ")[0] == wanted
    with pytest.raises(ExchangeFailed, match="no AWS credentials of its own"):
        await fetch(clouds.surroundings(), AWS_DEFAULT)


async def test_the_default_of_google_is_a_file_else_the_metadata_server(
    clouds: Clouds, tmp_path: Path
) -> None:
    host = clouds.url.removeprefix("http://")
    file = tmp_path / "adc.json"
    file.write_text(service_account(clouds.url + "/google-token"))
    given = clouds.surroundings(GOOGLE_APPLICATION_CREDENTIALS=str(file), GCE_METADATA_HOST=host)
    await fetch(given, GCP_DEFAULT)
    await fetch(clouds.surroundings(HOME=str(tmp_path), GCE_METADATA_HOST=host), GCP_DEFAULT)
    assert clouds.seen == [
        "/google-token",
        "/computeMetadata/v1/instance/service-accounts/default/token",
    ]
    with pytest.raises(ExchangeFailed, match="cannot be read"):
        await fetch(clouds.surroundings(GOOGLE_APPLICATION_CREDENTIALS="/nowhere"), GCP_DEFAULT)


REFUSALS = {
    "an OAuth error": (
        "/entra/tenant-1/oauth2/v2.0/token", 400, '{"error":"invalid_request","error_description":"AADSTS90002: no\\n such tenant"}',
        azure_secret(), "Entra ID .tenant tenant-1. answered 400 invalid_request: AADSTS90002: no such tenant",
    ),
    "a server error without words": (
        "/entra/tenant-1/oauth2/v2.0/token", 503, "<html>secret internals</html>", azure_secret(), "answered 503$",
    ),
    "an answer without a token": (
        "/entra/tenant-1/oauth2/v2.0/token", 200, '{"hello":"world"}', azure_secret(), "200 without access_token",
    ),
    "a token with a line break": (
        "/entra/tenant-1/oauth2/v2.0/token", 200, '{"access_token":"a\\nb: c","expires_in":3600}', azure_secret(), "odd characters",
    ),
    "a redirect": (
        "/entra/tenant-1/oauth2/v2.0/token", 302, "", azure_secret(), "answered 302",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
async def test_a_refusal_is_told_in_the_words_of_the_endpoint(case: str, clouds: Clouds) -> None:
    path, status, body, documents, message = REFUSALS[case]
    clouds.refusals[path] = (status, body)
    with pytest.raises(ExchangeFailed, match=message) as caught:
        await fetch(clouds.surroundings(), documents)
    assert "internals" not in str(caught.value)


async def test_errors_of_aws_and_google_are_told_too(clouds: Clouds) -> None:
    text = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>Not authorized</Message></Error></ErrorResponse>"
    clouds.refusals["/sts/"] = (403, text)
    with pytest.raises(ExchangeFailed, match="answered 403 AccessDenied: Not authorized"):
        await fetch(clouds.surroundings(), aws_login(clouds.url + "/issuer"))
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>'
    clouds.refusals["/sts/"] = (200, bomb)
    with pytest.raises(ExchangeFailed, match="answered 200 without credentials"):
        await fetch(clouds.surroundings(), aws_login(clouds.url + "/issuer"))
    error = {"error": {"code": 403, "message": "Permission denied", "status": "PERMISSION_DENIED"}}
    clouds.refusals["/google-sts/v1/token"] = (403, json.dumps(error))
    with pytest.raises(ExchangeFailed, match="answered 403 PERMISSION_DENIED: Permission denied"):
        await fetch(clouds.surroundings(), gcp_login(clouds.url + "/issuer"))


async def test_an_endpoint_that_is_not_there_is_named() -> None:
    surroundings = Surroundings(environment={"AZURE_AUTHORITY_HOST": "http://127.0.0.1:9"})
    with pytest.raises(ExchangeFailed, match=r"Entra ID .* cannot be asked \(127.0.0.1:9\)"):
        await fetch(surroundings, azure_secret())
