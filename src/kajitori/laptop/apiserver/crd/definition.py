"""A CustomResourceDefinition itself: what it must be to be taken. Words as kube-apiserver has them."""

from __future__ import annotations

import re
from typing import Any, Final

from kajitori.laptop.apiserver.crd.declared import schema_errors
from kajitori.laptop.apiserver.crd.formats import KNOWN_FORMATS
from kajitori.laptop.apiserver.json_values import same
from kajitori.laptop.apiserver.status import (
    FieldError,
    duplicate,
    forbidden_field,
    invalid_value,
    required,
    too_many,
    unsupported_value,
)

_LABEL: Final = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_WORDS: Final = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
    "character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_DOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_DOMAIN_WORDS: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_COLUMN_TYPES: Final = ("boolean", "date", "integer", "number", "string")
_MOST_SELECTABLE_FIELDS: Final = 8
_SIMPLE_PATH: Final = re.compile(r"(?:\.[A-Za-z_][A-Za-z0-9_-]*|\['[^']+'\])+")

Definition = dict[str, Any]


def definition_warnings(definition: Definition) -> list[str]:
    """Formats that nobody checks."""
    unknown: set[str] = set()
    waiting: list[Any] = [_schema_of(version) for version in definition.get("spec", {}).get("versions") or ()]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, dict):
            continue
        if node.get("format") and node["format"] not in KNOWN_FORMATS:
            unknown.add(node["format"])
        waiting += [
            *(node.get("properties") or {}).values(),
            node.get("items"),
            node.get("additionalProperties"),
        ]
    return [f'unrecognized format "{form}"' for form in sorted(unknown)]


def definition_errors(new: Definition, old: Definition | None = None) -> list[FieldError]:
    """All that is wrong with a definition; old: the stored one when it is a change.

    A schema that has not changed is not judged again: what was taken once stays taken.
    """
    spec: Definition = new.get("spec") or {}
    errors = [*_group_and_name(new, spec), *_names(spec.get("names") or {})]
    scope = spec.get("scope")
    if not scope:
        errors.append(required("spec.scope"))
    elif scope not in ("Cluster", "Namespaced"):
        errors.append(unsupported_value("spec.scope", scope, ("Cluster", "Namespaced")))
    if spec.get("preserveUnknownFields"):
        errors.append(
            invalid_value(
                "spec.preserveUnknownFields",
                True,
                "must be false or omitted: set x-kubernetes-preserve-unknown-fields in the schema instead",
            )
        )
    errors += _versions(spec, (old or {}).get("spec") or {})
    errors += _conversion(spec.get("conversion") or {})
    if old is not None:
        errors += _unchanged(new, old)
    return errors


def _group_and_name(definition: Definition, spec: Definition) -> list[FieldError]:
    errors: list[FieldError] = []
    group = spec.get("group") or ""
    name = (definition.get("metadata") or {}).get("name") or ""
    wanted = f"{(spec.get('names') or {}).get('plural') or ''}.{group}"
    if name != wanted:
        errors.append(invalid_value("metadata.name", name, 'must be spec.names.plural+"."+spec.group'))
    if not group:
        errors.append(required("spec.group"))
    elif not _DOMAIN.fullmatch(group) or len(group) > 253:
        errors.append(invalid_value("spec.group", group, _DOMAIN_WORDS))
    elif "." not in group:
        errors.append(invalid_value("spec.group", group, "should be a domain with at least one dot"))
    return errors


def _names(names: Definition) -> list[FieldError]:
    errors: list[FieldError] = []
    for key, folded in (("plural", False), ("singular", False), ("kind", True), ("listKind", True)):
        value: str = names.get(key) or ""
        if not value:
            errors.append(required(f"spec.names.{key}"))
        elif not _LABEL.fullmatch(value.lower() if folded else value):
            words = (
                f"may have mixed case, but should otherwise match: {_LABEL_WORDS}" if folded else _LABEL_WORDS
            )
            errors.append(invalid_value(f"spec.names.{key}", value, words))
    for key in ("shortNames", "categories"):
        for index, value in enumerate(names.get(key) or ()):
            if not _LABEL.fullmatch(value):
                errors.append(invalid_value(f"spec.names.{key}[{index}]", value, _LABEL_WORDS))
    kind, list_kind = names.get("kind"), names.get("listKind")
    if kind and kind == list_kind:
        errors.append(
            invalid_value("spec.names.listKind", list_kind, "kind and listKind may not be the same")
        )
    return errors


