"""What a schema in a definition must be: of known words, structural, with rules that compile and valid defaults.

A field is named as `PREFIX.properties[spec].items.type`. Rules are looked at where the schema below is in order,
defaults only if all of it is; texts as kube-apiserver has them.
"""

from __future__ import annotations

from typing import Any, Final

from kajitori.laptop.apiserver.crd.declared_rules import RulePlace, check_default, check_rules, rule_words
from kajitori.laptop.apiserver.crd.rule_costs import Costs, times_below
from kajitori.laptop.apiserver.crd.structure import structure_errors
from kajitori.laptop.apiserver.status import (
    FieldError,
    forbidden_field,
    invalid_value,
    required,
    unsupported_value,
)

_TYPES: Final = ("array", "boolean", "integer", "number", "object", "string")
_UNSUPPORTED: Final = ("id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref")
_COMBINATIONS: Final = ("allOf", "oneOf", "anyOf")
_RESOURCE_FIELDS: Final = ("apiVersion", "kind", "metadata")
_DEEPEST: Final = 100

Schema = dict[str, Any]


def schema_errors(schema: Schema, prefix: str) -> list[FieldError]:
    """All that is wrong with the schema of a version; prefix: the field that holds it."""
    if _depth(schema) > _DEEPEST:
        return [forbidden_field(prefix, f"must not be nested more than {_DEEPEST} levels deep")]
    costs = Costs()
    errors = _check(schema, prefix, _Place(costs, root=True, occurs=1))
    errors += [] if any(_is_unknown(error) for error in errors) else structure_errors(schema, prefix)
    if not errors:
        _check_defaults(schema, prefix, errors, root=True)
    return errors + costs.together(prefix)


def _is_unknown(error: FieldError) -> bool:
    return error.message.endswith(" is not supported") or error.message.endswith("and not an array")


def _depth(schema: Schema) -> int:
    """How deep schemas are nested; found without recursion, since they may be deeper than the stack."""
    deepest, waiting = 0, [(schema, 0)]
    while waiting and deepest <= _DEEPEST:
        node, depth = waiting.pop()
        deepest = max(deepest, depth)
        waiting += [(child, depth + 1) for _, child in _children(node)]
    return deepest


def _children(schema: Schema) -> list[tuple[str, Schema]]:
    """Schemas right below one, with their places."""
    found: list[tuple[str, Any]] = [("additionalProperties", schema.get("additionalProperties"))]
    found += [(f"properties[{name}]", child) for name, child in (schema.get("properties") or {}).items()]
    found.append(("not", schema.get("not")))
    for key in _COMBINATIONS:
        found += [(f"{key}[{index}]", part) for index, part in enumerate(schema.get(key) or ())]
    found.append(("items", schema.get("items")))
    return [(place, child) for place, child in found if isinstance(child, dict)]


class _Place:
    """What holds around a node. combination: inside one, where rules are not looked at. unmatched: the field
    from which on an old value cannot be told from the new one. metadata: inside the metadata at the root. occurs: how
    often there can be data of the node; None: there is no bound."""

    def __init__(
        self,
        costs: Costs,
        *,
        root: bool = False,
        combination: bool = False,
        unmatched: str = "",
        metadata: str = "",
        occurs: int | None = None,
    ) -> None:
        self.costs = costs
        self.occurs = occurs
        self.root = root
        self.combination = combination
        self.unmatched = unmatched
        self.metadata = metadata

    def below(self, schema: Schema, field: str, step: str) -> _Place:
        unmatched, metadata = self.unmatched, self.metadata
        if step == "items" and schema.get("x-kubernetes-list-type") != "map":
            unmatched = unmatched or field
        if self.root and step.removeprefix("properties[").removesuffix("]") in _RESOURCE_FIELDS:
            metadata = step.removeprefix("properties[").removesuffix("]")
        inside = self.combination or step.partition("[")[0] in ("not", *_COMBINATIONS)
        return _Place(
            self.costs,
            combination=inside,
            unmatched=unmatched,
            metadata=metadata,
            occurs=times_below(schema, self.occurs),
        )


def _check(schema: Schema, field: str, place: _Place) -> list[FieldError]:
    """One node and all below it."""
    errors = _words(schema, field, place)
    below: list[FieldError] = []
    for step, child in _children(schema):
        below += _check(child, f"{field}.{step}", place.below(schema, field, step))
    errors += below
    errors += _extensions(schema, field)
    rules: list[Schema] = schema.get("x-kubernetes-validations") or []
    for index, rule in enumerate(rules):
        errors += rule_words(rule, schema, f"{field}.x-kubernetes-validations[{index}]")
    if rules and not errors and not place.combination:
        at = RulePlace(field, place.root, place.unmatched, place.occurs)
        check_rules(schema, at, place.costs, errors)
    return errors


def _words(schema: Schema, field: str, place: _Place) -> list[FieldError]:
    errors: list[FieldError] = []
    kind = schema.get("type")
    if kind and kind not in _TYPES:
        errors.append(unsupported_value(f"{field}.type", kind, _TYPES))
    if place.metadata and schema.get("default") is not None:
        errors.append(forbidden_field(f"{field}.default", f"must not be set in top-level {place.metadata}"))
    errors += [
        forbidden_field(f"{field}.{key}", f"{key} is not supported")
        for key in _UNSUPPORTED
        if schema.get(key)
    ]
    if kind == "null":
        words = "type cannot be set to null, use nullable as an alternative"
        errors.append(forbidden_field(f"{field}.type", words))
    if isinstance(schema.get("items"), list):
        errors.append(forbidden_field(f"{field}.items", "items must be a schema object and not an array"))
    if schema.get("uniqueItems"):
        words = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        errors.append(forbidden_field(f"{field}.uniqueItems", words))
    if schema.get("properties") and schema.get("additionalProperties") not in (None, True):
        words = "additionalProperties and properties are mutual exclusive"
        errors.append(forbidden_field(f"{field}.additionalProperties", words))
    return errors


