"""Writes objects of built-in kinds as protobuf, for clients that take nothing else.

The counterpart of `kajitori.laptop.apiserver.protobuf`, by the same tables: a JSON object of a published kind goes
in, the envelope `k8s\\0` with its message comes out; lists, statuses and metadata on their own as well. Zero values
may be written or left out: readers see no difference. Wire format: protobuf.dev, "Encoding".
"""

from __future__ import annotations

import base64
import struct
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.api.schemas import protobuf_messages
from kajitori.laptop.apiserver.kinds.builtin import definition_of
from kajitori.laptop.apiserver.protobuf import MAGIC

if TYPE_CHECKING:
    from collections.abc import Callable

Object = dict[str, Any]
Write = "Callable[[Any], bytes]"
PROTOBUF = "application/vnd.kubernetes.protobuf"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_EXTENSIONS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."
_VARINT, _FIXED64, _BYTES = 0, 1, 2


def _varint(value: int) -> bytes:
    value &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _tag(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _field(number: int, data: bytes) -> bytes:
    """A field of bytes, a text or a message."""
    return _tag(number, _BYTES) + _varint(len(data)) + data


def _sized(data: bytes) -> bytes:
    return _varint(len(data)) + data


_SCALARS: dict[str, tuple[int, Callable[[Any], bytes]]] = {
    "string": (_BYTES, lambda value: _sized(str(value).encode())),
    "bytes": (_BYTES, lambda value: _sized(base64.b64decode(value))),
    "bool": (_VARINT, lambda value: b"\x01" if value else b"\x00"),
    "int32": (_VARINT, lambda value: _varint(int(value))),
    "int64": (_VARINT, lambda value: _varint(int(value))),
    "double": (_FIXED64, lambda value: struct.pack("<d", value)),
}


# What JSON writes in another form than a map of fields; see the readers.


def _time(value: str) -> bytes:
    moment = datetime.fromisoformat(value)
    seconds = int(moment.replace(microsecond=0).timestamp())
    return _tag(1, _VARINT) + _varint(seconds) + _tag(2, _VARINT) + _varint(moment.microsecond * 1000)


def _quantity(value: Any) -> bytes:
    return _field(1, str(value).encode())


def _int_or_string(value: Any) -> bytes:
    if isinstance(value, str):
        return _tag(1, _VARINT) + b"\x01" + _field(3, value.encode())
    return _tag(1, _VARINT) + b"\x00" + _tag(2, _VARINT) + _varint(int(value))


def _raw_json(value: Any) -> bytes:
    return _field(1, msgspec.json.encode(value))


def _items(value: list[str]) -> bytes:
    return b"".join(_field(1, item.encode()) for item in value)


def _schema(value: Any) -> bytes:
    return message(f"{_EXTENSIONS}JSONSchemaProps", value)


def _schema_or_bool(value: Any) -> bytes:
    if isinstance(value, bool):
        return _tag(1, _VARINT) + (b"\x01" if value else b"\x00")
    return _tag(1, _VARINT) + b"\x01" + _field(2, _schema(value))


def _schema_or_array(value: Any) -> bytes:
    if isinstance(value, list):
        return b"".join(_field(2, _schema(item)) for item in value)
    return _field(1, _schema(value))


def _schema_or_strings(value: Any) -> bytes:
    if isinstance(value, list):
        return b"".join(_field(2, item.encode()) for item in value)
    return _field(1, _schema(value))


_WRITERS: dict[str, Callable[[Any], bytes]] = {
    f"{_META}Time": _time,
    f"{_META}MicroTime": _time,
    f"{_META}FieldsV1": _raw_json,
    f"{_META}Verbs": _items,
    "io.k8s.api.authentication.v1.ExtraValue": _items,
    "io.k8s.api.authorization.v1.ExtraValue": _items,
    "io.k8s.api.certificates.v1.ExtraValue": _items,
    "io.k8s.apimachinery.pkg.api.resource.Quantity": _quantity,
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": _int_or_string,
    "io.k8s.apimachinery.pkg.runtime.RawExtension": _raw_json,
    f"{_EXTENSIONS}JSON": _raw_json,
    f"{_EXTENSIONS}JSONSchemaPropsOrBool": _schema_or_bool,
    f"{_EXTENSIONS}JSONSchemaPropsOrArray": _schema_or_array,
    f"{_EXTENSIONS}JSONSchemaPropsOrStringArray": _schema_or_strings,
}


def _value_writer(kind: str) -> tuple[int, Callable[[Any], bytes]]:
    """(wire type, what writes a value behind its tag)."""
    scalar = _SCALARS.get(kind)
    if scalar is not None:
        return scalar
    special = _WRITERS.get(kind)
    if special is not None:
        return _BYTES, lambda value: _sized(special(value))
    return _BYTES, lambda value: _sized(message(kind, value))


def _field_writer(number: int, kind: str, label: str) -> Callable[[Any], bytes]:
    wire, write = _value_writer(kind)
    tag = _tag(number, wire)
    if label == "r":
        return lambda items: b"".join(tag + write(item) for item in items)
    if label == "m":
        outer, inner = _tag(number, _BYTES), _tag(2, wire)
        return lambda entries: b"".join(
            outer + _sized(_field(1, key.encode()) + inner + write(value)) for key, value in entries.items()
        )
    return lambda value: tag + write(value)


@cache
def _fields_of(definition: str) -> dict[str, Callable[[Any], bytes]]:
    """What writes each field of a definition, by its JSON name."""
    fields: dict[str, Callable[[Any], bytes]] = {}
    for number, name, kind, label in protobuf_messages()[definition]:
        if label == "i":
            fields.update(_inlined(number, kind))
        else:
            fields[name] = _field_writer(number, kind, label)
    return fields


def _inlined(number: int, kind: str) -> dict[str, Callable[[Any], bytes]]:
    """Fields of a message whose fields belong, in JSON, to the one around it. Readers merge its parts."""

    def outer(write: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
        return lambda value: _field(number, write(value))

    return {name: outer(write) for name, write in _fields_of(kind).items()}


def message(definition: str, obj: Object) -> bytes:
    """The bytes of an object of this definition; fields that the definition does not have are left out."""
    fields = _fields_of(definition)
    parts: list[bytes] = []
    for name, value in obj.items():
        if value is None:
            continue
        write = fields.get(name)
        if write is not None:
            parts.append(write(value))
    return b"".join(parts)


def _metadata_only(obj: Object) -> bytes:
    return _field(1, message(f"{_META}ObjectMeta", obj.get("metadata") or {}))


def _body_of(group: str, version: str, kind: str) -> Callable[[Object], bytes] | None:
    if kind == "PartialObjectMetadata":
        return _metadata_only
    definition = "io.k8s.apimachinery.pkg.apis.meta.v1.Status" if kind == "Status" else None
    definition = definition or definition_of(group, version, kind)
    if definition is None or definition not in protobuf_messages():
        return None
    return lambda obj: message(definition, obj)


def enveloped(api_version: str, kind: str, raw: bytes) -> bytes:
    names = _field(1, api_version.encode()) + _field(2, kind.encode())
    return MAGIC + _field(1, names) + _field(2, raw) + _field(3, b"") + _field(4, b"")


def as_protobuf(obj: Object) -> bytes | None:
    """An object, list, Status or metadata with its envelope; None for a kind that has no such form."""
    kind, api_version = str(obj["kind"]), str(obj["apiVersion"])
    group, _, version = api_version.rpartition("/")
    if kind.endswith("List") and "items" in obj:
        write = _body_of(group, version, kind.removesuffix("List"))
        if write is None:
            return None
        raw = _field(1, message(f"{_META}ListMeta", obj.get("metadata") or {}))
        raw += b"".join(_field(2, write(item)) for item in obj["items"] or ())
        return enveloped(api_version, kind, raw)
    write = _body_of(group, version, kind)
    return None if write is None else enveloped(api_version, kind, write(obj))


def watch_frame(change: str, obj: Object) -> bytes:
    """One event of a watch: its length in four bytes, then the message. ValueError for a kind without this form."""
    body = as_protobuf(obj)
    if body is None:
        raise ValueError(f"{obj['kind']} has no form in protobuf")
    event = _field(1, change.encode()) + _field(2, _field(1, body))
    return struct.pack(">I", len(event)) + event