def _versions(spec: Definition, old_spec: Definition) -> list[FieldError]:
    versions: list[Definition] = spec.get("versions") or []
    if not versions:
        return [required("spec.versions", "must have at least one version")]
    errors: list[FieldError] = []
    stored = [version.get("name") for version in versions if version.get("storage")]
    if len(stored) != 1:
        names = [str(name) for name in stored]
        errors.append(
            invalid_value("spec.versions", names, "must have exactly one version marked as storage version")
        )
    schemas = [_schema_of(version) for version in versions]
    hoisted = all(schema is not None and same(schema, schemas[0]) for schema in schemas)
    before = {version.get("name"): version for version in old_spec.get("versions") or ()}
    seen: set[str] = set()
    for index, version in enumerate(versions):
        place = f"spec.versions[{index}]"
        name: str = version.get("name") or ""
        if not _LABEL.fullmatch(name):
            errors.append(invalid_value(f"{place}.name", name, _LABEL_WORDS))
        if name in seen:
            errors.append(duplicate(f"{place}.name", name))
        seen.add(name)
        errors += _version(version, place)
        schema = schemas[index]
        if schema is None:
            errors.append(required(f"{place}.schema.openAPIV3Schema"))
            continue
        old_schema = _schema_of(before[name]) if name in before else None
        if (hoisted and index > 0) or (old_schema is not None and same(schema, old_schema)):
            continue
        errors += schema_errors(
            schema, "spec.validation.openAPIV3Schema" if hoisted else f"{place}.schema.openAPIV3Schema"
        )
    return errors


def _schema_of(version: Definition) -> Definition | None:
    found: Any = (version.get("schema") or {}).get("openAPIV3Schema")
    return found if isinstance(found, dict) else None


def _version(version: Definition, place: str) -> list[FieldError]:
    errors = _columns(version.get("additionalPrinterColumns") or [], place)
    if version.get("deprecationWarning") and not version.get("deprecated"):
        errors.append(
            invalid_value(
                f"{place}.deprecationWarning",
                version["deprecationWarning"],
                "can only be set for deprecated versions",
            )
        )
    scale: Definition | None = (version.get("subresources") or {}).get("scale")
    if scale is not None:
        errors += _scale(scale, f"{place}.subresources.scale")
    errors += _selectable_fields(version, place)
    return errors


