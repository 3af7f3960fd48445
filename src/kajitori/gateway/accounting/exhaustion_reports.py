"""Which limits are used up, told by accountants to the control plane for the statuses of their objects.

A call says all that an accountant knows, when a limit is used up or free again, and once a minute while any is: so a
control plane that begins anew learns it, too. What is told holds until the time that is told with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

if TYPE_CHECKING:
    import grpc.aio

_log = logging.getLogger(__name__)

SERVICE = "kajitori.gateway.v1.Exhaustion"
METHOD = "Tell"
_BUNCH_SECONDS, _AGAIN_SECONDS, _RENEW_SECONDS = 1.0, 5.0, 60.0
_MOST_TOLD = 500
_ANSWER_SECONDS = 5.0


class Exhaustion(msgspec.Struct, frozen=True):
    """A limit by its name, since and until when it is used up, in seconds since 1970. counts: of so many that it counts
    apart.
    """

    limit: str
    since: float
    until: float
    counts: int = 1


class Told(msgspec.Struct, frozen=True):
    """What an accountant says. instance: its name among several."""

    instance: str
    exhausted: list[Exhaustion]


_decoder = msgspec.msgpack.Decoder(Told)


def merged(told: Iterable[Exhaustion], now: float) -> list[Exhaustion]:
    """One for each limit, of those that are used up still."""
    found: dict[str, Exhaustion] = {}
    for each in told:
        if each.until <= now:
            continue
        known = found.get(each.limit)
        if known is not None:
            since, until = min(known.since, each.since), max(known.until, each.until)
            each = Exhaustion(each.limit, since, until, max(known.counts, each.counts))
        found[each.limit] = each
    return [found[name] for name in sorted(found)]


class ExhaustionServer:
    """The control plane's side."""

    def __init__(self) -> None:
        self._told: dict[str, list[Exhaustion]] = {}
        self._listeners: list[Callable[[], None]] = []
        self._timer: asyncio.TimerHandle | None = None

    def on_change(self, callback: Callable[[], None]) -> None:
        self._listeners.append(callback)

    def known(self, now: float) -> list[Exhaustion]:
        """Of all accountants that are connected here."""
        return merged((each for told in self._told.values() for each in told), now)

    async def tell(self, request: bytes, context: Any) -> bytes:
        """The handler of the method."""
        told = _decoder.decode(request)
        if told.exhausted:
            self._told[told.instance] = told.exhausted
        else:
            self._told.pop(told.instance, None)
        for callback in self._listeners:
            callback()
        return b""

    def handler(self) -> Any:
        """For a gRPC server."""
        import grpc

        method = grpc.unary_unary_rpc_method_handler(self.tell)  # pyright: ignore[reportArgumentType]
        return grpc.method_handlers_generic_handler(SERVICE, {METHOD: method})


class Source(Protocol):
    """Who knows what is used up."""

    changed: asyncio.Event

    def exhausted(self) -> list[Exhaustion]: ...


class ExhaustionTeller:
    """The accountant's side."""

    def __init__(self, connect: Callable[[], grpc.aio.Channel], instance: str, source: Source) -> None:
        self._connect = connect
        self._instance = instance
        self._source = source

    async def run(self) -> None:
        """Tells until cancelled; nothing before there is something to tell."""
        wait: float | None = None
        while True:
            try:
                async with asyncio.timeout(wait):
                    await self._source.changed.wait()
                    await asyncio.sleep(_BUNCH_SECONDS)
            except TimeoutError:
                pass
            self._source.changed.clear()
            exhausted = self._source.exhausted()[:_MOST_TOLD]
            try:
                await self._tell(Told(self._instance, exhausted))
                wait = _RENEW_SECONDS if exhausted else None
            except Exception as error:
                _log.debug("the control plane cannot be told what is used up: %s", error)
                wait = _AGAIN_SECONDS

    async def _tell(self, told: Told) -> None:
        async with self._connect() as channel:
            call: Any = channel.unary_unary(f"/{SERVICE}/{METHOD}")
            await call(msgspec.msgpack.encode(told), timeout=_ANSWER_SECONDS)
