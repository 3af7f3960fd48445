"""Reads the protobuf bodies that Go clients send for built-in kinds, and gives their JSON form.

A body is the four bytes `k8s\\0` and an envelope that names apiVersion and kind and holds the object. The field
tables come from `kajitori.api.schemas.protobuf_messages`; what JSON writes differently (times, quantities, raw
JSON, lists in messages of their own) has a reader below. Answers are always JSON, which every client takes.
Raises `MalformedProtobuf` for bytes that are no such message. Wire format: protobuf.dev, "Encoding".
"""

from __future__ import annotations

import base64
import struct
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from kajitori.api.schemas import protobuf_messages
from kajitori.laptop.apiserver.kinds.canonical import time_text

if TYPE_CHECKING:
    from collections.abc import Callable

MAGIC = b"k8s\x00"

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_EXTENSIONS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAXIMUM_DEPTH = 100


class MalformedProtobuf(Exception):
    """Bytes that cannot be read as the message that they should be."""


class Envelope(NamedTuple):
    """What a body carries: the names of its kind and the object's bytes."""

    api_version: str
    kind: str
    raw: bytes


class _Field(NamedTuple):
    name: str
    type: str
    label: str


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """(value, next position) of an unsigned varint."""
    value = shift = 0
    while True:
        if position >= len(data):
            raise MalformedProtobuf("unexpected EOF")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise MalformedProtobuf("proto: integer overflow")


def _fields(data: bytes) -> list[tuple[int, int, Any]]:
    """(number, wire type, value) of each field; value: int for varints, bytes for the rest."""
    found: list[tuple[int, int, Any]] = []
    position, end = 0, len(data)
    while position < end:
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise MalformedProtobuf("proto: illegal tag 0")
        value: Any
        if wire == _VARINT:
            value, position = _varint(data, position)
        else:
            if wire == _BYTES:
                size, position = _varint(data, position)
            elif wire in (_FIXED64, _FIXED32):
                size = 8 if wire == _FIXED64 else 4
            else:
                raise MalformedProtobuf(f"proto: illegal wireType {wire}")
            if position + size > end:
                raise MalformedProtobuf("unexpected EOF")
            value = data[position : position + size]
            position += size
        found.append((number, wire, value))
    return found


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def _text(value: Any) -> str:
    if not isinstance(value, bytes):
        raise MalformedProtobuf("proto: wrong wireType for a string")
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise MalformedProtobuf("proto: string field contains invalid UTF-8") from None


def _scalar(kind: str, value: Any) -> Any:
    if kind == "string":
        return _text(value)
    if kind == "bytes":
        return base64.b64encode(value).decode() if isinstance(value, bytes) else _wrong(kind)
    if kind == "double":
        return struct.unpack("<d", value)[0] if isinstance(value, bytes) and len(value) == 8 else _wrong(kind)
    if not isinstance(value, int):
        _wrong(kind)
    if kind == "bool":
        return value != 0
    number = _signed(value)
    return (number + 2**31) % 2**32 - 2**31 if kind == "int32" else number


def _wrong(kind: str) -> Any:
    raise MalformedProtobuf(f"proto: wrong wireType for a {kind}")


def _packed(kind: str, value: bytes) -> list[Any]:
    items: list[Any] = []
    position = 0
    while position < len(value):
        item, position = _varint(value, position)
        items.append(_scalar(kind, item))
    return items


# What JSON writes in another form than a map of fields.


def _numbers(data: bytes) -> dict[int, Any]:
    return {number: value for number, _, value in _fields(data)}


def _moment(data: bytes) -> datetime | None:
    if not data:
        return None
    found = _numbers(data)
    seconds, nanos = _signed(found.get(1, 0)), _signed(found.get(2, 0))
    try:
        return _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000)
    except OverflowError:
        raise MalformedProtobuf("a time is out of range") from None


def _time(data: bytes, _depth: int) -> Any:
    moment = _moment(data)
    return moment and time_text(moment, micro=False)


def _micro_time(data: bytes, _depth: int) -> Any:
    moment = _moment(data)
    return moment and time_text(moment, micro=True)


def _quantity(data: bytes, _depth: int) -> Any:
    return _text(_numbers(data).get(1, b"")) or "0"


def _int_or_string(data: bytes, _depth: int) -> Any:
    found = _numbers(data)
    return _text(found.get(3, b"")) if found.get(1) else _scalar("int32", found.get(2, 0))


