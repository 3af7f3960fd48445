"""What may happen between a controller and its API server, at a request of the test's choice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from multidict import CIMultiDict, CIMultiDictProxy

from kajitori.base.errors import Unreachable
from kajitori.kube.transport import Answer, Headers, HttpTransport, Stream

TOO_MANY = b'{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"TooManyRequests","code":429}'


class FaultyTransport(HttpTransport):
    """before, after: called with the number of each write, counted from 1, around its sending.

    cut: while it is set nothing gets through and open watches are silent. refused: whether to answer a write,
    by its number, with 429 and Retry-After: 1 instead of sending it.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.writes = 0
        self.before: Callable[[int], Awaitable[None]] | None = None
        self.after: Callable[[int], Awaitable[None]] | None = None
        self.refused: Callable[[int], bool] = lambda _number: False
        self.cut = False

    async def send(
        self, method: str, target: str, headers: Headers, body: bytes | None, timeout_seconds: float
    ) -> Answer:
        if self.cut:
            await asyncio.sleep(0.2)
            raise Unreachable("the network is down")
        if method == "GET":
            return await super().send(method, target, headers, body, timeout_seconds)
        self.writes += 1
        number = self.writes
        if self.refused(number):
            return Answer(429, CIMultiDictProxy(CIMultiDict({"Retry-After": "1"})), TOO_MANY)
        if self.before is not None:
            await self.before(number)
        answer = await super().send(method, target, headers, body, timeout_seconds)
        if self.after is not None:
            await self.after(number)
        return answer

    @asynccontextmanager
    async def stream(
        self, method: str, target: str, headers: Headers, silence_seconds: float
    ) -> AsyncGenerator[Stream]:
        if self.cut:
            raise Unreachable("the network is down")
        async with super().stream(method, target, headers, silence_seconds) as stream:
            yield _Cuttable(stream, self)


class _Cuttable:
    """A stream that ends with an error when the network is cut."""

    def __init__(self, stream: Stream, transport: FaultyTransport) -> None:
        self._stream = stream
        self._transport = transport

    @property
    def status(self) -> int:
        return self._stream.status

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        return self._stream.headers

    async def read(self) -> bytes:
        return await self._stream.read()

    async def chunks(self) -> AsyncGenerator[bytes]:
        async for chunk in self._stream.chunks():
            if self._transport.cut:
                raise Unreachable("the network is down")
            yield chunk
