"""HTTP/2 between Envoy and the accountant: all questions of one worker come by one connection, so what several requests ask at
once is read and answered together.

It is what Envoy speaks when it is told to speak it plainly (RFC 9113 and no more than that takes): heads of questions, which
have no bodies. Whatever is odd ends the connection, and Envoy begins another.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Any, Protocol, cast

from kajitori.gateway.accounting.admission_answers import Answer, as_block
from kajitori.gateway.accounting.header_blocks import HeaderTable
from kajitori.gateway.accounting.questions import Form, Forms, Malformed

_log = logging.getLogger(__name__)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD_BYTES = 9
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _WINDOW_UPDATE, _CONTINUATION = 0, 1, 3, 4, 6, 8, 9
_END_STREAM, _ACKNOWLEDGED, _END_HEADERS, _PADDED, _PRIORITY = 1, 1, 4, 8, 32
# Of 16 KiB at most, as anybody may send them, and so many bytes before more were allowed.
_LARGEST_PAYLOAD_BYTES, _FIRST_WINDOW_BYTES = 16_384, 65_535
# No path, and no name of a model that Envoy takes, is as long.
_LARGEST_BLOCK_BYTES = 1024 * 1024


def frame(kind: int, flags: int, stream: bytes, payload: bytes = b"") -> bytes:
    """stream: its number, in four bytes."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream + payload


_CONNECTION = bytes(4)
# An answer that is a head alone.
_WHOLE = bytes((_HEADERS, _END_HEADERS | _END_STREAM))
# No table of headers, so that a block means the same each time; and frames as large as a head may be.
_OUR_SETTINGS = frame(
    _SETTINGS, 0, _CONNECTION, b"\x00\x01" + bytes(4) + b"\x00\x05" + _LARGEST_BLOCK_BYTES.to_bytes(4, "big")
)


class Desk(Protocol):
    """Who answers. forms: of heads that have come before. together: within it questions are put that came at once, and
    answered when it has ended.
    """

    forms: Forms
    together: Callable[[], AbstractContextManager[None]]

    def answer(self, form: Form, facts: str) -> Answer | Coroutine[None, None, Answer]:
        """At once, or what has to be waited for. Raises Malformed."""
        ...


