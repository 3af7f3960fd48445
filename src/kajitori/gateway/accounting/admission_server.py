"""The one question: Envoy's `ext_authz` asks by HTTP over a Unix socket, and the answer is a `Verdict`.

`POST /admit<path of the request>`; facts of the request come in one header (`routes.admission` has its format), and those
of its own headers that limits select by. 200 with `x-ratelimit-*` for the client, or a refusal in the client's dialect.
Anything odd is answered with 400 and the end of the connection, and nothing is kept of more than a head.

Envoy asks by HTTP/2; the same questions are understood by HTTP/1.1, one after the other. The same socket gives `/metrics`, `/healthz` and
`/readyz`, and a port may give them too.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol, cast

from kajitori.gateway.accounting.admission_answers import FAILED, NOT_FOUND, Answer, answer_of, as_http1, page
from kajitori.gateway.accounting.admission_http2 import PREFACE, Http2Connection
from kajitori.gateway.accounting.questions import LARGEST_HEAD_BYTES, Form, Forms, Malformed, parse_question
from kajitori.gateway.limits.request import Request, Verdict

_log = logging.getLogger(__name__)

# Envoy opens few connections, but others may ask for pages. One that finds the queue full fails at once, and then its
# request passes unasked, or is refused.
_MOST_WAITING_CONNECTIONS = 65_535
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
    """Answers until it is closed. admission: None where nothing is limited, and only pages are given.

    together: within it questions are put that are answered when it has ended.
    """

    def __init__(
        self,
        admission: Admission | None,
        pages: dict[str, Page] | None = None,
        together: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._desk = _Desk(admission, pages or {}, together)
        self._pages_alone = _Desk(None, pages or {}, nullcontext)
        self._servers: list[asyncio.AbstractServer] = []
        self._connections: set[_Connection | Http2Connection] = set()

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
            lambda: _Connection(self._pages_alone, self._connections), host, int(port)
        )
        self._servers.append(server)
        bound = server.sockets[0].getsockname()
        return f"{bound[0]}:{bound[1]}"

    def _connection(self) -> _Connection:
        return _Connection(self._desk, self._connections)

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


class _Desk:
    """Answers, by whichever protocol it was asked."""

    def __init__(
        self,
        admission: Admission | None,
        pages: dict[str, Page],
        together: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.forms = Forms()
        self.together = together
        self._admission = admission
        self._pages = pages

    def answer(self, form: Form, facts: str) -> Answer | Coroutine[None, None, Answer]:
        """At once, or what has to be waited for. Raises Malformed."""
        if form.path in self._pages and form.method == "GET":
            return _page(self._pages[form.path])
        if self._admission is None:
            return NOT_FOUND
        question = parse_question(form, facts)
        try:
            verdict = self._admission.admit_at_once(question)
        except Exception:
            return _failed(question)
        if verdict is not None:
            return answer_of(verdict, question)
        return self._waited_for(self._admission, question)

    async def _waited_for(self, admission: Admission, question: Request) -> Answer:
        try:
            return answer_of(await admission.admit(question), question)
        except Exception:
            return _failed(question)


def _failed(question: Request) -> Answer:
    """Of a decision that raised: Envoy then does as the route says for an accountant that cannot be asked."""
    _log.exception("whether request %s may pass cannot be told", question.id)
    return FAILED


def _page(made: Page) -> Answer:
    try:
        return page(*made())
    except Exception:
        _log.exception("a page cannot be made")
        return FAILED


class _Connection(asyncio.Protocol):
    """One connection of HTTP/1.1: questions one after the other, however they arrive. Or the beginning of one of HTTP/2."""

    def __init__(self, desk: _Desk, connections: set[_Connection | Http2Connection]) -> None:
        self._desk = desk
        self._connections = connections
        self._buffer = b""
        self._to_skip = 0
        self._answered = False
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
        if not self._answered and self._buffer.startswith(PREFACE[: len(self._buffer)]):
            if len(self._buffer) >= len(PREFACE):
                self._go_on_in_http2()
        elif self._task is None:
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
            self._answered = True
            try:
                form, facts = self._desk.forms.read(head)
                self._to_skip = form.length
                answer = self._desk.answer(form, facts)
            except Malformed as error:
                self._refuse(str(error))
                return
            if not isinstance(answer, Answer):
                self._task = asyncio.get_running_loop().create_task(self._wait(answer))
                return
            self._transport.write(as_http1(answer))

    async def _wait(self, answer: Coroutine[None, None, Answer]) -> None:
        self._write(as_http1(await answer))
        self._task = None
        if self._transport is not None:
            self._transport.resume_reading()
            self._go_on()

    def _go_on_in_http2(self) -> None:
        if self._transport is None:
            return
        self._connections.discard(self)
        connection = Http2Connection(self._desk, self._connections)
        self._transport.set_protocol(connection)
        connection.connection_made(self._transport)
        connection.data_received(self._buffer[len(PREFACE) :])

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _refuse(self, why: str) -> None:
        self._buffer = b""
        if self._transport is not None:
            self._transport.write(as_http1(page(400, "text/plain", why.encode() + b"\n"), close=True))
            self._transport.close()
