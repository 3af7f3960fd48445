"""Server-sent events as they come in pieces of any size, and what a dialect says with them. Pure.

Source of the format: https://html.spec.whatwg.org/multipage/server-sent-events.html; of the dialects: the references of the
providers' APIs.
"""

from __future__ import annotations

import re

import msgspec

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
# An event that is longer is passed on in parts, and cannot be continued.
LONGEST_EVENT_BYTES = 8 * 1024 * 1024
_decode = msgspec.json.decode
_encode = msgspec.json.encode


class Splitter:
    """Cuts a stream into whole events; what has begun and not ended is kept."""

    def __init__(self) -> None:
        self._rest = b""

    @property
    def pending(self) -> bytes:
        """What has come of an event that is not whole."""
        return self._rest

    def feed(self, data: bytes) -> tuple[bytes, list[bytes]]:
        """All whole events as one piece, and each by itself, blank lines included."""
        text = self._rest + data
        events: list[bytes] = []
        at = 0
        # A line feed may be missing of a pair that was cut: then the next piece begins where this one ended.
        for match in _END.finditer(text, max(0, len(self._rest) - 3)):
            events.append(text[at : match.end()])
            at = match.end()
        self._rest = text[at:]
        return text[:at], events


def data_of(event: bytes) -> bytes:
    """The data of an event, its lines joined; empty for a comment."""
    if event.startswith(b"data:") and event.count(b"\n") <= 2 and b"\r" not in event:
        return event[5:].strip()
    found: list[bytes] = []
    for line in re.split(rb"\r\n|\n|\r", event):
        name, colon, value = line.partition(b":")
        if name == b"data":
            found.append(value.removeprefix(b" ") if colon else b"")
    return b"\n".join(found)


def with_data(event: bytes, value: object) -> bytes:
    """The event with other data; its other fields stay."""
    kept = [line for line in event.splitlines() if line and not line.startswith(b"data")]
    return b"\n".join([*kept, b"data: " + _encode(value)]) + b"\n\n"


def comment(text: str) -> bytes:
    """A line that clients pass over."""
    return b": " + " ".join(text.split()).encode() + b"\n\n"


def decoded(event: bytes) -> dict[str, object] | None:
    """The JSON object that is an event's data; None for anything else."""
    data = data_of(event)
    if not data.startswith(b"{"):
        return None
    try:
        value: object = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None  # pyright: ignore[reportUnknownVariableType]
