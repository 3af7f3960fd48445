"""Whatever an endpoint answers, an exchange ends with a token that is fit for a header, or says that it failed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kajitori.gateway.credentials.aws import read_credentials_file
from kajitori.gateway.credentials.exchange import Answer, Exchange, ExchangeFailed, Surroundings, Token
from kajitori.gateway.credentials.exchanges import wanted_exchanges
from kajitori.gateway.credentials.gcp import read_credentials
from kajitori.gateway.observed import Index
from tests.gateway.credentials.endpoints import service_account
from tests.gateway.credentials.policies import (
    aws_login,
    azure_login,
    azure_secret,
    gcp_key,
    gcp_login,
    policy,
)
from tests.gateway.workbench import observe

MEMBERS = (
    "access_token", "id_token", "token_endpoint", "issuer", "scopes_supported", "token_endpoint_auth_methods_supported",
    "expires_in", "expireTime", "accessToken", "error", "error_description", "Code", "Message", "status", "message",
    "AccessKeyId", "SecretAccessKey", "Token", "Expiration",
)  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
TOKENS = st.sampled_from(
    ["a.b.c", "https://issuer.example", "https://t.example", "0001-01-01T00:00:00", "3600", "ASIA"]
)
OBJECTS = st.dictionaries(
    st.sampled_from(MEMBERS), TOKENS | SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.sampled_from(MEMBERS), SCALARS, max_size=3), max_size=8,
)  # fmt: skip
XML = st.dictionaries(st.sampled_from(MEMBERS), st.text("<>&ab 1:-TZ", max_size=20), max_size=5).map(
    lambda found: "<r>" + "".join(f"<{name}>{text}</{name}>" for name, text in found.items()) + "</r>"
)
BODIES = st.binary(max_size=60) | OBJECTS.map(lambda found: json.dumps(found).encode()) | XML.map(str.encode)
ANSWERS = st.builds(
    Answer, st.sampled_from([0, 200, 200, 200, 302, 401, 404, 503]), BODIES,
    st.dictionaries(st.just("retry-after"), st.text("0123456789٣ ", max_size=400), max_size=1),
)  # fmt: skip
METADATA = [
    {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://agent"},
    {"AWS_WEB_IDENTITY_TOKEN_FILE": "/token", "AWS_ROLE_ARN": "arn"},
    {"GOOGLE_APPLICATION_CREDENTIALS": "/key", "AWS_SHARED_CREDENTIALS_FILE": "/file"},
    {},
]


def exchanges() -> list[Exchange]:
    issuer = "https://issuer.example"
    cases: list[list[dict[str, Any]]] = [
        azure_secret(), azure_login(issuer), aws_login(issuer), gcp_login(issuer, serviceAccountImpersonation={"serviceAccountName": "x"}),
        gcp_key(service_account("https://t.example")),
        [policy("AWSCredentials", awsCredentials={"region": "eu-west-1"})],
        [policy("GCPCredentials", gcpCredentials={"projectName": "p", "region": "r"})],
    ]  # fmt: skip
    return [found for case in cases for found in wanted_exchanges(Index(observe(*case))).values()]


EXCHANGES = exchanges()


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(EXCHANGES), st.sampled_from(METADATA), st.lists(ANSWERS, min_size=6, max_size=6))
def test_an_exchange_survives_any_answers(
    exchange: Exchange, environment: dict[str, str], answers: list[Answer]
) -> None:
    steps = exchange.steps(Surroundings(environment=environment), 1e9)
    try:
        next(steps)
        for answer in answers:
            steps.send(answer)
        pytest.fail("it goes on asking")
    except StopIteration as end:
        token: Token = end.value
        assert token.secret.text.isascii()
        assert token.secret.text.isprintable()
        assert token.expires_at is None or token.expires_at == token.expires_at
    except ExchangeFailed as error:
        assert len(str(error)) < 1000
        assert "\n" not in str(error)
        assert error.retry_after_seconds is None or error.retry_after_seconds >= 0


@given(
    st.binary(max_size=80)
    | OBJECTS.map(lambda found: json.dumps({"type": "service_account", **found}).encode())
)
def test_any_file_of_google_is_read_or_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_credentials(data)


@given(st.text("[]=default \nawscretkyid_%;#", max_size=80), st.sampled_from(["default", "", "x"]))
def test_any_credentials_file_is_read_or_refused(text: str, profile: str) -> None:
    try:
        assert read_credentials_file(text, profile)
    except ValueError as error:
        assert "\n" not in str(error)
