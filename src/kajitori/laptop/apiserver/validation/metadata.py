"""Metadata that all kinds share: names, labels, annotations, owners, finalizers, and what may not change."""

from __future__ import annotations

from typing import Any

from kajitori.laptop.apiserver.status import (
    FieldError,
    forbidden_field,
    invalid_value,
    required,
    too_long,
)
from kajitori.laptop.apiserver.validation.names import (
    NAME_FORMS,
    dns_label,
    dns_subdomain,
    label_key,
    label_value,
)

Object = dict[str, Any]

ANNOTATIONS_BYTES_LIMIT = 256 << 10
_STANDARD_FINALIZERS = frozenset({"orphan", "foregroundDeletion", "kubernetes"})
IMMUTABLE = "field is immutable"


def label_errors(labels: Object | None, field: str) -> list[FieldError]:
    """Keys and values of labels, node selectors and the like."""
    errors: list[FieldError] = []
    for key, value in (labels or {}).items():
        errors += [invalid_value(field, key, message) for message in label_key(key)]
        errors += [invalid_value(field, value, message) for message in label_value(value)]
    return errors


def annotation_errors(annotations: Object | None, field: str) -> list[FieldError]:
    if not annotations:
        return []
    errors: list[FieldError] = []
    size = 0
    for key, value in annotations.items():
        size += len(key) + len(value)
        errors += [invalid_value(field, key, message) for message in label_key(key.lower())]
    if size * 4 > ANNOTATIONS_BYTES_LIMIT:  # texts of other alphabets take up to four bytes a letter
        size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
        if size > ANNOTATIONS_BYTES_LIMIT:
            errors.append(too_long(field, ANNOTATIONS_BYTES_LIMIT))
    return errors


def owner_errors(owners: list[Object], field: str = "metadata.ownerReferences") -> list[FieldError]:
    errors: list[FieldError] = []
    controller = ""
    for owner in owners:
        api_version: str = owner.get("apiVersion", "")
        if api_version.count("/") > 1 or not api_version.rpartition("/")[2]:
            errors.append(invalid_value(f"{field}.apiVersion", api_version, "version must not be empty"))
        errors += [
            invalid_value(f"{field}.{name}", "", "must not be empty")
            for name in ("kind", "name", "uid")
            if not owner.get(name)
        ]
        if (owner.get("apiVersion"), owner.get("kind")) == ("v1", "Event"):
            errors.append(invalid_value(field, owner, "/v1, Kind=Event is disallowed from being an owner"))
        if owner.get("controller"):
            name = f"{owner.get('kind', '')}/{owner.get('name', '')}"
            if controller:
                text = (
                    'Only one reference can have Controller set to true. Found "true" in references for'
                    f" {controller} and {name}"
                )
                errors.append(invalid_value(field, owners, text))
            controller = controller or name
    return errors


