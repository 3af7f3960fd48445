"""Counts in the memory of one process, with a journal beside it that brings them back: the store of a laptop.

Every change goes to the journal before it is answered, so a request that passed is still counted after `kill -9`.
Without a path nothing is written, and nothing comes back.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from kajitori.gateway.limits.decision import Hold, Outcome, Standing, Taken, decide, room, wanted
from kajitori.gateway.limits.journal import Journal, read_journal
from kajitori.gateway.limits.store import LATE_SECONDS, MOST_SLOTS, Receipt, Reservation, StoreLost

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 60.0
_COMPACT_BYTES = 8 * 1024 * 1024
_LARGEST = 2**63 - 1
_RESERVE, _SETTLE, _BOOK, _GIVE_BACK, _FORGET, _COUNTER, _RECEIPT = "r", "s", "b", "g", "f", "c", "p"


class _Counter(msgspec.Struct, gc=False):
    """slots: amounts by slot. open: the part of them that is reserved. forget: seconds since 1970 after which none
    of them counts."""

    slots: dict[int, int]
    open: dict[int, int]
    forget: int


def _total(amounts: dict[int, int], oldest: int, newest: int) -> int:
    total = 0
    for slot, amount in amounts.items():
        if oldest <= slot <= newest:
            total += amount
    return total


def _taken(hold: Hold, standing: Standing) -> Taken:
    return Taken(hold.counter, hold.slot, standing.taken, hold.forget)


class MemoryStore:
    """path: of the journal. compact_bytes: a larger journal is written anew."""

    remote = False

    def __init__(self, path: Path | None = None, *, compact_bytes: int = _COMPACT_BYTES) -> None:
        self._counters: dict[str, _Counter] = {}
        self._open: dict[str, Reservation] = {}
        self._late: dict[str, Reservation] = {}
        self._receipts: dict[str, Receipt] = {}
        self._looked_at = 0.0
        # Before this no reservation is over its time.
        self._first_expires = 0.0
        self._together = False
        self._compact_bytes = compact_bytes
        self._next_compaction = compact_bytes
        self._journal = Journal(path) if path is not None else None
        if self._journal is not None:
            self._apply_all(self._journal.replay())
            self._next_compaction = max(compact_bytes, 2 * self._journal.size_bytes)

    @classmethod
    def read(cls, path: Path) -> MemoryStore:
        """What a journal says now, while another process writes it. Changes of this store go nowhere."""
        store = cls()
        store._apply_all(read_journal(path))
        return store

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
        return self.reserve_at_once(
            request_id, note, holds, groups, open_candidates, now=now, expires=expires, may_wait=False
        )

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
        if self._open and now >= self._first_expires:
            self._give_back(now, most=8)
        counted = [self._counted(hold) for hold in holds]
        allowed, candidates, takes = decide(holds, groups, open_candidates, [used for used, _ in counted])
        standings = tuple(map(self._standing, holds, counted, takes))
        if allowed:
            taken = list(map(_taken, holds, standings))
            self._write([_RESERVE, request_id, note, expires, taken], may_wait=may_wait and self._together)
            self._reserve(request_id, Reservation(note, taken, expires))
            for hold in holds:
                if len(self._counters[hold.counter].slots) > 1:
                    self._prune(hold.counter, hold.keep)
        return Outcome(allowed, standings, candidates)

    async def settle(self, request_id: str, amounts: Sequence[int], *, now: float) -> bool:
        if request_id not in self._open and request_id not in self._late:
            return False
        self._write([_SETTLE, request_id, list(amounts)], may_wait=self._together)
        self._settle(request_id, amounts)
        return True

    @contextlib.contextmanager
    def together(self) -> Generator[None]:
        self._together = True
        try:
            yield
        finally:
            self._together = False
            self._flush()

    async def find(self, request_id: str) -> Reservation | None:
        return self._open.get(request_id) or self._late.get(request_id)

    async def book(self, taken: Sequence[Taken], *, now: float, receipt: Receipt | None = None) -> None:
        if receipt is not None:
            known = self._receipts.get(receipt.source)
            if known is not None and known.number == receipt.number:
                return
        # What has happened is counted though it cannot be written: the log tells of it after a crash.
        self._write([_BOOK, list(taken), *(receipt or ())], may_wait=True)
        if not self._together:
            with contextlib.suppress(StoreLost):
                self._flush()
        self._book_all(taken, receipt)

    async def position(self, source: str) -> bytes:
        known = self._receipts.get(source)
        return known.position if known is not None else b""

    async def amounts(self, counters: Sequence[str]) -> list[dict[int, int]]:
        return [dict(known.slots) if (known := self._counters.get(name)) else {} for name in counters]

    @property
    def fails(self) -> bool:
        return self._journal is not None and self._journal.fails

    async def names(self) -> list[str]:
        return sorted(self._counters)

    async def sweep(self, now: float) -> None:
        if self._journal is not None and self._journal.overdue:
            await self._compact(self._journal)
        self._give_back(now, most=len(self._open))
        for request_id in [key for key, each in self._late.items() if each.expires <= now]:
            self._write([_FORGET, request_id], may_wait=True)
            del self._late[request_id]
        self._flush()
        if not self._looked_at <= now < self._looked_at + _LOOK_SECONDS:
            self._looked_at = now
            for name in [name for name, counter in self._counters.items() if counter.forget <= now]:
                del self._counters[name]
        if self._journal is not None and self._journal.size_bytes > self._next_compaction:
            await self._compact(self._journal)

    async def close(self) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def _counted(self, hold: Hold) -> tuple[int, int]:
        """What of a counter counts, and the part of it that is reserved."""
        counter = self._counters.get(hold.counter)
        if counter is None:
            return 0, 0
        oldest, newest = hold.oldest, hold.newest
        if oldest == newest:
            return counter.slots.get(oldest, 0), counter.open.get(oldest, 0)
        return _total(counter.slots, oldest, newest), _total(counter.open, oldest, newest)

    def _standing(self, hold: Hold, counted: tuple[int, int], takes: bool) -> Standing:
        used, reserved = counted
        taken = wanted(hold, used) if takes else 0
        if room(hold, used):
            return Standing(used, reserved, taken, True)
        return Standing(used, reserved, taken, False, self._frees(hold, used))

    def _frees(self, hold: Hold, used: int) -> int | None:
        need = max(hold.amount, 1) if hold.kind == "strict" else 1
        over = used + need - hold.capacity
        if need > hold.capacity:
            return None
        slots = self._counters[hold.counter].slots
        for slot in sorted(slot for slot in slots if hold.oldest <= slot <= hold.newest):
            over -= slots[slot]
            if over <= 0:
                return slot
        return hold.slot

    def _book_all(self, taken: Sequence[Taken], receipt: Receipt | None) -> None:
        if receipt is not None:
            before = self._receipts.get(receipt.source)
            kept = receipt.position or (before.position if before is not None else b"")
            self._receipts[receipt.source] = receipt._replace(position=kept)
        for each in taken:
            self._book(each)

    def _book(self, taken: Taken) -> None:
        self._add(taken, taken.amount)
        if len(self._counters[taken.counter].slots) > MOST_SLOTS:
            self._prune(taken.counter, taken.keep)

    def _prune(self, name: str, keep: int) -> None:
        slots = self._counters[name].slots
        if len(slots) > 1:
            # What is reserved is going to be settled where it stands, also when another window holds meanwhile.
            reserved = self._counters[name].open
            for slot in [slot for slot in slots if slot < keep and slot not in reserved]:
                del slots[slot]

    def _add(self, taken: Taken, amount: int, reserved: int = 0) -> None:
        counter = self._counters.get(taken.counter)
        if counter is None:
            counter = self._counters[taken.counter] = _Counter({}, {}, taken.forget)
        slot = taken.slot
        counter.slots[slot] = counter.slots.get(slot, 0) + amount
        if reserved:
            left = counter.open.get(slot, 0) + reserved
            if left:
                counter.open[slot] = left
            else:
                del counter.open[slot]
        if taken.forget > counter.forget:
            counter.forget = taken.forget

    def _reserve(self, request_id: str, reservation: Reservation) -> None:
        # The engine gives each request a name of its own; what an older one of this name took stays counted.
        self._open.pop(request_id, None)
        if not self._open:
            self._first_expires = reservation.expires
        self._open[request_id] = reservation
        for each in reservation.holds:
            self._add(each, each.amount, each.amount)

    def _settle(self, request_id: str, amounts: Sequence[int]) -> None:
        reservation = self._open.pop(request_id, None) or self._late.pop(request_id, None)
        if reservation is None:
            return
        for each, amount in zip(reservation.holds, amounts, strict=False):
            self._add(each, amount - each.amount, -each.amount)

    def _give_back(self, now: float, *, most: int) -> None:
        """Reservations are all made for the same time, so the oldest stand first."""
        for _ in range(most):
            request_id = next(iter(self._open), None)
            if request_id is None:
                return
            self._first_expires = self._open[request_id].expires
            if self._first_expires > now:
                return
            self._write([_GIVE_BACK, request_id], may_wait=True)
            self._expire(request_id)

    def _expire(self, request_id: str) -> None:
        reservation = self._open.pop(request_id)
        for each in reservation.holds:
            self._add(each, -each.amount, -each.amount)
            each.amount = 0
        reservation.expires += LATE_SECONDS
        self._late[request_id] = reservation

    def _write(self, record: list[Any], *, may_wait: bool = False) -> None:
        if self._journal is None:
            return
        if may_wait:
            self._journal.hold(record)
            return
        try:
            self._journal.append(record)
        except OSError as error:
            raise StoreLost(f"the journal of limits cannot be written: {error}") from error

    def _flush(self) -> None:
        if self._journal is None:
            return
        try:
            self._journal.flush()
        except OSError as error:
            raise StoreLost(f"the journal of limits cannot be written: {error}") from error

    def _apply_all(self, records: Iterator[Any]) -> None:
        """A record of which nothing is understood, such as one of a later version, takes no other one with it."""
        passed_over = 0
        for record in records:
            try:
                self._apply(record)
            except (AttributeError, IndexError, KeyError, TypeError, ValueError):
                passed_over += 1
        if passed_over:
            _log.error("%d records of the journal of limits are not understood and passed over", passed_over)

    def _apply(self, record: list[Any]) -> None:
        kind, *values = record
        if kind == _RESERVE:
            request_id, note, expires, taken = values
            self._reserve(request_id, Reservation(note, [Taken(*each) for each in taken], expires))
        elif kind == _SETTLE:
            self._settle(values[0], values[1])
        elif kind == _BOOK:
            receipt = Receipt(*values[1:]) if len(values) > 1 else None
            self._book_all([Taken(*each) for each in values[0]], receipt)
        elif kind == _RECEIPT:
            self._receipts[values[0]] = Receipt(*values)
        elif kind == _GIVE_BACK and values[0] in self._open:
            self._expire(values[0])
        elif kind == _FORGET:
            self._late.pop(values[0], None)
        elif kind == _COUNTER:
            name, slots, forget = values
            self._counters[name] = _Counter(dict(slots), {}, forget)

    async def _compact(self, journal: Journal) -> None:
        try:
            await journal.rewrite(self._snapshot())
        except OSError as error:
            _log.warning("the journal of limits cannot be written anew: %s", error)
        self._next_compaction = max(self._compact_bytes, 2 * journal.size_bytes)

    def _snapshot(self) -> Iterator[list[Any]]:
        """Reservations as if they were made anew, and counters without what these will add."""
        reserved: dict[tuple[str, int], int] = {}
        for reservation in (*self._open.values(), *self._late.values()):
            for each in reservation.holds:
                place = each.counter, each.slot
                reserved[place] = reserved.get(place, 0) + each.amount
        for name, counter in self._counters.items():
            slots = [
                [slot, min(amount - reserved.get((name, slot), 0), _LARGEST)]
                for slot, amount in counter.slots.items()
            ]
            yield [_COUNTER, name, slots, counter.forget]
        for receipt in self._receipts.values():
            yield [_RECEIPT, *receipt]
        for request_id, reservation in self._open.items():
            yield [_RESERVE, request_id, reservation.note, reservation.expires, reservation.holds]
        for request_id, reservation in self._late.items():
            yield [
                _RESERVE,
                request_id,
                reservation.note,
                reservation.expires - LATE_SECONDS,
                reservation.holds,
            ]
            yield [_GIVE_BACK, request_id]
