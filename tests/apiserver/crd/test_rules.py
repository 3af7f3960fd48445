"""Rules in schemas: where they run, what they see, how they are worded."""

from __future__ import annotations

from typing import Any

import pytest

from kajitori.laptop.apiserver.crd import StructuralSchema

OBJECT = {"type": "object"}


def schema_with(*rules: dict[str, Any], **properties: Any) -> StructuralSchema:
    spec = {"type": "object", "properties": properties, "x-kubernetes-validations": list(rules)}
    return StructuralSchema({"type": "object", "properties": {"spec": spec}})


def obj(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "g.io/v1", "kind": "T", "metadata": {"name": "n"}, "spec": spec}


INTEGER = {"type": "integer"}
STRING = {"type": "string"}


def test_a_rule_that_fails_names_its_place_and_message() -> None:
    schema = schema_with({"rule": "self.a < 3", "message": "too many"}, a=INTEGER)
    (error,) = schema.validate(obj(a=5))
    assert (error.reason, error.field, error.message) == (
        "FieldValueInvalid",
        "spec",
        "Invalid value: too many",
    )
    assert not schema.validate(obj(a=1))


def test_without_a_message_the_rule_itself_is_shown() -> None:
    (error,) = schema_with({"rule": "self.a < 3"}, a=INTEGER).validate(obj(a=5))
    assert error.message == "Invalid value: failed rule: self.a < 3"


def test_reason_field_path_and_message_expression_shape_the_cause() -> None:
    rule = {
        "rule": "self.size != 'small'",
        "reason": "FieldValueForbidden",
        "fieldPath": ".size",
        "messageExpression": "'size was ' + self.size",
    }
    (error,) = schema_with(rule, size=STRING).validate(obj(size="small"))
    assert (error.reason, error.field, error.message) == (
        "FieldValueForbidden",
        "spec.size",
        "Forbidden: size was small",
    )


def test_a_message_expression_that_fails_falls_back_to_the_message() -> None:
    rule = {"rule": "false", "message": "no", "messageExpression": "self.missing"}
    (error,) = schema_with(rule, missing=STRING).validate(obj())
    assert error.message == "Invalid value: no"


def test_a_rule_that_cannot_be_evaluated_says_why() -> None:
    (error,) = schema_with({"rule": "self.a < 3"}, a=INTEGER).validate(obj())
    assert error.message == 'Invalid value: "object": no such key: a evaluating rule: self.a < 3'


def test_a_rule_at_the_root_sees_the_objects_name() -> None:
    schema = StructuralSchema(
        {
            "type": "object",
            "properties": {"spec": {"type": "object", "properties": {"a": STRING}}},
            "x-kubernetes-validations": [{"rule": "self.metadata.name == self.spec.a", "message": "differs"}],
        }
    )
    (error,) = schema.validate(obj(a="x"))
    assert (error.field, error.message) == ("<nil>", "Invalid value: differs")
    assert not schema.validate(obj(a="n"))


def test_rules_are_left_out_and_said_so_where_the_schema_failed() -> None:
    schema = schema_with({"rule": "self.a < 3"}, a=INTEGER)
    errors = schema.validate(obj(a="x"))
    assert [error.field for error in errors] == ["spec.a", "<nil>"]
    assert errors[-1].message.startswith("Invalid value: null: some validation rules were not checked")


def test_a_rule_with_old_self_runs_on_updates_only() -> None:
    schema = schema_with({"rule": "self.a >= oldSelf.a", "message": "only grows"}, a=INTEGER)
    assert not schema.validate(obj(a=1))
    assert not schema.validate(obj(a=2), obj(a=1))
    (error,) = schema.validate(obj(a=1), obj(a=2))
    assert error.message == "Invalid value: only grows"


def test_an_optional_old_self_runs_on_creation_too() -> None:
    rule = {"rule": "oldSelf.hasValue() || self.a == 1", "optionalOldSelf": True, "message": "starts at 1"}
    schema = schema_with(rule, a=INTEGER)
    assert len(schema.validate(obj(a=2))) == 1
    assert not schema.validate(obj(a=2), obj(a=1))


