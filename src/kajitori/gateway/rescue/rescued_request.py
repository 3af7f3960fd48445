"""A request whose stream may be rescued: how each leg asks, and what is known of the stream so far.

Most streams are whole. So what passed is read only when there is a need to: when nothing in its end says so, or when more
came than is kept of it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kajitori.gateway.rescue import legs
from kajitori.gateway.rescue.connections import Request
from kajitori.gateway.rescue.dialects import Story, story_of
from kajitori.gateway.rescue.events import Splitter
from kajitori.gateway.rescue.wire import Headers, write_head

# What belongs to one connection, or is written anew for each leg.
NOT_PASSED_ON = frozenset(
    {
        "connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding",
        "upgrade", legs.LEG, legs.EXCLUDED, legs.ID, legs.CLUSTER, legs.HEDGE,
    }
)  # fmt: skip
# A backend that says nothing is cut by Envoy, which knows for how long it may be silent. It would take one for silent whose
# answer is not taken, so a client may take nothing for this part of the time.
_CLIENTS_SHARE = 0.5
# So much of a stream is passed on before it is read: most are whole, and need never be.
_MOST_UNREAD_BYTES = 64 * 1024
_LAST_PIECES = 4


class RescuedRequest:
    """One request with what is known of its stream."""

    def __init__(self, request: Request) -> None:
        head = request.head
        mode = head.get(legs.MODE) or "Error"
        path = request.target.partition("?")[0]
        self.request_id = head.get(legs.ID) or ""
        self.continues = mode != "Error"
        self.patience_seconds = _seconds(head.get(legs.SILENCE) or "") * _CLIENTS_SHARE
        self.story: Story = story_of(path, engine_fields=mode == "ContinueFinalMessage")
        self.leg = 0
        self.tried: list[str] = []
        self._path = path
        self._first = f"{request.method} {request.target} HTTP/1.1"
        self._body = request.body
        self._headers = [(name, value) for name, value in head.headers if name not in NOT_PASSED_ON]
        self._unread: list[bytes] = []
        self._unread_bytes = 0

    def head(self, length: int) -> bytes:
        """Of the leg that is about to be asked. length: of its body."""
        own: Headers = [
            (legs.LEG, str(self.leg)),
            (legs.ID, legs.leg_id(self.request_id, self.leg)),
            ("content-length", str(length)),
        ]
        if self.tried:
            own.append((legs.EXCLUDED, ",".join(self.tried)))
        return write_head(self._first, [*self._headers, *own])

    def next_body(self) -> bytes | None:
        """What to ask the next backend; None if nobody shall, or can, go on."""
        if not self.continues or self.leg >= legs.MOST_LEGS or self.story.obstacle:
            return None
        try:
            asked: Any = msgspec.json.decode(self._body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.story.obstacle = "the request's body is no JSON that can be read"
            return None
        if not isinstance(asked, dict):
            return None
        body: dict[str, Any] = self.story.continuation(asked)  # pyright: ignore[reportUnknownArgumentType]
        return None if self.story.obstacle else msgspec.json.encode(body)

    def passed(self, events: bytes) -> None:
        """Whole events that were passed on and not read."""
        self._unread.append(events)
        self._unread_bytes += len(events)
        if self._unread_bytes > _MOST_UNREAD_BYTES:
            if self.continues:
                self.read()
            else:
                # Nobody will go on from it, so only its end matters.
                del self._unread[:-_LAST_PIECES]
                self._unread_bytes = sum(map(len, self._unread))

    def read(self) -> None:
        """Reads what was passed on."""
        for event in Splitter().feed(b"".join(self._unread))[1]:
            self.story.read(event)
        self._unread, self._unread_bytes = [], 0

    @property
    def ended(self) -> bool:
        """Whether the stream has said that it is whole."""
        if not self.story.ended and self._unread:
            last = story_of(self._path)
            for event in Splitter().feed(b"".join(self._unread[-_LAST_PIECES:]))[1]:
                last.read(event)
            if last.ended:
                return True
            self.read()
        return self.story.ended


def _seconds(text: str) -> float:
    """0 for what is no number."""
    try:
        return float(text)
    except ValueError:
        return 0.0
