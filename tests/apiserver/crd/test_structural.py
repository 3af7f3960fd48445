"""Custom objects under a structural schema: pruned, completed, judged in the documented words."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kajitori.api.crds import all_crds
from kajitori.laptop.apiserver.crd import StructuralSchema

INT_OR_STRING = {"x-kubernetes-int-or-string": True}
SPEC: dict[str, Any] = {
    "type": "object",
    "required": ["size"],
    "properties": {
        "size": {"type": "string", "enum": ["small", "large"]},
        "replicas": {"type": "integer", "format": "int32", "minimum": 0, "maximum": 10, "default": 1},
        "ratio": {"type": "number", "exclusiveMinimum": True, "minimum": 0, "multipleOf": 0.5},
        "name": {"type": "string", "minLength": 2, "maxLength": 5, "pattern": "^[a-z]+$"},
        "since": {"type": "string", "format": "date-time"},
        "limit": INT_OR_STRING,
        "note": {"type": "string", "nullable": True, "default": "none"},
        "plain": {"type": "string"},
        "labels": {"type": "object", "maxProperties": 2, "additionalProperties": {"type": "string"}},
        "free": {
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": True,
            "properties": {"known": {"type": "object", "properties": {"a": {"type": "integer"}}}},
        },
        "template": {
            "type": "object",
            "x-kubernetes-embedded-resource": True,
            "properties": {"spec": {"type": "object", "properties": {"a": {"type": "integer"}}}},
        },
        "parts": {
            "type": "array",
            "minItems": 1,
            "maxItems": 3,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["k"],
            "items": {
                "type": "object",
                "required": ["k"],
                "properties": {"k": {"type": "string"}, "port": {"type": "integer", "default": 80}},
            },
        },
        "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "either": {
            "type": "object",
            "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
            "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
        },
        "any": {"type": "integer", "anyOf": [{"minimum": 5}, {"maximum": 1}]},
        "all": {"type": "integer", "allOf": [{"minimum": 5}, {"maximum": 9}]},
        "not": {"type": "integer", "not": {"minimum": 5}},
    },
}
SCHEMA = StructuralSchema({"type": "object", "properties": {"spec": SPEC, "status": {"type": "object"}}})


def model(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "g.io/v1", "kind": "Model", "metadata": {"name": "m"}, "spec": spec}


def faults(**spec: Any) -> list[tuple[str, str, str]]:
    found = SCHEMA.validate(model(**{"size": "small", **spec}))
    return [(error.reason, error.field, error.message) for error in found]


def test_what_the_schema_does_not_specify_is_dropped_and_named() -> None:
    before = model(
        size="small", nope=1, parts=[{"k": "a", "x": 1}], labels={"any": "1"}, template={"kind": "X", "y": 1}
    )
    kept = copy.deepcopy(before)
    pruned, unknown = SCHEMA.prune({**before, "extra": 1})
    assert pruned["spec"] == {
        "size": "small",
        "parts": [{"k": "a"}],
        "labels": {"any": "1"},
        "template": {"kind": "X"},
    }
    assert sorted(field.path for field in unknown) == [
        "extra",
        "spec.nope",
        "spec.parts[0].x",
        "spec.template.y",
    ]
    assert before == kept


def test_unknown_fields_are_kept_where_the_schema_preserves_them_but_not_inside_specified_ones() -> None:
    pruned, unknown = SCHEMA.prune(model(free={"x": {"y": 1}, "known": {"a": 1, "b": 2}}))
    assert pruned["spec"]["free"] == {"x": {"y": 1}, "known": {"a": 1}}
    assert [field.path for field in unknown] == ["spec.free.known.b"]


def test_an_object_with_nothing_to_drop_or_add_stays_the_same_object() -> None:
    obj = model(size="small", replicas=2, note="x")
    assert SCHEMA.prune(obj) == (obj, [])
    assert SCHEMA.prune(obj)[0] is obj
    assert SCHEMA.default(obj) is obj


def test_defaults_fill_in_what_is_missing_also_in_items() -> None:
    before = model(parts=[{"k": "a"}, {"k": "b", "port": 1}])
    completed = SCHEMA.default(before)
    assert completed["spec"] == {
        "replicas": 1,
        "note": "none",
        "parts": [{"k": "a", "port": 80}, {"k": "b", "port": 1}],
    }
    assert "replicas" not in before["spec"]


def test_null_stays_where_it_is_a_value_and_else_counts_as_missing() -> None:
    completed = SCHEMA.default(model(note=None, replicas=None, plain=None))
    assert completed["spec"] == {"note": None, "replicas": 1}


def test_defaults_of_defaults_are_filled_in_too() -> None:
    inner = {"type": "object", "default": {}, "properties": {"b": {"type": "integer", "default": 3}}}
    schema = StructuralSchema({"type": "object", "properties": {"a": inner}})
    first, second = schema.default({}), schema.default({})
    assert first == {"a": {"b": 3}}
    assert first["a"] is not second["a"]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {"replicas": -1},
            (
                "FieldValueInvalid",
                "spec.replicas",
                "Invalid value: -1: spec.replicas in body should be greater than or equal to 0",
            ),
        ),
        (
            {"replicas": "x"},
            (
                "FieldValueTypeInvalid",
                "spec.replicas",
                'Invalid value: "string": spec.replicas in body must be of type integer: "string"',
            ),
        ),
        (
            {"replicas": 11},
            (
                "FieldValueInvalid",
                "spec.replicas",
                "Invalid value: 11: spec.replicas in body should be less than or equal to 10",
            ),
        ),
        (
            {"ratio": 0},
            (
                "FieldValueInvalid",
                "spec.ratio",
                "Invalid value: 0: spec.ratio in body should be greater than 0",
            ),
        ),
        (
            {"ratio": 0.7},
            (
                "FieldValueInvalid",
                "spec.ratio",
                "Invalid value: 0.7: spec.ratio in body should be a multiple of 0.5",
            ),
        ),
        (
            {"name": "a"},
            (
                "FieldValueInvalid",
                "spec.name",
                'Invalid value: "a": spec.name in body should be at least 2 chars long',
            ),
        ),
        (
            {"name": "abcdef"},
            ("FieldValueTooLong", "spec.name", "Too long: may not be more than 5 bytes"),
        ),
        (
            {"name": "A1"},
            (
                "FieldValueInvalid",
                "spec.name",
                "Invalid value: \"A1\": spec.name in body should match '^[a-z]+$'",
            ),
        ),
        (
            {"size": "huge"},
            (
                "FieldValueNotSupported",
                "spec.size",
                'Unsupported value: "huge": supported values: "small", "large"',
            ),
        ),
        (
            {"since": "yesterday"},
            (
                "FieldValueTypeInvalid",
                "spec.since",
                'Invalid value: "yesterday": spec.since in body must be of type date-time: "yesterday"',
            ),
        ),
        (
            {"limit": True},
            (
                "FieldValueTypeInvalid",
                "spec.limit",
                'Invalid value: "boolean": spec.limit in body must be of type integer,string: "boolean"',
            ),
        ),
        (
            {"labels": {"a": "1", "b": "2", "c": "3"}},
            ("FieldValueTooMany", "spec.labels", "Too many: 3: must have at most 2 items"),
        ),
        (
            {"parts": []},
            (
                "FieldValueInvalid",
                "spec.parts",
                "Invalid value: 0: spec.parts in body should have at least 1 items",
            ),
        ),
        (
            {"parts": [{"k": "a"}, {"k": "a"}]},
            ("FieldValueDuplicate", "spec.parts[1]", 'Duplicate value: {"k":"a"}'),
        ),
        ({"tags": ["a", "b", "a"]}, ("FieldValueDuplicate", "spec.tags[2]", 'Duplicate value: "a"')),
        (
            {"parts": [{}]},
            ("FieldValueRequired", "spec.parts[0].k", "Required value"),
        ),
        (
            {"template": {"kind": "X"}},
            (
                "FieldValueRequired",
                "spec.template.apiVersion",
                "Required value",
            ),
        ),
        (
            {"either": {}},
            (
                "FieldValueInvalid",
                "<nil>",
                'Invalid value: "": "spec.either" must validate one and only one schema (oneOf). Found none valid',
            ),
        ),
        (
            {"any": 3},
            (
                "FieldValueInvalid",
                "<nil>",
                'Invalid value: "": "spec.any" must validate at least one schema (anyOf)',
            ),
        ),
        (
            {"not": 6},
            (
                "FieldValueInvalid",
                "<nil>",
                'Invalid value: "": "spec.not" must not validate the schema (not)',
            ),
        ),
    ],
)
def test_each_fault_is_worded_as_documented(spec: dict[str, Any], expected: tuple[str, str, str]) -> None:
    assert faults(**spec) == [expected]


def test_several_faults_are_all_named() -> None:
    found = SCHEMA.validate(model(replicas=-1, name="a"))
    assert {error.field for error in found} == {"spec.size", "spec.replicas", "spec.name"}
    assert [error.field for error in faults_of({"all": 20})] == ["spec.all", "<nil>"]


def faults_of(spec: dict[str, Any]) -> list[Any]:
    return SCHEMA.validate(model(size="small", **spec))


def test_what_is_right_passes() -> None:
    assert not faults(
        replicas=3,
        ratio=1.5,
        name="abc",
        since="2024-01-01T00:00:00Z",
        limit="10%",
        note=None,
        template={"apiVersion": "v1", "kind": "Pod", "spec": {"a": 1}},
        parts=[{"k": "a"}, {"k": "b"}],
        either={"a": "x"},
        any=1,
        all=7,
    )
    assert not faults(replicas=3.0)


def test_an_old_fault_that_is_left_alone_does_not_block_an_update() -> None:
    old = model(size="huge", parts=[{"k": "a", "port": "x"}])
    same_fault = model(size="huge", replicas=2, parts=[{"k": "b"}, {"k": "a", "port": "x"}])
    assert not SCHEMA.validate(same_fault, old)
    worse = model(size="vast", parts=[{"k": "a", "port": "y"}])
    assert len(SCHEMA.validate(worse, old)) == 2
    assert len(SCHEMA.validate(model(), model())) == 0
    assert len(SCHEMA.validate(model(replicas=3), model())) == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["a", "small", "x y"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*SPEC["properties"], "k", "a"]), inner)
    ),
    max_leaves=12,
)


@given(json_values)
def test_nothing_crashes_on_any_value_and_pruning_and_defaulting_settle_at_once(spec: Any) -> None:
    obj = {"apiVersion": "g.io/v1", "kind": "Model", "metadata": {"name": "m"}, "spec": spec}
    before = copy.deepcopy(obj)
    pruned, _ = SCHEMA.prune(obj)
    completed = SCHEMA.default(pruned)
    SCHEMA.validate(completed)
    assert obj == before
    assert SCHEMA.prune(pruned) == (pruned, [])
    assert SCHEMA.default(completed) is completed
    # Resources inside are judged again each time.
    still = {error.field for error in SCHEMA.validate(completed, completed)} - {"<nil>"}
    assert all(str(field).startswith("spec.template.") for field in still)


@pytest.mark.parametrize("crd", all_crds(), ids=lambda crd: crd["metadata"]["name"])
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_our_own_definitions_take_any_value_without_a_crash(crd: dict[str, Any], data: st.DataObject) -> None:
    for version in crd["spec"]["versions"]:
        raw = version["schema"]["openAPIV3Schema"]
        obj = {"metadata": {"name": "x"}, "spec": data.draw(value_like(raw["properties"].get("spec", {})))}
        schema = StructuralSchema(raw)
        pruned, _ = schema.prune(obj)
        schema.validate(schema.default(pruned))


def value_like(schema: dict[str, Any], depth: int = 0) -> st.SearchStrategy[Any]:
    """Values that often, and not always, fit the schema."""
    if depth > 3:
        return st.just({})
    kinds = {
        "string": st.sampled_from([*schema.get("enum", []), "a", ""]),
        "integer": st.integers(-1, 3),
        "boolean": st.booleans(),
        "number": st.floats(0, 1),
    }
    if schema.get("type") == "object":
        names = list(schema.get("properties", {}))[:8]
        return st.fixed_dictionaries(
            {}, optional={name: value_like(schema["properties"][name], depth + 1) for name in names}
        )
    if schema.get("type") == "array":
        return st.lists(value_like(schema["items"], depth + 1), max_size=2)
    return kinds.get(schema.get("type", ""), st.just("x"))
