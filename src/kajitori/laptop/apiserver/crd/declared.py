"""What a schema in a definition must be: structural, with rules that compile and defaults that are valid.

Source of the rules: the Kubernetes documentation, "Specifying a structural schema"; texts as kube-apiserver has
them. A field is named as `PREFIX.properties[spec].items.type`.
"""

from __future__ import annotations

from typing import Any, Final

from kajitori.base.cel.errors import EvaluationError
from kajitori.base.cel.regular import compile_pattern
from kajitori.laptop.apiserver.crd.declared_rules import check_default, check_rules
from kajitori.laptop.apiserver.status import (
    FieldError,
    forbidden_field,
    invalid_value,
    required,
    unsupported_value,
)

_TYPES: Final = ("array", "boolean", "integer", "number", "object", "string")
_UNSUPPORTED: Final = ("$ref", "definitions", "dependencies", "patternProperties", "additionalItems", "id")
_NOT_IN_COMBINATIONS: Final = (
    "type",
    "default",
    "description",
    "title",
    "nullable",
    "additionalProperties",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
    "x-kubernetes-validations",
)
_COMBINATIONS: Final = ("allOf", "anyOf", "oneOf")
_INT_OR_STRING: Final = [{"type": "integer"}, {"type": "string"}]
_DEEPEST: Final = 100

Schema = dict[str, Any]


def schema_errors(schema: Schema, prefix: str) -> list[FieldError]:
    """All that is wrong with the schema of a version; prefix: the field that holds it."""
    errors: list[FieldError] = []
    if schema.get("type") and schema["type"] != "object":
        errors.append(invalid_value(f"{prefix}.type", schema["type"], "must be object at the root"))
    elif not schema.get("type"):
        errors.append(required(f"{prefix}.type", "must not be empty at the root"))
    if schema.get("x-kubernetes-embedded-resource"):
        errors.append(
            forbidden_field(f"{prefix}.x-kubernetes-embedded-resource", "must not be used at the root")
        )
    _check_root_metadata(schema, prefix, errors)
    _check(schema, prefix, errors, place="root", matched=True, depth=0)
    return errors


def _check_root_metadata(schema: Schema, prefix: str, errors: list[FieldError]) -> None:
    metadata: Schema = (schema.get("properties") or {}).get("metadata") or {}
    extra = set(metadata.get("properties") or {}) - {"name", "generateName"}
    if extra:
        errors.append(
            forbidden_field(
                f"{prefix}.properties[metadata]",
                "must not specify anything other than name and generateName, but metadata is implicitly specified",
            )
        )


def _check(
    schema: Schema, field: str, errors: list[FieldError], *, place: str, matched: bool, depth: int
) -> None:
    """One node and all below it.

    place: what the node is to its parent. matched: an old value at this place can be told on updates.
    """
    if depth > _DEEPEST:
        errors.append(forbidden_field(field, f"must not be nested more than {_DEEPEST} levels deep"))
        return
    if place != "root":
        _check_type(schema, field, errors, place)
    _check_keywords(schema, field, errors)
    _check_extensions(schema, field, errors)
    for key in _COMBINATIONS:
        for index, part in enumerate(schema.get(key) or ()):
            if not _spells_int_or_string(schema):
                _check_combination(part, schema, f"{field}.{key}[{index}]", field, errors, depth)
    if schema.get("not"):
        _check_combination(schema["not"], schema, f"{field}.not", field, errors, depth)
    check_rules(schema, field, errors, root=place == "root", matched=matched)
    if "default" in schema and schema["default"] is not None:
        check_default(schema, field, errors, root=place == "root")
    _check_children(schema, field, errors, matched=matched, depth=depth)


def _check_children(
    schema: Schema, field: str, errors: list[FieldError], *, matched: bool, depth: int
) -> None:
    for name, child in (schema.get("properties") or {}).items():
        _check(
            child,
            f"{field}.properties[{name}]",
            errors,
            place="object fields",
            matched=matched,
            depth=depth + 1,
        )
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict) and additional:
        _check(
            additional,
            f"{field}.additionalProperties",
            errors,
            place="object fields",
            matched=matched,
            depth=depth + 1,
        )
    items = schema.get("items")
    if isinstance(items, dict):
        by_key = matched and schema.get("x-kubernetes-list-type") == "map"
        _check(items, f"{field}.items", errors, place="array items", matched=by_key, depth=depth + 1)
    elif isinstance(items, list):
        errors.append(forbidden_field(f"{field}.items", "items must be a schema object and not an array"))
    elif schema.get("type") == "array":
        errors.append(required(f"{field}.items", "must be specified"))


