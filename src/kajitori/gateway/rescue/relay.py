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

from kajitori.gateway.rescue import legs
from kajitori.gateway.rescue.connections import Answer, Asking, Reply, Request
from kajitori.gateway.rescue.events import LONGEST_EVENT_BYTES, Splitter, comment
from kajitori.gateway.rescue.metrics import RescueCounts
from kajitori.gateway.rescue.rescued_request import NOT_PASSED_ON, RescuedRequest
from kajitori.gateway.rescue.wire import Head

_log = logging.getLogger(__name__)


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
        self._asking = Asking(inner)
        self._body_limit_bytes = body_limit_bytes
        self._replies: set[Reply] = set()
        self.counts = counts or RescueCounts()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Serve while the context lasts."""
        self._socket.parent.mkdir(parents=True, exist_ok=True)
        self._socket.unlink(missing_ok=True)
        server = await asyncio.get_running_loop().create_unix_server(self._accept, str(self._socket))
        try:
            self._socket.chmod(0o600)
            yield
        finally:
            server.close()
            tasks = [reply.task for reply in self._replies if reply.task is not None]
            for reply in list(self._replies):
                reply.transport.abort()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._asking.close()

    async def run(self) -> None:
        """Serve until cancelled. Raises OSError if the socket cannot be made."""
        async with self.running():
            await asyncio.Event().wait()

    def _accept(self) -> Reply:
        return Reply(self._handle, self._body_limit_bytes, self._replies)

    async def _handle(self, request: Request, reply: Reply) -> None:
        rescue = RescuedRequest(request)
        reply.patience_seconds = rescue.patience_seconds
        try:
            leg = await self._ask(rescue, request.body, reply)
        except (OSError, TimeoutError) as error:
            _log.warning("%s: the inner listener cannot be asked: %s", rescue.request_id, error)
            reply.refuse("503 Service Unavailable")
            return
        if leg.is_stream:
            self.counts.streams += 1
            if leg.interrupted:
                self.counts.interrupted += 1
                await self._continue(rescue, reply, leg.interrupted)
            reply.end()
        elif not reply.begun:
            reply.refuse("503 Service Unavailable")
        elif leg.whole:
            reply.end()
        else:
            reply.transport.abort()

    async def _continue(self, rescue: RescuedRequest, reply: Reply, reason: str) -> None:
        """As many legs as may follow the first, and an error if none of them was whole."""
        while (body := rescue.next_body()) is not None:
            told = f"kajitori: interrupted ({reason}), continued by another backend"
            try:
                leg = await self._ask(rescue, body, reply, told)
            except (OSError, TimeoutError) as error:
                reason = f"{reason}; the next one could not be asked: {error}"
                continue
            if not leg.is_stream:
                reason = f"{reason}; the next one {leg.answered}"
                continue
            self.counts.continued += 1
            if not leg.interrupted:
                return
            reason = leg.interrupted
        why = (
            f" and cannot go on ({rescue.story.obstacle})"
            if rescue.continues and rescue.story.obstacle
            else ""
        )
        reply.write(rescue.story.error(f"the answer was interrupted: {reason}{why}"))

    async def _ask(self, rescue: RescuedRequest, body: bytes, reply: Reply, told: str = "") -> Leg:
        """A leg that is over. told: what the client hears if it begins, of a further one."""
        rescue.leg += 1
        leg, was_used = await self._ask_once(rescue, body, reply, told)
        if was_used and not leg.begun:
            # Envoy closed it as it was idle: what was sent meanwhile has been asked of nobody.
            leg, _ = await self._ask_once(rescue, body, reply, told, fresh=True)
        return leg

    async def _ask_once(
        self, rescue: RescuedRequest, body: bytes, reply: Reply, told: str, *, fresh: bool = False
    ) -> tuple[Leg, bool]:
        """The leg, and whether its connection had been used before."""
        async with self._asking.connection(fresh=fresh) as answer:
            leg, was_used = Leg(rescue, reply, answer, told), answer.is_used
            reply.take_from(answer)
            answer.ask(rescue.head(len(body)), body, leg)
            await leg.over
        return leg, was_used


class Leg:
    """One asking of the inner listener: its answer as it comes goes on to the client.

    over: set once the answer is. begun: whether there was one. whole: whether all of it came. is_stream: whether it was one. interrupted: why a stream was
    not whole. answered: in words, where it was none.
    """

    def __init__(self, rescue: RescuedRequest, reply: Reply, answer: Answer, told: str) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.begun = self.whole = self.is_stream = False
        self.interrupted = ""
        self.answered = "gave no answer"
        self._rescue = rescue
        self._reply = reply
        self._answer = answer
        self._told = told
        self._splitter = Splitter()

    def begin(self, head: Head) -> None:
        """The head of the answer."""
        status, self.begun = head.status, True
        self.answered = f"answered {status}"
        if cluster := head.get(legs.CLUSTER):
            self._rescue.tried.append(cluster)
        kind = head.get("content-type") or ""
        self.is_stream = kind.startswith("text/event-stream") and head.get("content-encoding") is None
        if self._rescue.leg == 1:
            headers = [(name, value) for name, value in head.headers if name not in NOT_PASSED_ON]
            length = None if self.is_stream else head.get("content-length")
            self._reply.begin(
                head.first.partition(" ")[2], headers, int(length) if length is not None else None
            )
            return
        self.is_stream = self.is_stream and status == 200
        if self.is_stream:
            self._reply.write(comment(self._told))
        else:
            self._answer.transport.abort()

    def take(self, data: bytes) -> None:
        """A piece of its body."""
        if self.over.done() or not data:
            return
        if not self.is_stream:
            if self._rescue.leg == 1:
                self._reply.write(data)
            return
        if self._rescue.leg == 1 and not self._splitter.pending and data.endswith(b"\n\n"):
            self._reply.write(data)
            self._rescue.passed(data)
            return
        whole, events = self._splitter.feed(data)
        if len(self._splitter.pending) > LONGEST_EVENT_BYTES:
            self._interrupt("an event of the provider does not end")
            self._answer.transport.abort()
        elif whole and self._rescue.leg == 1:
            self._reply.write(whole)
            self._rescue.passed(whole)
        elif whole:
            self._reply.write(b"".join(map(self._adapted, events)))

    def _adapted(self, event: bytes) -> bytes:
        """An event of a further leg. It is adapted before it is read: what it begins with depends on what came before."""
        story = self._rescue.story
        adapted = story.adapted(event)
        story.read(event)
        return adapted

    def end(self, *, whole: bool) -> None:
        """Nothing more comes of it."""
        if self.over.done():
            return
        self.whole = whole
        if self.is_stream and not self._rescue.ended:
            how = "ended the stream too early" if whole else "broke off"
            self._interrupt(f"backend {self._rescue.leg} {how}")
            return
        if self.is_stream and self._splitter.pending:
            self._reply.write(self._splitter.pending)
        self.over.set_result(None)

    def _interrupt(self, reason: str) -> None:
        self._rescue.read()
        self.interrupted = reason
        self.over.set_result(None)
