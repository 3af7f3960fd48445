"""Hands what was charged over to the store, once.

What was sent to a store that did not answer may have been booked or not: it is sent again just as it was, under the same
number, so that it counts once. With the last of it goes how far the log is booked.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import NamedTuple

from kajitori.base.clock import Clock
from kajitori.gateway.limits.decision import Taken
from kajitori.gateway.limits.pending_charges import PendingCharges
from kajitori.gateway.limits.store import Receipt, Store

# A shared store serves nobody else meanwhile: a millisecond.
_MOST_AT_ONCE = 500


class _Booking(NamedTuple):
    taken: list[Taken]
    receipt: Receipt


class HandingOver:
    """source: whose bookings these are, see `Receipt`."""

    def __init__(self, store: Store, clock: Clock, charges: PendingCharges, source: str) -> None:
        self._store = store
        self._clock = clock
        self._charges = charges
        self._source = source
        self._began = time.time_ns()
        self._numbers = itertools.count()
        self._lock = asyncio.Lock()
        self._position = b""
        self._sent: _Booking | None = None

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._charges or self._position or self._sent)

    async def hand_over(self, position: bytes = b"") -> list[Taken]:
        """Has the store book all; gives what that was. position: of the log, up to which this is all.

        Raises StoreLost: what is left is handed over with the next.
        """
        self._position = position or self._position
        booked: list[Taken] = []
        async with self._lock:
            while self:
                if self._sent is None:
                    self._sent = self._next()
                await self._store.book(self._sent.taken, now=self._clock.now(), receipt=self._sent.receipt)
                booked += self._sent.taken
                self._sent = None
        return booked

    def _next(self) -> _Booking:
        taken, position = self._charges.take(_MOST_AT_ONCE), b""
        if not self._charges:
            position, self._position = self._position, b""
        return _Booking(taken, Receipt(self._source, f"{self._began}.{next(self._numbers)}", position))
