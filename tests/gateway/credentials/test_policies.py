"""What the conditions of BackendSecurityPolicies say; pure."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from kajitori.gateway.credentials.exchange import Concealed, Token, TokenState
from kajitori.gateway.credentials.exchanges import wanted_exchanges
from kajitori.gateway.credentials.secrets import referenced_secrets
from kajitori.gateway.observed import Index
from kajitori.gateway.plan import make_plan
from tests.gateway.credentials.policies import (
    aws_login,
    azure_login,
    azure_secret,
    gcp_login,
    login,
    login_secret,
    policy,
    secret,
)
from tests.gateway.workbench import ai_route, backend, gateway, key_policy, observe


def told(
    documents: list[dict[str, Any]], state: TokenState | None = None, name: str = "p"
) -> tuple[str, str]:
    """Type and message of the policy's condition."""
    observed = observe(gateway(8080), *backend("a", 1), *documents, ai_route("r", "m", {"name": "a"}))
    tokens = {("default", "p"): state} if state else {}
    plan = make_plan(msgspec.structs.replace(observed, tokens=tokens))
    (status,) = [item.status for item in plan.statuses if item.resource.kind == "BackendSecurityPolicy" and item.name == name]  # fmt: skip
    found = status["conditions"][0]
    return found["type"], found["message"]


def test_how_a_token_stands_is_told() -> None:
    token = Token(Concealed("hidden-token"), 2e9)
    assert told(azure_secret())[1] == "BackendSecurityPolicy default/p: its token is being fetched"
    assert told(azure_secret(), TokenState(token)) == ("Accepted", "the credential is there")
    failing = told(azure_secret(), TokenState(token, "Entra ID answered 503"))
    assert failing[0] == "Accepted"
    assert "Entra ID answered 503; the present token goes on while it is valid" in failing[1]
    kind, message = told(azure_secret(), TokenState(None, "Entra ID answered 401"))
    assert kind == "NotAccepted"
    assert "has no token: Entra ID answered 401" in message


def test_two_policies_of_one_backend_are_an_error_of_both() -> None:
    documents = [*azure_secret(), *key_policy("a", "x")]
    for name in ("p", "a-key"):
        kind, message = told(documents, name=name)
        assert kind == "NotAccepted"
        assert "AIServiceBackend a has several policies: a-key, p; keep one" in message


def test_a_pool_as_target_is_named_as_not_served() -> None:
    documents = azure_secret()
    pool = {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "pool"}
    documents[0]["spec"]["targetRefs"].append(pool)
    assert "targets of kind InferencePool are not served" in told(documents)[1]


def test_what_an_oidc_client_has_for_people_who_log_in_is_named() -> None:
    more = {"cookieDomain": "x.example", "logoutPath": "/bye", "refreshToken": True}
    provider = {"issuer": "http://issuer.local", "backendRefs": [{"name": "x"}]}
    documents = azure_login("", oidc={"provider": provider, **more})
    message = told(documents, TokenState(Token(Concealed("t"))))[1]
    for name in ("cookieDomain", "logoutPath", "refreshToken"):
        assert f"oidc.{name} is for people who log in and has no effect" in message
    assert "oidc.provider.backendRefs is not honoured" in message
    assert "the client secret travels unencrypted to http://issuer.local" in message


@pytest.mark.parametrize("make", [azure_login, aws_login, gcp_login])
def test_the_secrets_of_an_exchange_are_read_and_need_a_grant_elsewhere(make: Any) -> None:
    documents = make("https://issuer.example")
    assert referenced_secrets(Index(observe(*documents))) == {("default", "login")}
    elsewhere = '{"name": "login", "namespace": "other"}'
    documents[0] = json.loads(json.dumps(documents[0]).replace('{"name": "login"}', elsewhere))
    assert referenced_secrets(Index(observe(*documents))) == set()
    assert "may not refer to Secret other/login" in told(documents)[1]
    grant = {
        "kind": "ReferenceGrant",
        "metadata": {"name": "g", "namespace": "other"},
        "spec": {
            "from": [
                {
                    "group": "aigateway.envoyproxy.io",
                    "kind": "BackendSecurityPolicy",
                    "namespace": "default",
                }
            ],
            "to": [{"group": "", "kind": "Secret"}],
        },
    }
    assert referenced_secrets(Index(observe(*documents, grant))) == {("other", "login")}


def test_the_client_id_may_stand_in_a_secret() -> None:
    given = login("https://issuer.example")
    del given["oidc"]["clientID"]
    given["oidc"]["clientIDRef"] = {"name": "id"}
    azure = {"clientID": "app-1", "tenantID": "tenant-1", "oidcExchangeToken": given}
    documents = [policy("AzureCredentials", azureCredentials=azure), login_secret()]
    assert "Secret default/id" in told(documents)[1]
    documents.append(secret("id", client_id="login-1"))
    (exchange,) = wanted_exchanges(Index(observe(*documents))).values()
    assert "login-1" in exchange.identity


def test_nothing_is_fetched_for_a_policy_whose_clients_bring_their_own() -> None:
    documents = azure_secret()
    override = {"fromRequestHeaders": {"fallbackToConfigured": False}}
    documents[0]["spec"]["credentialOverride"] = override
    assert wanted_exchanges(Index(observe(*documents))) == {}
    assert told(documents) == ("Accepted", "each request brings its own credential")


def test_what_is_printed_of_an_exchange_has_no_secret() -> None:
    for documents in (
        azure_secret(),
        azure_login("https://i"),
        aws_login("https://i"),
        gcp_login("https://i"),
    ):
        (exchange,) = wanted_exchanges(Index(observe(*documents))).values()
        assert exchange.secrets
        assert not [secret for secret in exchange.secrets if secret in repr(exchange)]
