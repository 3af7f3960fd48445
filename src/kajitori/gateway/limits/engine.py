"""Holds requests to their limits: reserve before a request passes, settle when it has ended.

At admission everything that a request may take is reserved of every strict limit that holds for it, all or nothing. When
it ends, what it really took takes the place of that: the rest is free again, and more than was reserved is booked
too. A failed request gives everything back. So what is used and what is reserved together never exceed a strict limit,
but for what an answer takes beyond its bound.

Everything is counted in the window in which a request came in. The store may be lost: then each limit says whether
requests pass, and what they took is booked when the store is there again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence

import msgspec

from kajitori.base.clock import Clock
from kajitori.gateway.accounting.costs import Usage
from kajitori.gateway.accounting.policy import Policy
from kajitori.gateway.limits.amounts import failed_amount, real_amount
from kajitori.gateway.limits.counting import Hold, Outcome, Taken
from kajitori.gateway.limits.limit import REQUESTS
from kajitori.gateway.limits.matching import Asked, Matcher, Tag
from kajitori.gateway.limits.outcomes import (
    exhausted_backends,
    may_be_waited_for,
    over_limits,
    readings,
    why_refused,
)
from kajitori.gateway.limits.request import ALLOWED, Request, Settlement, Verdict
from kajitori.gateway.limits.store import Store, StoreLost
from kajitori.gateway.limits.verdicts import limit_headers, store_lost
from kajitori.gateway.rescue.legs import LEG_MARK

_log = logging.getLogger(__name__)

RESERVATION_SECONDS = 3600.0
# Envoy's log is written and read ten times a second each, and Envoy waits two seconds for a verdict.
PATIENCE_SECONDS = 0.6
_MOST_WAITING = 64
_FLUSH_SECONDS = 1.0
_SWEEP_EVERY = 10
# By how much Envoy's times and ours may differ, on one machine.
_CLOCK_SECONDS = 5.0
_MOST_PENDING = 100_000
_MOST_REMEMBERED = 2_000
_encode = msgspec.json.encode


class Counts(msgspec.Struct):
    """What happened since the process began. refused, shadowed: by the limit's name."""

    admitted: int = 0
    refused: dict[str, int] = {}
    shadowed: dict[str, int] = {}
    store_failures: int = 0
    passed_without_store: int = 0
    refused_without_store: int = 0
    unsettled_dropped: int = 0


