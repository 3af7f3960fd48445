"""The bytes of a watch become events: lines are cut wherever chunks end, one JSON object each.

A line is decoded in two steps, so that the object inside goes straight from bytes into the struct that the
watcher asked for. Bookmarks and errors are handled here and never reach the watcher as objects.

Source: Kubernetes API concepts, "Efficient detection of changes" and "Watch bookmarks".
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Generic, Literal, TypeVar

import msgspec

from kajitori.base.errors import Unreachable, api_error

T = TypeVar("T")

OnBookmark = Callable[[str, bool], None]
"""Gets the version, and whether it ends the initial events."""
OnInvalid = Callable[[bytes, str], None]
"""Gets an object's bytes that do not fit the type asked for, and why."""

# No object is larger than a server's request limit of 3 MiB; far beyond that, the peer is no API server.
_LONGEST_LINE_BYTES = 64 << 20

_INITIAL_EVENTS_END = "k8s.io/initial-events-end"


class WatchEvent(msgspec.Struct, Generic[T], frozen=True):
    """One change. object: the state after it; for DELETED the last state."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: T


class _Line(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Meta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    annotations: dict[str, str] = {}


class _Bookmark(msgspec.Struct):
    metadata: _Meta


_LINE = msgspec.json.Decoder(_Line)
_BOOKMARK = msgspec.json.Decoder(_Bookmark)
_STATUS: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])


async def read_events(
    chunks: AsyncIterator[bytes],
    decoder: msgspec.json.Decoder[T],
    on_bookmark: OnBookmark | None = None,
    on_invalid: OnInvalid | None = None,
) -> AsyncGenerator[WatchEvent[T]]:
    """Events in order. Raises the ApiError that an ERROR line carries; Unreachable on garbage or half a line."""
    async for line in split_lines(chunks):
        try:
            event = _LINE.decode(line)
            if event.type == "BOOKMARK":
                meta = _BOOKMARK.decode(event.object).metadata
                if on_bookmark is not None:
                    on_bookmark(meta.resource_version, meta.annotations.get(_INITIAL_EVENTS_END) == "true")
                continue
            if event.type == "ERROR":
                raise api_error(_STATUS.decode(event.object))
        except msgspec.DecodeError:
            raise Unreachable("the watch sent something that is no event") from None
        if event.type not in ("ADDED", "MODIFIED", "DELETED"):
            continue
        try:
            obj = decode_object(decoder, event.object)
        except msgspec.DecodeError as error:
            if on_invalid is None:
                raise Unreachable(f"the watch sent an object that cannot be read: {error}") from None
            on_invalid(bytes(event.object), str(error))
            continue
        yield WatchEvent(event.type, obj)  # pyright: ignore[reportArgumentType]


def decode_object(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw) -> T:
    """The object. A server written in Go sends null for an empty list or map that its type does not leave out.

    Such a null is read as absent, in a second attempt. Raises msgspec.DecodeError.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        if b"null" not in bytes(body):
            raise
        whole = _without_nulls(msgspec.json.decode(body))
        try:
            return decoder.decode(msgspec.json.encode(whole))
        except msgspec.ValidationError:
            raise error from None


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value


async def split_lines(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Whole lines without their ends; raises Unreachable if the last one has none."""
    pending: list[bytes] = []
    pending_bytes = 0
    async for chunk in chunks:
        if b"\n" not in chunk:
            pending.append(chunk)
            pending_bytes += len(chunk)
            if pending_bytes > _LONGEST_LINE_BYTES:
                raise Unreachable("the watch sent a line without an end")
            continue
        pending.append(chunk)
        lines = b"".join(pending).split(b"\n")
        rest = lines.pop()
        pending, pending_bytes = ([rest], len(rest)) if rest else ([], 0)
        for line in lines:
            if line:
                yield line
    if pending_bytes:
        raise Unreachable("the watch was cut in the middle of an event")