def _check_type(schema: Schema, field: str, errors: list[FieldError], place: str) -> None:
    kind = schema.get("type")
    exempt = schema.get("x-kubernetes-int-or-string") or schema.get("x-kubernetes-preserve-unknown-fields")
    if not kind:
        if not exempt:
            errors.append(required(f"{field}.type", f"must not be empty for specified {place}"))
    elif kind not in _TYPES:
        errors.append(unsupported_value(f"{field}.type", kind, _TYPES))
    elif schema.get("x-kubernetes-int-or-string"):
        errors.append(
            invalid_value(f"{field}.type", kind, "must be empty if x-kubernetes-int-or-string is true")
        )


def _spells_int_or_string(schema: Schema) -> bool:
    """The two spellings in which `x-kubernetes-int-or-string` may be said twice."""
    if not schema.get("x-kubernetes-int-or-string"):
        return False
    if schema.get("anyOf") == _INT_OR_STRING:
        return True
    parts = schema.get("allOf") or []
    return bool(parts) and parts[0].get("anyOf") == _INT_OR_STRING


def _check_keywords(schema: Schema, field: str, errors: list[FieldError]) -> None:
    errors += [
        forbidden_field(f"{field}.{key}", f"{key} is not supported")
        for key in _UNSUPPORTED
        if schema.get(key)
    ]
    if schema.get("uniqueItems"):
        errors.append(
            forbidden_field(
                f"{field}.uniqueItems",
                "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            )
        )
    if schema.get("properties") and schema.get("additionalProperties"):
        errors.append(
            forbidden_field(
                f"{field}.additionalProperties", "additionalProperties and properties are mutual exclusive"
            )
        )
    if schema.get("additionalProperties") is False:
        errors.append(
            forbidden_field(f"{field}.additionalProperties", "additionalProperties cannot be set to false")
        )
    pattern = schema.get("pattern")
    if pattern:
        try:
            compile_pattern(pattern)
        except EvaluationError as error:
            errors.append(
                invalid_value(
                    f"{field}.pattern",
                    pattern,
                    f"must be a valid regular expression, but isn't: {error.message}",
                )
            )


def _check_extensions(schema: Schema, field: str, errors: list[FieldError]) -> None:
    kind = schema.get("type")
    if schema.get("x-kubernetes-preserve-unknown-fields") and kind not in (None, "", "object"):
        errors.append(
            invalid_value(
                f"{field}.type", kind, "must be object if x-kubernetes-preserve-unknown-fields is true"
            )
        )
    if schema.get("x-kubernetes-embedded-resource"):
        if kind != "object":
            errors.append(
                invalid_value(
                    f"{field}.type", kind or "", "must be object if x-kubernetes-embedded-resource is true"
                )
            )
        elif not schema.get("properties") and not schema.get("x-kubernetes-preserve-unknown-fields"):
            errors.append(
                required(
                    f"{field}.properties",
                    "must not be empty if x-kubernetes-embedded-resource is true without "
                    "x-kubernetes-preserve-unknown-fields",
                )
            )
    _check_list_type(schema, field, errors)
    map_type = schema.get("x-kubernetes-map-type")
    if map_type is not None:
        if map_type not in ("atomic", "granular"):
            errors.append(
                unsupported_value(f"{field}.x-kubernetes-map-type", map_type, ("atomic", "granular"))
            )
        if kind != "object":
            errors.append(
                invalid_value(
                    f"{field}.type", kind or "", "must be object if x-kubernetes-map-type is specified"
                )
            )


def _check_list_type(schema: Schema, field: str, errors: list[FieldError]) -> None:
    list_type = schema.get("x-kubernetes-list-type")
    keys: list[str] | None = schema.get("x-kubernetes-list-map-keys")
    if list_type is None:
        if keys:
            errors.append(
                required(
                    f"{field}.x-kubernetes-list-type",
                    "must be map if x-kubernetes-list-map-keys is non-empty",
                )
            )
        return
    if list_type not in ("atomic", "map", "set"):
        errors.append(
            unsupported_value(f"{field}.x-kubernetes-list-type", list_type, ("atomic", "map", "set"))
        )
    if schema.get("type") != "array":
        errors.append(
            invalid_value(
                f"{field}.type",
                schema.get("type") or "",
                "must be array if x-kubernetes-list-type is specified",
            )
        )
        return
    items: Any = schema.get("items")
    if not isinstance(items, dict):
        return
    if list_type == "map":
        _check_list_keys(schema, items, field, errors)
    elif list_type == "set" and (
        (items.get("type") == "object" and items.get("x-kubernetes-map-type") != "atomic")
        or (items.get("type") == "array" and items.get("x-kubernetes-list-type", "atomic") != "atomic")
    ):
        errors.append(
            invalid_value(
                f"{field}.items.type",
                items.get("type"),
                "items of a list whose x-kubernetes-list-type is set must be scalars, or atomic maps or lists",
            )
        )


def _check_list_keys(schema: Schema, items: Schema, field: str, errors: list[FieldError]) -> None:
    keys: list[str] = schema.get("x-kubernetes-list-map-keys") or []
    if not keys:
        errors.append(
            required(
                f"{field}.x-kubernetes-list-map-keys", "must not be empty if x-kubernetes-list-type is map"
            )
        )
    if items.get("type") != "object":
        errors.append(
            invalid_value(
                f"{field}.items.type",
                items.get("type") or "",
                "must be object if parent array's x-kubernetes-list-type is map",
            )
        )
        return
    properties: Schema = items.get("properties") or {}
    needed: set[str] = set(items.get("required") or ())
    for index, key in enumerate(keys):
        if key not in properties:
            errors.append(
                invalid_value(
                    f"{field}.x-kubernetes-list-map-keys[{index}]",
                    key,
                    "entries must all be names of item properties",
                )
            )
        elif key not in needed and properties[key].get("default") is None:
            errors.append(
                required(
                    f"{field}.items.properties[{key}].default",
                    "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required "
                    "property",
                )
            )
        elif properties[key].get("nullable"):
            errors.append(
                forbidden_field(
                    f"{field}.items.properties[{key}].nullable",
                    "this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
                )
            )


def _check_combination(
    part: Schema, outside: Schema, field: str, outside_field: str, errors: list[FieldError], depth: int
) -> None:
    """A part of allOf, anyOf, oneOf or not: only restrictions, and only of fields specified outside.

    outside, outside_field: the structural node that the part restricts, and where it is.
    """
    if depth > _DEEPEST:
        errors.append(forbidden_field(field, f"must not be nested more than {_DEEPEST} levels deep"))
        return
    errors += [
        forbidden_field(f"{field}.{key}", "must be empty to be structural")
        for key in _NOT_IN_COMBINATIONS
        if part.get(key)
    ]
    _check_keywords({key: part.get(key) for key in ("pattern", "uniqueItems", "$ref")}, field, errors)
    known: Schema = outside.get("properties") or {}
    additional: Any = outside.get("additionalProperties")
    for name, child in (part.get("properties") or {}).items():
        place, outer = f"{field}.properties[{name}]", f"{outside_field}.properties[{name}]"
        if name not in known and not isinstance(additional, dict):
            errors.append(required(outer, f"because it is defined in {place}"))
        _check_combination(child, known.get(name) or {}, place, outer, errors, depth + 1)
    inner: Any = part.get("items")
    if isinstance(inner, dict):
        items: Any = outside.get("items")
        _check_combination(
            inner,
            items if isinstance(items, dict) else {},
            f"{field}.items",
            f"{outside_field}.items",
            errors,
            depth + 1,
        )
    for key in _COMBINATIONS:
        for index, branch in enumerate(part.get(key) or ()):
            _check_combination(branch, outside, f"{field}.{key}[{index}]", outside_field, errors, depth + 1)
    if part.get("not"):
        _check_combination(part["not"], outside, f"{field}.not", outside_field, errors, depth + 1)
