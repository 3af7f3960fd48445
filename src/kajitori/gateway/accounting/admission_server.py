"""The one question: Envoy's `ext_authz` asks by HTTP over a Unix socket, and the answer is a `Verdict`.

`POST /admit<path of the request>`; facts of the request come in one header (`routes.admission` has its format), and those
of its own headers that limits select by. 200 with `x-ratelimit-*` for the client, or a refusal in the client's dialect.
Anything odd is answered with 400 and the end of the connection, and nothing is kept of more than a head.

The same socket gives `/metrics`, `/healthz` and `/readyz`, and a port may give them too.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol, cast

import msgspec

from kajitori.gateway.accounting.questions import LARGEST_HEAD_BYTES, Forms, Malformed, parse_question
from kajitori.gateway.error_names import anthropic_name, openai_name
from kajitori.gateway.limits.request import Request, Verdict

_log = logging.getLogger(__name__)

# Each question that is under way has a connection. One that finds the queue full fails at once, and then its request
# passes unasked, or is refused.
_MOST_WAITING_CONNECTIONS = 65_535
_REASONS = {200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 429: "Too Many Requests",
            500: "Internal Server Error", 503: "Service Unavailable"}  # fmt: skip
# PERMISSION_DENIED, RESOURCE_EXHAUSTED, UNAVAILABLE. Envoy makes the answer one of gRPC, with the body as its message.
_GRPC_STATUSES = {403: 7, 429: 8, 503: 14}
_PASSED = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n"
_NOTHING = f"{_PASSED}\r\n".encode()
# Whatever else it is asked: a path -> status, content type, body.
Page = Callable[[], tuple[int, str, bytes]]


class Admission(Protocol):
    """Who decides."""

    def admit_at_once(self, request: Request) -> Verdict | None:
        """As `admit`, where nothing has to be waited for; None where it has, and nothing was done."""
        ...

    async def admit(self, request: Request) -> Verdict:
        """Whether a request may pass; reserves what it may need."""
        ...


class AdmissionServer:
    """Answers until it is closed. admission: None where nothing is limited, and only pages are given."""

    def __init__(self, admission: Admission | None, pages: dict[str, Page] | None = None) -> None:
        self._admission = admission
        self._pages = pages or {}
        self._servers: list[asyncio.AbstractServer] = []
        self._connections: set[_Connection] = set()
        self._forms = Forms()

    async def listen(self, socket: Path) -> None:
        """Opens the socket, for its owner only; one that a killed process left is replaced."""
        _make_room(socket)
        before = os.umask(0o177)
        try:
            server = await asyncio.get_running_loop().create_unix_server(
                self._connection, str(socket), backlog=_MOST_WAITING_CONNECTIONS
            )
        finally:
            os.umask(before)
        self._servers.append(server)

    async def listen_pages(self, address: str) -> str:
        """Opens `HOST:PORT` for the pages alone; returns the address in force. Raises OSError if it is taken."""
        host, _, port = address.rpartition(":")
        server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(None, self._pages, self._forms, self._connections), host, int(port)
        )
        self._servers.append(server)
        bound = server.sockets[0].getsockname()
        return f"{bound[0]}:{bound[1]}"

    def _connection(self) -> _Connection:
        return _Connection(self._admission, self._pages, self._forms, self._connections)

    def close(self) -> None:
        """Ends all connections."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        for connection in list(self._connections):
            connection.close()


def _make_room(socket: Path) -> None:
    socket.parent.mkdir(parents=True, exist_ok=True)
    socket.unlink(missing_ok=True)