def test_old_items_are_found_by_their_keys() -> None:
    item = {
        "type": "object",
        "properties": {"k": STRING, "v": STRING},
        "x-kubernetes-validations": [{"rule": "self.v == oldSelf.v", "message": "fixed"}],
    }
    parts = {
        "type": "array",
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["k"],
    }
    schema = schema_with(parts=parts)
    old = obj(parts=[{"k": "a", "v": "1"}, {"k": "b", "v": "2"}])
    assert not schema.validate(obj(parts=[{"k": "b", "v": "2"}, {"k": "c", "v": "9"}]), old)
    (error,) = schema.validate(obj(parts=[{"k": "c", "v": "1"}, {"k": "b", "v": "1"}]), old)
    assert error.field == "spec.parts[1]"


def test_an_old_failure_of_a_rule_does_not_block_a_change_elsewhere() -> None:
    nested = {
        "type": "object",
        "properties": {"a": INTEGER},
        "x-kubernetes-validations": [{"rule": "self.a < 3"}],
    }
    schema = schema_with(nested=nested, other=INTEGER)
    old = obj(nested={"a": 9}, other=1)
    assert not schema.validate(obj(nested={"a": 9}, other=2), old)
    assert schema.validate(obj(nested={"a": 8}, other=1), old)


def test_a_broken_rule_counts_even_if_the_field_that_it_names_did_not_change() -> None:
    rule = {"rule": "self.low <= self.high", "fieldPath": ".high", "message": "too low"}
    schema = schema_with(rule, low=INTEGER, high=INTEGER)
    (error,) = schema.validate(obj(low=5, high=3), obj(low=1, high=3))
    assert error.field == "spec.high"


@pytest.mark.parametrize(
    ("rule", "properties", "good", "bad"),
    [
        # Shapes that rules of well-known definitions have.
        (
            "self.all(l, !(l.protocol in ['HTTP', 'TCP', 'UDP']) || !has(l.tls))",
            None,
            [{"protocol": "HTTPS", "tls": {}}, {"protocol": "HTTP"}],
            [{"protocol": "HTTP", "tls": {}}],
        ),
        (
            "self.all(l1, self.exists_one(l2, l1.name == l2.name))",
            None,
            [{"name": "a"}, {"name": "b"}],
            [{"name": "a"}, {"name": "a"}],
        ),
        (
            "size(self) <= 1 || self.all(p, has(p.name) && p.name.matches('^[a-z]+$'))",
            None,
            [{"name": "a"}, {"name": "b"}],
            [{"name": "a"}, {"name": "B"}],
        ),
    ],
)
def test_rules_of_well_known_definitions_work(rule: str, properties: None, good: Any, bad: Any) -> None:
    items = {
        "type": "object",
        "properties": {
            "name": STRING,
            "protocol": STRING,
            "tls": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    listeners = {"type": "array", "items": items, "x-kubernetes-validations": [{"rule": rule}]}
    schema = schema_with(listeners=listeners)
    assert not schema.validate(obj(listeners=good))
    assert len(schema.validate(obj(listeners=bad))) == 1


def test_names_that_are_no_identifiers_are_escaped() -> None:
    schema = schema_with(
        {"rule": "self.my__dash__key > 1 && self.__namespace__ == 'x'"},
        **{"my-key": INTEGER, "namespace": STRING},
    )
    assert not schema.validate(obj(**{"my-key": 2, "namespace": "x"}))
    assert schema.validate(obj(**{"my-key": 1, "namespace": "x"}))


def test_a_rule_that_loops_too_long_is_cut_off() -> None:
    numbers = {"type": "array", "items": INTEGER}
    schema = schema_with({"rule": "self.n.all(a, self.n.all(b, self.n.all(c, a + b + c >= 0)))"}, n=numbers)
    (error,) = schema.validate(obj(n=[1] * 200))
    assert "cost limit exceeded" in error.message


def test_lists_of_times_hold_the_values_that_loops_see() -> None:
    durations = {"type": "array", "maxItems": 9, "items": {"type": "string", "format": "duration"}}
    within = schema_with(
        {"rule": "self.l.all(x, x in self.l) && self.l.indexOf(self.l[1]) == 1"}, l=durations
    )
    assert not within.validate(obj(l=["1h30m", "1s"]))
    twice = schema_with({"rule": "self.l.all(x, self.l.indexOf(x) == self.l.lastIndexOf(x))"}, l=durations)
    assert twice.validate(obj(l=["1h", "1s", "60m"]))
    many = schema_with(
        {"rule": "self.m['a'][0] in self.m['b']"}, m={"type": "object", "additionalProperties": durations}
    )
    assert not many.validate(obj(m={"a": ["1m"], "b": ["1s", "60s"]}))