def finalizer_errors(finalizers: list[str], field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, finalizer in enumerate(finalizers):
        here = f"{field}[{index}]"
        errors += [invalid_value(here, finalizer, message) for message in label_key(finalizer)]
        if "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS and label_key(finalizer) == ():
            text = "name is neither a standard finalizer name nor is it fully qualified"
            errors.append(invalid_value(here, finalizer, text))
    if {"orphan", "foregroundDeletion"} <= set(finalizers):
        text = "finalizer orphan and foregroundDeletion cannot be both set"
        errors.append(invalid_value(field, finalizers, text))
    return errors


def _go_strings(texts: list[str]) -> str:
    return "[]string{" + ", ".join(f'"{text}"' for text in texts) + "}"


def metadata_errors(
    new: Object, old: Object | None, definition: str, *, namespaced: bool
) -> list[FieldError]:
    """What is wrong with the metadata of an object, or with its change. definition: empty for custom kinds."""
    metadata: Object = new["metadata"]
    errors: list[FieldError] = []
    form = NAME_FORMS.get(definition, dns_subdomain)
    name = metadata.get("name")
    if not name:
        errors.append(required("metadata.name", "name or generateName is required"))
    elif old is None:
        errors += _generate_name_errors(metadata.get("generateName"), form)
        errors += [invalid_value("metadata.name", name, message) for message in form(name)]
    namespace = metadata.get("namespace")
    if namespaced:
        if not namespace:
            errors.append(required("metadata.namespace"))
        elif old is None:
            errors += [invalid_value("metadata.namespace", namespace, text) for text in dns_label(namespace)]
    elif namespace:
        errors.append(forbidden_field("metadata.namespace", "not allowed on this type"))
    errors += label_errors(metadata.get("labels"), "metadata.labels")
    errors += annotation_errors(metadata.get("annotations"), "metadata.annotations")
    if "ownerReferences" in metadata:
        errors += owner_errors(metadata["ownerReferences"])
    finalizers: list[str] = metadata.get("finalizers") or []
    if finalizers:
        errors += finalizer_errors(finalizers, "metadata.finalizers")
    if old is not None:
        errors += _update_errors(metadata, old["metadata"])
    return errors


def _generate_name_errors(prefix: str | None, form: Any) -> list[FieldError]:
    """A generated name need not be complete: its prefix may end in a hyphen or a dot."""
    if not prefix:
        return []
    probe = prefix[:-1] + "a" if prefix[-1] in "-." else prefix
    return [invalid_value("metadata.generateName", prefix, message) for message in form(probe)]


def _update_errors(new: Object, old: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    if old.get("deletionTimestamp"):
        before: list[str] = old.get("finalizers") or []
        after: list[str] = new.get("finalizers") or []
        added = sorted(set(after) - set(before))
        if added:
            text = (
                "no new finalizers can be added if the object is being deleted, found new finalizers"
                f" {_go_strings(added)}"
            )
            errors.append(forbidden_field("metadata.finalizers", text))
    errors += [
        invalid_value(f"metadata.{field}", new.get(field), IMMUTABLE)
        for field in ("name", "namespace", "uid")
        if new.get(field) != old.get(field)
    ]
    return errors


def immutable(new: Object, old: Object, path: str, *fields: str) -> list[FieldError]:
    """Fields of two objects that must be the same; path: where the objects are, such as `spec`."""
    return [
        invalid_value(f"{path}.{field}" if path else field, new.get(field), IMMUTABLE)
        for field in fields
        if new.get(field) != old.get(field)
    ]


def selector_errors(selector: Object | None, path: str) -> list[FieldError]:
    """A label selector with matchLabels and matchExpressions."""
    if not selector:
        return []
    errors = label_errors(selector.get("matchLabels"), f"{path}.matchLabels")
    for index, term in enumerate(selector.get("matchExpressions") or ()):
        here = f"{path}.matchExpressions[{index}]"
        operator, values = term.get("operator", ""), term.get("values") or []
        if operator in ("In", "NotIn"):
            if not values:
                text = "must be specified when `operator` is 'In' or 'NotIn'"
                errors.append(required(f"{here}.values", text))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                errors.append(forbidden_field(f"{here}.values", text))
        else:
            errors.append(invalid_value(f"{here}.operator", operator, "not a valid selector operator"))
        key = term.get("key", "")
        errors += [invalid_value(f"{here}.key", key, message) for message in label_key(key)]
        for place, value in enumerate(values):
            errors += [
                invalid_value(f"{here}.values[{place}]", value, message) for message in label_value(value)
            ]
    return errors


def matches(selector: Object | None, labels: Object | None) -> bool:
    """Whether labels meet a label selector."""
    given = labels or {}
    wanted: Object = (selector or {}).get("matchLabels") or {}
    if any(given.get(key) != value for key, value in wanted.items()):
        return False
    for term in (selector or {}).get("matchExpressions") or ():
        value = given.get(term.get("key", ""))
        fits = {
            "In": value is not None and value in (term.get("values") or ()),
            "NotIn": value is None or value not in (term.get("values") or ()),
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not fits.get(term.get("operator", ""), False):
            return False
    return True


def is_empty_selector(selector: Object | None) -> bool:
    return not selector or not (selector.get("matchLabels") or selector.get("matchExpressions"))


def non_negative(obj: Object, path: str, *fields: str) -> list[FieldError]:
    """Numbers that may not be below zero."""
    text = "must be greater than or equal to 0"
    return [
        invalid_value(f"{path}.{field}", obj[field], text)
        for field in fields
        if isinstance(obj.get(field), int) and obj[field] < 0
    ]
