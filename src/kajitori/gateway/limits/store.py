"""Where counts are kept: what the engine asks of a store.

Both stores mean the same: `reserve` takes all or nothing at once; `settle` turns what was reserved into what
was really used, once; a reservation that nobody settles is given back after its time, and still settles when the
request ends after all.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

import msgspec

from kajitori.base.errors import KajitoriError
from kajitori.gateway.limits.decision import Hold, Outcome, Taken

# After a reservation was given back for its age, its end is waited for this long.
LATE_SECONDS = 86_400.0
# Where a count has more slots, those that are of no use are taken away when something is booked.
MOST_SLOTS = 256


class StoreLost(KajitoriError):
    """The store did not answer in time, or not at all. What was asked may have been done or not."""


class Reservation(msgspec.Struct, gc=False):
    """What is reserved for a request. note: what the engine wrote to itself. expires: seconds since 1970."""

    note: str
    holds: list[Taken]
    expires: float


class Receipt(NamedTuple):
    """What is remembered of a booking. source: whose it is. number: none of its other bookings has it.

    position: of the log, up to which everything is booked with this one; empty: as before.
    """

    source: str
    number: str
    position: bytes = b""


class Store(Protocol):
    """Counters and reservations. Times are seconds since 1970. All raise StoreLost.

    remote: answers take a while, so questions are better asked together. Another one is a `LocalStore`.
    """

    remote: bool

    async def reserve(
        self,
        request_id: str,
        note: str,
        holds: Sequence[Hold],
        groups: Sequence[int],
        open_candidates: Sequence[int],
        *,
        now: float,
        expires: float,
    ) -> Outcome:
        """Decides as `decision.decide` says and takes at once, all or nothing."""
        ...

    async def settle(self, request_id: str, amounts: Sequence[int], *, now: float) -> bool:
        """Books what was really used for each hold of a reservation; False if there is none (any longer)."""
        ...

    def together(self) -> AbstractContextManager[None]:
        """Within it what is told may be kept for one write, which ends it. Nothing else may be waited for there."""
        ...

    async def find(self, request_id: str) -> Reservation | None:
        """The reservation of a request."""
        ...

    async def book(self, taken: Sequence[Taken], *, now: float, receipt: Receipt | None = None) -> None:
        """Counts what no reservation was made for, and keeps the receipt, in one step. One whose number is that of the
        last one of its source was carried out already, and changes nothing.
        """
        ...

    async def position(self, source: str) -> bytes:
        """How far the log of a source is booked; empty if that is not known."""
        ...

    async def amounts(self, counters: Sequence[str]) -> list[dict[int, int]]:
        """What counters hold, by slot."""
        ...

    async def names(self) -> list[str]:
        """The names of all counters that hold something."""
        ...

    async def sweep(self, now: float) -> None:
        """Gives back reservations that are over their time, and forgets what is of no use."""
        ...

    async def close(self) -> None:
        """Lets go of files and connections."""
        ...


class LocalStore(Store, Protocol):
    """One of which nothing has to be waited for: its coroutines end without a turn of the loop."""

    @property
    def fails(self) -> bool:
        """Whether something that it knows would be forgotten by a process that is killed now."""
        ...

    def reserve_at_once(
        self,
        request_id: str,
        note: str,
        holds: Sequence[Hold],
        groups: Sequence[int],
        open_candidates: Sequence[int],
        *,
        now: float,
        expires: float,
        may_wait: bool,
    ) -> Outcome:
        """As `reserve`. may_wait: what is taken stays taken though it cannot be written: within `together` it is written later."""
        ...
