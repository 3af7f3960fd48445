"""Definitions and their objects over the wire."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from tests.apiserver.core.conftest import Api
from tests.waiting import eventually

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
MODELS = "/apis/g.io/v1/namespaces/default/models"
DEFINITION: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "models.g.io"},
    "spec": {
        "group": "g.io",
        "scope": "Namespaced",
        "names": {"plural": "models", "kind": "Model"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "selectableFields": [{"jsonPath": ".spec.size"}],
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "required": ["size"],
                                "x-kubernetes-validations": [
                                    {
                                        "rule": "self.size != 'large' || self.replicas > 1",
                                        "message": "too few",
                                    },
                                    {
                                        "rule": "self.size == oldSelf.size",
                                        "reason": "FieldValueForbidden",
                                        "fieldPath": ".size",
                                        "message": "size is fixed",
                                    },
                                ],
                                "properties": {
                                    "size": {"type": "string", "enum": ["small", "large"]},
                                    "replicas": {"type": "integer", "minimum": 0, "default": 1},
                                    "parts": {
                                        "type": "array",
                                        "x-kubernetes-list-type": "map",
                                        "x-kubernetes-list-map-keys": ["k"],
                                        "items": {
                                            "type": "object",
                                            "required": ["k"],
                                            "properties": {"k": {"type": "string"}, "v": {"type": "string"}},
                                        },
                                    },
                                },
                            },
                            "status": {"type": "object", "properties": {"ready": {"type": "boolean"}}},
                        },
                    }
                },
            }
        ],
    },
}


def model(name: str = "m", **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "g.io/v1", "kind": "Model", "metadata": {"name": name}, "spec": spec}


async def serve(api: Api, definition: dict[str, Any] = DEFINITION) -> None:
    (await api.create(DEFINITIONS, definition)).ok()

    async def served() -> bool:
        return (await api.get(MODELS)).code == 200

    await eventually(served, "the kind is served")


async def test_objects_are_pruned_with_a_warning_and_completed(api: Api) -> None:
    await serve(api)
    answer = await api.create(MODELS, model(size="small", nope=1))
    assert answer.ok()["spec"] == {"size": "small", "replicas": 1}
    assert 'unknown field "spec.nope"' in answer.headers["Warning"].replace("\\", "")
    strict = await api.create(MODELS, model("n", size="small", nope=1), fieldValidation="Strict")
    assert strict.code == 400
    assert 'strict decoding error: unknown field "spec.nope"' in strict.json["message"]


async def test_faults_are_causes_of_a_422_and_nothing_is_stored(api: Api) -> None:
    await serve(api)
    answer = await api.create(MODELS, model(size="huge", replicas=-1))
    assert answer.code == 422
    causes = {cause["field"]: cause["reason"] for cause in answer.json["details"]["causes"]}
    assert causes["spec.size"] == "FieldValueNotSupported"
    assert causes["spec.replicas"] == "FieldValueInvalid"
    assert (await api.get(f"{MODELS}/m")).code == 404


async def test_rules_hold_on_creation_and_between_old_and_new(api: Api) -> None:
    await serve(api)
    refused = await api.create(MODELS, model(size="large"))
    assert refused.json["message"] == 'Model.g.io "m" is invalid: spec: Invalid value: too few'
    (await api.create(MODELS, model(size="large", replicas=2))).ok()
    changed = await api.merge(f"{MODELS}/m", {"spec": {"size": "small"}})
    assert changed.json["message"] == 'Model.g.io "m" is invalid: spec.size: Forbidden: size is fixed'


async def test_lists_with_keys_merge_under_apply(api: Api) -> None:
    await serve(api)
    (await api.apply(f"{MODELS}/m", model(size="small", parts=[{"k": "a", "v": "1"}]), "m1")).ok()
    after = (await api.apply(f"{MODELS}/m", model(parts=[{"k": "b"}]), "m2")).ok()
    assert sorted(part["k"] for part in after["spec"]["parts"]) == ["a", "b"]
    left = (await api.apply(f"{MODELS}/m", model(size="small"), "m1")).ok()
    assert left["spec"]["parts"] == [{"k": "b"}]


async def test_a_stricter_schema_does_not_lock_the_objects_that_are_there(api: Api) -> None:
    await serve(api)
    (await api.create(MODELS, model(size="small", replicas=5))).ok()
    stricter = copy.deepcopy(DEFINITION)
    stricter["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"][
        "replicas"
    ]["maximum"] = 3
    (await api.merge(f"{DEFINITIONS}/models.g.io", {"spec": stricter["spec"]})).ok()

    async def holds() -> bool:
        refused = await api.create(MODELS, model("n", size="small", replicas=9), dryRun="All")
        return refused.code == 422

    await eventually(holds, "the stricter schema holds")
    (await api.merge(f"{MODELS}/m", {"spec": {"parts": [{"k": "a"}]}})).ok()
    assert (await api.merge(f"{MODELS}/m", {"spec": {"replicas": 6}})).code == 422


async def test_a_new_default_shows_in_objects_that_were_stored_before(api: Api) -> None:
    await serve(api)
    (await api.create(MODELS, model(size="small"))).ok()
    richer = copy.deepcopy(DEFINITION)
    spec = richer["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["colour"] = {"type": "string", "default": "red"}
    (await api.merge(f"{DEFINITIONS}/models.g.io", {"spec": richer["spec"]})).ok()

    async def shows() -> bool:
        return (await api.get(f"{MODELS}/m")).ok()["spec"].get("colour") == "red"

    await eventually(shows, "the default shows")
    (item,) = (await api.get(MODELS)).ok()["items"]
    assert item["spec"]["colour"] == "red"


async def test_selectable_fields_select(api: Api) -> None:
    await serve(api)
    (await api.create(MODELS, model("a", size="small"))).ok()
    (await api.create(MODELS, model("b", size="large", replicas=2))).ok()
    found = (await api.get(MODELS, fieldSelector="spec.size=large")).ok()["items"]
    assert [item["metadata"]["name"] for item in found] == ["b"]
    assert (await api.get(MODELS, fieldSelector="spec.replicas=2")).code == 400


async def test_a_definition_that_cannot_be_kept_is_refused(api: Api) -> None:
    bad = copy.deepcopy(DEFINITION)
    schema = bad["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    schema["x-kubernetes-validations"] = [{"rule": "self.nope > 1"}]
    schema["properties"]["untyped"] = {}
    answer = await api.create(DEFINITIONS, bad)
    assert answer.code == 422
    fields = {cause["field"]: cause["message"] for cause in answer.json["details"]["causes"]}
    place = "spec.validation.openAPIV3Schema.properties[spec]"
    assert "undefined field 'nope'" in fields[f"{place}.x-kubernetes-validations[0].rule"]
    assert fields[f"{place}.properties[untyped].type"] == (
        "Required value: must not be empty for specified object fields"
    )


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("items",), 5),
        (("items", "properties"), ["k"]),
        (("items", "properties", "k"), "string"),
        (("items", "required"), [["k"]]),
        (("items", "properties", "v"), {"type": "object", "additionalProperties": "string"}),
    ],
)
async def test_a_schema_inside_a_list_is_read_as_strictly_as_outside(
    api: Api, place: tuple[str, ...], value: Any
) -> None:
    broken = copy.deepcopy(DEFINITION)
    root = broken["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    node = root["properties"]["spec"]["properties"]["parts"]
    for step in place[:-1]:
        node = node[step]
    node[place[-1]] = value
    answer = await api.create(DEFINITIONS, broken)
    assert answer.code == 400 and "items" in answer.json["message"], answer.body
