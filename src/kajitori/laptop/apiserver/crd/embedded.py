"""Resources inside custom resources (`x-kubernetes-embedded-resource`): they have a kind, and metadata of the usual form.

Their metadata is read as any object's is: unknown fields go and are told, a wrong type is refused. What they hold
besides is the schema's to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from kajitori.laptop.apiserver.crd.paths import MapKey, Path, spelled
from kajitori.laptop.apiserver.kinds.kind import UnknownField
from kajitori.laptop.apiserver.kinds.shape import WrongType, shape_of
from kajitori.laptop.apiserver.status import FieldError, invalid_value, required
from kajitori.laptop.apiserver.validation.metadata import (
    annotation_errors,
    label_errors,
    owner_errors,
)
from kajitori.laptop.apiserver.validation.names import dns_1035_label, dns_label, label_key, path_segment

Object = dict[str, Any]
Visit = Callable[[Object, Path], None]
Walk = Callable[[Any, Path, Visit], None]
_FIELD: Final = re.compile(r" \(\w+\)$")
_METADATA: Final = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"


def compile_embedded(schema: Object) -> Walk | None:
    """The walk to the embedded resources below a value of this schema; None: it has none."""
    walks: list[Walk] = []
    for name, child in (schema.get("properties") or {}).items():
        walk = _compile(child)
        if walk is not None:
            walks.append(_field(name, walk))
    known = frozenset(schema.get("properties") or ())
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict) and (walk := _compile(additional)) is not None:
        walks.append(_entries(walk, known))
    if isinstance(schema.get("items"), dict) and (walk := _compile(schema["items"])) is not None:
        walks.append(_items(walk))
    return _all(walks) if walks else None


def _compile(schema: Object) -> Walk | None:
    """The same, the value itself counted."""
    below = compile_embedded(schema)
    if not schema.get("x-kubernetes-embedded-resource"):
        return below

    def walk(value: Any, path: Path, visit: Visit) -> None:
        if isinstance(value, dict):
            visit(value, path)
        if below is not None:
            below(value, path, visit)

    return walk


def _all(walks: list[Walk]) -> Walk:
    if len(walks) == 1:
        return walks[0]

    def walk(value: Any, path: Path, visit: Visit) -> None:
        for one in walks:
            one(value, path, visit)

    return walk


def _field(name: str, inner: Walk) -> Walk:
    def walk(value: Any, path: Path, visit: Visit) -> None:
        if isinstance(value, dict) and name in value:
            inner(value[name], (path, name), visit)

    return walk


def _entries(inner: Walk, known: frozenset[str]) -> Walk:
    def walk(value: Any, path: Path, visit: Visit) -> None:
        for key, child in value.items() if isinstance(value, dict) else ():
            if key not in known:
                inner(child, (path, MapKey(key)), visit)

    return walk


def _items(inner: Walk) -> Walk:
    def walk(value: Any, path: Path, visit: Visit) -> None:
        for index, child in enumerate(value if isinstance(value, list) else ()):
            inner(child, (path, index), visit)

    return walk


def fit_embedded(walk: Walk, obj: Object) -> list[UnknownField]:
    """Makes the metadata of embedded resources fit, in place; what was dropped as unknown. Raises WrongType."""
    found: list[UnknownField] = []

    def visit(resource: Object, path: Path) -> None:
        for name in ("apiVersion", "kind"):
            if name in resource and not isinstance(resource[name], str):
                raise WrongType(f"{spelled((path, name))}: {_shown(resource[name])}: must be a string")
        if "metadata" in resource:
            place = spelled((path, "metadata"))
            resource["metadata"], unknown = _fitting(resource["metadata"], place)
            found.extend(unknown)

    walk(obj, None, visit)
    return found


def _shown(value: Any) -> str:
    return f"Invalid value: {msgspec.json.encode(value, order='sorted').decode()}"


def _fitting(metadata: Any, place: str) -> tuple[Any, list[UnknownField]]:
    unknown: list[UnknownField] = []
    shown = _shown(metadata)
    try:
        fitting = shape_of(_METADATA)(metadata, None, unknown)
    except WrongType as error:
        # The field is in what is shown.
        words = _FIELD.sub("", str(error))
        raise WrongType(f"{place}: {shown}: {words}") from None
    return fitting, [UnknownField(f"{place}.{field.path}", field.known) for field in unknown]


def embedded_errors(walk: Walk, obj: Object) -> list[FieldError]:
    """What is wrong with kinds and metadata of embedded resources."""
    errors: list[FieldError] = []

    def visit(resource: Object, path: Path) -> None:
        errors.extend(_type_errors(resource, path))
        if isinstance(resource.get("metadata"), dict):
            errors.extend(_metadata_errors(resource["metadata"], spelled((path, "metadata"))))

    walk(obj, None, visit)
    return errors


def _type_errors(resource: Object, path: Path) -> list[FieldError]:
    errors: list[FieldError] = []
    for name in ("apiVersion", "kind"):
        place = spelled((path, name))
        value = resource.get(name)
        if name not in resource:
            errors.append(required(place))
        elif not isinstance(value, str):
            errors.append(invalid_value(place, value, "must be a string"))
        elif not value:
            errors.append(invalid_value(place, value, "must not be empty"))
        elif name == "apiVersion":
            if value.count("/") > 1:
                errors.append(invalid_value(place, value, f"unexpected GroupVersion string: {value}"))
        elif messages := dns_1035_label(value.lower()):
            words = f"may have mixed case, but should otherwise match: {','.join(messages)}"
            errors.append(invalid_value(place, value, words))
    return errors


def _metadata_errors(metadata: Object, place: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for name in ("generateName", "name"):
        value = metadata.get(name) or ""
        errors += [invalid_value(f"{place}.{name}", value, text) for text in path_segment(value)]
    if namespace := metadata.get("namespace"):
        errors += [invalid_value(f"{place}.namespace", namespace, text) for text in dns_label(namespace)]
    generation = metadata.get("generation") or 0
    if generation < 0:
        words = "must be greater than or equal to 0"
        errors.append(invalid_value(f"{place}.generation", generation, words))
    errors += label_errors(metadata.get("labels"), f"{place}.labels")
    errors += annotation_errors(metadata.get("annotations"), f"{place}.annotations")
    errors += owner_errors(metadata.get("ownerReferences") or [], f"{place}.ownerReferences")
    errors += _finalizer_errors(metadata.get("finalizers") or [], f"{place}.finalizers")
    for index, entry in enumerate(metadata.get("managedFields") or ()):
        errors += _managed_errors(entry, f"{place}.managedFields[{index}]")
    return errors


def _finalizer_errors(finalizers: list[str], place: str) -> list[FieldError]:
    errors = [invalid_value(place, name, text) for name in finalizers for text in label_key(name)]
    if {"orphan", "foregroundDeletion"} <= set(finalizers):
        words = "finalizer orphan and foregroundDeletion cannot be both set"
        errors.append(invalid_value(place, finalizers, words))
    return errors


def _managed_errors(entry: Object, place: str) -> list[FieldError]:
    errors: list[FieldError] = []
    operation, form = entry.get("operation") or "", entry.get("fieldsType") or ""
    if operation not in ("Apply", "Update"):
        errors.append(invalid_value(f"{place}.operation", operation, "must be `Apply` or `Update`"))
    if form not in ("", "FieldsV1"):
        errors.append(invalid_value(f"{place}.fieldsType", form, "must be `FieldsV1`"))
    return errors
