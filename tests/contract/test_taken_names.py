"""A POST under a name that is taken: what is wrong with the object is said first."""

from __future__ import annotations

from tests.servers import Server, config_map


async def test_an_invalid_object_under_a_taken_name_is_invalid(server: Server, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    (await server.http.create(path, config_map("taken", a="b"))).ok()
    invalid = config_map("taken") | {"data": {"not a key!": "x"}}
    assert (await server.http.create(path, invalid)).code == 422
    answer = await server.http.create(path, config_map("taken", a="c"))
    assert (answer.code, answer.json["reason"]) == (409, "AlreadyExists")
    assert (await server.http.get(f"{path}/taken")).json["data"] == {"a": "b"}


async def test_a_service_under_a_taken_name_claims_no_address(server: Server, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/services"
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "taken"},
        "spec": {"type": "NodePort", "ports": [{"port": 80}]},
    }
    (await server.http.create(path, service)).ok()
    for _ in range(3):
        assert (await server.http.create(path, service)).code == 409
    await server.http.delete(f"{path}/taken")
    (await server.http.create(path, service)).ok()


async def test_quantities_are_shown_as_they_are_read_back(server: Server, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/resourcequotas"
    hard = {"limits.memory": "86312.5Ki", "requests.memory": "999.5Ki", "limits.cpu": "1000Ki"}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": hard}}
    answer = await server.http.create(path, quota, dryRun="All")
    assert answer.ok()["spec"]["hard"] == {
        "limits.memory": "88384k",
        "requests.memory": "1023488",
        "limits.cpu": "1000Ki",
    }
