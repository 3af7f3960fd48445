"""Definitions: what is filled in, what is taken, what is refused and in which words."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kajitori.api.crds import all_crds
from kajitori.laptop.apiserver.crd import definition_errors, definition_warnings
from kajitori.laptop.apiserver.defaults import defaulter_of

default_definition = defaulter_of(
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition"
)
PREFIX = "spec.validation.openAPIV3Schema.properties[spec]"


def definition(spec_schema: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"spec": spec_schema or {"type": "object"}}}
    made = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "models.g.io"},
        "spec": {
            "group": "g.io",
            "scope": "Namespaced",
            "names": {"plural": "models", "kind": "Model"},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
            ],
            **changes,
        },
    }
    default_definition(made)
    return made


def faults(made: dict[str, Any], old: dict[str, Any] | None = None) -> list[tuple[str, str]]:
    return [(error.field, error.message) for error in definition_errors(made, old)]


def faults_of_schema(**properties: Any) -> list[tuple[str, str]]:
    found = faults(definition({"type": "object", "properties": properties}))
    return [(field.removeprefix(f"{PREFIX}.properties"), message) for field, message in found]


def test_names_and_conversion_are_filled_in() -> None:
    spec = definition()["spec"]
    assert spec["names"] == {
        "plural": "models",
        "kind": "Model",
        "singular": "model",
        "listKind": "ModelList",
    }
    assert spec["conversion"] == {"strategy": "None"}


@pytest.mark.parametrize("crd", all_crds(), ids=lambda crd: crd["metadata"]["name"])
def test_our_own_definitions_are_taken(crd: dict[str, Any]) -> None:
    crd = copy.deepcopy(crd)
    default_definition(crd)
    assert not definition_errors(crd)
    assert not definition_errors(crd, crd)


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"group": "other.io"}, "metadata.name", 'must be spec.names.plural+"."+spec.group'),
        ({"group": "nodots"}, "spec.group", "should be a domain with at least one dot"),
        (
            {"scope": "World"},
            "spec.scope",
            'Unsupported value: "World": supported values: "Cluster", "Namespaced"',
        ),
        ({"scope": ""}, "spec.scope", "Required value"),
        ({"versions": []}, "spec.versions", "Required value: must have at least one version"),
        ({"names": {"plural": "models"}}, "spec.names.kind", "Required value"),
        ({"names": {"plural": "models", "kind": "Mo_del"}}, "spec.names.kind", "may have mixed case"),
        ({"conversion": {"strategy": "Magic"}}, "spec.conversion.strategy", "Unsupported value"),
        ({"preserveUnknownFields": True}, "spec.preserveUnknownFields", "must be false"),
    ],
)
def test_each_fault_of_a_definition_is_named(changes: dict[str, Any], field: str, words: str) -> None:
    assert any(where == field and words in message for where, message in faults(definition(**changes)))


def test_exactly_one_version_is_stored_and_each_has_a_schema() -> None:
    made = definition()
    made["spec"]["versions"] += [{"name": "v1", "served": True, "storage": True}]
    found = faults(made)
    assert ("spec.versions[1].schema.openAPIV3Schema", "Required value") in found
    assert ("spec.versions[1].name", 'Duplicate value: "v1"') in found
    assert any(field == "spec.versions" for field, _ in found)


@pytest.mark.parametrize(
    ("properties", "field", "message"),
    [
        ({"a": {}}, "[a].type", "Required value: must not be empty for specified object fields"),
        (
            {"a": {"type": "array", "items": {}}},
            "[a].items.type",
            "Required value: must not be empty for specified array items",
        ),
        ({"a": {"type": "array"}}, "[a].items", "Required value: must be specified"),
        ({"a": {"type": "text"}}, "[a].type", 'Unsupported value: "text": supported values:'),
        (
            {
                "a": {
                    "type": "object",
                    "properties": {"b": {"type": "string"}},
                    "additionalProperties": {"type": "string"},
                }
            },
            "[a].additionalProperties",
            "Forbidden: additionalProperties and properties are mutual exclusive",
        ),
        ({"a": {"type": "string", "$ref": "#/x"}}, "[a].$ref", "Forbidden: $ref is not supported"),
        ({"a": {"type": "string", "pattern": "("}}, "[a].pattern", "must be a valid regular expression"),
        (
            {"a": {"type": "array", "uniqueItems": True, "items": {"type": "string"}}},
            "[a].uniqueItems",
            "quadratic",
        ),
        (
            {"a": {"type": "integer", "default": "x"}},
            "[a].default",
            'Invalid value: "string"',
        ),
        (
            {"a": {"type": "object", "default": {"x": 1}, "properties": {"y": {"type": "string"}}}},
            "[a].default",
            "must not have unknown fields",
        ),
        (
            {"a": {"type": "array", "x-kubernetes-list-type": "map", "items": {"type": "object"}}},
            "[a].x-kubernetes-list-map-keys",
            "Required value: must not be empty",
        ),
        (
            {
                "a": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["k"],
                    "items": {"type": "object", "properties": {"k": {"type": "string"}}},
                }
            },
            "[a].items.properties[k].default",
            "must have a default or be a required property",
        ),
        (
            {"a": {"type": "string", "anyOf": [{"type": "string"}]}},
            "[a].anyOf[0].type",
            "Forbidden: must be empty to be structural",
        ),
    ],
)
def test_schemas_that_are_not_structural_are_refused(
    properties: dict[str, Any], field: str, message: str
) -> None:
    assert any(
        where.startswith(field) and message in text for where, text in faults_of_schema(**properties)
    ), faults_of_schema(**properties)


def test_structural_schemas_are_taken() -> None:
    assert not faults_of_schema(
        port={"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
        anything={"x-kubernetes-preserve-unknown-fields": True},
        pod={
            "type": "object",
            "x-kubernetes-embedded-resource": True,
            "x-kubernetes-preserve-unknown-fields": True,
        },
        labels={"type": "object", "additionalProperties": {"type": "string"}},
        union={
            "type": "object",
            "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
            "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
        },
        count={"type": "integer", "default": 1, "minimum": 0},
    )


@pytest.mark.parametrize(
    ("rule", "field", "words"),
    [
        (
            {"rule": "self.nope == 1"},
            "rule",
            "compilation failed: ERROR: <input>:1:5: undefined field 'nope'",
        ),
        ({"rule": "self.a"}, "rule", "must evaluate to a bool"),
        ({"rule": " "}, "rule", "Required value: rule is not specified"),
        (
            {"rule": "semver('1.0.0') == self"},
            "rule",
            "'semver' is not supported by this implementation of CEL",
        ),
        ({"rule": "true", "reason": "Because"}, "reason", "Unsupported value"),
        ({"rule": "true", "fieldPath": ".zz"}, "fieldPath", "must be a valid path"),
        ({"rule": "true", "fieldPath": "a"}, "fieldPath", "must be a valid path"),
        (
            {"rule": "true", "messageExpression": "1"},
            "messageExpression",
            "messageExpression must evaluate to a string",
        ),
        ({"rule": "true &&\n true"}, "message", "must be specified if rule contains line breaks"),
    ],
)
def test_rules_that_cannot_work_are_refused(rule: dict[str, Any], field: str, words: str) -> None:
    made = definition(
        {"type": "object", "properties": {"a": {"type": "integer"}}, "x-kubernetes-validations": [rule]}
    )
    found = faults(made)
    assert any(
        where == f"{PREFIX}.x-kubernetes-validations[0].{field}" and words in text for where, text in found
    ), found


def test_old_self_is_refused_where_no_old_value_can_be_told() -> None:
    item = {"type": "string", "maxLength": 9, "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}
    found = faults_of_schema(a={"type": "array", "items": item})
    assert [field for field, _ in found] == ["[a].items.x-kubernetes-validations[0].rule"]


def test_faults_are_placed_by_version_where_versions_differ() -> None:
    made = definition()
    bad = {"type": "object", "properties": {"spec": {}}}
    made["spec"]["versions"].append(
        {"name": "v2", "served": True, "storage": False, "schema": {"openAPIV3Schema": bad}}
    )
    assert [field for field, _ in faults(made)] == [
        "spec.versions[1].schema.openAPIV3Schema.properties[spec].type"
    ]


@pytest.mark.parametrize(
    ("version", "field"),
    [
        (
            {"additionalPrinterColumns": [{"name": "A", "type": "text", "jsonPath": ".a"}]},
            "additionalPrinterColumns[0].type",
        ),
        (
            {"additionalPrinterColumns": [{"name": "A", "type": "string"}]},
            "additionalPrinterColumns[0].jsonPath",
        ),
        (
            {"subresources": {"scale": {"specReplicasPath": ".status.x", "statusReplicasPath": ".status.r"}}},
            "subresources.scale.specReplicasPath",
        ),
        (
            {"subresources": {"scale": {"specReplicasPath": ".spec.r"}}},
            "subresources.scale.statusReplicasPath",
        ),
        ({"selectableFields": [{"jsonPath": ".spec.nope"}]}, "selectableFields[0].jsonPath"),
        ({"deprecationWarning": "old"}, "deprecationWarning"),
    ],
)
def test_faults_of_a_version_are_named(version: dict[str, Any], field: str) -> None:
    made = definition()
    made["spec"]["versions"][0].update(version)
    assert [where for where, _ in faults(made)] == [f"spec.versions[0].{field}"]


def test_selectable_fields_point_to_declared_scalars() -> None:
    made = definition({"type": "object", "properties": {"a": {"type": "string"}}})
    made["spec"]["versions"][0]["selectableFields"] = [{"jsonPath": ".spec.a"}]
    assert not faults(made)


def test_what_is_served_keeps_its_scope_and_kind() -> None:
    old = definition()
    old["status"] = {
        "conditions": [{"type": "Established", "status": "True"}],
        "storedVersions": ["v1"],
    }
    new = copy.deepcopy(old)
    new["spec"]["scope"] = "Cluster"
    new["spec"]["versions"][0]["name"] = "v2"
    found = dict(faults(new, old))
    assert found["spec.scope"] == 'Invalid value: "Cluster": field is immutable'
    assert "must remain in spec.versions" in found["status.storedVersions[0]"]


def test_a_schema_that_was_taken_once_is_not_judged_again() -> None:
    old = definition({})
    old["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = {}
    assert faults(old)
    assert not faults(copy.deepcopy(old), old)


def test_formats_that_nobody_checks_are_named_aloud() -> None:
    assert not definition_warnings(definition())
    odd = definition({"type": "object", "properties": {"a": {"type": "string", "format": "nonsense"}}})
    assert definition_warnings(odd) == ['unrecognized format "nonsense"']
