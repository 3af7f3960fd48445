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
OBJECT_META = f"{_META}ObjectMeta"
PARTIAL_METADATA = f"{_META}PartialObjectMetadata"
_EXTENSIONS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."
_VARINT, _FIXED64, _BYTES = 0, 1, 2


def varint(value: int) -> bytes:
    value &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def tag(number: int, wire: int) -> bytes:
    return varint(number << 3 | wire)


def field_bytes(number: int, data: bytes) -> bytes:
    """A field of bytes, a text or a message."""
    return tag(number, _BYTES) + varint(len(data)) + data


def _sized(data: bytes) -> bytes:
    return varint(len(data)) + data


_LIST_ITEM = tag(2, _BYTES)
_SCALARS: dict[str, tuple[int, Callable[[Any], bytes]]] = {
    "string": (_BYTES, lambda value: _sized(str(value).encode())),
    "bytes": (_BYTES, lambda value: _sized(base64.b64decode(value))),
    "bool": (_VARINT, lambda value: b"\x01" if value else b"\x00"),
    "int32": (_VARINT, lambda value: varint(int(value))),
    "int64": (_VARINT, lambda value: varint(int(value))),
    "double": (_FIXED64, lambda value: struct.pack("<d", value)),
}


# What JSON writes in another form than a map of fields; see the readers.


def _time(value: str) -> bytes:
    moment = datetime.fromisoformat(value)
    seconds = int(moment.replace(microsecond=0).timestamp())
    return tag(1, _VARINT) + varint(seconds) + tag(2, _VARINT) + varint(moment.microsecond * 1000)


def _quantity(value: Any) -> bytes:
    return field_bytes(1, str(value).encode())


def _int_or_string(value: Any) -> bytes:
    if isinstance(value, str):
        return tag(1, _VARINT) + b"\x01" + field_bytes(3, value.encode())
    return tag(1, _VARINT) + b"\x00" + tag(2, _VARINT) + varint(int(value))


def _raw_json(value: Any) -> bytes:
    return field_bytes(1, msgspec.json.encode(value))


def _items(value: list[str]) -> bytes:
    return b"".join(field_bytes(1, item.encode()) for item in value)


def _schema(value: Any) -> bytes:
    return message(f"{_EXTENSIONS}JSONSchemaProps", value)


def _schema_or_bool(value: Any) -> bytes:
    if isinstance(value, bool):
        return tag(1, _VARINT) + (b"\x01" if value else b"\x00")
    return tag(1, _VARINT) + b"\x01" + field_bytes(2, _schema(value))


def _schema_or_array(value: Any) -> bytes:
    if isinstance(value, list):
        return b"".join(field_bytes(2, _schema(item)) for item in value)
    return field_bytes(1, _schema(value))


def _schema_or_strings(value: Any) -> bytes:
    if isinstance(value, list):
        return b"".join(field_bytes(2, item.encode()) for item in value)
    return field_bytes(1, _schema(value))


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

# Values that stay JSON inside their message.
RAW_JSON = frozenset(kind for kind, write in _WRITERS.items() if write is _raw_json)


def is_special(definition: str) -> bool:
    """Whether its JSON has another form than a map of fields."""
    return definition in _WRITERS


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
    head = tag(number, wire)
    if label == "r":
        return lambda items: b"".join(head + write(item) for item in items)
    if label == "m":
        outer, inner = tag(number, _BYTES), tag(2, wire)
        return lambda entries: b"".join(
            outer + _sized(field_bytes(1, key.encode()) + inner + write(value))
            for key, value in entries.items()
        )
    return lambda value: head + write(value)


@cache
def fields_of(definition: str) -> dict[str, Callable[[Any], bytes]]:
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
        return lambda value: field_bytes(number, write(value))

    return {name: outer(write) for name, write in fields_of(kind).items()}


def message(definition: str, obj: Object) -> bytes:
    """The bytes of an object of this definition; fields that the definition does not have are left out."""
    fields = fields_of(definition)
    parts: list[bytes] = []
    for name, value in obj.items():
        if value is None:
            continue
        write = fields.get(name)
        if write is not None:
            parts.append(write(value))
    return b"".join(parts)


def definition_for(group: str, version: str, kind: str) -> str | None:
    """The definition whose message a kind has; None for a kind that has no such form."""
    if kind in ("Status", "PartialObjectMetadata"):
        return f"{_META}{kind}"
    definition = definition_of(group, version, kind)
    return definition if definition in protobuf_messages() else None


def _body(definition: str, obj: Object) -> bytes:
    if definition == PARTIAL_METADATA:
        return field_bytes(1, message(OBJECT_META, obj.get("metadata") or {}))
    return message(definition, obj)


def envelope(api_version: str, kind: str, size_bytes: int) -> tuple[bytes, bytes]:
    """What goes before and behind a message of this size."""
    names = field_bytes(1, api_version.encode()) + field_bytes(2, kind.encode())
    head = MAGIC + field_bytes(1, names) + tag(2, _BYTES) + varint(size_bytes)
    return head, field_bytes(3, b"") + field_bytes(4, b"")


def enveloped(api_version: str, kind: str, raw: bytes) -> bytes:
    head, tail = envelope(api_version, kind, len(raw))
    return b"%b%b%b" % (head, raw, tail)


def list_metadata(metadata: Object) -> bytes:
    """The field that a list begins with."""
    return field_bytes(1, message(f"{_META}ListMeta", metadata))


def list_item(item: bytes) -> bytes:
    """The field of an item's message."""
    return b"%b%b%b" % (_LIST_ITEM, varint(len(item)), item)


def as_protobuf(obj: Object) -> bytes | None:
    """An object, list, Status or metadata with its envelope; None for a kind that has no such form."""
    kind, api_version = str(obj["kind"]), str(obj["apiVersion"])
    group, _, version = api_version.rpartition("/")
    many = kind.endswith("List") and "items" in obj
    definition = definition_for(group, version, kind.removesuffix("List") if many else kind)
    if definition is None:
        return None
    if many:
        items = [list_item(_body(definition, item)) for item in obj["items"] or ()]
        head = list_metadata(obj.get("metadata") or {})
        return enveloped(api_version, kind, b"".join((head, *items)))
    return enveloped(api_version, kind, _body(definition, obj))


def watch_frame(change: str, body: bytes) -> bytes:
    """One event of a watch: its length in four bytes, then the message. body: the object in its envelope."""
    event = field_bytes(1, change.encode()) + field_bytes(2, field_bytes(1, body))
    return struct.pack(">I", len(event)) + event
