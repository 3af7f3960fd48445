"""Secrets of type service-account-token: filled for their account, and gone with it."""

from __future__ import annotations

import base64
from typing import Any

from tests.servers import Server
from tests.waiting import eventually

TYPE = "kubernetes.io/service-account-token"
NAME = "kubernetes.io/service-account.name"
UID = "kubernetes.io/service-account.uid"
REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


def secret(name: str, account: str) -> dict[str, Any]:
    metadata = {"name": name, "annotations": {NAME: account}}
    return {"apiVersion": "v1", "kind": "Secret", "type": TYPE, "metadata": metadata}


async def test_a_secret_of_an_account_is_filled_and_its_token_ends_with_it(
    server: Server, namespace: str
) -> None:
    core = f"/api/v1/namespaces/{namespace}"
    account = (await server.http.create(f"{core}/serviceaccounts", {"metadata": {"name": "robot"}})).ok()
    (await server.http.create(f"{core}/secrets", secret("keys", "robot"))).ok()

    async def filled() -> dict[str, Any] | None:
        found = (await server.http.get(f"{core}/secrets/keys")).ok()
        return found if {"token", "ca.crt", "namespace"} <= (found.get("data") or {}).keys() else None

    found = await eventually(filled, "the secret is filled")
    assert base64.b64decode(found["data"]["namespace"]).decode() == namespace
    assert found["metadata"]["annotations"][UID] == account["metadata"]["uid"]
    assert base64.b64decode(found["data"]["ca.crt"]).startswith(b"-----BEGIN CERTIFICATE")
    robot = server.bearer(base64.b64decode(found["data"]["token"]).decode())

    async def user() -> str:
        answer = await robot.create(
            REVIEWS, {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        )
        return answer.json["status"]["userInfo"]["username"] if answer.code == 201 else str(answer.code)

    assert await user() == f"system:serviceaccount:{namespace}:robot"
    await server.http.delete(f"{core}/secrets/keys")

    async def ended() -> bool:
        return await user() == "401"

    await eventually(ended, "the token has ended")


async def test_a_secret_without_its_account_is_deleted(server: Server, namespace: str) -> None:
    core = f"/api/v1/namespaces/{namespace}"
    (await server.http.create(f"{core}/secrets", secret("stray", "nobody"))).ok()

    async def gone() -> bool:
        return (await server.http.get(f"{core}/secrets/stray")).code == 404

    await eventually(gone, "the stray secret is deleted")
    (await server.http.create(f"{core}/serviceaccounts", {"metadata": {"name": "brief"}})).ok()
    (await server.http.create(f"{core}/secrets", secret("brief", "brief"))).ok()

    async def filled() -> bool:
        found = (await server.http.get(f"{core}/secrets/brief")).json
        return "token" in (found.get("data") or {})

    await eventually(filled, "the secret is filled")
    await server.http.delete(f"{core}/serviceaccounts/brief")

    async def gone_too() -> bool:
        return (await server.http.get(f"{core}/secrets/brief")).code == 404

    await eventually(gone_too, "the secret goes with its account")
