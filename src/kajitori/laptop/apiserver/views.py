"""How stored objects are shown: plain, metadata only, or as rows of a Table; in lists, alone and in watches.

A view joins bytes that are encoded already wherever it can: an object is its stored bytes behind
`{"kind":…,"apiVersion":…,`, a list is those joined by commas. Watch lines are kept on their event, so that all
watchers of the same view share them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from kajitori.laptop.apiserver.tables import pods

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kajitori.laptop.apiserver.history import Event
    from kajitori.laptop.apiserver.kinds.kind import Kind
    from kajitori.laptop.apiserver.store import Entry

_encode = msgspec.json.encode
TABLE_HEAD = b'{"kind":"Table","apiVersion":"meta.k8s.io/v1",'


def head_of(kind: str, api_version: str) -> bytes:
    return b'{"kind":%b,"apiVersion":%b,' % (_encode(kind), _encode(api_version))


def converts(kind: Kind) -> bool:
    """Whether objects of this kind are stored in another form than they are shown in."""
    return kind.storage != kind.resource and not kind.custom


def read_object(kind: Kind, entry: Entry) -> dict[str, Any]:
    """The object as this kind shows it, with kind and apiVersion; the caller's own copy."""
    if kind.conversion is not None:
        obj = kind.conversion.shown(kind, entry)
    else:
        obj = {"kind": kind.resource.kind, "apiVersion": kind.resource.api_version, **entry.decode()}
        obj = kind.from_stored(obj)
    if entry.version < kind.schema_since:
        kind.conform(obj)
        kind.default(obj)
    return obj


def peek_object(kind: Kind, entry: Entry) -> dict[str, Any]:
    """The same, not to be changed."""
    if entry.version < kind.schema_since:
        return read_object(kind, entry)
    obj = {"kind": kind.resource.kind, "apiVersion": kind.resource.api_version, **entry.peek()}
    return kind.from_stored(obj)


def stored_object(kind: Kind, obj: dict[str, Any]) -> dict[str, Any]:
    """An object in the form that the store takes: without kind and apiVersion. The given one is left alone.

    Where a webhook converts the apiVersion stays, since it says what the webhook has to convert from.
    """
    stored = dict(kind.to_stored(obj))
    stored.pop("kind", None)
    if kind.conversion is None:
        stored.pop("apiVersion", None)
    return stored


class ListBody(NamedTuple):
    """A list as it goes out: the items as they are stored, never copied into one piece where they are many."""

    head: bytes
    items: list[bytes]
    separator: bytes
    tail: bytes

    def size_bytes(self) -> int:
        between = len(self.separator) * max(len(self.items) - 1, 0)
        return len(self.head) + sum(map(len, self.items)) + between + len(self.tail)

    def joined(self) -> bytes:
        return b"%b%b%b" % (self.head, self.separator.join(self.items), self.tail)

    def blocks(self, least_bytes: int) -> Iterator[bytes]:
        """The whole in pieces of at least so many bytes, but for the last."""
        pieces, size = [self.head], len(self.head)
        between = b""
        for item in self.items:
            pieces += (between, item)
            between = self.separator
            size += len(item)
            if size >= least_bytes:
                yield b"".join(pieces)
                pieces, size = [], 0
        yield b"".join((*pieces, self.tail))


class View:
    """Plain objects: everything that is stored.

    shared: whether all who use this view of a kind get the same bytes for the same event; key tells such views apart.
    metadata_only: whether nothing else of an object is read. slice_size: how many items may hold up everybody else.
    """

    shared = True
    metadata_only = False
    slice_size = 500

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        resource = kind.resource
        self.head = head_of(resource.kind, resource.api_version)
        self._converts = converts(kind)
        self.key: bytes = self.head

    def object(self, entry: Entry) -> bytes:
        """One object, with kind and apiVersion."""
        if self._converts or entry.version < self.kind.schema_since:
            return _encode(peek_object(self.kind, entry))
        return self.head + entry.body[1:]

    def items(self, entries: Iterable[Entry]) -> list[bytes]:
        """List items. Built-in kinds have no kind and apiVersion there, custom ones have."""
        if self._converts:
            converted: list[bytes] = []
            for entry in entries:
                obj = peek_object(self.kind, entry)
                converted.append(_encode({k: v for k, v in obj.items() if k not in ("kind", "apiVersion")}))
            return converted
        if self.kind.custom:
            return [self.object(entry) for entry in entries]
        return [entry.body for entry in entries]

    def wrap(self, items: list[bytes], metadata: dict[str, Any]) -> ListBody:
        """The list that holds these items."""
        head = head_of(self.kind.list_kind, self.kind.resource.api_version)
        return ListBody(b'%b"metadata":%b,"items":[' % (head, _encode(metadata)), items, b",", b"]}")

    def frame(self, event: Event, change: str, entry: Entry) -> bytes:
        """A watch line as an HTTP chunk, shared by all who use this view."""
        key = (change, self.key)
        framed = event.lines.get(key)
        if framed is None:
            framed = event.lines[key] = frame(self.line(change, entry))
        return framed

    def line(self, change: str, entry: Entry) -> bytes:
        return b'{"type":"%b","object":%b}\n' % (change.encode(), self.object(entry))

    def error(self, failure: dict[str, Any]) -> bytes:
        """The line that says why a watch ends. failure: a Status."""
        return b'{"type":"ERROR","object":%b}\n' % _encode(failure)

    def bookmark(self, version: int, annotations: dict[str, str] | None) -> bytes:
        metadata: dict[str, Any] = {"resourceVersion": str(version)}
        if annotations:
            metadata["annotations"] = annotations
        return b'{"type":"BOOKMARK","object":%b"metadata":%b}}\n' % (self.head, _encode(metadata))