def _columns(columns: list[Definition], place: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, column in enumerate(columns):
        field = f"{place}.additionalPrinterColumns[{index}]"
        if not column.get("name"):
            errors.append(required(f"{field}.name"))
        kind = column.get("type") or ""
        if not kind:
            errors.append(required(f"{field}.type", f"must be one of {','.join(_COLUMN_TYPES)}"))
        elif kind not in _COLUMN_TYPES:
            errors.append(invalid_value(f"{field}.type", kind, f"must be one of {','.join(_COLUMN_TYPES)}"))
        path: str = column.get("jsonPath") or ""
        if not path:
            errors.append(required(f"{field}.jsonPath"))
        elif not path.startswith("."):
            errors.append(
                invalid_value(f"{field}.jsonPath", path, "must be a JSON path that starts with a dot")
            )
    return errors


def _scale(scale: Definition, place: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for key, under, needed in (
        ("specReplicasPath", (".spec.",), True),
        ("statusReplicasPath", (".status.",), True),
        ("labelSelectorPath", (".spec.", ".status."), False),
    ):
        path: str = scale.get(key) or ""
        if not path:
            if needed:
                errors.append(required(f"{place}.{key}"))
            continue
        if not _SIMPLE_PATH.fullmatch(path) or "[" in path:
            errors.append(
                invalid_value(f"{place}.{key}", path, "should be a simple json path without array notation")
            )
        elif not path.startswith(under):
            words = " or ".join(prefix.rstrip(".") for prefix in under)
            errors.append(invalid_value(f"{place}.{key}", path, f"should be a json path under {words}"))
    return errors


def _selectable_fields(version: Definition, place: str) -> list[FieldError]:
    fields: list[Definition] = version.get("selectableFields") or []
    errors: list[FieldError] = []
    if len(fields) > _MOST_SELECTABLE_FIELDS:
        errors.append(too_many(f"{place}.selectableFields", len(fields), _MOST_SELECTABLE_FIELDS))
    seen: set[str] = set()
    for index, selectable in enumerate(fields):
        path: str = selectable.get("jsonPath") or ""
        field = f"{place}.selectableFields[{index}].jsonPath"
        if not path:
            errors.append(required(field))
            continue
        if path in seen:
            errors.append(duplicate(field, path))
        seen.add(path)
        node: Any = _schema_of(version) or {}
        for name in path.removeprefix(".").split("."):
            node = (node.get("properties") or {}).get(name) if isinstance(node, dict) else None
        if not path.startswith(".") or not isinstance(node, dict):
            errors.append(invalid_value(field, path, "is an invalid path: does not refer to a valid field"))
        elif path.startswith(".metadata."):
            errors.append(invalid_value(field, path, "must not point to fields in metadata"))
        elif node.get("type") not in ("boolean", "integer", "string"):
            errors.append(
                invalid_value(field, path, "must point to a field of type string, boolean or integer")
            )
    return errors


def _conversion(conversion: Definition) -> list[FieldError]:
    strategy = conversion.get("strategy") or ""
    if not strategy:
        return [required("spec.conversion.strategy")]
    if strategy not in ("None", "Webhook"):
        return [unsupported_value("spec.conversion.strategy", strategy, ("None", "Webhook"))]
    webhook: Definition | None = conversion.get("webhook")
    if strategy == "None" and webhook is not None:
        return [
            forbidden_field(
                "spec.conversion.webhook", "should not be set when strategy is not set to Webhook"
            )
        ]
    if strategy == "Webhook" and not (webhook or {}).get("conversionReviewVersions"):
        return [required("spec.conversion.webhook.conversionReviewVersions")]
    return []


def _unchanged(new: Definition, old: Definition) -> list[FieldError]:
    """The group never changes; scope, kind and plural not once the definition is served."""
    errors: list[FieldError] = []
    before, after = old["spec"], new["spec"]
    if after.get("group") != before.get("group"):
        errors.append(invalid_value("spec.group", after.get("group"), "field is immutable"))
    conditions: list[Definition] = (old.get("status") or {}).get("conditions") or []
    if not any(item.get("type") == "Established" and item.get("status") == "True" for item in conditions):
        return errors
    if after.get("scope") != before.get("scope"):
        errors.append(invalid_value("spec.scope", after.get("scope"), "field is immutable"))
    for key in ("kind", "plural"):
        value = (after.get("names") or {}).get(key)
        if value != before["names"].get(key):
            errors.append(invalid_value(f"spec.names.{key}", value, "field is immutable"))
    return errors + _stored_versions_stay(new, old)


def _stored_versions_stay(new: Definition, old: Definition) -> list[FieldError]:
    names = {version.get("name") for version in new["spec"].get("versions") or ()}
    stored: list[str] = (old.get("status") or {}).get("storedVersions") or []
    return [
        invalid_value(
            f"status.storedVersions[{index}]",
            version,
            f"missing from spec.versions; {version} was previously a storage version, and must remain in "
            f"spec.versions until a storage migration ensures no data remains persisted in {version} and removes "
            f"{version} from status.storedVersions",
        )
        for index, version in enumerate(stored)
        if version not in names
    ]
