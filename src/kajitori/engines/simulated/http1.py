"""A small HTTP/1.1 server on asyncio: requests with a body, answers as a whole or as a stream of chunks.

Made for processes that come by the dozen: it starts in a fraction of the time and memory of a full server. Keep-alive,
chunked request bodies, `Expect: 100-continue` and back-pressure on streams are there; pipelined requests are answered
in order. A client that leaves cancels its handler.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})

MAXIMUM_HEAD_BYTES = 64 * 1024
MAXIMUM_BODY_BYTES = 32 * 1024 * 1024
LONGEST_NUMBER = 20
_HEXADECIMAL = b"0123456789abcdefABCDEF"


class HttpRequest:
    """One request. Header names are in lower case; path is without the query."""

    __slots__ = ("body", "headers", "method", "path", "query")

    def __init__(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        self.method = method
        self.path, _, self.query = target.partition("?")
        self.headers = headers
        self.body = body


class Responder(Protocol):
    """How a handler answers: either `send` once, or `start`, `write` as often as needed, `finish`."""

    def send(
        self, status: int, body: bytes, content_type: str = ..., headers: Mapping[str, str] = ...
    ) -> None: ...

    def start(self, status: int, content_type: str, headers: Mapping[str, str] = ...) -> None: ...

    async def write(self, data: bytes) -> None: ...

    def finish(self) -> None: ...


class BadRequestError(Exception):
    """What came is no request that this server takes; status says what to answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class HttpConnection(asyncio.Protocol):
    """One connection. `connections` is the owner's set of those that are open."""

    def __init__(
        self,
        handler: Callable[[HttpRequest, Responder], Awaitable[None]],
        connections: set[HttpConnection],
    ) -> None:
        self._handler = handler
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._can_write = asyncio.Event()
        self._can_write.set()
        self._keep_alive = True
        self._continued = False
        self._streaming = False
        self._answered = False

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._transport = None
        self._can_write.set()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._next()
        transport = self._transport
        if self._task is not None and len(self._buffer) > MAXIMUM_HEAD_BYTES and transport is not None:
            # What follows the request that is being answered can wait where it is.
            transport.pause_reading()

    def pause_writing(self) -> None:
        self._can_write.clear()

    def resume_writing(self) -> None:
        self._can_write.set()

    # Requests.

    @property
    def busy(self) -> bool:
        return self._task is not None

    def close_when_done(self) -> None:
        """No further request on this connection."""
        self._keep_alive = False
        if self._task is None and self._transport is not None:
            self._transport.close()

    def _next(self) -> None:
        if self._task is not None or self._transport is None:
            return
        try:
            request = self._take()
        except BadRequestError as error:
            self._keep_alive = False
            self.send(error.status, str(error).encode(), "text/plain; charset=utf-8")
            self._transport.close()
            return
        if request is None:
            return
        self._answered = self._streaming = False
        self._task = asyncio.get_running_loop().create_task(self._handle(request))

    async def _handle(self, request: HttpRequest) -> None:
        try:
            await self._handler(request, self)
            if not self._answered:
                self.send(500, b"")
        finally:
            self._task = None
            if self._transport is not None:
                if not self._keep_alive or self._streaming:
                    self._transport.close()
                elif not self._transport.is_closing():
                    self._transport.resume_reading()
                    asyncio.get_running_loop().call_soon(self._next)

    def _take(self) -> HttpRequest | None:
        """The next whole request of the buffer, or None until more comes."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAXIMUM_HEAD_BYTES:
                raise BadRequestError(431, "the request's head is too large")
            return None
        method, target, version, headers = _parse_head(bytes(self._buffer[:end]))
        body_start = end + 4
        if "chunked" in headers.get("transfer-encoding", "").lower():
            found = _chunked_body(self._buffer, body_start)
        else:
            found = _plain_body(self._buffer, body_start, headers.get("content-length", "0"))
        if found is None:
            if (
                headers.get("expect", "").lower() == "100-continue"
                and not self._continued
                and self._transport
            ):
                self._continued = True
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return None
        body, consumed = found
        del self._buffer[:consumed]
        self._continued = False
        connection = headers.get("connection", "").lower()
        self._keep_alive &= connection != "close" and (version == "HTTP/1.1" or connection == "keep-alive")
        return HttpRequest(method, target, headers, body)

    # Answers.

    def send(
        self,
        status: int,
        body: bytes,
        content_type: str = "application/json",
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> None:
        """Answer with a body as a whole."""
        self._answered = True
        if self._transport is not None:
            head = self._head(status, content_type, headers) + f"content-length: {len(body)}\r\n\r\n"
            self._transport.write(head.encode("latin-1") + body)

    def start(self, status: int, content_type: str, headers: Mapping[str, str] = _NO_HEADERS) -> None:
        """Begin a stream."""
        self._answered = self._streaming = True
        if self._transport is not None:
            head = self._head(status, content_type, headers) + "transfer-encoding: chunked\r\n\r\n"
            self._transport.write(head.encode("latin-1"))

    async def write(self, data: bytes) -> None:
        """One chunk; waits while the client does not read."""
        if self._transport is not None:
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))
            if not self._can_write.is_set():
                await self._can_write.wait()

    def finish(self) -> None:
        """End a stream."""
        self._streaming = False
        if self._transport is not None:
            self._transport.write(b"0\r\n\r\n")

    def _head(self, status: int, content_type: str, headers: Mapping[str, str]) -> str:
        try:
            phrase = HTTPStatus(status).phrase
        except ValueError:
            phrase = ""
        lines = [f"HTTP/1.1 {status} {phrase}", f"content-type: {content_type}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if not self._keep_alive:
            lines.append("connection: close")
        return "\r\n".join(lines) + "\r\n"


def _parse_head(head: bytes) -> tuple[str, str, str, dict[str, str]]:
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise BadRequestError(400, "the request line is not one of HTTP/1.1")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BadRequestError(400, "a header line is malformed")
        headers[name.lower()] = value.strip()
    return words[0], words[1], words[2], headers


def _plain_body(buffer: bytearray, start: int, length_text: str) -> tuple[bytes, int] | None:
    if not (length_text.isascii() and length_text.isdecimal()):
        raise BadRequestError(400, "content-length is not a number")
    # Python refuses to read numbers of thousands of digits.
    length = int(length_text) if len(length_text) <= LONGEST_NUMBER else MAXIMUM_BODY_BYTES + 1
    if length > MAXIMUM_BODY_BYTES:
        raise BadRequestError(413, f"the body is larger than {MAXIMUM_BODY_BYTES} bytes")
    if len(buffer) < start + length:
        return None
    return bytes(buffer[start : start + length]), start + length


def _chunked_body(buffer: bytearray, start: int) -> tuple[bytes, int] | None:
    body = bytearray()
    while True:
        line_end = buffer.find(b"\r\n", start)
        if line_end < 0:
            return None
        size_text = bytes(buffer[start:line_end]).partition(b";")[0].strip()
        if not size_text or size_text.strip(_HEXADECIMAL):
            raise BadRequestError(400, "a chunk's size is not a number")
        size = int(size_text, 16)
        if len(body) + size > MAXIMUM_BODY_BYTES:
            raise BadRequestError(413, f"the body is larger than {MAXIMUM_BODY_BYTES} bytes")
        start = line_end + 2
        if size == 0:
            # Trailers, if any, end with an empty line as the head does.
            if buffer.startswith(b"\r\n", start):
                return bytes(body), start + 2
            end = buffer.find(b"\r\n\r\n", start)
            return None if end < 0 else (bytes(body), end + 4)
        if len(buffer) < start + size + 2:
            return None
        if not buffer.startswith(b"\r\n", start + size):
            raise BadRequestError(400, "a chunk is not as long as it says")
        body += buffer[start : start + size]
        start += size + 2
