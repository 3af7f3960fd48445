"""Whether a schema is structural: each field has one type, and combinations (allOf, anyOf, oneOf, not) only restrict.

Source of the rules: the Kubernetes documentation, "Specifying a structural schema"; texts as kube-apiserver has
them.
"""

from __future__ import annotations

from typing import Any, Final

from kajitori.base.cel.errors import EvaluationError
from kajitori.base.cel.regular import compile_pattern
from kajitori.laptop.apiserver.status import FieldError, forbidden_field, invalid_value, required

_COMBINATIONS: Final = ("allOf", "anyOf", "oneOf")
_INT_OR_STRING: Final = [{"type": "integer"}, {"type": "string"}]
# What may not stand in a combination, and how that is said.
_ONLY_OUTSIDE: Final = {
    "type": "empty",
    "additionalProperties": "undefined",
    "default": "undefined",
    "title": "empty",
    "description": "empty",
    "nullable": "false",
    "x-kubernetes-preserve-unknown-fields": "false",
    "x-kubernetes-embedded-resource": "false",
    "x-kubernetes-int-or-string": "false",
    "x-kubernetes-list-map-keys": "empty",
    "x-kubernetes-list-type": "undefined",
    "x-kubernetes-map-type": "undefined",
    "x-kubernetes-validations": "empty",
}
Schema = dict[str, Any]


def structure_errors(schema: Schema, prefix: str) -> list[FieldError]:
    """What keeps a schema from being structural, in the order of its words; prefix: the field that holds it."""
    errors: list[FieldError] = []
    _check(schema, prefix, errors, "root")
    _check_complete(schema, schema, prefix, prefix, errors)
    return sorted(errors, key=str)


def _check(schema: Schema, field: str, errors: list[FieldError], place: str) -> None:
    """One node and all below it. place: `root`, `object fields` or `array items`."""
    items, additional = schema.get("items"), schema.get("additionalProperties")
    if isinstance(items, dict):
        _check(items, f"{field}.items", errors, "array items")
    elif schema.get("type") == "array":
        errors.append(required(f"{field}.items", "must be specified"))
    for name, child in (schema.get("properties") or {}).items():
        _check(child, f"{field}.properties[{name}]", errors, "object fields")
    if additional is not None and place == "root":
        errors.append(forbidden_field(f"{field}.additionalProperties", "must not be used at the root"))
    if isinstance(additional, dict):
        _check(additional, f"{field}.additionalProperties", errors, "object fields")
    if schema.get("x-kubernetes-int-or-string"):
        for key in ("x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"):
            if schema.get(key):
                words = "must be false if x-kubernetes-int-or-string is true"
                errors.append(invalid_value(f"{field}.{key}", True, words))
    _check_values(schema, field, errors, spelled=True)
    _check_type(schema, field, errors, place)
    _check_resource(schema, field, errors, place)


def _check_type(schema: Schema, field: str, errors: list[FieldError], place: str) -> None:
    kind: str = schema.get("type") or ""
    embedded = bool(schema.get("x-kubernetes-embedded-resource"))
    exempt = schema.get("x-kubernetes-int-or-string") or schema.get("x-kubernetes-preserve-unknown-fields")
    if embedded and kind != "object":
        words = "must be object if x-kubernetes-embedded-resource is true"
        errors.append(_required_or_invalid(f"{field}.type", kind, words))
    elif not kind and not exempt:
        words = (
            "must not be empty at the root" if place == "root" else f"must not be empty for specified {place}"
        )
        errors.append(required(f"{field}.type", words))
    if place == "root" and kind and kind != "object":
        errors.append(invalid_value(f"{field}.type", kind, "must be object at the root"))
    if embedded and schema.get("additionalProperties") is not None:
        words = "must not be used if x-kubernetes-embedded-resource is set"
        errors.append(forbidden_field(f"{field}.additionalProperties", words))


def _required_or_invalid(field: str, value: str, words: str) -> FieldError:
    return invalid_value(field, value, words) if value else required(field, words)


