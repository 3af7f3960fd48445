"""The scale subresource of built-in and of custom kinds."""

from __future__ import annotations

from typing import Any

import pytest
from tests.servers import Server

Object = dict[str, Any]
TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}


@pytest.fixture
async def path(server: Server, namespace: str) -> str:
    """A paused Deployment `d` without pods."""
    collection = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    body = {
        "metadata": {"name": "d"},
        "spec": {
            "replicas": 0,
            "paused": True,
            "selector": {"matchLabels": {"a": "b"}},
            "template": TEMPLATE,
        },
    }
    (await server.http.create(collection, body)).ok()
    return f"{collection}/d"


def _entries(obj: Object, operation: str = "") -> list[tuple[str, str, str]]:
    return [
        (entry["manager"], entry["operation"], entry.get("subresource", ""))
        for entry in obj["metadata"]["managedFields"]
        if entry.get("subresource") != "status" and operation in ("", entry["operation"])
    ]


async def test_a_scale_shows_the_object_s_identity_and_replicas(server: Server, path: str) -> None:
    obj, scale = (await server.http.get(path)).ok(), (await server.http.get(f"{path}/scale")).ok()
    assert (scale["kind"], scale["apiVersion"]) == ("Scale", "autoscaling/v1")
    for field in ("name", "namespace", "uid", "creationTimestamp"):
        assert scale["metadata"][field] == obj["metadata"][field]
    assert scale["spec"] == {}
    assert scale["status"] == {"replicas": 0, "selector": "a=b"}


async def test_a_scale_can_be_put_and_patched_in_each_way(server: Server, path: str) -> None:
    scale = (await server.http.get(f"{path}/scale")).ok()
    scale["spec"]["replicas"] = 1
    del scale["metadata"]["resourceVersion"]  # controllers write the object, too
    assert (await server.http.put(f"{path}/scale", scale)).ok()["spec"] == {"replicas": 1}
    assert (await server.http.merge(f"{path}/scale", {"spec": {"replicas": 2}})).ok()["spec"]["replicas"] == 2
    patched = await server.http.request(
        "PATCH",
        f"{path}/scale",
        [{"op": "replace", "path": "/spec/replicas", "value": 3}],
        content_type="application/json-patch+json",
    )
    assert patched.ok()["spec"]["replicas"] == 3
    strategic = await server.http.request(
        "PATCH",
        f"{path}/scale",
        {"spec": {"replicas": 4}},
        content_type="application/strategic-merge-patch+json",
    )
    assert strategic.ok()["spec"]["replicas"] == 4
    assert (await server.http.get(path)).ok()["spec"]["replicas"] == 4


async def test_a_scale_write_counts_as_a_generation_and_one_that_changes_nothing_does_not(
    server: Server, path: str
) -> None:
    before = (await server.http.get(path)).ok()["metadata"]["generation"]
    for _ in range(2):
        (await server.http.merge(f"{path}/scale", {"spec": {"replicas": 2}})).ok()
        assert (await server.http.get(path)).ok()["metadata"]["generation"] == before + 1


async def test_a_stale_or_foreign_scale_is_refused(server: Server, path: str) -> None:
    scale = (await server.http.get(f"{path}/scale")).ok()
    stale = {**scale, "metadata": {**scale["metadata"], "resourceVersion": "1"}}
    answer = await server.http.put(f"{path}/scale", stale)
    assert (answer.code, answer.json["reason"]) == (409, "Conflict")
    answer = await server.http.merge(f"{path}/scale", {"spec": {"replicas": -1}})
    assert answer.code == 422
    assert answer.json["details"]["causes"] == [
        {
            "reason": "FieldValueInvalid",
            "message": "Invalid value: -1: must be greater than or equal to 0",
            "field": "spec.replicas",
        }
    ]
    assert (await server.http.get(f"{path}x/scale")).code == 404


async def test_a_dry_run_of_a_scale_stores_nothing(server: Server, path: str) -> None:
    answer = await server.http.merge(f"{path}/scale", {"spec": {"replicas": 5}}, dryRun="All")
    assert answer.ok()["spec"]["replicas"] == 5
    assert (await server.http.get(f"{path}/scale")).ok()["spec"] == {}


async def test_who_scales_owns_the_replicas_by_the_subresource(server: Server, path: str) -> None:
    (await server.http.merge(f"{path}/scale", {"spec": {"replicas": 2}}, fieldManager="scaler")).ok()
    obj = (await server.http.get(path)).ok()
    assert ("scaler", "Update", "scale") in _entries(obj)
    entry = next(e for e in obj["metadata"]["managedFields"] if e["manager"] == "scaler")
    assert entry["fieldsV1"] == {"f:spec": {"f:replicas": {}}}


async def test_a_scale_can_be_applied_and_others_then_conflict(server: Server, path: str) -> None:
    body = {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {"name": "d"},
        "spec": {"replicas": 3},
    }
    answer = await server.http.apply(f"{path}/scale", body, "scaler", force="true")
    assert answer.ok()["spec"]["replicas"] == 3
    assert _entries((await server.http.get(path)).ok(), "Apply") == [("scaler", "Apply", "scale")]
    whole = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d"},
        "spec": {"replicas": 1},
    }
    refused = await server.http.apply(path, whole, "other")
    assert refused.code == 409
    assert refused.json["message"] == (
        'Apply failed with 1 conflict: conflict with "scaler" with subresource "scale": .spec.replicas'
    )


async def test_an_empty_apply_leaves_what_its_manager_scaled(server: Server, namespace: str) -> None:
    path = f"/apis/leaderworkerset.x-k8s.io/v1/namespaces/{namespace}/leaderworkersets/l"
    body = {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": "l"},
        "spec": {"replicas": 0, "leaderWorkerTemplate": {"size": 1, "workerTemplate": TEMPLATE}},
    }
    (await server.http.create(path.removesuffix("/l"), body, fieldManager="maker")).ok()
    (await server.http.merge(f"{path}/scale", {"spec": {"replicas": 1}}, fieldManager="maker")).ok()
    empty = {key: body[key] for key in ("apiVersion", "kind", "metadata")}
    obj = (await server.http.apply(path, empty, "maker")).ok()
    assert obj["spec"]["replicas"] == 1
    assert ("maker", "Update", "scale") in _entries(obj)


async def test_an_empty_apply_of_a_scale_gives_the_replicas_up(server: Server, path: str) -> None:
    body = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}}
    (await server.http.apply(f"{path}/scale", {**body, "spec": {"replicas": 3}}, "scaler", force="true")).ok()
    (await server.http.apply(f"{path}/scale", body, "scaler")).ok()
    assert not _entries((await server.http.get(path)).ok(), "Apply")


async def test_a_scale_apply_conflicts_with_who_owns_the_replicas(server: Server, path: str) -> None:
    body = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}}
    (await server.http.merge(f"{path}/scale", {"spec": {"replicas": 2}}, fieldManager="y")).ok()
    refused = await server.http.apply(f"{path}/scale", {**body, "spec": {"replicas": 3}}, "scaler")
    assert refused.code == 409
    assert refused.json["message"] == (
        'Apply failed with 1 conflict: conflict with "y" with subresource "scale" using autoscaling/v1:'
        " .spec.replicas"
    )
