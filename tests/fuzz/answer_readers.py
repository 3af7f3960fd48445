"""Who reads what token endpoints, OpenID providers and stores answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Generator
from typing import Any

from kajitori.gateway.credentials.aws import AWSRoleExchange, read_credentials_file
from kajitori.gateway.credentials.aws_default import AWSDefaultChain
from kajitori.gateway.credentials.azure import AzureExchange
from kajitori.gateway.credentials.exchange import Answer, Concealed, Exchange, ExchangeFailed, Surroundings
from kajitori.gateway.credentials.gcp import GCPDefault, GCPFederation, read_credentials
from kajitori.gateway.credentials.oidc import OIDCLogin
from kajitori.gateway.credentials.rotation import seconds_to_retry
from kajitori.gateway.limits.redis_store import RedisStore
from kajitori.gateway.limits.store import StoreLost
from kajitori.gateway.policies.security.discovery import read_discovery
from tests.fuzz.registry import loop, reads, text_of

_SURROUNDINGS = Surroundings(environment={"HOME": "/h", "AWS_REGION": "r"})
_LOGIN = OIDCLogin(issuer="https://i", client_id="c", client_secret=Concealed("s"))
_EXCHANGES: tuple[Exchange, ...] = (
    AWSDefaultChain("r"),
    AWSRoleExchange(role_arn="arn:x", region="r", session_name="s", login=_LOGIN),
    GCPDefault(),
    GCPFederation(audience="a", login=_LOGIN, service_account="b@c"),
    AzureExchange(tenant_id="t", client_id="c", login=_LOGIN),
)


def _steps(exchange: Any, answers: list[Answer]) -> None:
    steps: Generator[Any, Answer, Any] = exchange.steps(_SURROUNDINGS, 1795719036.0)
    try:
        next(steps)
        for number in range(10):
            steps.send(answers[number % len(answers)])
    except ExchangeFailed as error:
        assert error.message
        asked_for = error.retry_after_seconds
        assert 0 <= seconds_to_retry(1, 0.0, asked_for) <= 3600
    except StopIteration as end:
        assert end.value.secret.text.isprintable()


@reads(
    "answers of token endpoints",
    b'200\n{"access_token":"t","expires_in":"3600","token_endpoint":"https://x/token","issuer":"https://i"}',
    b'400\n{"error":{"status":"NO","message":"why"},"error_description":"x"}',
    b"200\n<Code>a</Code> <Message>b</Message>",
    b"200\n[default]\naws_access_key_id = a\naws_secret_access_key = b\n",
    b'200\n{"AccessKeyId":"a","SecretAccessKey":"b","Token":"c","Expiration":"2026-11-26T19:00:00Z"}',
    b'200\n{"type":"authorized_user","client_id":"c","client_secret":"s","refresh_token":"r"}',
)
def answers_of_token_endpoints(data: bytes) -> None:
    head, _, body = data.partition(b"\n")
    status = int(head) if head.isdigit() and len(head) < 4 else 200
    answers = [Answer(status, body, {"retry-after": text_of(body[-9:])}), Answer(200, body), Answer(404)]
    for exchange in _EXCHANGES:
        _steps(exchange, answers)
        _steps(exchange, answers[2:] + answers[:2])
        _steps(exchange, [Answer(200, body)])


@reads(
    "credentials files",
    b"[default]\naws_access_key_id = a\naws_secret_access_key = b\n[x]\n",
    b'{"type":"service_account"}',
)
def credentials_files(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        read_credentials_file(text_of(data), "default")
    with contextlib.suppress(ValueError):
        read_credentials(data)


@reads(
    "OpenID providers",
    b'{"issuer":"https://i","authorization_endpoint":"https://i/a","token_endpoint":"https://i/t","jwks_uri":"https://i/k"}',
    b'{"issuer":"https://i","authorization_endpoint":"http://[","token_endpoint":"https://i/t"}',
)
def openid_providers(data: bytes) -> None:
    found = read_discovery("https://i", data)
    assert found.problem or found.token_endpoint


@reads(
    "answers of Redis",
    b'["1","",["5","0","5","1",""]]',
    b'{"note":"x","0":"1:2:3:c"}',
    b'[0,["{kajitori}:c:a"]]',
    b"[1e9990,[]]",
    b"null",
    b"7",
)
def answers_of_redis(data: bytes) -> None:
    try:
        said: Any = json.loads(data)
    except (ValueError, RecursionError):
        said = data

    def raw(value: Any) -> Any:
        if isinstance(value, str):
            return value.encode("utf-8", "replace")
        if isinstance(value, list):
            return [raw(item) for item in value]
        return {raw(key): raw(item) for key, item in value.items()} if isinstance(value, dict) else value

    async def ask_all() -> None:
        store = RedisStore("redis://nowhere")

        async def told(*_: Any) -> Any:
            await asyncio.sleep(0)
            return raw(said)

        store._ask = told  # type: ignore[method-assign]
        for question in (
            lambda: store.reserve("r", "n", [], [], [], now=1.0, expires=2.0),
            lambda: store.find("r"),
            lambda: store.amounts(["a"]),
            lambda: asyncio.wait_for(store.names(), 0.01),
        ):
            with contextlib.suppress(StoreLost, TimeoutError):
                await question()

    loop().run_until_complete(ask_all())
