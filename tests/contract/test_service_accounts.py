"""Service accounts and their tokens."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from tests.servers import Server, pod
from tests.waiting import eventually
from tests.wire import Answer

REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"


async def ask(server: Server, namespace: str, name: str = "default", **spec: Any) -> Answer:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
    return await server.http.create(path, {"spec": spec})


async def review(server: Server, token: str, *audiences: str) -> dict[str, Any]:
    spec = {"token": token, **({"audiences": list(audiences)} if audiences else {})}
    return (await server.http.create(REVIEWS, {"spec": spec})).ok()["status"]


def claims_of(token: str) -> dict[str, Any]:
    return msgspec.json.decode(base64.urlsafe_b64decode(token.split(".")[1] + "=="))


async def test_each_namespace_has_a_default_account_and_the_root_certificate(
    server: Server, namespace: str
) -> None:
    path = f"/api/v1/namespaces/{namespace}"

    async def there() -> bool:
        return (await server.http.get(f"{path}/configmaps/kube-root-ca.crt")).code == 200

    await eventually(there, "the root certificate is there")
    (await server.http.delete(f"{path}/serviceaccounts/default")).ok()
    await eventually(lambda: _there(server, f"{path}/serviceaccounts/default"), "the account is back")


async def _there(server: Server, path: str) -> bool:
    return (await server.http.get(path)).code == 200


async def test_a_token_says_whose_it_is_and_for_whom(server: Server, namespace: str) -> None:
    answer = (await ask(server, namespace, audiences=["api", "b"], expirationSeconds=600)).ok()
    claims = claims_of(answer["status"]["token"])
    assert claims["aud"] == ["api", "b"]
    assert claims["sub"] == f"system:serviceaccount:{namespace}:default"
    assert claims["exp"] - claims["iat"] == 600
    assert claims["kubernetes.io"]["namespace"] == namespace
    assert claims["kubernetes.io"]["serviceaccount"]["name"] == "default"


async def test_a_token_is_good_for_its_audiences_only(server: Server, namespace: str) -> None:
    token = (await ask(server, namespace, audiences=["api", "b"])).ok()["status"]["token"]
    good = await review(server, token, "b", "api", "c")
    assert good["authenticated"] is True
    assert sorted(good["audiences"]) == ["api", "b"]
    assert good["user"]["username"] == f"system:serviceaccount:{namespace}:default"
    assert good["user"]["groups"] == [
        "system:serviceaccounts",
        f"system:serviceaccounts:{namespace}",
        "system:authenticated",
    ]
    other = await review(server, token, "c")
    assert not other.get("authenticated")
    assert other["error"] == (
        '[invalid bearer token, token audiences ["api" "b"] is invalid for the target audiences ["c"]]'
    )
    assert (await server.bearer(token).get("/version")).code == 401
    assert (await review(server, "x.y.z"))["error"] == "invalid bearer token"


async def test_a_token_acts_as_its_account(server: Server, namespace: str) -> None:
    token = (await ask(server, namespace)).ok()["status"]["token"]
    answer = await server.bearer(token).get(f"/api/v1/namespaces/{namespace}/pods")
    assert answer.code == 403
    assert (
        f'User "system:serviceaccount:{namespace}:default" cannot list resource "pods"'
        in (answer.json["message"])
    )


async def test_a_token_ends_with_its_pod(server: Server, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    made = (await server.http.create(path, pod("p", schedulingGates=[{"name": "x.io/never"}]))).ok()
    bound = {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": made["metadata"]["uid"]}
    token = (await ask(server, namespace, boundObjectRef=bound)).ok()["status"]["token"]
    assert claims_of(token)["kubernetes.io"]["pod"] == {"name": "p", "uid": made["metadata"]["uid"]}
    assert (await review(server, token))["authenticated"] is True
    await server.http.delete(f"{path}/p", gracePeriodSeconds="0")

    async def ended() -> bool:
        return not (await review(server, token)).get("authenticated")

    await eventually(ended, "the token has ended")


async def test_a_token_ends_with_its_account(server: Server, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    (await server.http.create(path, {"metadata": {"name": "robot"}})).ok()
    token = (await ask(server, namespace, "robot")).ok()["status"]["token"]
    assert (await review(server, token))["authenticated"] is True
    (await server.http.delete(f"{path}/robot")).ok()

    async def ended() -> bool:
        return not (await review(server, token)).get("authenticated")

    await eventually(ended, "the token has ended")


@pytest.mark.parametrize(
    ("spec", "code", "message"),
    [
        ({"expirationSeconds": 599}, 422, "may not specify a duration less than 10 minutes"),
        ({"expirationSeconds": 0}, 422, "may not specify a duration less than 10 minutes"),
        ({"expirationSeconds": 2**32 + 1}, 422, "may not specify a duration larger than 2^32 seconds"),
        ({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "x"}}, 404, 'pods "x" not found'),
        (
            {"boundObjectRef": {"kind": "ConfigMap", "apiVersion": "v1", "name": "x"}},
            400,
            "cannot bind token to object of type /v1, Kind=ConfigMap",
        ),
    ],
)
async def test_a_token_that_cannot_be_given_is_refused(
    server: Server, namespace: str, spec: dict[str, Any], code: int, message: str
) -> None:
    answer = await ask(server, namespace, **spec)
    assert answer.code == code
    assert answer.json["message"].endswith(message)


async def test_the_account_of_a_token_is_there(server: Server, namespace: str) -> None:
    answer = await ask(server, namespace, "nobody")
    assert (answer.code, answer.json["message"]) == (404, 'serviceaccounts "nobody" not found')


async def test_a_review_without_a_token_is_refused(server: Server) -> None:
    answer = await server.http.create(REVIEWS, {"spec": {}})
    assert (answer.code, answer.json["message"]) == (
        400,
        "token is required for TokenReview in authentication",
    )


async def test_accounts_read_how_their_tokens_are_checked(server: Server, namespace: str) -> None:
    token = (await ask(server, namespace)).ok()["status"]["token"]
    api = server.bearer(token)
    document = (await api.get("/.well-known/openid-configuration")).ok()
    assert document["issuer"] == claims_of(token)["iss"]
    assert document["id_token_signing_alg_values_supported"] == ["RS256"]
    answer = await api.get("/openid/v1/jwks")
    assert answer.headers["Content-Type"] == "application/jwk-set+json"
    header = msgspec.json.decode(base64.urlsafe_b64decode(token.split(".")[0] + "=="))
    assert header["kid"] in [key["kid"] for key in answer.json["keys"]]
