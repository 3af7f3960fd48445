"""Connections between the relay and Envoy: those that ask us, and those by which we ask.

Bytes go from one to the other within the call by which they came; a library that makes a task and a queue of each took most of
what a relayed stream cost. Who takes in less than comes stops the other side.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple, Protocol, cast

from kajitori.gateway.rescue.wire import (
    HEAD_END,
    LAST_CHUNK,
    LONGEST_HEAD_BYTES,
    Body,
    Head,
    Headers,
    WireError,
    chunk,
    read_head,
    write_head,
)

_log = logging.getLogger(__name__)
_CONNECT_SECONDS = 5.0
_MOST_IDLE = 64


class Request(NamedTuple):
    """Of Envoy, whole. target: path and query."""

    method: str
    target: str
    head: Head
    body: bytes


class _Connection(asyncio.Protocol):
    """What both kinds have: bytes until a head is whole, then its body."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._data = b""
        self._body: Body | None = None
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def _take_head(self, data: bytes) -> Head | None:
        """The head if it is whole by now; what follows it is kept."""
        self._data += data
        text, found, rest = self._data.partition(HEAD_END)
        if not found:
            if len(self._data) > LONGEST_HEAD_BYTES:
                raise WireError("a head does not end")
            return None
        self._data = rest
        return read_head(text)


