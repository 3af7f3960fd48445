"""From JSON bytes to protobuf without building the object between them, for long lists and watches.

Objects of a kind resemble each other: environment, probes, conditions, owners recur from one to the next. The bytes
of such a part are remembered with their message, so that only what is particular to an object is read field by
field. The result is that of `kajitori.laptop.apiserver.protobuf_writing.message`.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from kajitori.api.schemas import protobuf_messages
from kajitori.laptop.apiserver import protobuf_writing
from kajitori.laptop.apiserver.protobuf_writing import PARTIAL_METADATA, RAW_JSON, field_bytes, tag, varint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REMEMBERED_BYTES = 4 << 20
# Longer parts hardly recur, and looking for one takes as long as reading some of it.
_LONGEST_REMEMBERED_BYTES = 700
# What a remembered pair costs besides its bytes.
_PAIR_BYTES = 200

_split = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_split_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode = msgspec.json.decode
_size = lru_cache(maxsize=2048)(varint)


class _Memory:
    """Parts seen lately, by their field: all are forgotten when they take too much room."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._fields: list[dict[bytes, bytes]] = []

    def field(self) -> dict[bytes, bytes]:
        known: dict[bytes, bytes] = {}
        self._fields.append(known)
        return known

    def keep(self, known: dict[bytes, bytes], text: bytes, written: bytes) -> None:
        self.size_bytes += len(text) + len(written) + _PAIR_BYTES
        if self.size_bytes > REMEMBERED_BYTES:
            for field in self._fields:
                field.clear()
            self.size_bytes = 0
        known[text] = written


_memory = _Memory()


def remembered_bytes() -> int:
    """What parts seen lately take, about."""
    return _memory.size_bytes


class _Field(NamedTuple):
    """write: from the JSON of a value to the whole field. known: what was written before."""

    write: Callable[[bytes], bytes]
    known: dict[bytes, bytes]


def _field(write: Callable[[bytes], bytes]) -> _Field:
    return _Field(write, _memory.field())


def _text_field(number: int) -> _Field:
    head = tag(number, 2)

    def write(text: bytes) -> bytes:
        content = _decode(text, type=str).encode() if b"\\" in text else text[1:-1]
        return b"%b%b%b" % (head, _size(len(content)), content)

    return _field(write)


def _raw_field(number: int) -> _Field:
    return _field(lambda text: field_bytes(number, field_bytes(1, text)))


def _message_field(number: int, definition: str) -> _Field:
    head = tag(number, 2)

    def write(text: bytes) -> bytes:
        content = transcode(definition, text)
        return b"%b%b%b" % (head, _size(len(content)), content)

    return _field(write)


def _repeated_field(one: _Field) -> _Field:
    write_one, known = one

    def write(text: bytes) -> bytes:
        parts: list[bytes] = []
        for raw in _split_list(text):
            item = bytes(raw)
            if len(item) > _LONGEST_REMEMBERED_BYTES:
                parts.append(write_one(item))
                continue
            written = known.get(item)
            if written is None:
                written = write_one(item)
                _memory.keep(known, item, written)
            parts.append(written)
        return b"".join(parts)

    return _field(write)


def _decoded_field(write: Callable[[object], bytes]) -> _Field:
    return _field(lambda text: write(_decode(text)))


@cache
def _fields_of(definition: str) -> Mapping[str, _Field]:
    if definition == PARTIAL_METADATA:
        return {"metadata": _message_field(1, protobuf_writing.OBJECT_META)}
    messages = protobuf_messages()
    # Maps, inlined messages and scalars other than texts take the way by way of their values.
    fields = {name: _decoded_field(write) for name, write in protobuf_writing.fields_of(definition).items()}
    for number, name, kind, label in messages[definition]:
        one: _Field | None = None
        if label in ("i", "m"):
            continue
        if kind == "string":
            one = _text_field(number)
        elif kind in RAW_JSON:
            one = _raw_field(number)
        elif kind in messages and not protobuf_writing.is_special(kind):
            one = _message_field(number, kind)
        if one is not None:
            fields[name] = _repeated_field(one) if label == "r" else one
    return fields


def transcode(definition: str, text: bytes | msgspec.Raw) -> bytes:
    """The message of an object's JSON; fields that the definition does not have are left out."""
    fields = _fields_of(definition)
    parts: list[bytes] = []
    for name, raw in _split(text).items():
        field = fields.get(name)
        if field is None:
            continue
        value = bytes(raw)
        write, known = field
        if len(value) > _LONGEST_REMEMBERED_BYTES:
            parts.append(write(value))
            continue
        written = known.get(value)
        if written is None:
            if value == b"null":
                continue
            written = write(value)
            _memory.keep(known, value, written)
        parts.append(written)
    return b"".join(parts)
