"""Objects as protobuf: lists, single ones and the events of watches, for clients that take nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.laptop.apiserver import protobuf_writing, status
from kajitori.laptop.apiserver.transcoding import transcode
from kajitori.laptop.apiserver.views import ListBody, View

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kajitori.laptop.apiserver.kinds.kind import Kind
    from kajitori.laptop.apiserver.store import Entry


class ProtobufView(View):
    """Messages in their envelopes; in watches each event behind its length. shown: the view that they are made from.

    Raises StatusError 406 for a kind that has no such form.
    """

    slice_size = 100

    def __init__(self, kind: Kind, shown: View) -> None:
        super().__init__(kind)
        self._shown = shown
        self.shared = shown.shared
        self.key = b"protobuf " + shown.key
        partial = self.metadata_only = shown.metadata_only
        self._kind = "PartialObjectMetadata" if partial else kind.resource.kind
        self._list_kind = "PartialObjectMetadataList" if partial else kind.list_kind
        self._api_version = "meta.k8s.io/v1" if partial else kind.resource.api_version
        group, _, version = self._api_version.rpartition("/")
        definition = protobuf_writing.definition_for(group, version, self._kind)
        if definition is None:
            raise status.not_acceptable()
        self._definition = definition

    def object(self, entry: Entry) -> bytes:
        message = transcode(self._definition, self._shown.object(entry))
        return protobuf_writing.enveloped(self._api_version, self._kind, message)

    def items(self, entries: Iterable[Entry]) -> list[bytes]:
        shown = self._shown.items(entries)
        return [protobuf_writing.list_item(transcode(self._definition, item)) for item in shown]

    def wrap(self, items: list[bytes], metadata: dict[str, Any]) -> ListBody:
        first = protobuf_writing.list_metadata(metadata)
        size = len(first) + sum(map(len, items))
        head, tail = protobuf_writing.envelope(self._api_version, self._list_kind, size)
        return ListBody(head + first, items, b"", tail)

    def line(self, change: str, entry: Entry) -> bytes:
        return protobuf_writing.watch_frame(change, self.object(entry))

    def bookmark(self, version: int, annotations: dict[str, str] | None) -> bytes:
        event = msgspec.json.decode(self._shown.bookmark(version, annotations))
        return self._framed("BOOKMARK", event["object"])

    def error(self, failure: dict[str, Any]) -> bytes:
        return self._framed("ERROR", failure)

    @staticmethod
    def _framed(change: str, obj: dict[str, Any]) -> bytes:
        return protobuf_writing.watch_frame(change, protobuf_writing.as_protobuf(obj) or b"")
