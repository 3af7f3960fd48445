"""Quotas are counted, and what goes makes room, alike on both servers."""

from __future__ import annotations

from typing import Any

from tests.servers import Server, config_map, pod
from tests.waiting import eventually

Object = dict[str, Any]


class Quota:
    def __init__(self, server: Server, namespace: str) -> None:
        self.http = server.http
        self.base = f"/api/v1/namespaces/{namespace}"
        self.path = f"{self.base}/resourcequotas"

    async def create(self, hard: dict[str, str], **spec: Any) -> None:
        body = {"metadata": {"name": "q"}, "spec": {"hard": hard, **spec}}
        (await self.http.create(self.path, body)).ok()

    async def says(self, **wanted: str) -> Object:
        async def check() -> Object | None:
            status = (await self.http.get(f"{self.path}/q")).ok().get("status", {})
            used = status.get("used") or {}
            return status if wanted.items() <= used.items() else None

        return await eventually(check, f"the quota says {wanted}")


def asking(name: str, cpu: str) -> Object:
    made = pod(name)
    made["spec"]["containers"][0]["resources"] = {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}
    return made


async def test_what_is_there_is_counted_and_room_comes_back(
    server: Server, namespace: str, nodes: list[str]
) -> None:
    quota = Quota(server, namespace)
    (await server.http.create(f"{quota.base}/pods", asking("one", "500m"))).ok()
    hard = {
        "pods": "2",
        "requests.cpu": "1",
        "limits.cpu": "2",
        "count/configmaps": "2",
        "services": "1",
        "count/deployments.apps": "1",
    }
    await quota.create(hard)
    status = await quota.says(pods="1")
    assert status == {
        "hard": hard,
        "used": {
            "pods": "1",
            "requests.cpu": "500m",
            "limits.cpu": "500m",
            "count/configmaps": "1",
            "services": "0",
            "count/deployments.apps": "0",
        },
    }
    (await server.http.create(f"{quota.base}/pods", asking("two", "500m"))).ok()
    refused = await server.http.create(f"{quota.base}/pods", asking("three", "1m"))
    assert refused.code == 403
    assert refused.json["message"] == (
        'pods "three" is forbidden: exceeded quota: q, requested: pods=1,requests.cpu=1m,'
        " used: pods=2,requests.cpu=1, limited: pods=2,requests.cpu=1"
    )
    (await server.http.delete(f"{quota.base}/pods/one", gracePeriodSeconds="0")).ok()
    await quota.says(pods="1", **{"requests.cpu": "500m"})
    (
        await server.http.merge(
            f"{quota.base}/pods/two", {"metadata": {"annotations": {"kajitori.dev/test-exit": "0"}}}
        )
    ).ok()
    await quota.says(pods="1")
    (await server.http.create(f"{quota.base}/configmaps", config_map("extra"))).ok()
    await quota.says(**{"count/configmaps": "2"})
    (await server.http.delete(f"{quota.base}/configmaps/extra")).ok()
    await quota.says(**{"count/configmaps": "1"})


async def test_scopes_choose_which_pods_count(server: Server, namespace: str, nodes: list[str]) -> None:
    quota = Quota(server, namespace)
    await quota.create({"pods": "5"}, scopes=["BestEffort"])
    await quota.says(pods="0")
    (await server.http.create(f"{quota.base}/pods", pod("free"))).ok()
    (await server.http.create(f"{quota.base}/pods", asking("asking", "1m"))).ok()
    await quota.says(pods="1")


async def test_a_changed_limit_shows_with_its_usage(server: Server, namespace: str) -> None:
    quota = Quota(server, namespace)
    await quota.create({"pods": "2"})
    await quota.says(pods="0")
    (await server.http.merge(f"{quota.path}/q", {"spec": {"hard": {"pods": None, "secrets": "3"}}})).ok()
    assert await quota.says(secrets="0") == {"hard": {"secrets": "3"}, "used": {"secrets": "0"}}