class _Note(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What is remembered of a request beside its holds, in the store too."""

    input_tokens: int
    tags: list[Tag]


class _Open(msgspec.Struct, gc=False):
    """A request that has passed. reserved: None while nobody knows, since the store did not answer.

    before: an older one of the same id.
    """

    name: str
    note: _Note
    holds: list[Hold]
    since: float
    reserved: bool | None
    before: _Open | None


class _Ending(msgspec.Struct, frozen=True, gc=False):
    """What is to be told to the store. taken: what to book if it knows of no reservation."""

    name: str
    amounts: list[int]
    taken: list[Taken]


class Engine:
    """Decides and books. name: tells this process's reservations from those of others that share its store.

    reservation_seconds: after which a reservation is given back; a request that ends later is booked all the same.
    patience_seconds: for which a request waits for others that have reserved all that is left of a limit that clips.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        name: str = "local",
        reservation_seconds: float = RESERVATION_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._store = store
        self._clock = clock
        self._name = name
        self._reservation_seconds = reservation_seconds
        self._matcher = Matcher(Policy())
        self._open: dict[str, _Open] = {}
        self._ended: dict[str, _Open] = {}
        self._started = clock.now()
        self._pending: deque[_Ending | Settlement] = deque()
        self._flushing = False
        self._twice = 0
        self._patience_seconds = patience_seconds
        self._waiting = 0
        self._settled = asyncio.Event()
        self.counts = Counts()

    def configure(self, policy: Policy) -> None:
        """What holds from now on. Counters go on: a limit is known by its name."""
        self._matcher = Matcher(policy)

    async def admit(self, request: Request) -> Verdict:
        """Whether a request may pass."""
        now = self._clock.now()
        asked = self._matcher.ask(request, now)
        if asked is None:
            return ALLOWED
        if isinstance(asked, Verdict):
            self._refuse(asked)
            return asked
        entry = self._enter(request, asked, now)
        try:
            outcome = await self._reserve(entry, asked, now)
            if may_be_waited_for(asked, outcome):
                outcome = await self._wait(entry, asked, now, outcome)
        except StoreLost as error:
            return self._without_store(request, asked, error)
        entry.reserved = outcome.allowed
        return self._verdict(request, asked, outcome, now)

    async def _reserve(self, entry: _Open, asked: Asked, now: float) -> Outcome:
        return await self._store.reserve(
            entry.name,
            _encode(entry.note).decode(),
            asked.holds,
            asked.groups,
            asked.open_candidates,
            now=now,
            expires=now + self._reservation_seconds,
        )

    async def _wait(self, entry: _Open, asked: Asked, now: float, outcome: Outcome) -> Outcome:
        """Tries again as others settle, for a moment.

        One client that asks one thing after the other would else be refused until its last answer is booked, where
        a limit is smaller than what a request may take.
        """
        deadline = asyncio.get_running_loop().time() + self._patience_seconds
        while self._waiting < _MOST_WAITING and may_be_waited_for(asked, outcome):
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                break
            self._waiting += 1
            try:
                async with asyncio.timeout(left):
                    await self._settled.wait()
            except TimeoutError:
                break
            finally:
                self._waiting -= 1
            outcome = await self._reserve(entry, asked, now)
        return outcome

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        """Books how requests ended. Each is booked once: a second settlement of a request changes nothing."""
        await self._flush()
        if self._store.remote and len(settlements) > 1:
            await asyncio.gather(*(self._settle(each) for each in settlements))
        else:
            for each in settlements:
                await self._settle(each)
        if self._waiting:
            self._settled.set()
            self._settled = asyncio.Event()

    async def sweep(self) -> None:
        """Gives back reservations that are over their time, and tells the store what it missed."""
        now = self._clock.now()
        # What was forgotten here is still in the store, with all that is needed to settle it.
        for request_id in [
            key for key, each in self._open.items() if each.since < now - 2 * self._reservation_seconds
        ]:
            del self._open[request_id]
        await self._flush()
        try:
            await self._store.sweep(now)
        except StoreLost:
            self.counts.store_failures += 1

    async def run(self) -> None:
        """Sweeps every ten seconds, and sooner while the store has something to catch up with, for ever."""
        round_ = 0
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            round_ += 1
            if round_ % _SWEEP_EVERY and not self._pending:
                continue
            try:
                await self.sweep()
            except Exception:
                _log.exception("limits could not be swept")

    async def close(self) -> None:
        """Lets go of the store."""
        await self._store.close()

    @property
    def pending(self) -> int:
        """Requests that have ended while the store was lost, and wait to be booked."""
        return len(self._pending)

    def _enter(self, request: Request, asked: Asked, now: float) -> _Open:
        """Remembers a request before the store is asked: it may end before the store has answered."""
        before = self._open.get(request.id)
        name = f"{self._name}/{request.id}"
        if before is not None:  # a client that chooses its ids has given this one twice
            self._twice += 1
            name = f"{name}#{self._twice}"
        entry = _Open(name, _Note(request.input_tokens, asked.tags), asked.holds, now, None, before)
        self._open[request.id] = entry
        return entry

    def _leave(self, request_id: str) -> _Open | None:
        entry = self._open.pop(request_id, None)
        if entry is not None and entry.before is not None:
            self._open[request_id] = entry.before
        return entry

    def _verdict(self, request: Request, asked: Asked, outcome: Outcome, now: float) -> Verdict:
        for name in over_limits(asked, outcome):
            self.counts.shadowed[name] = self.counts.shadowed.get(name, 0) + 1
        headers = limit_headers(readings(asked, outcome), request.dialect, now)
        if outcome.allowed:
            self.counts.admitted += 1
            return Verdict(allowed=True, headers=headers, exhausted=exhausted_backends(asked, outcome))
        self._leave(request.id)
        verdict = why_refused(asked, outcome, now, headers)
        self._refuse(verdict)
        return verdict

    def _refuse(self, verdict: Verdict) -> None:
        self.counts.refused[verdict.limit] = self.counts.refused.get(verdict.limit, 0) + 1

    def _without_store(self, request: Request, asked: Asked, error: StoreLost) -> Verdict:
        self.counts.store_failures += 1
        for compiled in asked.limits:
            limit = compiled.limit
            if limit.deny_without_store and not limit.shadow:
                self.counts.refused_without_store += 1
                entry = self._leave(request.id)
                if entry is not None:
                    self._postpone(_Ending(entry.name, [0] * len(entry.holds), []))
                return store_lost(limit, error.message)
        self.counts.passed_without_store += 1
        return ALLOWED

    async def _settle(self, settlement: Settlement) -> None:
        entry = self._leave(settlement.id)
        if entry is not None:
            ending = self._ending(entry, settlement)
            self._remember(settlement.id, entry)
        elif LEG_MARK in settlement.id:
            ending = self._further_leg(settlement)
        else:
            ending = settlement
        try:
            await self._end(ending)
        except StoreLost:
            self.counts.store_failures += 1
            self._postpone(ending)

    def _remember(self, request_id: str, entry: _Open) -> None:
        """A stream that is rescued goes on under a name made of its own."""
        self._ended[request_id] = entry
        if len(self._ended) > _MOST_REMEMBERED:
            del self._ended[next(iter(self._ended))]

    def _further_leg(self, settlement: Settlement) -> _Ending:
        """What another backend took that went on with a stream: it comes on top, under the limits of the first."""
        name = f"{self._name}/{settlement.id}"
        entry = self._ended.get(settlement.id.partition(LEG_MARK)[0])
        if entry is None:
            return _Ending(name, [], [])
        amounts = self._amounts(entry.note, settlement, [0] * len(entry.holds))
        taken: list[Taken] = []
        for hold, tag, amount in zip(entry.holds, entry.note.tags, amounts, strict=True):
            compiled = self._matcher.by_name.get(tag.limit)
            more = amount - failed_amount(compiled.limit) if compiled else 0
            if more > 0:
                taken.append(Taken(hold.counter, hold.slot, more, hold.forget))
        return _Ending(name, [], taken)

    def _ending(self, entry: _Open, settlement: Settlement) -> _Ending:
        wanted = [hold.amount for hold in entry.holds]
        amounts = self._amounts(entry.note, settlement, wanted)
        taken: list[Taken] = []
        if not entry.reserved:
            taken = [
                Taken(hold.counter, hold.slot, amount, hold.forget)
                for hold, amount in zip(entry.holds, amounts, strict=True)
                if amount
            ]
        return _Ending(entry.name, amounts, taken)

    async def _recovered(self, settlement: Settlement) -> _Ending | None:
        """The end of a request that passed before this process began."""
        if settlement.began > self._started + _CLOCK_SECONDS:
            return None  # it was refused, or no limit held for it
        name = f"{self._name}/{settlement.id}"
        reservation = await self._store.find(name)
        if reservation is None:
            return None
        note = msgspec.json.decode(reservation.note, type=_Note)
        amounts = self._amounts(note, settlement, [each.amount for each in reservation.holds])
        return _Ending(name, amounts, [])

    async def _end(self, ending: _Ending | Settlement) -> None:
        """Tells the store. Raises StoreLost."""
        if isinstance(ending, Settlement):
            found = await self._recovered(ending)
            if found is None:
                return
            ending = found
        now = self._clock.now()
        if not await self._store.settle(ending.name, ending.amounts, now=now) and ending.taken:
            await self._store.book(ending.taken, now=now)

    async def _flush(self) -> None:
        if self._flushing:
            return
        self._flushing = True
        try:
            while self._pending:
                ending = self._pending.popleft()
                try:
                    await self._end(ending)
                except StoreLost:
                    self._pending.appendleft(ending)
                    return
        finally:
            self._flushing = False

    def _postpone(self, ending: _Ending | Settlement) -> None:
        if len(self._pending) >= _MOST_PENDING:
            self._pending.popleft()
            self.counts.unsettled_dropped += 1
        self._pending.append(ending)

    def _amounts(self, note: _Note, settlement: Settlement, reserved: list[int]) -> list[int]:
        """What a request took, for each of its holds."""
        usage = settlement.usage
        if usage is None and settlement.answered:
            seen = settlement.output_tokens_seen
            usage = Usage(note.input_tokens, seen, note.input_tokens + seen)
        return [
            self._real(tag, settlement, usage, amount)
            for tag, amount in zip(note.tags, reserved, strict=False)
        ]

    def _real(self, tag: Tag, settlement: Settlement, usage: Usage | None, reserved: int) -> int:
        compiled = self._matcher.by_name.get(tag.limit)
        if compiled is None:
            return reserved  # the limit is gone, and with it how to tell
        limit = compiled.limit
        model = settlement.backend_model or settlement.model
        if tag.backend and (tag.backend, tag.model) != (settlement.backend, model):
            return 0
        if limit.counts == REQUESTS or usage is None:
            return failed_amount(limit)
        amount = real_amount(
            self._matcher.charger, limit, settlement.route, settlement.rule, settlement.backend, model, usage
        )
        return reserved if amount is None else amount
