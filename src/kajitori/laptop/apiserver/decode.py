"""Turns the body of a request into an object of the kind that the URL names, or says why it cannot be.

JSON, YAML and protobuf come in (no Content-Type means JSON); a plain object comes out, with what was unknown or
given twice either refused (`Strict`), told in warnings (`Warn`) or passed over (`Ignore`). Texts are those of the
published API server; a warning about an unknown field adds the nearest name that would have been right.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.laptop.apiserver.kinds.builtin import definition_of
from kajitori.laptop.apiserver.kinds.shape import WrongType, conform
from kajitori.laptop.apiserver.parsing import (
    JSON,
    PROTOBUF,
    Unreadable,
    json_duplicates,
    media_type_of,
    parse,
    yaml_duplicates,
)
from kajitori.laptop.apiserver.protobuf import MAGIC, MalformedProtobuf, can_read, read_envelope, read_message
from kajitori.laptop.apiserver.status import (
    bad_request,
    invalid,
    invalid_value,
    unsupported_media_type,
)

if TYPE_CHECKING:
    from kajitori.laptop.apiserver.kinds.kind import Kind, UnknownField

Object = dict[str, Any]


_SHOWN_BYTES = 30
# How the published server calls what it looks for first.
_TYPE_META = (
    'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
)


class Decoded(msgspec.Struct, frozen=True):
    """A body that could be read. warnings: texts for `Warning` headers, without their codes."""

    obj: Object
    warnings: list[str]


def decode_body(
    body: bytes, content_type: str, kind: Kind, *, field_validation: str = "Warn", max_warnings: int = 100
) -> Decoded:
    """An object of the kind, made to fit it. Raises StatusError: 400 malformed, of another kind or with a value
    of a wrong type; in `Strict` also for unknown fields and duplicates; 415 for another format."""
    resource = kind.resource
    media_type = media_type_of(content_type)
    if media_type == PROTOBUF:
        if kind.custom:
            raise unsupported_media_type("application/json, application/yaml")
        obj = _from_protobuf(body, resource.api_version, resource.kind)
        duplicates: list[str] = []
    else:
        obj, duplicates = _read(body, media_type, resource.kind, want_duplicates=field_validation != "Ignore")
    _check_names(obj, kind, body)
    return Decoded(obj, fit(obj, kind, field_validation, duplicates=duplicates)[:max_warnings])


def fit(
    obj: Object,
    kind: Kind,
    field_validation: str = "Warn",
    *,
    duplicates: list[str] | None = None,
    patched: bool = False,
) -> list[str]:
    """Makes an object fit its kind, in place; the warnings that this gives. For objects that a patch or an
    apply has made (patched) a wrong type is a 422 of the patch rather than a 400 of the body."""
    resource = kind.resource
    named = f'{resource.kind} in version "{resource.version if kind.custom else _version_of(obj, resource.api_version)}"'
    try:
        unknown = kind.conform(obj)
    except WrongType as error:
        if patched:
            raise invalid("", "", "", [_patch_error(str(error))]) from None
        raise bad_request(f"{named} cannot be handled as a {resource.kind}: {error}") from None
    if field_validation == "Ignore" or not (unknown or duplicates):
        return []
    if field_validation == "Strict":
        texts = [f'unknown field "{field.path}"' for field in unknown] + (duplicates or [])
        problem = f"strict decoding error: {', '.join(texts)}"
        if patched:
            raise invalid("", "", "", [_patch_error(problem)])
        raise bad_request(f"{named} cannot be handled as a {resource.kind}: {problem}")
    return [_warning_of(field) for field in unknown] + (duplicates or [])


def decode_as(
    body: bytes, content_type: str, group: str, version: str, kind: str, *, field_validation: str = "Ignore"
) -> Decoded:
    """An object of a published kind that is no resource of its own: `Scale`, `Eviction`, `Binding`,
    `TokenRequest`, `DeleteOptions`, the reviews. apiVersion and kind may be missing; an empty body is an
    empty object."""
    definition = definition_of(group, version, kind)
    if definition is None:
        raise ValueError(f"{group}/{version} {kind} is not a published kind")
    api_version = f"{group}/{version}" if group else version
    media_type = media_type_of(content_type)
    duplicates: list[str] = []
    if not body:
        obj: Object = {}
    elif media_type == PROTOBUF or body.startswith(MAGIC):
        obj = _from_protobuf(body, api_version, kind)
    else:
        obj, duplicates = _read(body, media_type, kind, want_duplicates=field_validation != "Ignore")
    obj.setdefault("apiVersion", api_version)
    obj.setdefault("kind", kind)
    named = f'{kind} in version "{version}"'
    try:
        unknown = conform(definition, obj)
    except WrongType as error:
        raise bad_request(f"{named} cannot be handled as a {kind}: {error}") from None
    if field_validation == "Strict" and (unknown or duplicates):
        texts = [f'unknown field "{field.path}"' for field in unknown] + duplicates
        raise bad_request(f"{named} cannot be handled as a {kind}: strict decoding error: {', '.join(texts)}")
    warnings = [_warning_of(field) for field in unknown] + duplicates if field_validation == "Warn" else []
    return Decoded(obj, warnings)


def decode_document(body: bytes, content_type: str) -> Any:
    """A JSON or YAML document of any shape, such as a patch. Raises StatusError 400 `error decoding patch: ...`."""
    try:
        return parse(body, media_type_of(content_type))
    except Unreadable as error:
        raise bad_request(f"error decoding patch: {error}") from None


def _version_of(obj: Object, otherwise: str) -> str:
    api_version = obj.get("apiVersion")
    text = api_version if isinstance(api_version, str) and api_version else otherwise
    return text.rpartition("/")[2]


def _patch_error(text: str) -> Any:
    error = invalid_value("patch", "", text)
    return error


def _warning_of(field: UnknownField) -> str:
    text = f'unknown field "{field.path}"'
    name = re.split(r"[.\[]", field.path)[-1]
    nearest = difflib.get_close_matches(name, field.known, 1, 0.6)
    return f'{text} (did you mean "{nearest[0]}"?)' if nearest else text


def _check_names(obj: Object, kind: Kind, body: bytes) -> None:
    """apiVersion and kind of the body must be those of the URL; built-in kinds may leave them out."""
    resource = kind.resource
    api_version, name = obj.get("apiVersion") or "", obj.get("kind") or ""
    if not kind.custom:
        api_version = api_version or resource.api_version
        name = name or resource.kind
        obj["apiVersion"], obj["kind"] = api_version, name
    if name != resource.kind:
        if not name:
            raise bad_request(
                f"the object provided is unrecognized (must be of type {resource.kind}): Object 'Kind' is missing in"
                f" '{body.decode(errors='replace')}' ({_summary(body)})"
            )
        raise bad_request(
            f'{name} in version "{str(api_version).rpartition("/")[2]}" cannot be handled as a {resource.kind}:'
            f" the kind in the data ({name}) does not match the expected kind ({resource.kind})"
        )
    if api_version != resource.api_version:
        raise bad_request(
            f"the API version in the data ({api_version}) does not match the expected API version"
            f" ({resource.api_version})"
        )


def _from_protobuf(body: bytes, api_version: str, kind: str) -> Object:
    try:
        envelope = read_envelope(body)
        wanted_version, wanted_kind = envelope.api_version or api_version, envelope.kind or kind
        group, _, version = wanted_version.rpartition("/")
        definition = definition_of(group, version, wanted_kind)
        if definition is None or not can_read(definition):
            raise bad_request(
                f'{wanted_kind} in version "{version}" cannot be handled as a {kind}:'
                f' no kind "{wanted_kind}" is registered for version "{wanted_version}"'
            )
        obj = read_message(definition, envelope.raw)
    except MalformedProtobuf as error:
        raise bad_request(
            f"the object provided is unrecognized (must be of type {kind}): {error} ({_summary(body)})"
        ) from None
    return {"apiVersion": wanted_version, "kind": wanted_kind, **obj}


def _read(body: bytes, media_type: str, kind: str, *, want_duplicates: bool) -> tuple[Object, list[str]]:
    try:
        obj = parse(body, media_type)
    except Unreadable as error:
        raise bad_request(
            f"the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse"
            f" error: {error} ({_summary(body)})"
        ) from None
    if obj is None:
        obj = {}
    if not isinstance(obj, dict):
        word = {list: "array", str: "string", bool: "bool"}.get(type(obj), "number")
        raise bad_request(
            f"the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse"
            f" error: json: cannot unmarshal {word} into Go value of type"
            f" {_TYPE_META} ({_summary(body)})"
        )
    if not want_duplicates:
        return obj, []
    if media_type == JSON or body.lstrip()[:1] == b"{":
        return obj, json_duplicates(body, obj)
    return obj, yaml_duplicates(body)


def _summary(body: bytes) -> str:
    """The beginning of a body, as the error about it shows it."""
    if not body:
        return "<empty>"
    if body[:1] == b"{":
        shown = body[:_SHOWN_BYTES].decode(errors="replace")
        return f"{shown} ..." if len(body) > _SHOWN_BYTES else shown
    return body[:_SHOWN_BYTES].hex()
