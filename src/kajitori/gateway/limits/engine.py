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
import contextlib
import logging
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import cast

import msgspec

from kajitori.base.clock import Clock
from kajitori.gateway.accounting.accountant_policy import AccountantPolicy
from kajitori.gateway.limits.decision import Outcome
from kajitori.gateway.limits.hedged_endings import HedgedEndings
from kajitori.gateway.limits.known_exhaustion import KnownExhaustion
from kajitori.gateway.limits.matching import Matcher
from kajitori.gateway.limits.outcomes import (
    exhausted_backends,
    is_tight,
    may_be_waited_for,
    over_limits,
    told_readings,
    used_up_limits,
    why_refused,
)
from kajitori.gateway.limits.request import ALLOWED, Request, Settlement, Verdict
from kajitori.gateway.limits.settling import Counts, Note, OpenRequest, Settling
from kajitori.gateway.limits.soft_limits import SoftLimits
from kajitori.gateway.limits.store import LocalStore, Store, StoreLost
from kajitori.gateway.limits.wants import Asked
from kajitori.gateway.limits.wording import limit_headers, store_lost
from kajitori.gateway.rescue.legs import base_id

_log = logging.getLogger(__name__)

RESERVATION_SECONDS = 3600.0
# Envoy's log is written and read ten times a second each, and Envoy waits two seconds for a verdict.
PATIENCE_SECONDS = 0.6
_MOST_WAITING = 64
_FLUSH_SECONDS = 1.0
_SWEEP_SECONDS = 10.0
_POSITION_TRIES, _AGAIN_SECONDS = 20, 0.5
_encode = msgspec.json.encode


