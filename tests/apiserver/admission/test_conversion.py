"""Custom kinds of two versions whose definition names a conversion webhook."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from tests.apiserver.admission.conftest import Hooks, configure, rule, webhook
from tests.wire import Api, Object

GROUP = "example.com"
V1 = f"/apis/{GROUP}/v1/namespaces/default/things"
V2 = f"/apis/{GROUP}/v2/namespaces/default/things"
DEFINITION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def schema(**properties: str) -> Object:
    spec = {"type": "object", "properties": {name: {"type": kind} for name, kind in properties.items()}}
    return {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}


def definition(hooks: Hooks, stored: str = "v1") -> Object:
    versions: list[Object] = [
        {"name": "v1", "schema": schema(host="string", port="integer")},
        {
            "name": "v2",
            "schema": schema(address="string"),
            "selectableFields": [{"jsonPath": ".spec.address"}],
        },
    ]
    for version in versions:
        version |= {"served": True, "storage": version["name"] == stored}
    return {
        "metadata": {"name": f"things.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {"plural": "things", "kind": "Thing"},
            "scope": "Namespaced",
            "versions": versions,
            "conversion": {
                "strategy": "Webhook",
                "webhook": {
                    "conversionReviewVersions": ["v1"],
                    "clientConfig": {"url": hooks.url("/convert"), "caBundle": hooks.bundle},
                },
            },
        },
    }


def convert(request: Object) -> Object:
    """host and port in v1 are one address in v2."""

    def converted(obj: Object) -> Object:
        obj = copy.deepcopy(obj)
        spec: Any = obj.get("spec") or {}
        if request["desiredAPIVersion"].endswith("/v2"):
            obj["spec"] = {"address": f"{spec.get('host')}:{spec.get('port')}"}
        else:
            host, _, port = spec.get("address", ":0").partition(":")
            obj["spec"] = {"host": host, "port": int(port)}
        obj["apiVersion"] = request["desiredAPIVersion"]
        return obj

    objects = [converted(obj) for obj in request["objects"]]
    return {"convertedObjects": objects, "result": {"status": "Success"}}


@pytest.fixture
async def things(api: Api, hooks: Hooks) -> Api:
    hooks.answers["/convert"] = convert
    (await api.create(DEFINITION, definition(hooks))).ok()
    return api


async def test_an_object_is_read_and_written_in_either_version(things: Api, hooks: Hooks) -> None:
    made = (await things.create(V2, {"metadata": {"name": "a"}, "spec": {"address": "h:1"}, "apiVersion": f"{GROUP}/v2", "kind": "Thing"})).ok()  # fmt: skip
    assert made["apiVersion"] == f"{GROUP}/v2"
    assert made["spec"] == {"address": "h:1"}
    old = (await things.get(f"{V1}/a")).ok()
    assert old["spec"] == {"host": "h", "port": 1}
    assert old["apiVersion"] == f"{GROUP}/v1"
    (await things.merge(f"{V1}/a", {"spec": {"port": 2}})).ok()
    assert (await things.get(f"{V2}/a")).ok()["spec"] == {"address": "h:2"}
    changed = (await things.merge(f"{V2}/a", {"spec": {"address": "g:3"}})).ok()
    assert changed["spec"] == {"address": "g:3"}
    assert changed["metadata"]["generation"] == 3
    assert (await things.get(f"{V1}/a")).ok()["spec"] == {"host": "g", "port": 3}
    applied = {
        "apiVersion": f"{GROUP}/v2",
        "kind": "Thing",
        "metadata": {"name": "b"},
        "spec": {"address": "x:4"},
    }
    (await things.apply(f"{V2}/b", applied)).ok()
    before = (await things.get(f"{V2}/b")).ok()
    assert (await things.apply(f"{V2}/b", applied)).ok()["metadata"]["resourceVersion"] == before["metadata"][
        "resourceVersion"
    ]
    assert (await things.get(f"{V1}/b")).ok()["spec"] == {"host": "x", "port": 4}
    (await things.delete(f"{V2}/a")).ok()
    assert (await things.get(f"{V1}/a")).code == 404


async def test_a_list_asks_once_and_what_was_converted_is_kept(things: Api, hooks: Hooks) -> None:
    for name in "abc":
        body = {"metadata": {"name": name}, "spec": {"host": name, "port": 1}}
        (await things.create(V1, {**body, "apiVersion": f"{GROUP}/v1", "kind": "Thing"})).ok()
    hooks.requests.clear()
    items = (await things.get(V2)).ok()["items"]
    assert [item["spec"]["address"] for item in items] == ["a:1", "b:1", "c:1"]
    assert len(hooks.requests) == 1
    (await things.get(V2)).ok()
    assert len(hooks.requests) == 1
    (await things.get(V1)).ok()
    assert len(hooks.requests) == 1
    (await things.merge(f"{V1}/b", {"spec": {"port": 9}})).ok()
    chosen = (await things.get(V2, fieldSelector="spec.address=b:9")).ok()["items"]
    assert [item["metadata"]["name"] for item in chosen] == ["b"]
    assert len(hooks.seen("/convert")[-1]["objects"]) == 1


async def test_watches_show_their_version(things: Api) -> None:
    body = {
        "metadata": {"name": "a"},
        "spec": {"host": "h", "port": 1},
        "apiVersion": f"{GROUP}/v1",
        "kind": "Thing",
    }
    (await things.create(V1, body)).ok()
    async with things.watch(V2) as new, things.watch(V1) as old:
        assert (await new.next())["object"]["spec"] == {"address": "h:1"}
        assert (await old.next())["object"]["spec"] == {"host": "h", "port": 1}
        (await things.merge(f"{V1}/a", {"spec": {"port": 2}})).ok()
        changed = await new.next()
        assert changed["type"] == "MODIFIED"
        assert changed["object"]["spec"] == {"address": "h:2"}
        assert (await old.next())["object"]["spec"] == {"host": "h", "port": 2}
        (await things.delete(f"{V1}/a")).ok()
        assert (await new.next())["type"] == "DELETED"


async def test_objects_stay_readable_when_another_version_is_stored(things: Api, hooks: Hooks) -> None:
    body = {
        "metadata": {"name": "a"},
        "spec": {"host": "h", "port": 1},
        "apiVersion": f"{GROUP}/v1",
        "kind": "Thing",
    }
    (await things.create(V1, body)).ok()
    current = (await things.get(f"{DEFINITION}/things.{GROUP}")).ok()
    moved = {**definition(hooks, "v2"), "metadata": current["metadata"]}
    (await things.put(f"{DEFINITION}/things.{GROUP}", moved)).ok()
    assert (await things.get(f"{V1}/a")).ok()["spec"] == {"host": "h", "port": 1}
    assert (await things.get(f"{V2}/a")).ok()["spec"] == {"address": "h:1"}
    (await things.merge(f"{V1}/a", {"spec": {"port": 2}})).ok()
    hooks.requests.clear()
    assert (await things.get(f"{V2}/a")).ok()["spec"] == {"address": "h:2"}
    assert hooks.requests == []


async def test_a_conversion_that_fails_is_told(things: Api, hooks: Hooks) -> None:
    body = {
        "metadata": {"name": "a"},
        "spec": {"host": "h", "port": 1},
        "apiVersion": f"{GROUP}/v1",
        "kind": "Thing",
    }
    (await things.create(V1, body)).ok()
    failed = {"result": {"status": "Failed", "message": "no way"}, "convertedObjects": []}
    hooks.answers["/convert"] = lambda _: failed
    answer = await things.get(f"{V2}/a")
    assert answer.code == 500
    assert "conversion webhook for example.com/v1, Kind=Thing failed: no way" in answer.json["message"]
    hooks.answers["/convert"] = lambda request: {
        "convertedObjects": [{**request["objects"][0], "apiVersion": "example.com/v3"}],
        "result": {"status": "Success"},
    }
    answer = await things.get(V2)
    assert "invalid groupVersion (expected example.com/v2, received example.com/v3)" in answer.json["message"]
    (await things.get(f"{V1}/a")).ok()
    # What cannot be converted any more can still be removed with its definition.
    (await things.delete(f"{DEFINITION}/things.{GROUP}")).ok()
    async with things.watch(DEFINITION, fieldSelector=f"metadata.name=things.{GROUP}") as watch:
        while (await watch.next())["type"] != "DELETED":
            pass


async def test_admission_hooks_see_the_version_that_they_know(things: Api, hooks: Hooks) -> None:
    hooks.answers["/v"] = lambda _: {"allowed": True}
    known = rule("things", group=GROUP, version="v2")
    await configure(things, "Validating", "v", webhook(hooks, "/v", known))
    body = {
        "metadata": {"name": "a"},
        "spec": {"host": "h", "port": 1},
        "apiVersion": f"{GROUP}/v1",
        "kind": "Thing",
    }
    (await things.create(V1, body)).ok()
    (seen,) = hooks.seen("/v")
    assert seen["object"]["spec"] == {"address": "h:1"}