def frame(line: bytes) -> bytes:
    """A line as one HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(line), line)


class _MetadataOnly(msgspec.Struct):
    metadata: msgspec.Raw


_decode_metadata = msgspec.json.Decoder(_MetadataOnly).decode
_PARTIAL = b'{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":'


def partial_object(entry: Entry) -> bytes:
    return b"%b%b}" % (_PARTIAL, bytes(_decode_metadata(entry.body).metadata))


class MetadataView(View):
    """Metadata only, as garbage collectors and `kubectl delete` ask for it."""

    metadata_only = True

    def __init__(self, kind: Kind) -> None:
        super().__init__(kind)
        self.head = head_of("PartialObjectMetadata", "meta.k8s.io/v1")
        self.key = b"metadata"

    def object(self, entry: Entry) -> bytes:
        return partial_object(entry)

    def items(self, entries: Iterable[Entry]) -> list[bytes]:
        return [partial_object(entry) for entry in entries]

    def wrap(self, items: list[bytes], metadata: dict[str, Any]) -> ListBody:
        head = head_of("PartialObjectMetadataList", "meta.k8s.io/v1")
        return ListBody(b'%b"metadata":%b,"items":[' % (head, _encode(metadata)), items, b",", b"]}")


class TableView(View):
    """Rows with the cells that `kubectl get` prints. include: `Metadata`, `Object` or `None`."""

    # Ages and the first table's columns differ between watchers.
    shared = False

    def __init__(self, kind: Kind, include: str) -> None:
        super().__init__(kind)
        self._include = include
        self._columns_sent = False

    def _columns(self) -> bytes:
        return _encode([column.definition() for column in self.kind.columns])

    def _row(self, entry: Entry, now: float) -> bytes:
        plain = not self._converts and entry.version >= self.kind.schema_since
        obj = entry.decode() if plain else read_object(self.kind, entry)
        return b'{"cells":%b,"object":%b}' % (_encode(self.kind.cells(obj, now)), self._shown(entry, None))

    def _shown(self, entry: Entry, metadata: msgspec.Raw | None) -> bytes:
        """What a row holds of its object. metadata: where it was found already."""
        if self._include == "Object":
            return super().object(entry)
        if self._include == "None":
            return b"null"
        return partial_object(entry) if metadata is None else b"%b%b}" % (_PARTIAL, metadata)

    def items(self, entries: Iterable[Entry]) -> list[bytes]:
        now = time.time()
        return [self._row(entry, now) for entry in entries]

    def wrap(self, items: list[bytes], metadata: dict[str, Any]) -> ListBody:
        head = (TABLE_HEAD, _encode(metadata), self._columns())
        return ListBody(b'%b"metadata":%b,"columnDefinitions":%b,"rows":[' % head, items, b",", b"]}")

    def object(self, entry: Entry) -> bytes:
        return self.wrap(self.items([entry]), {"resourceVersion": str(entry.version)}).joined()

    def frame(self, event: Event, change: str, entry: Entry) -> bytes:
        return frame(self.line(change, entry))

    def line(self, change: str, entry: Entry) -> bytes:
        table = b'%b"metadata":{"resourceVersion":"%d"},"columnDefinitions":%b,"rows":[%b]}' % (
            TABLE_HEAD,
            entry.version,
            self._columns_once(),
            self._row(entry, time.time()),
        )
        return b'{"type":"%b","object":%b}\n' % (change.encode(), table)

    def _columns_once(self) -> bytes:
        if self._columns_sent:
            return b"null"
        self._columns_sent = True
        return self._columns()

    def bookmark(self, version: int, annotations: dict[str, str] | None) -> bytes:
        metadata: dict[str, Any] = {"resourceVersion": str(version), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = annotations
        cells: list[Any] = [
            0 if column.type == "integer" else "<unknown>" if column.name == "Age" else ""
            for column in self.kind.columns
        ]
        row = {
            "cells": cells,
            "object": {
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
            },
        }
        return (
            b'{"type":"BOOKMARK","object":%b"metadata":{"resourceVersion":"%d"},"columnDefinitions":%b,"rows":[%b]}}\n'
            % (
                TABLE_HEAD,
                version,
                self._columns_once(),
                _encode(row),
            )
        )


class PodTableView(TableView):
    """Pods, whose lists are the longest: a row is made without decoding them as a whole."""

    def _row(self, entry: Entry, now: float) -> bytes:
        cells, conditions, metadata = pods.row_of(entry.name, entry.body, now)
        return b'{"cells":%b,%b"object":%b}' % (
            _encode(cells),
            b'"conditions":%b,' % _encode(conditions) if conditions else b"",
            self._shown(entry, metadata),
        )
