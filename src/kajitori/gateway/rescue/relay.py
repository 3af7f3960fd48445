"""The relay of streams that a policy wants rescued: between the listener that clients ask and the one that asks backends.

Both are Envoy's; in between stands this small server, for streams of such routes only. It passes on whole events as they come.
When a stream ends before it has said that it is whole, it puts the error into the stream as the dialect has it, or
asks another backend to go on from the text so far, and says so in a comment.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from kajitori.gateway.rescue import legs
from kajitori.gateway.rescue.dialects import Story, story_of
from kajitori.gateway.rescue.events import LONGEST_EVENT_BYTES, Splitter, comment
from kajitori.gateway.rescue.metrics import RescueCounts

_log = logging.getLogger(__name__)
# What belongs to one connection, or is written anew for each leg.
_NOT_PASSED_ON = frozenset(
    {
        "connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding",
        "upgrade", legs.LEG, legs.EXCLUDED, legs.ID, legs.CLUSTER,
    }
)  # fmt: skip
# A backend that says nothing is cut by Envoy, which knows for how long it may be silent. It would take one for silent whose
# answer is not taken, so a client may take nothing for this part of the time.
_CLIENTS_SHARE = 0.5
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5.0)


class _Interrupted(Exception):
    """A stream ended before it was whole; its words say how."""


class _Unheard(Exception):
    """The client takes nothing of its answer."""


class Relay:
    """Serves on one socket, asks on another. Both are Envoy's side of the same pod or machine."""

    def __init__(
        self,
        socket: Path,
        inner: Path,
        counts: RescueCounts | None = None,
        *,
        body_limit_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self._socket = socket
        self._inner = inner
        self._body_limit_bytes = body_limit_bytes
        self.counts = counts or RescueCounts()
        self._session: aiohttp.ClientSession | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Serve while the context lasts."""
        # Both sockets are those of one Envoy, so there is no end of connections to bound.
        connector = aiohttp.UnixConnector(str(self._inner), limit=0, force_close=False)
        # What Envoy is asked it answers as it is: gzip stays gzip.
        async with aiohttp.ClientSession(
            connector=connector, timeout=_NO_TIMEOUT, auto_decompress=False, read_bufsize=256 * 1024
        ) as self._session:
            server = web.Server(self._handle, access_log=None, handler_cancellation=True)
            runner = web.ServerRunner(server, shutdown_timeout=1.0)
            await runner.setup()
            self._socket.parent.mkdir(parents=True, exist_ok=True)
            self._socket.unlink(missing_ok=True)
            try:
                await web.UnixSite(runner, str(self._socket)).start()
                self._socket.chmod(0o600)
                yield
            finally:
                await runner.cleanup()

    async def run(self) -> None:
        """Serve until cancelled. Raises OSError if the socket cannot be made."""
        async with self.running():
            await asyncio.Event().wait()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await _body(request, self._body_limit_bytes)
        if body is None:
            return web.Response(status=413)
        rescue = _Rescue(request, body)
        async with contextlib.AsyncExitStack() as stack:
            try:
                answer = await stack.enter_async_context(self._leg(rescue, body))
            except aiohttp.ClientError as error:
                _log.warning("%s: the inner listener cannot be asked: %s", rescue.request_id, error)
                return web.Response(status=503)
            response = web.StreamResponse(status=answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in _NOT_PASSED_ON:
                    response.headers.add(name, value)
            if not _is_events(answer):
                length = answer.headers.get("content-length")
                if length is not None:
                    response.content_length = int(length)
            else:
                self.counts.streams += 1
            await response.prepare(request)
            try:
                if _is_events(answer):
                    await self._stream(rescue, response, answer)
                else:
                    async for piece in answer.content.iter_any():
                        await rescue.write(response, piece)
            except _Unheard:
                _log.info("%s: the client takes nothing of its answer", rescue.request_id)
                if request.transport is not None:
                    request.transport.abort()
                return response
        await response.write_eof()
        return response

    async def _stream(
        self, rescue: _Rescue, response: web.StreamResponse, answer: aiohttp.ClientResponse
    ) -> None:
        """The first leg and as many as follow it."""
        try:
            await rescue.pass_on(response, answer)
            return
        except _Interrupted as error:
            reason = str(error)
        self.counts.interrupted += 1
        while (body := rescue.next_body()) is not None:
            async with contextlib.AsyncExitStack() as stack:
                try:
                    further = await stack.enter_async_context(self._leg(rescue, body))
                except aiohttp.ClientError as error:
                    reason = f"{reason}; the next one could not be asked: {error}"
                    continue
                if further.status != 200 or not _is_events(further):
                    reason = f"{reason}; the next one answered {further.status}"
                    continue
                self.counts.continued += 1
                told = f"kajitori: interrupted ({reason}), continued by another backend"
                await rescue.write(response, comment(told))
                try:
                    await rescue.pass_on(response, further)
                    return
                except _Interrupted as error:
                    reason = str(error)
        why = (
            f" and cannot go on ({rescue.story.obstacle})"
            if rescue.continues and rescue.story.obstacle
            else ""
        )
        await rescue.write(response, rescue.story.error(f"the answer was interrupted: {reason}{why}"))

    @contextlib.asynccontextmanager
    async def _leg(self, rescue: _Rescue, body: bytes) -> AsyncGenerator[aiohttp.ClientResponse]:
        assert self._session is not None
        rescue.leg += 1
        request = self._session.request(
            rescue.method,
            f"http://{rescue.host}{rescue.path}",
            headers=rescue.headers(),
            data=body,
            allow_redirects=False,
        )
        async with request as answer:
            if cluster := answer.headers.get(legs.CLUSTER):
                rescue.tried.append(cluster)
            yield answer


class _Rescue:
    """One request with what is known of its stream."""

    def __init__(self, request: web.BaseRequest, body: bytes) -> None:
        mode = request.headers.get(legs.MODE, "Error")
        self.method = request.method
        self.host = request.headers.get("host", "localhost")
        self.path = request.path_qs
        self.request_id = request.headers.get(legs.ID, "")
        self.continues = mode != "Error"
        self._patience = _seconds(request.headers.get(legs.SILENCE, ""))
        self.story: Story = story_of(request.path, engine_fields=mode == "ContinueFinalMessage")
        self.leg = 0
        self.tried: list[str] = []
        self._body = body
        self._headers = [
            (name, value) for name, value in request.headers.items() if name.lower() not in _NOT_PASSED_ON
        ]

    def headers(self) -> list[tuple[str, str]]:
        """Of the leg that is about to be asked."""
        own = [(legs.LEG, str(self.leg)), (legs.ID, legs.leg_id(self.request_id, self.leg))]
        if self.tried:
            own.append((legs.EXCLUDED, ",".join(self.tried)))
        return [*self._headers, *own]

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

    async def write(self, response: web.StreamResponse, data: bytes) -> None:
        """To the client. Raises _Unheard if it takes nothing for too long."""
        try:
            async with asyncio.timeout(self._patience):
                await response.write(data)
        except TimeoutError:
            raise _Unheard from None

    async def pass_on(self, response: web.StreamResponse, answer: aiohttp.ClientResponse) -> None:
        """Write whole events as they come. Raises _Interrupted if the stream ends without having said so."""
        first = self.leg == 1
        splitter = Splitter()
        async for piece in self._pieces(answer):
            whole, events = splitter.feed(piece)
            if len(splitter.pending) > LONGEST_EVENT_BYTES:
                raise _Interrupted("an event of the provider does not end")
            adapted: list[bytes] = []
            for event in events:
                # Before it is read: what a further leg begins with depends on what came before.
                if not first:
                    adapted.append(self.story.adapted(event))
                self.story.read(event)
            if whole:
                await self.write(response, whole if first else b"".join(adapted))
        if not self.story.ended:
            raise _Interrupted(f"backend {self.leg} ended the stream too early")
        if splitter.pending:
            await self.write(response, splitter.pending)

    async def _pieces(self, answer: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
        try:
            async for piece in answer.content.iter_any():
                yield piece
        except (aiohttp.ClientError, ConnectionError):
            if not self.story.ended:
                raise _Interrupted(f"backend {self.leg} broke off") from None


async def _body(request: web.BaseRequest, most_bytes: int) -> bytes | None:
    pieces: list[bytes] = []
    size = 0
    async for piece in request.content.iter_any():
        size += len(piece)
        if size > most_bytes:
            return None
        pieces.append(piece)
    return b"".join(pieces)


def _seconds(text: str) -> float | None:
    """How long a write may take, or None for no bound."""
    try:
        return float(text) * _CLIENTS_SHARE or None
    except ValueError:
        return None


def _is_events(answer: aiohttp.ClientResponse) -> bool:
    kind = answer.headers.get("content-type", "")
    return kind.startswith("text/event-stream") and "content-encoding" not in answer.headers
