"""Ownership over the wire: what a client of the running server sees."""

from __future__ import annotations

from typing import Any

import msgspec
from tests.apiserver.core.conftest import CONFIG_MAPS, Api, config_map

DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
SECRETS = "/api/v1/namespaces/default/secrets"


def deployment(replicas: int | None = 2, image: str = "busybox") -> dict[str, Any]:
    spec: dict[str, Any] = {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "containers": [{"name": "c", "image": image, "resources": {"limits": {"cpu": "1000m"}}}]
            },
        },
    }
    if replicas is not None:
        spec["replicas"] = replicas
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}


async def test_applying_the_same_again_stores_nothing(api: Api) -> None:
    first = (await api.apply(f"{DEPLOYMENTS}/web", deployment())).ok()
    second = (await api.apply(f"{DEPLOYMENTS}/web", deployment())).ok()
    assert second == first
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "x"}}
    first = (await api.apply(f"{SECRETS}/s", secret)).ok()
    assert first["data"] == {"a": "eA=="}
    assert (await api.apply(f"{SECRETS}/s", secret)).ok() == first


async def test_a_conflict_is_a_409_with_a_cause_for_each_field(api: Api) -> None:
    (await api.apply(f"{CONFIG_MAPS}/a", config_map("a", x="1", y="1"), "m1")).ok()
    answer = await api.apply(f"{CONFIG_MAPS}/a", config_map("a", x="2", y="2"), "m2")
    assert answer.code == 409
    assert answer.json["message"] == (
        'Apply failed with 2 conflicts: conflicts with "m1":\n- .data.x\n- .data.y'
    )
    assert answer.json["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "m1"', "field": f".data.{name}"}
        for name in ("x", "y")
    ]
    forced = (await api.apply(f"{CONFIG_MAPS}/a", config_map("a", x="2"), "m2", force="true")).ok()
    assert forced["data"] == {"x": "2", "y": "1"}


async def test_a_dropped_field_takes_its_default_again(api: Api) -> None:
    (await api.apply(f"{DEPLOYMENTS}/web", deployment(replicas=3))).ok()
    after = (await api.apply(f"{DEPLOYMENTS}/web", deployment(replicas=None))).ok()
    assert after["spec"]["replicas"] == 1


async def test_an_applier_that_gives_up_all_of_its_metadata_keeps_the_objects_identity(api: Api) -> None:
    labelled = config_map("a", x="1")
    labelled["metadata"]["labels"] = {"one": "1"}
    before = (await api.apply(f"{CONFIG_MAPS}/a", labelled)).ok()["metadata"]
    after = (await api.apply(f"{CONFIG_MAPS}/a", config_map("a", x="1"))).ok()["metadata"]
    assert "labels" not in after
    for field in ("name", "namespace", "uid", "creationTimestamp"):
        assert after[field] == before[field]


async def test_replicas_set_through_scale_conflict_by_that_name(api: Api) -> None:
    (await api.apply(f"{DEPLOYMENTS}/web", deployment(replicas=2), "gitops")).ok()
    scale = {"spec": {"replicas": 5}}
    (await api.merge(f"{DEPLOYMENTS}/web/scale", scale, fieldManager="autoscaler")).ok()
    answer = await api.apply(f"{DEPLOYMENTS}/web", deployment(replicas=2), "gitops")
    assert answer.json["message"] == (
        'Apply failed with 1 conflict: conflict with "autoscaler" with subresource "scale" using apps/v1: .spec.replicas'
    )
    (await api.apply(f"{DEPLOYMENTS}/web", deployment(replicas=None), "gitops")).ok()
    assert (await api.get(f"{DEPLOYMENTS}/web")).ok()["spec"]["replicas"] == 5


async def test_status_has_managers_of_its_own(api: Api) -> None:
    (await api.apply(f"{DEPLOYMENTS}/web", deployment())).ok()
    status = {**deployment(image="ignored"), "status": {"replicas": 2}}
    after = (await api.apply(f"{DEPLOYMENTS}/web/status", status, "controller")).ok()
    assert after["status"]["replicas"] == 2
    assert after["spec"]["template"]["spec"]["containers"][0]["image"] == "busybox"
    entries = {entry["manager"]: entry for entry in after["metadata"]["managedFields"]}
    assert entries["controller"]["subresource"] == "status"
    assert entries["controller"]["fieldsV1"] == {"f:status": {"f:replicas": {}}}


async def test_ownership_can_be_moved_from_updates_to_apply(api: Api) -> None:
    """What kubectl does when a user turns from client-side to server-side apply."""
    made = (
        await api.create(CONFIG_MAPS, config_map("a", x="1"), fieldManager="kubectl-client-side-apply")
    ).ok()
    entry = {**made["metadata"]["managedFields"][0], "manager": "kubectl", "operation": "Apply"}
    patch = [{"op": "replace", "path": "/metadata/managedFields", "value": [entry]}]
    (await api.request("PATCH", f"{CONFIG_MAPS}/a", patch, content_type="application/json-patch+json")).ok()
    after = (await api.apply(f"{CONFIG_MAPS}/a", config_map("a", y="1"), "kubectl")).ok()
    assert after["data"] == {"y": "1"}


async def test_what_cannot_be_applied_is_a_400_and_stores_nothing(api: Api) -> None:
    answer = await api.apply(f"{CONFIG_MAPS}/a", {**config_map("a"), "foo": 1})
    assert answer.code == 400
    assert ".foo: field not declared in schema" in answer.json["message"]
    assert (await api.get(f"{CONFIG_MAPS}/a")).code == 404


async def test_a_patch_that_does_not_fit_is_a_bare_422(api: Api) -> None:
    (await api.create(CONFIG_MAPS, config_map("a", x="1"))).ok()
    patch = [{"op": "test", "path": "/data/x", "value": "2"}, {"op": "remove", "path": "/data/x"}]
    answer = await api.request("PATCH", f"{CONFIG_MAPS}/a", patch, content_type="application/json-patch+json")
    assert answer.code == 422
    assert answer.json["message"] == "the server rejected our request due to an error in our request"
    assert (await api.get(f"{CONFIG_MAPS}/a")).ok()["data"] == {"x": "1"}


async def test_a_number_that_is_none_is_refused_by_name(api: Api) -> None:
    for number in (".inf", "-.inf", ".nan", "1e400", str(10**400)):
        body = msgspec.json.encode(deployment()).decode().replace('"replicas":2', f'"replicas": {number}')
        answer = await api.request(
            "PATCH",
            f"{DEPLOYMENTS}/web",
            body.encode(),
            content_type="application/apply-patch+yaml",
            fieldManager="m1",
        )
        assert answer.code in (400, 422) and "replicas" in answer.json["message"], answer.body