class Reply(_Connection):
    """A connection of Envoy's, and the answer to the request that came by it.

    patience_seconds: for how long Envoy may take nothing of an answer before the connection is cut; 0 for no bound.
    answer: called with each request. body_limit_bytes: larger ones are answered with 413. open_ones: gets this one while it is.
    """

    def __init__(
        self,
        answer: Callable[[Request, Reply], Awaitable[None]],
        body_limit_bytes: int,
        open_ones: set[Reply],
    ) -> None:
        super().__init__()
        self._open_ones = open_ones
        self._answer = answer
        self._body_limit_bytes = body_limit_bytes
        self._head: Head | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._chunked = False
        self._paused = False
        self._source: Answer | None = None
        self._giving_up: asyncio.TimerHandle | None = None
        self.patience_seconds = 0.0
        self.task: asyncio.Task[None] | None = None
        self.begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._open_ones.add(self)

    def data_received(self, data: bytes) -> None:
        if self.task is not None:
            self._data += data  # Envoy waits for the answer before it asks again
            return
        try:
            self._receive(data)
        except WireError as error:
            _log.warning("a request to the relay of streams cannot be read: %s", error)
            self.transport.abort()

    def _receive(self, data: bytes) -> None:
        if self._head is None or self._body is None:
            self._head = self._take_head(data)
            if self._head is None:
                return
            self._body, self._pieces, self._size = Body(self._head, answer=False), [], 0
            data, self._data = self._data, b""
        piece = self._body.feed(data)
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > self._body_limit_bytes:
            self.refuse("413 Payload Too Large")
        elif self._body.ended:
            self._data = self._body.rest
            method, _, rest = self._head.first.partition(" ")
            request = Request(method, rest.rpartition(" ")[0], self._head, b"".join(self._pieces))
            self._head = self._body = None
            self._pieces = []
            self.begun = False
            self.task = asyncio.get_running_loop().create_task(self._serve(request))

    async def _serve(self, request: Request) -> None:
        try:
            await self._answer(request, self)
        except Exception:
            _log.exception("a stream could not be relayed")
            self.transport.abort()
        finally:
            self.task = self._source = None
        if self._data and not self.lost:
            data, self._data = self._data, b""
            self.data_received(data)

    def begin(self, status: str, headers: Headers, length: int | None) -> None:
        """The head. length: of the body, None if nobody knows it."""
        self.begun, self._chunked = True, length is None
        framing = ("transfer-encoding", "chunked") if length is None else ("content-length", str(length))
        self.transport.write(write_head(f"HTTP/1.1 {status}", [*headers, framing]))

    def refuse(self, status: str) -> None:
        """An answer without a body, and no further one."""
        self.begin(status, [("connection", "close")], 0)
        self.transport.close()

    def write(self, data: bytes) -> None:
        """A piece of the body."""
        if data:
            self.transport.write(chunk(data) if self._chunked else data)

    def end(self) -> None:
        """The body is whole."""
        if self._chunked:
            self.transport.write(LAST_CHUNK)

    def take_from(self, source: Answer) -> None:
        """Whom to stop when Envoy takes in less than comes."""
        self._source = source
        if self._paused:
            source.hold()

    def pause_writing(self) -> None:
        self._paused = True
        if self._source is not None:
            self._source.hold()
        if self.patience_seconds:
            loop = asyncio.get_running_loop()
            self._giving_up = loop.call_later(self.patience_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        self._paused = False
        self._stop_waiting()
        if self._source is not None:
            self._source.go_on()

    def _stop_waiting(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._open_ones.discard(self)
        self._stop_waiting()
        if self.task is not None:
            self.task.cancel()


class Receiver(Protocol):
    """Who hears of an answer as it comes."""

    def begin(self, head: Head) -> None: ...
    def take(self, data: bytes) -> None: ...
    def end(self, *, whole: bool) -> None: ...


class Answer(_Connection):
    """A connection to Envoy's inner listener, and the answer that comes by it.

    is_used: whether it has been asked before.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_used = False
        self._receiver: Receiver | None = None
        self._reusable = True

    def ask(self, head: bytes, body: bytes, receiver: Receiver) -> None:
        """Sends a request; the receiver hears what becomes of it."""
        self._receiver, self._body = receiver, None
        self.transport.write(head + body)

    @property
    def is_idle(self) -> bool:
        """Whether another request can be sent by it."""
        return self._receiver is None and self._reusable and not self.lost

    def hold(self) -> None:
        """Take nothing for the time being."""
        if not self.lost:
            self.transport.pause_reading()

    def go_on(self) -> None:
        """Take again."""
        if not self.lost:
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        receiver = self._receiver
        if receiver is None:
            self.transport.abort()  # nothing was asked
            return
        try:
            self._receive(receiver, data)
        except WireError as error:
            _log.warning("an answer to the relay of streams cannot be read: %s", error)
            self.transport.abort()

    def _receive(self, receiver: Receiver, data: bytes) -> None:
        body = self._body
        while body is None:
            head = self._take_head(data)
            if head is None:
                return
            data, self._data = self._data, b""
            if 100 <= head.status < 200:
                continue
            body = self._body = Body(head, answer=True)
            self._reusable = head.get("connection") != "close" and not body.until_closed
            receiver.begin(head)
        if data and (piece := body.feed(data)):
            receiver.take(piece)
        if body.ended and self._receiver is receiver:
            self._receiver = None
            receiver.end(whole=True)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.end(whole=self._body is not None and self._body.until_closed and exc is None)


class Asking:
    """Connections to one socket. Both ends are of one Envoy, so there is no end of them to bound."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._idle: list[Answer] = []

    @contextlib.asynccontextmanager
    async def connection(self, *, fresh: bool = False) -> AsyncGenerator[Answer]:
        """One by which nothing is asked; it is used again if its answer was whole. fresh: none that was used before.

        Raises OSError, TimeoutError.
        """
        found = None
        while self._idle and not fresh and (found is None or not found.is_idle):
            found = self._idle.pop()
        if found is None or not found.is_idle:
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, found = await loop.create_unix_connection(Answer, str(self._socket))
        try:
            yield found
        finally:
            if found.is_idle and len(self._idle) < _MOST_IDLE:
                found.go_on()
                found.is_used = True
                self._idle.append(found)
            else:
                found.transport.abort()

    def close(self) -> None:
        """Closes those that are idle."""
        for each in self._idle:
            each.transport.abort()
        self._idle.clear()