class Engine:
    """Decides and books. name: tells this process's reservations from those of others that share its store.

    reservation_seconds: after which a reservation is given back; a request that ends later is booked all the same.
    patience_seconds: for which a request waits for others that have reserved all that is left of a limit that clips.
    used_up: the file by which Envoy learns what is used up of limits that nobody is asked about; None: there is none.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        name: str = "local",
        reservation_seconds: float = RESERVATION_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
        used_up: Path | None = None,
    ) -> None:
        self._store = store
        self._local = None if store.remote else cast("LocalStore", store)
        self._clock = clock
        self._name = name
        self._reservation_seconds = reservation_seconds
        self._matcher = Matcher(AccountantPolicy())
        self._open: dict[str, OpenRequest] = {}
        self._twice = 0
        self._patience_seconds = patience_seconds
        self._waiting = 0
        # When somebody came last who found half of a limit used or reserved, in seconds since 1970.
        self._tight_at = 0.0
        self._settled = asyncio.Event()
        self.counts = Counts()
        self._settling = Settling(store, clock, self._matcher, self.counts, name)
        self._hedged = HedgedEndings()
        self.exhaustion = KnownExhaustion(clock)
        self.soft_limits = SoftLimits(store, clock, self.counts, used_up, self.exhaustion, name)
        self._settling.charge, self._settling.book = self.soft_limits.charge, self.soft_limits.book

    def configure(self, policy: AccountantPolicy) -> None:
        """What holds from now on. Counters go on: a limit is known by its name."""
        before = self._matcher.by_name
        self._matcher = self._settling.matcher = Matcher(policy)
        now = self._matcher.by_name
        self.exhaustion.keep(
            {name for name, old in before.items() if name in now and now[name].limit == old.limit}
        )
        self.soft_limits.configure(policy, self._matcher)

    def admit_at_once(self, request: Request) -> Verdict | None:
        """As `admit`, where nobody has to be waited for; None where somebody has, and nothing was done."""
        local = self._local
        if local is None:
            return None
        now = self._clock.now()
        asked = self._matcher.ask(request, now)
        if asked is None or isinstance(asked, Verdict):
            return self._unasked(asked)
        entry = self._enter(request, asked, now)
        try:
            outcome = local.reserve_at_once(
                entry.name,
                _encode(entry.note).decode(),
                asked.holds,
                asked.groups,
                asked.open_candidates,
                now=now,
                expires=now + self._reservation_seconds,
                may_wait=asked.passes_without_store,
            )
        except StoreLost as error:
            return self._without_store(request, entry, asked, error)
        if not outcome.allowed and may_be_waited_for(asked, outcome):
            self._drop(request.id, entry)
            return None
        entry.reserved = outcome.allowed
        return self._verdict(request, entry, asked, outcome, now)

    @contextlib.contextmanager
    def together(self) -> Generator[None]:
        """Within it what requests reserve at once may be kept for one write, which ends it: nobody may be answered before."""
        if self._local is None:
            yield
            return
        try:
            with self._local.together():
                yield
        except StoreLost:
            # The store keeps what it could not write, and the limits of these requests let them pass.
            self.counts.store_failures += 1

    async def admit(self, request: Request) -> Verdict:
        """Whether a request may pass."""
        now = self._clock.now()
        asked = self._matcher.ask(request, now)
        if asked is None or isinstance(asked, Verdict):
            return self._unasked(asked)
        entry = self._enter(request, asked, now)
        try:
            outcome = await self._reserve(entry, asked, now)
            if may_be_waited_for(asked, outcome):
                outcome = await self._wait(entry, asked, now, outcome)
        except StoreLost as error:
            return self._without_store(request, entry, asked, error)
        entry.reserved = outcome.allowed
        return self._verdict(request, entry, asked, outcome, now)

    def _unasked(self, verdict: Verdict | None) -> Verdict:
        """Of a request about which the store is not asked."""
        if verdict is None:
            return ALLOWED
        self._refuse(verdict)
        return verdict

    async def _reserve(self, entry: OpenRequest, asked: Asked, now: float) -> Outcome:
        return await self._store.reserve(
            entry.name,
            _encode(entry.note).decode(),
            asked.holds,
            asked.groups,
            asked.open_candidates,
            now=now,
            expires=now + self._reservation_seconds,
        )

    async def _wait(self, entry: OpenRequest, asked: Asked, now: float, outcome: Outcome) -> Outcome:
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

    async def position(self) -> bytes:
        """What came last with settlements that are booked, in this process or the one before it; empty if that is not known.

        A store that is lost is waited for: without this, the last second of the process before counts twice.
        """
        for _ in range(_POSITION_TRIES):
            try:
                return await self._store.position(self._name)
            except StoreLost:
                self.counts.store_failures += 1
                await asyncio.sleep(_AGAIN_SECONDS)
        return b""

    async def settle(self, settlements: Sequence[Settlement], position: bytes = b"") -> None:
        """Books how requests ended. position: of the log behind them, see `position`.

        Who passed without a question, since none was needed or nobody could be asked, is charged to the limits that match.
        """
        await self._settling.flush()
        known, unknown = self._parted(self._hedged.due(settlements, self._open))
        if self._store.remote:
            await asyncio.gather(*map(self._settle_one, unknown))
            # All in one write, what is kept of it last: a process that is killed has sent all of it or nothing.
            await asyncio.gather(*map(self._settle_one, known), self.soft_limits.hand_over(position))
        else:
            await self._settle_together([*known, *unknown], position)
        if self._waiting:
            self._settled.set()
            self._settled = asyncio.Event()
        await self.soft_limits.tell()

    def note_over(self, request_id: str) -> None:
        """The client of a hedged request has its answer, or has left: the log has the line of the whole of it."""
        if self._hedged.note_over(request_id):
            self._settling.behind.set()

    async def _settle_together(self, settlements: Sequence[Settlement], position: bytes) -> None:
        try:
            with self._store.together():
                for each in settlements:
                    await self._settle_one(each)
                await self.soft_limits.hand_over(position)
        except StoreLost:
            self.counts.store_failures += 1  # it keeps what it could not write

    async def _settle_one(self, settlement: Settlement) -> None:
        try:
            # Of a hedged request a further leg may end before the first one.
            first_leg = self._open.get(base_id(settlement.id))
            await self._settling.settle(self._leave(settlement.id), settlement, first_leg)
        except Exception:
            # A defect that one meets must not take the others of its batch with it.
            _log.exception("request %s cannot be settled", settlement.id)

    def _parted(self, settlements: Sequence[Settlement]) -> tuple[list[Settlement], list[Settlement]]:
        """Those of requests that something is reserved for, and those of which that is not known; the others are charged."""
        known: list[Settlement] = []
        unknown: list[Settlement] = []
        for each in settlements:
            entry = self._open.get(each.id)
            if entry is not None:
                self.soft_limits.touch(entry)
                (known if entry.reserved else unknown).append(each)
            elif self._settling.may_be_reserved(each) or base_id(each.id) in self._open:
                unknown.append(each)
            else:
                self.soft_limits.charge(each)
        return known, unknown

    async def sweep(self) -> None:
        """Gives back reservations that are over their time, and tells the store what it missed."""
        now = self._clock.now()
        # What was forgotten here is still in the store, with all that is needed to settle it.
        for request_id in [
            key for key, each in self._open.items() if each.since < now - 2 * self._reservation_seconds
        ]:
            del self._open[request_id]
            self._hedged.forget(request_id)
        for each in self._hedged.due((), self._open):
            await self._settle_one(each)
        await self._settling.flush()
        try:
            await self._store.sweep(now)
        except StoreLost:
            self.counts.store_failures += 1
        await self.soft_limits.tell()

    async def run(self) -> None:
        """Sweeps every ten seconds, and sooner while the store has something to catch up with, for ever."""
        await asyncio.gather(self._sweep_for_ever(), self.soft_limits.run())

    async def _sweep_for_ever(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_SWEEP_SECONDS):
                    await self._settling.behind.wait()
                self._settling.behind.clear()
                await asyncio.sleep(_FLUSH_SECONDS)
            except TimeoutError:
                pass
            try:
                await self.sweep()
            except Exception:
                _log.exception("limits could not be swept")

    async def close(self) -> None:
        """Lets go of the store."""
        await self._store.close()

    @property
    def awaits(self) -> bool:
        """Whether anybody waits for the end of another request, or may soon, since much of a limit is used or reserved.

        Of a limit that nobody is asked about the same holds.
        """
        if self._waiting or self.soft_limits.awaits:
            return True
        oldest = next(iter(self._open.values()), None)
        return oldest is not None and oldest.since <= self._tight_at

    @property
    def is_kept(self) -> bool:
        """Whether all that was settled outlives this process; of a shared store that is not known."""
        return self._local is None or not self._local.fails

    def knows(self, request_id: str) -> bool:
        """Whether a request has passed and is not settled yet."""
        return request_id in self._open

    @property
    def pending(self) -> int:
        """Requests that have ended while the store was lost, and wait to be booked."""
        return self._settling.pending

    def _enter(self, request: Request, asked: Asked, now: float) -> OpenRequest:
        """Remembers a request before the store is asked: it may end before the store has answered."""
        before = self._open.get(request.id)
        name = f"{self._name}/{request.id}"
        if before is not None:  # a client that chooses its ids has given this one twice
            self._twice += 1
            name = f"{name}#{self._twice}"
        entry = OpenRequest(name, Note(request.input_tokens, asked.tags), asked.holds, now, None, before)
        self._open[request.id] = entry
        return entry

    def _leave(self, request_id: str) -> OpenRequest | None:
        entry = self._open.pop(request_id, None)
        if entry is not None and entry.before is not None:
            self._open[request_id] = entry.before
        return entry

    def _drop(self, request_id: str, entry: OpenRequest) -> None:
        """Forgets one that has not passed; another one may have come under its id meanwhile."""
        newer = self._open.get(request_id)
        if newer is entry:
            self._leave(request_id)
        while newer is not None and newer.before is not None:
            if newer.before is entry:
                newer.before = entry.before
                return
            newer = newer.before

    def _verdict(
        self, request: Request, entry: OpenRequest, asked: Asked, outcome: Outcome, now: float
    ) -> Verdict:
        if is_tight(asked, outcome):
            self._tight_at = now
        if asked.shadows:
            for name in over_limits(asked, outcome):
                self.counts.shadowed[name] = self.counts.shadowed.get(name, 0) + 1
        headers = limit_headers(told_readings(asked, outcome), request.dialect, now)
        if outcome.allowed:
            self.counts.admitted += 1
            exhausted = exhausted_backends(asked, outcome, now) if asked.candidates else {}
            if exhausted:
                self.exhaustion.meet(used_up_limits(asked, outcome), now)
            return Verdict(allowed=True, headers=headers, exhausted=exhausted)
        self.exhaustion.meet(used_up_limits(asked, outcome), now)
        self._drop(request.id, entry)
        verdict = why_refused(asked, outcome, now, headers)
        self._refuse(verdict)
        return verdict

    def _refuse(self, verdict: Verdict) -> None:
        self.counts.refused[verdict.limit] = self.counts.refused.get(verdict.limit, 0) + 1

    def _without_store(self, request: Request, entry: OpenRequest, asked: Asked, error: StoreLost) -> Verdict:
        self.counts.store_failures += 1
        for compiled in asked.limits:
            limit = compiled.limit
            if limit.deny_without_store and not limit.shadow:
                self.counts.refused_without_store += 1
                self._drop(request.id, entry)
                self._settling.give_back(entry)
                return store_lost(limit, error.message)
        self.counts.passed_without_store += 1
        return ALLOWED