def _extensions(schema: Schema, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if schema.get("x-kubernetes-preserve-unknown-fields") is False:
        place = f"{field}.x-kubernetes-preserve-unknown-fields"
        errors.append(invalid_value(place, False, "must be true or undefined"))
    kind, map_type = schema.get("type") or "", schema.get("x-kubernetes-map-type")
    if map_type is not None:
        if kind != "object":
            words = "must be object if x-kubernetes-map-type is specified"
            errors.append(_required_or_invalid(f"{field}.type", kind, words))
        if map_type not in ("atomic", "granular"):
            place = f"{field}.x-kubernetes-map-type"
            errors.append(unsupported_value(place, map_type, ("atomic", "granular")))
    return errors + _list_type(schema, field)


def _required_or_invalid(field: str, value: str, words: str) -> FieldError:
    return invalid_value(field, value, words) if value else required(field, words)


def _list_type(schema: Schema, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    list_type, kind = schema.get("x-kubernetes-list-type"), schema.get("type") or ""
    items: Any = schema.get("items")
    place = f"{field}.x-kubernetes-list-type"
    if list_type is not None and kind != "array":
        words = "must be array if x-kubernetes-list-type is specified"
        errors.append(_required_or_invalid(f"{field}.type", kind, words))
    elif list_type == "set" and isinstance(items, dict):
        errors += _set_items(items, f"{field}.items")
    if list_type not in (None, "atomic", "set", "map"):
        errors.append(unsupported_value(place, list_type, ("atomic", "set", "map")))
    keys: list[str] = schema.get("x-kubernetes-list-map-keys") or []
    if keys and list_type != "map":
        words = "must be map if x-kubernetes-list-map-keys is non-empty"
        errors.append(required(place, words) if list_type is None else invalid_value(place, list_type, words))
    if list_type == "map":
        errors += _list_keys(keys, items, field)
    if list_type in ("set", "map") and isinstance(items, dict) and items.get("nullable"):
        words = f"cannot be nullable when x-kubernetes-list-type is {list_type}"
        errors.append(forbidden_field(f"{field}.items.nullable", words))
    if list_type == "map" and isinstance(items, dict):
        errors += _keys_are_there(keys, items, field)
    return errors


def _set_items(items: Schema, field: str) -> list[FieldError]:
    words = "must be atomic as item of a list with x-kubernetes-list-type=set"
    inner = items.get("x-kubernetes-list-type")
    if items.get("type") == "array" and inner not in (None, "atomic"):
        return [invalid_value(f"{field}.x-kubernetes-list-type", inner, words)]
    if items.get("type") == "object" and items.get("x-kubernetes-map-type") != "atomic":
        return [invalid_value(f"{field}.x-kubernetes-map-type", inner, words)]
    return []


def _list_keys(keys: list[str], items: Any, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    place = f"{field}.x-kubernetes-list-map-keys"
    if not keys:
        errors.append(required(place, "must not be empty if x-kubernetes-list-type is map"))
    if items is None:
        words = "must have a schema if x-kubernetes-list-type is map"
        return [*errors, required(f"{field}.items", words)]
    if not isinstance(items, dict):
        return errors
    if items.get("type") != "object":
        words = "must be object if parent array's x-kubernetes-list-type is map"
        return [*errors, invalid_value(f"{field}.items.type", items.get("type") or "", words)]
    properties: Schema = items.get("properties") or {}
    for index, key in enumerate(keys):
        if key not in properties:
            errors.append(invalid_value(place, keys, "entries must all be names of item properties"))
        elif properties[key].get("type") in ("array", "object"):
            words = "must be a scalar type if parent array's x-kubernetes-list-type is map"
            errors.append(invalid_value(f"{field}.items.properties[{key}].type", "object", words))
        if key in keys[:index]:
            errors.append(invalid_value(place, keys, "must not contain duplicate entries"))
    return errors


def _keys_are_there(keys: list[str], items: Schema, field: str) -> list[FieldError]:
    """Each item has its keys: they are required or have a default, and are not null."""
    errors: list[FieldError] = []
    properties: Schema = items.get("properties") or {}
    needed: set[str] = set(items.get("required") or ())
    said = "this property is in x-kubernetes-list-map-keys, so it"
    for key in keys:
        if key not in properties:
            continue
        place = f"{field}.items.properties[{key}]"
        if key not in needed and properties[key].get("default") is None:
            words = f"{said} must have a default or be a required property"
            errors.append(required(f"{place}.default", words))
        if properties[key].get("nullable"):
            errors.append(forbidden_field(f"{place}.nullable", f"{said} cannot be nullable"))
    return errors


def _check_defaults(schema: Schema, field: str, errors: list[FieldError], *, root: bool = False) -> None:
    if schema.get("default") is not None:
        check_default(schema, field, errors, root=root)
    if isinstance(schema.get("items"), dict):
        _check_defaults(schema["items"], f"{field}.items", errors)
    for name, child in (schema.get("properties") or {}).items():
        _check_defaults(child, f"{field}.properties[{name}]", errors)
