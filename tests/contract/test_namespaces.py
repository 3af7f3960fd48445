"""Namespaces: what each has from the start, and how one goes with all that is in it."""

from __future__ import annotations

from typing import Any

from tests.servers import Server, config_map
from tests.waiting import eventually


async def _get(server: Server, name: str) -> dict[str, Any]:
    return (await server.http.get(f"/api/v1/namespaces/{name}")).ok()


async def test_a_namespace_is_active_and_says_its_name_as_a_label(server: Server, namespace: str) -> None:
    found = await _get(server, namespace)
    assert found["metadata"]["labels"] == {"kubernetes.io/metadata.name": namespace}
    assert found["spec"] == {"finalizers": ["kubernetes"]}
    assert found["status"] == {"phase": "Active"}


async def test_a_namespace_goes_with_what_is_in_it(server: Server, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}"
    held = {**config_map("held"), "metadata": {"name": "held", "finalizers": ["example.com/hold"]}}
    (await server.http.create(f"{path}/configmaps", held)).ok()
    (await server.http.create(f"{path}/secrets", {"metadata": {"name": "s"}})).ok()
    (
        await server.http.create(
            f"{path}/services", {"metadata": {"name": "x"}, "spec": {"ports": [{"port": 80}]}}
        )
    ).ok()
    deleted = (await server.http.delete(path)).ok()
    assert deleted["status"]["phase"] == "Terminating"
    assert deleted["metadata"]["deletionTimestamp"]

    refused = await server.http.create(f"{path}/configmaps", config_map("late"))
    assert refused.code == 403
    assert refused.json["message"] == (
        f'configmaps "late" is forbidden: unable to create new content in namespace {namespace} because it is being '
        "terminated"
    )
    assert refused.json["details"]["causes"] == [
        {
            "reason": "NamespaceTerminating",
            "message": f"namespace {namespace} is being terminated",
            "field": "metadata.namespace",
        }
    ]

    async def waits_for_the_finalizer() -> Any:
        conditions = {c["type"]: c for c in (await _get(server, namespace))["status"].get("conditions") or ()}
        remaining = conditions.get("NamespaceFinalizersRemaining") or {}
        return conditions if remaining.get("status") == "True" else None

    conditions = await eventually(waits_for_the_finalizer, "it says that a finalizer holds it")
    assert conditions["NamespaceContentRemaining"]["status"] == "True"
    assert conditions["NamespaceContentRemaining"]["reason"] == "SomeResourcesRemain"
    assert conditions["NamespaceContentRemaining"]["message"] == (
        "Some resources are remaining: configmaps. has 1 resource instances"
    )
    assert conditions["NamespaceFinalizersRemaining"]["reason"] == "SomeFinalizersRemain"
    assert conditions["NamespaceFinalizersRemaining"]["message"] == (
        "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
    )
    for kind in ("secrets", "services"):
        assert (await server.http.get(f"{path}/{kind}")).ok()["items"] == []
    (await server.http.merge(f"{path}/configmaps/held", {"metadata": {"finalizers": None}})).ok()

    async def gone() -> bool:
        return (await server.http.get(path)).code == 404

    await eventually(gone, "the namespace is gone", 60)


async def test_the_namespaces_of_the_cluster_stay(server: Server) -> None:
    for name in ("default", "kube-system", "kube-public"):
        answer = await server.http.delete(f"/api/v1/namespaces/{name}")
        assert answer.code == 403
        assert answer.json["message"] == (
            f'namespaces "{name}" is forbidden: this namespace may not be deleted'
        )


async def test_a_namespace_that_is_not_there_takes_nothing(server: Server) -> None:
    answer = await server.http.create("/api/v1/namespaces/nowhere-at-all/configmaps", config_map("a"))
    assert (answer.code, answer.json["message"]) == (404, 'namespaces "nowhere-at-all" not found')


async def test_the_name_of_a_namespace_is_a_label(server: Server) -> None:
    answer = await server.http.create("/api/v1/namespaces", {"metadata": {"name": "a.b"}})
    assert answer.code == 422
    assert answer.json["message"] == (
        'Namespace "a.b" is invalid: metadata.name: Invalid value: "a.b": must not contain dots'
    )
    answer = await server.http.create("/api/v1/namespaces", {"metadata": {"name": "A"}})
    assert answer.json["details"]["causes"][0]["message"].startswith(
        'Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters'
    )