def _check_resource(schema: Schema, field: str, errors: list[FieldError], place: str) -> None:
    """What an object with a kind may say about its kind, its version and its metadata."""
    properties: Schema = schema.get("properties") or {}
    embedded = bool(schema.get("x-kubernetes-embedded-resource"))
    if embedded and not properties and not schema.get("x-kubernetes-preserve-unknown-fields"):
        words = (
            "must not be empty if x-kubernetes-embedded-resource is true without "
            "x-kubernetes-preserve-unknown-fields"
        )
        errors.append(required(f"{field}.properties", words))
    if place != "root" and not embedded:
        return
    for name, kind in (("kind", "string"), ("apiVersion", "string"), ("metadata", "object")):
        said: Schema | None = properties.get(name)
        if said is not None and said.get("type") != kind:
            words = f"must be {kind}"
            errors.append(invalid_value(f"{field}.properties[{name}].type", said.get("type") or "", words))
    if place == "root" and _says_more(properties.get("metadata") or {}):
        words = (
            "must not specify anything other than name and generateName, but metadata is implicitly specified"
        )
        errors.append(forbidden_field(f"{field}.properties[metadata]", words))


def _says_more(metadata: Schema) -> bool:
    extra = set(metadata.get("properties") or {}) - {"name", "generateName"}
    return bool(extra) or any(
        metadata[key] for key in metadata if key not in ("type", "default", "properties")
    )


def _check_values(schema: Schema, field: str, errors: list[FieldError], *, spelled: bool = False) -> None:
    """The combinations of a node and its pattern. spelled: int-or-string may be said there once more."""
    for key in _COMBINATIONS:
        parts: list[Schema] = schema.get(key) or []
        if spelled and key == "anyOf" and parts == _INT_OR_STRING:
            continue
        for index, part in enumerate(parts):
            again = spelled and key == "allOf" and index == 0
            _check_part(part, f"{field}.{key}[{index}]", errors, spelled=again)
    if schema.get("not"):
        _check_part(schema["not"], f"{field}.not", errors)
    pattern = schema.get("pattern")
    if not pattern:
        return
    try:
        compile_pattern(pattern)
    except EvaluationError as error:
        words = f"must be a valid regular expression, but isn't: {error.message}"
        errors.append(invalid_value(f"{field}.pattern", pattern, words))


def _check_part(part: Schema, field: str, errors: list[FieldError], *, spelled: bool = False) -> None:
    """A part of a combination: only restrictions."""
    _check_values(part, field, errors, spelled=spelled)
    if isinstance(part.get("items"), dict):
        _check_part(part["items"], f"{field}.items", errors)
    for name, child in (part.get("properties") or {}).items():
        _check_part(child, f"{field}.properties[{name}]", errors)
        if name == "metadata":
            words = "must not be specified in a nested context"
            errors.append(forbidden_field(f"{field}.properties[metadata]", words))
    errors += [
        forbidden_field(f"{field}.{key}", f"must be {state} to be structural")
        for key, state in _ONLY_OUTSIDE.items()
        if part.get(key)
    ]


def _check_complete(
    part: Schema, outside: Any, outside_field: str, field: str, errors: list[FieldError]
) -> None:
    """What the combinations at the root restrict is specified outside of them. field: where the part is."""
    if not isinstance(outside, dict):
        errors.append(required(outside_field, f"because it is defined in {field}"))
        return
    for place, branch in _branches(part, field):
        _check_complete(branch, outside, outside_field, place, errors)
        if isinstance(branch.get("items"), dict):
            inner: Any = outside.get("items")
            _check_complete(branch["items"], inner, f"{outside_field}.items", f"{place}.items", errors)
        known: Schema = outside.get("properties") or {}
        for name, child in (branch.get("properties") or {}).items():
            where = f"properties[{name}]"
            _check_complete(child, known.get(name), f"{outside_field}.{where}", f"{place}.{where}", errors)


def _branches(part: Schema, field: str) -> list[tuple[str, Schema]]:
    found: list[tuple[str, Schema]] = [("not", part["not"])] if part.get("not") else []
    for key in _COMBINATIONS:
        found += [(f"{key}[{index}]", branch) for index, branch in enumerate(part.get(key) or ())]
    return [(f"{field}.{place}", branch) for place, branch in found]
