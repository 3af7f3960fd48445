"""CustomResourceDefinitions made from structs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pytest
from msgspec import Meta, field

from kajitori.api.crd import (
    NULLABLE,
    Column,
    Definition,
    Int32,
    IntOrString,
    Quantity,
    Scale,
    Version,
    builtin,
    map_list,
    rule,
    rules,
)
from kajitori.api.crds import all_crds, all_definitions
from kajitori.api.kubernetes import core_v1, meta_v1
from kajitori.api.structural import builtin_schema, structural_schema


class Part(msgspec.Struct, kw_only=True, rename="camel"):
    """A part."""

    part_name: str
    weight: Annotated[Int32, Meta(ge=1, le=9)] = 3
    note: str = ""


class Whole(msgspec.Struct, kw_only=True, rename="camel"):
    __crd__: ClassVar[dict[str, Any]] = {"x-kubernetes-validations": [rule("has(self.level)", "no level")]}
    level: Annotated[Literal["Low", "High"], Meta(description="How high.")] = "Low"
    parts: Annotated[list[Part], map_list("partName"), Meta(max_length=4)]
    limit: IntOrString = "10%"
    memory: Quantity | None = None
    anything: dict[str, Any] = {}
    names: dict[str, str] = {}
    may_be_null: Annotated[str, NULLABLE] | None = None
    status: Literal[401, 403] | None = None
    best: Annotated[Part, rules(rule("self.weight > 2", "too light"))] | None = None
    template: Annotated[dict[str, Any], builtin("io.k8s.api.core.v1.PodTemplateSpec")] = {}
    selector: meta_v1.LabelSelector | None = None
    tolerations: list[core_v1.Toleration] = []


def test_a_struct_becomes_a_structural_schema() -> None:
    schema = structural_schema(Whole)
    properties = schema["properties"]
    assert schema["required"] == ["parts"]
    assert schema["x-kubernetes-validations"] == [{"rule": "has(self.level)", "message": "no level"}]
    assert properties["level"] == {
        "type": "string",
        "enum": ["High", "Low"],
        "default": "Low",
        "description": "How high.",
    }
    assert properties["parts"]["x-kubernetes-list-map-keys"] == ["partName"]
    assert properties["parts"]["maxItems"] == 4
    part = properties["parts"]["items"]
    assert part["description"] == "A part."
    assert part["required"] == ["partName"]
    assert part["properties"]["weight"] == {
        "type": "integer",
        "format": "int32",
        "minimum": 1,
        "maximum": 9,
        "default": 3,
    }
    assert "default" not in part["properties"]["note"]
    assert properties["limit"]["x-kubernetes-int-or-string"] is True
    assert properties["limit"]["default"] == "10%"
    assert properties["memory"]["pattern"]
    assert properties["anything"]["x-kubernetes-preserve-unknown-fields"] is True
    assert properties["names"] == {"type": "object", "additionalProperties": {"type": "string"}}
    assert properties["status"] == {"type": "integer", "enum": [401, 403]}
    assert properties["mayBeNull"]["nullable"] is True
    assert properties["best"]["x-kubernetes-validations"][0]["message"] == "too light"
    assert properties["selector"]["x-kubernetes-map-type"] == "atomic"
    assert properties["tolerations"]["items"]["properties"]["tolerationSeconds"]["format"] == "int64"


def test_built_in_parts_keep_their_merge_keys_and_only_their_meaningful_defaults() -> None:
    pod = builtin_schema("io.k8s.api.core.v1.PodTemplateSpec")["properties"]
    container = pod["spec"]["properties"]["containers"]
    assert container["x-kubernetes-list-map-keys"] == ["name"]
    port = container["items"]["properties"]["ports"]["items"]
    assert port["properties"]["protocol"]["default"] == "TCP"
    assert "default" not in port["properties"]["containerPort"]
    assert set(pod["metadata"]["properties"]) >= {"labels", "annotations", "finalizers", "name", "namespace"}


def test_a_default_struct_is_completed_with_the_defaults_of_its_fields() -> None:
    class Root(msgspec.Struct):
        part: Part = field(default_factory=lambda: Part(part_name="first"))

    assert structural_schema(Root)["properties"]["part"]["default"] == {"partName": "first", "weight": 3}


class Tree(msgspec.Struct):
    children: list[Tree] = []


def test_a_type_without_a_structural_schema_is_refused() -> None:
    with pytest.raises(TypeError, match="contains itself"):
        structural_schema(Tree)
    with pytest.raises(TypeError, match="union"):
        structural_schema(bool | dict[str, str])


class Thing(msgspec.Struct, kw_only=True, rename="camel"):
    metadata: meta_v1.ObjectMeta = field(default_factory=meta_v1.ObjectMeta)
    spec: Part
    status: Part | None = None


def test_a_definition_serves_several_versions_and_stores_one() -> None:
    crd = Definition(
        group="things.k8s.io",
        kind="Thing",
        plural="things",
        short_names=("th",),
        namespaced=False,
        versions=(
            Version(name="v1beta1", root=Thing, storage=False, deprecated=True, deprecation_warning="use v1"),
            Version(name="v1", root=Thing, columns=(Column("Name", ".spec.partName"),), scale=Scale()),
        ),
    ).to_crd()
    spec = crd["spec"]
    assert crd["metadata"]["name"] == "things.things.k8s.io"
    assert crd["metadata"]["annotations"]["api-approved.kubernetes.io"].startswith("unapproved")
    assert spec["names"] == {
        "kind": "Thing",
        "listKind": "ThingList",
        "plural": "things",
        "singular": "thing",
        "shortNames": ["th"],
    }
    assert spec["scope"] == "Cluster"
    beta, stable = spec["versions"]
    assert (beta["storage"], beta["deprecated"], beta["deprecationWarning"]) == (False, True, "use v1")
    assert stable["subresources"] == {
        "status": {},
        "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
    }
    assert stable["additionalPrinterColumns"] == [
        {"name": "Name", "type": "string", "jsonPath": ".spec.partName"}
    ]
    root = stable["schema"]["openAPIV3Schema"]
    assert root["required"] == ["spec"]
    assert root["properties"]["metadata"] == {"type": "object"}
    assert root["properties"]["spec"]["properties"]["weight"]["default"] == 3
    assert "default" not in root["properties"]["status"]["properties"]["weight"]


def _versions() -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{crd['metadata']['name']}/{version['name']}", version["schema"]["openAPIV3Schema"])
        for crd in all_crds()
        for version in crd["spec"]["versions"]
    ]


def _walk(path: str, schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from _walk(f"{path}.{name}", part)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from _walk(f"{path}[]", schema[key])


def _reaches(schema: dict[str, Any], path: str) -> bool:
    for name in path.removeprefix(".").split("."):
        if name not in schema.get("properties", {}):
            return False
        schema = schema["properties"][name]
    return True


@pytest.mark.parametrize("name,root", _versions(), ids=[name for name, _ in _versions()])
def test_every_definition_of_ours_is_one_that_an_api_server_takes(name: str, root: dict[str, Any]) -> None:
    """What apiextensions checks: types everywhere, keys of map lists, rules whose paths exist."""
    for path, schema in _walk(name, root):
        assert "$ref" not in schema, path
        assert (
            "type" in schema
            or schema.get("x-kubernetes-int-or-string")
            or schema.get("x-kubernetes-preserve-unknown-fields")
        ), path
        assert (schema.get("type") == "array") == ("items" in schema), path
        for key in schema.get("x-kubernetes-list-map-keys", ()):
            items = schema["items"]
            assert key in items.get("required", ()) or "default" in items["properties"][key], f"{path}: {key}"
        for validation in schema.get("x-kubernetes-validations", ()):
            assert validation.get("message") or validation.get("messageExpression"), path
            if "fieldPath" in validation:
                assert _reaches(schema, validation["fieldPath"]), f"{path}: {validation['fieldPath']}"
        for required in schema.get("required", ()):
            assert required in schema["properties"], f"{path}: {required}"


def test_one_version_of_each_definition_is_stored_and_names_are_taken_once() -> None:
    definitions = all_definitions()
    assert len({definition.name for definition in definitions}) == len(definitions)
    for definition in definitions:
        assert sum(version.storage for version in definition.versions) == 1