class _Connection(asyncio.Protocol):
    """One connection: questions one after the other, however they arrive."""

    def __init__(
        self,
        admission: Admission | None,
        pages: dict[str, Page],
        forms: Forms,
        connections: set[_Connection],
    ) -> None:
        self._admission = admission
        self._pages = pages
        self._forms = forms
        self._connections = connections
        self._buffer = b""
        self._to_skip = 0
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._transport = None
        if self._task is not None:
            self._task.cancel()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if self._task is None:
            self._go_on()
        elif len(self._buffer) > LARGEST_HEAD_BYTES and self._transport is not None:
            self._transport.pause_reading()

    def _go_on(self) -> None:
        """Answers what is there, until a question has to be waited for."""
        while self._buffer and self._transport is not None:
            if self._to_skip:
                skipped = min(self._to_skip, len(self._buffer))
                self._buffer, self._to_skip = self._buffer[skipped:], self._to_skip - skipped
                continue
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > LARGEST_HEAD_BYTES:
                    self._refuse("the head is too long")
                return
            head, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
            try:
                written = self._answer_to(head)
            except Malformed as error:
                self._refuse(str(error))
                return
            if written is None:
                return
            self._transport.write(written)

    def _answer_to(self, head: bytes) -> bytes | None:
        """None where the answer has to be waited for. Raises Malformed."""
        form, facts = self._forms.read(head)
        self._to_skip = form.length
        if form.path in self._pages and form.method == "GET":
            return _page(self._pages[form.path])
        if self._admission is None:
            return _answer(404, "text/plain", b"not found\n")
        question = parse_question(form, facts)
        try:
            verdict = self._admission.admit_at_once(question)
        except Exception:
            return _failed(question)
        if verdict is not None:
            return render(verdict, question)
        self._task = asyncio.get_running_loop().create_task(
            self._ask(self._admission.admit(question), question)
        )
        return None

    async def _ask(self, answer: Awaitable[Verdict], question: Request) -> None:
        try:
            written = render(await answer, question)
        except Exception:
            written = _failed(question)
        self._write(written)
        self._task = None
        if self._transport is not None:
            self._transport.resume_reading()
            self._go_on()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _refuse(self, why: str) -> None:
        self._buffer = b""
        if self._transport is not None:
            self._transport.write(_answer(400, "text/plain", why.encode() + b"\n", close=True))
            self._transport.close()


def _failed(question: Request) -> bytes:
    """Of a decision that raised: Envoy then does as the route says for an accountant that cannot be asked."""
    _log.exception("whether request %s may pass cannot be told", question.id)
    return _answer(500, "text/plain", b"see the accountant's log\n")


def render(verdict: Verdict, question: Request) -> bytes:
    """The HTTP answer of a verdict on what was asked."""
    if verdict.allowed:
        if not verdict.headers and not verdict.exhausted:
            return _NOTHING
        gone = ",".join(f"{name}={seconds}" for name, seconds in verdict.exhausted.items())
        more = (("x-kajitori-exhausted", gone),) if gone else ()
        return f"{_PASSED}{_lines(verdict.headers + more)}\r\n".encode()
    headers = verdict.headers
    if verdict.retry_after_seconds is not None:
        headers += (("retry-after", str(max(1, int(-(-verdict.retry_after_seconds // 1))))),)
    if question.dialect == "grpc":
        headers += (("grpc-status", str(_GRPC_STATUSES[verdict.status])),)
        return _answer(verdict.status, "application/grpc", verdict.message.encode(), headers)
    body = refusal_body(verdict.status, verdict.message, question)
    return _answer(verdict.status, "application/json", body, headers)


def refusal_body(status: int, message: str, question: Request) -> bytes:
    """A refusal as JSON in the client's dialect, as lua/refusals.lua has it."""
    if question.dialect == "cohere":
        return msgspec.json.encode({"id": question.id, "message": message})
    if question.dialect == "anthropic":
        error = {"type": anthropic_name(status), "message": message}
        return msgspec.json.encode({"type": "error", "error": error, "request_id": question.id})
    error = {"type": openai_name(status), "code": str(status), "message": message}
    return msgspec.json.encode({"type": "error", "error": error})


def _page(page: Page) -> bytes:
    try:
        status, kind, body = page()
    except Exception:
        _log.exception("a page cannot be made")
        status, kind, body = 500, "text/plain", b"see the accountant's log\n"
    return _answer(status, kind, body)


def _answer(
    status: int, kind: str, body: bytes, headers: tuple[tuple[str, str], ...] = (), *, close: bool = False
) -> bytes:
    head = f"HTTP/1.1 {status} {_REASONS.get(status, 'Answer')}\r\ncontent-length: {len(body)}\r\n"
    if kind:
        head += f"content-type: {kind}\r\n"
    if close:
        head += "connection: close\r\n"
    return f"{head}{_lines(headers)}\r\n".encode() + body


def _lines(headers: tuple[tuple[str, str], ...]) -> str:
    if not "".join([value for _, value in headers]).isprintable():
        headers = tuple((name, _on_one_line(value)) for name, value in headers)
    return "".join([f"{name}: {value}\r\n" for name, value in headers])


def _on_one_line(value: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in value)