class Http2Connection(asyncio.Protocol):
    """One connection, from its preface on."""

    def __init__(self, desk: Desk, connections: set[Any]) -> None:
        self._desk = desk
        self._connections = connections
        self._buffer = b""
        self._table = HeaderTable()
        # A block that is not whole yet, and whose.
        self._block: tuple[bytes, bytes] | None = None
        self._tasks: dict[bytes, asyncio.Task[None]] = {}
        self._window = _FIRST_WINDOW_BYTES
        self._held: deque[tuple[bytes, Answer]] = deque()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)
        self._transport.write(_OUR_SETTINGS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._transport = None
        for task in self._tasks.values():
            task.cancel()

    def close(self) -> None:
        """Ends it, and what is under way."""
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        written: list[bytes] = []
        try:
            with self._desk.together():
                self._buffer = data[self._take_all(data, written) :]
            odd = False
        except ValueError as error:
            _log.warning("what Envoy asks cannot be read: %s", error)
            odd = True
        if written and self._transport is not None:
            self._transport.write(b"".join(written))
        if odd:
            self.close()

    def _take_all(self, data: bytes, written: list[bytes]) -> int:
        """All whole frames; how far they go. Raises ValueError."""
        at = 0
        while len(data) >= at + _HEAD_BYTES:
            length = int.from_bytes(data[at : at + 3], "big")
            if length > _LARGEST_BLOCK_BYTES:
                raise ValueError("a frame is too long")
            begins = at + _HEAD_BYTES
            if len(data) < begins + length:
                break
            stream = data[at + 5 : begins]
            self._take(data[at + 3], data[at + 4], stream, data[begins : begins + length], written)
            at = begins + length
        return at

    def _take(self, kind: int, flags: int, stream: bytes, payload: bytes, written: list[bytes]) -> None:
        """One frame. written: gets what is to be sent. Raises ValueError."""
        if kind == _HEADERS:
            if flags & (_PADDED | _PRIORITY):
                payload = _without_extras(flags, payload)
            if flags & _END_HEADERS and self._block is None:
                self._question(stream, payload, written)
            elif self._block is not None:
                raise ValueError("a head within a head")
            else:
                self._block = stream, payload
        elif kind == _CONTINUATION:
            if self._block is None or self._block[0] != stream:
                raise ValueError("nothing goes on there")
            block = self._block[1] + payload
            if len(block) > _LARGEST_BLOCK_BYTES:
                raise ValueError("a head is too long")
            self._block = None if flags & _END_HEADERS else (stream, block)
            if self._block is None:
                self._question(stream, block, written)
        elif kind == _SETTINGS and not flags & _ACKNOWLEDGED:
            written.append(frame(_SETTINGS, _ACKNOWLEDGED, _CONNECTION))
        elif kind == _PING and not flags & _ACKNOWLEDGED:
            written.append(frame(_PING, _ACKNOWLEDGED, _CONNECTION, payload))
        elif kind == _RESET:
            task = self._tasks.pop(stream, None)
            if task is not None:
                task.cancel()
        elif kind == _WINDOW_UPDATE and stream == _CONNECTION:
            self._window += int.from_bytes(payload, "big")
            while self._held and len(self._held[0][1].body) <= self._window:
                self._put(*self._held.popleft(), written)

    def _question(self, stream: bytes, block: bytes, written: list[bytes]) -> None:
        try:
            form, facts = self._desk.forms.read_block(block, self._table)
            answer = self._desk.answer(form, facts)
        except Malformed as error:
            answer = Answer(400, (("content-type", "text/plain"),), str(error).encode() + b"\n")
        if isinstance(answer, Answer):
            self._put(stream, answer, written)
        else:
            self._tasks[stream] = asyncio.get_running_loop().create_task(self._wait(stream, answer))

    async def _wait(self, stream: bytes, answer: Coroutine[None, None, Answer]) -> None:
        written: list[bytes] = []
        self._put(stream, await answer, written)
        self._tasks.pop(stream, None)
        if self._transport is not None:
            self._transport.write(b"".join(written))

    def _put(self, stream: bytes, answer: Answer, written: list[bytes]) -> None:
        """Answers with a body wait until Envoy takes more; one that nobody would read goes without."""
        body = answer.body
        if not body:
            block = as_block(answer)
            if len(block) <= _LARGEST_PAYLOAD_BYTES:
                written.append(b"".join((len(block).to_bytes(3, "big"), _WHOLE, stream, block)))
            else:
                written.append(_head(stream, block, _END_STREAM))
            return
        if len(body) > _FIRST_WINDOW_BYTES:
            self._put(stream, answer._replace(body=b""), written)
            return
        if len(body) > self._window:
            self._held.append((stream, answer))
            return
        self._window -= len(body)
        written.append(_head(stream, as_block(answer)))
        for start in range(0, len(body), _LARGEST_PAYLOAD_BYTES):
            part = body[start : start + _LARGEST_PAYLOAD_BYTES]
            last = start + _LARGEST_PAYLOAD_BYTES >= len(body)
            written.append(frame(_DATA, _END_STREAM if last else 0, stream, part))


def _head(stream: bytes, block: bytes, flags: int = 0) -> bytes:
    """A head in as many frames as it takes; nothing may stand between them."""
    first, rest = block[:_LARGEST_PAYLOAD_BYTES], block[_LARGEST_PAYLOAD_BYTES:]
    frames = [frame(_HEADERS, flags | (0 if rest else _END_HEADERS), stream, first)]
    while rest:
        part, rest = rest[:_LARGEST_PAYLOAD_BYTES], rest[_LARGEST_PAYLOAD_BYTES:]
        frames.append(frame(_CONTINUATION, 0 if rest else _END_HEADERS, stream, part))
    return b"".join(frames)


def _without_extras(flags: int, payload: bytes) -> bytes:
    """A head without padding and priority. Raises ValueError."""
    padding = payload[0] if flags & _PADDED and payload else 0
    begins = (1 if flags & _PADDED else 0) + (5 if flags & _PRIORITY else 0)
    if begins + padding > len(payload):
        raise ValueError("there is more padding than frame")
    return payload[begins : len(payload) - padding]