def _raw_json(data: bytes, _depth: int) -> Any:
    raw = _numbers(data).get(1, b"")
    if not raw:
        return None
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        raise MalformedProtobuf(f"raw JSON inside the message: {error}") from None


def _items(data: bytes, _depth: int) -> Any:
    return [_text(value) for number, _, value in _fields(data) if number == 1]


def _schema_or_bool(data: bytes, depth: int) -> Any:
    found = _numbers(data)
    schema = found.get(2)
    return read_message(f"{_EXTENSIONS}JSONSchemaProps", schema, depth) if schema else bool(found.get(1, 0))


def _schema_or_array(data: bytes, depth: int) -> Any:
    single: Any = None
    several: list[Any] = []
    for number, _, value in _fields(data):
        schema = read_message(f"{_EXTENSIONS}JSONSchemaProps", value, depth)
        if number == 1:
            single = schema
        else:
            several.append(schema)
    return several or single


def _schema_or_strings(data: bytes, depth: int) -> Any:
    found = _fields(data)
    schema = next((value for number, _, value in found if number == 1), None)
    if schema:
        return read_message(f"{_EXTENSIONS}JSONSchemaProps", schema, depth)
    return [_text(value) for number, _, value in found if number == 2]


_READERS: dict[str, Callable[[bytes, int], Any]] = {
    f"{_META}Time": _time,
    f"{_META}MicroTime": _micro_time,
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
_SCALARS = frozenset({"string", "bytes", "bool", "int32", "int64", "double"})


@cache
def _table(definition: str) -> dict[int, _Field]:
    return {
        number: _Field(name, kind, label) for number, name, kind, label in protobuf_messages()[definition]
    }


def read_message(definition: str, data: Any, depth: int = 0) -> dict[str, Any]:
    """The JSON form of a message of this definition. Unknown field numbers are passed over."""
    if not isinstance(data, bytes):
        _wrong(definition.rsplit(".", 1)[1])
    if depth > _MAXIMUM_DEPTH:
        raise MalformedProtobuf("messages are nested too deeply")
    table = _table(definition)
    result: dict[str, Any] = {}
    for number, wire, value in _fields(data):
        field = table.get(number)
        if field is not None:
            _add(result, field, wire, value, depth + 1)
    return result


def _add(result: dict[str, Any], field: _Field, wire: int, value: Any, depth: int) -> None:
    name, kind, label = field
    if label == "m":
        result.setdefault(name, {}).update([_entry(kind, value, depth)])
    elif label == "i":
        result.update(read_message(kind, value, depth))
    elif label == "r":
        items: list[Any] = result.setdefault(name, [])
        if wire == _BYTES and kind in ("int32", "int64", "bool"):
            items.extend(_packed(kind, value))
        else:
            items.append(_value(kind, value, depth))
    else:
        decoded = _value(kind, value, depth)
        if decoded is not None and (label != "z" or decoded):
            result[name] = decoded


def _value(kind: str, value: Any, depth: int) -> Any:
    if kind in _SCALARS:
        return _scalar(kind, value)
    reader = _READERS.get(kind)
    if reader is None:
        return read_message(kind, value, depth)
    if not isinstance(value, bytes):
        _wrong(kind.rsplit(".", 1)[1])
    return reader(value, depth)


def _entry(kind: str, value: Any, depth: int) -> tuple[str, Any]:
    """Key and value of one entry of a map."""
    if not isinstance(value, bytes):
        _wrong("map")
    found = _numbers(value)
    key = _text(found.get(1, b""))
    given = found.get(2, 0 if kind in ("bool", "int32", "int64") else b"")
    return key, _value(kind, given, depth)


def read_envelope(body: bytes) -> Envelope:
    """What a body is about, before its object is read."""
    if not body.startswith(MAGIC):
        raise MalformedProtobuf(
            "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
        )
    found = _numbers(body[len(MAGIC) :])
    names = found.get(1, b"")
    if not isinstance(names, bytes):
        _wrong("TypeMeta")
    type_meta = _numbers(names)
    raw = found.get(2, b"")
    if not isinstance(raw, bytes):
        _wrong("Unknown")
    return Envelope(_text(type_meta.get(1, b"")), _text(type_meta.get(2, b"")), raw)


def can_read(definition: str) -> bool:
    """Whether there is a table for this definition."""
    return definition in protobuf_messages()
