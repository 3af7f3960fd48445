"""Limits that nobody is asked about: what ended is counted, and what is used up is told to Envoy by a file.

Requests are counted in the window in which they came in, from the log alone. After each booking the store says how
the counts stand that were touched; where it is shared, those that are near their limit are looked at twice a second besides,
since others book too. The file is written only when it says something new, and holds for itself until the windows free:
whoever of Envoy, the control plane and this process is away, it stays.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from kajitori.base.clock import Clock
from kajitori.gateway.accounting.policy import Policy, TargetFacts
from kajitori.gateway.limits.amounts import MOST, failed_amount, real_amount
from kajitori.gateway.limits.counting import Taken
from kajitori.gateway.limits.exhaustion import KnownExhaustion
from kajitori.gateway.limits.limit import REQUESTS, Limit, is_pushed
from kajitori.gateway.limits.matching import CompiledLimit, Matcher
from kajitori.gateway.limits.request import Request, Settlement
from kajitori.gateway.limits.settling import Counts, OpenRequest
from kajitori.gateway.limits.store import Store, StoreLost
from kajitori.gateway.limits.used_up import HEAD, Concerned, UsedUp, render, used_up
from kajitori.gateway.rescue.legs import LEG_MARK

_log = logging.getLogger(__name__)

_AGAIN_SECONDS = 1.0
_SHARED_SECONDS = 0.5
# What is used up, or nearly, is looked at so often without anybody's asking: a clock may be put back, and counts be taken away.
_DOUBT_SECONDS = 60.0
# For so long after a change of the policy Envoy may not know of it.
_DELIVERY_SECONDS = 5.0
_NEAR = 0.8
# Envoy writes so often, and what it wrote is read so often while nobody waits (see `LogReader`).
_WRITING_SECONDS, _READING_SECONDS = 0.1, 1.0
_MOST_WATCHED = 2_000
# Clients choose their addresses. Of a limit of which more counts are used up all requests are asked about.
_MOST_USED_UP = 2_000
_MOST_PENDING = 100_000
_AT_ONCE = 500


class Pushing:
    """path: of the file that Envoy reads; None where it reads none, and all is asked about. exhaustion: is told, too."""

    def __init__(
        self, store: Store, clock: Clock, counts: Counts, path: Path | None, exhaustion: KnownExhaustion
    ) -> None:
        self._store = store
        self._clock = clock
        self._counts = counts
        self._path = path
        self._exhaustion = exhaustion
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._routes: frozenset[str] = frozenset()
        # Routes that nobody was asked about before the policy changed, and who came until then is not.
        self._unasked_until: dict[str, float] = {}
        self._limits: dict[str, CompiledLimit] = {}
        self._pending: dict[tuple[str, int], Taken] = {}
        self._touched: dict[str, CompiledLimit] = {}
        self._watched: dict[str, CompiledLimit] = {}
        # Those of which a request was booked that has no price: all are asked about, and such a one is refused.
        self._unpriced: set[str] = set()
        self._all_anew = self._looked = False
        self._stale = True  # what is written
        # What counts will have taken by the next reading, if it goes on so.
        self._soon: dict[str, float] = {}
        self._booked_at = 0.0
        self._waits: float | None = None  # for which `run` sleeps
        self._doubted = -_DOUBT_SECONDS
        self._written: str | None = None
        self.used_up: dict[str, UsedUp] = {}
        # Limits of which more counts are used up than are kept, with when the last of them frees.
        self._crowded: dict[str, float] = {}

    def configure(self, policy: Policy, matcher: Matcher) -> None:
        """What holds from now on."""
        self._matcher = matcher
        pushes = policy.pushes and self._path is not None
        before, self._routes = self._routes, policy.unasked_routes() if pushes else frozenset()
        self._unasked_until |= dict.fromkeys(before, self._clock.now() + _DELIVERY_SECONDS)
        self._unasked_until = {
            route: until
            for route, until in self._unasked_until.items()
            if route in policy.routes and route not in self._routes
        }
        self._limits = (
            {name: each for name, each in matcher.by_name.items() if is_pushed(each.limit)} if pushes else {}
        )
        self._concerned = Concerned(policy)
        self._touched.clear()
        self._watched.clear()
        self._unpriced.intersection_update(self._limits)
        self._crowded.clear()
        # What a limit says that has changed is not known before its counts were read anew.
        kept = (
            (name, each, self._limits.get(each.compiled.limit.name)) for name, each in self.used_up.items()
        )
        self.used_up = {
            name: msgspec.structs.replace(each, compiled=compiled)
            for name, each, compiled in kept
            if compiled is not None and compiled.limit == each.compiled.limit
        }
        self._all_anew = self._stale = True
        self._wake.set()

    def is_unasked(self, route: str, began: float) -> bool:
        """Whether a request of a route that came at a time passed without a question."""
        return route in self._routes or began <= self._unasked_until.get(route, -1.0)

    @property
    def awaits(self) -> bool:
        """Whether a count is near its limit, or will be by the next reading, so that what ended should be known soon."""
        return bool(self._watched)

    def touch(self, entry: OpenRequest) -> None:
        """Notes the counts of a request that was asked about and has ended."""
        for hold, tag in zip(entry.holds, entry.note.tags, strict=False):
            if hold.kind == "soft" and tag.limit in self._limits:
                self._touched[hold.counter] = self._limits[tag.limit]

    async def book(self, settlements: Iterable[Settlement]) -> None:
        """Counts requests that nobody was asked about, and tells Envoy what is used up now."""
        for each in settlements:
            if each.attempted:
                try:
                    self._charge(each)
                except Exception:
                    # A defect that one meets must not take the others of its batch with it.
                    _log.exception("request %s cannot be counted", each.id)
            elif each.refused_by in self._limits:
                refused = self._counts.refused
                refused[each.refused_by] = refused.get(each.refused_by, 0) + 1
        if self._pending or self._touched or self._all_anew:
            await self._catch_up()
            wait = self._wait_seconds()
            if wait is not None and (self._waits is None or wait < self._waits):
                self._wake.set()

    async def run(self) -> None:
        """Takes back what is free again, looks at what others have booked, and catches up with a lost store; for ever."""
        while True:
            self._waits = self._wait_seconds()
            try:
                async with asyncio.timeout(self._waits):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            if self._store.remote:
                self._touched |= self._watched
            self._doubt()
            try:
                await self._catch_up()
            except Exception:
                _log.exception("what is used up cannot be told")

    def _doubt(self) -> None:
        now = asyncio.get_running_loop().time()
        if now > self._booked_at + 2 * _READING_SECONDS:
            self._soon = {}  # it has not gone on so
        if now >= self._doubted + _DOUBT_SECONDS:
            self._doubted = now
            self._touched |= self._watched | {name: each.compiled for name, each in self.used_up.items()}

    def _wait_seconds(self) -> float | None:
        if self._pending or self._touched or self._all_anew:
            return _AGAIN_SECONDS
        if self._store.remote and self._watched:
            return _SHARED_SECONDS
        if not self.used_up:
            return _DOUBT_SECONDS if self._watched or self._crowded else None
        frees = min(each.until for each in self.used_up.values())
        return min(max(frees - self._clock.now(), 0.05), _DOUBT_SECONDS)

    def _charge(self, settlement: Settlement) -> None:
        request, limits = self._matcher.of_request(
            Request(
                id=settlement.id,
                route=settlement.route,
                rule=settlement.rule,
                model=settlement.model,
                key=settlement.key,
                tenant=settlement.tenant,
                client=settlement.client,
            )
        )
        began = settlement.began or self._clock.now()
        target = TargetFacts(0, 0, settlement.backend, settlement.backend_model)
        for compiled in limits:
            conditions = compiled.conditions
            if conditions.of_backend and not settlement.backend:
                continue
            distinct = conditions.holds(request, target if conditions.of_backend else None)
            amount = self._amount(compiled.limit, settlement) if distinct is not None else 0
            if distinct is None or amount <= 0:
                continue
            span = compiled.window.at(began)
            counter = compiled.counter(distinct, span, began)
            self._keep(Taken(counter, span.slot, amount, span.forget))
            # On a route about which nobody was asked until a moment ago there may be strict ones, too.
            if compiled.limit.name in self._limits:
                self._touched[counter] = compiled

    def _keep(self, taken: Taken) -> None:
        """Until the store has it."""
        place = taken.counter, taken.slot
        known = self._pending.get(place)
        if known is not None:
            known.amount = min(known.amount + taken.amount, MOST)
        elif len(self._pending) < _MOST_PENDING:
            self._pending[place] = taken
        else:
            self._counts.unsettled_dropped += 1

    def _amount(self, limit: Limit, settlement: Settlement) -> int:
        once = failed_amount(limit)
        usage = settlement.usage
        if limit.counts == REQUESTS or usage is None:
            amount = once
        else:
            model = settlement.backend_model or settlement.model
            found = real_amount(
                self._matcher.charger,
                limit,
                settlement.route,
                settlement.rule,
                settlement.backend,
                model,
                usage,
            )
            if found is None and limit.unpriced == "Deny" and limit.name not in self._unpriced:
                self._unpriced.add(limit.name)
                self._all_anew = self._stale = True
            amount = once if found is None else found
        # What is taken for each request is taken once, however many backends went on with its stream.
        return amount - once if LEG_MARK in settlement.id else amount

    async def _catch_up(self) -> None:
        async with self._lock:
            try:
                if self._pending:
                    booked = self._pending
                    self._pending = {}
                    try:
                        await self._store.book(list(booked.values()), now=self._clock.now())
                    except StoreLost:
                        for taken in booked.values():
                            self._keep(taken)
                        raise
                    self._look_ahead(booked.values())
                await self._look()
                self._looked = True
            except StoreLost:
                self._counts.store_failures += 1
            if self._looked:  # else the file says what an earlier process knew
                self._tell()

    def _look_ahead(self, booked: Iterable[Taken]) -> None:
        now = asyncio.get_running_loop().time()
        took, self._booked_at = now - self._booked_at, now
        # After a silence what came first is read at once.
        took = _WRITING_SECONDS if took > 2 * _READING_SECONDS else max(took, _WRITING_SECONDS)
        self._soon = {taken.counter: taken.amount * _READING_SECONDS / took for taken in booked}

    async def _look(self) -> None:
        """Reads the counts that may have changed; after a change of the policy all of them. Raises StoreLost."""
        self._forget_past()
        known = self._limits
        anew, self._all_anew = self._all_anew, False
        touched, self._touched = self._touched, {}
        try:
            if anew:
                names = await self._store.names() if known else []
                limits = ((name, known.get(name.partition("|")[0])) for name in names)
                touched |= {name: compiled for name, compiled in limits if compiled is not None}
            places = list(touched.items())
            for start in range(0, len(places), _AT_ONCE):
                part = places[start : start + _AT_ONCE]
                amounts = await self._store.amounts([name for name, _ in part])
                if self._limits is not known:
                    return  # the policy has changed meanwhile, and all is looked at anew
                for (name, compiled), slots in zip(part, amounts, strict=True):
                    self._judge(name, compiled, slots)
                await asyncio.sleep(0)  # whoever shares the loop waits no longer than for one part
        except StoreLost:
            if self._limits is known:
                self._all_anew = self._all_anew or anew
                self._touched = touched | self._touched
            raise

    def _forget_past(self) -> None:
        now = self._clock.now()
        for name in [name for name, each in self.used_up.items() if each.until <= now]:
            del self.used_up[name]
            self._stale = True
        for name in [name for name, until in self._crowded.items() if until <= now]:
            del self._crowded[name]
            self._stale = True

    def _judge(self, name: str, compiled: CompiledLimit, slots: dict[int, int]) -> None:
        now = self._clock.now()
        span = compiled.window.at(now)
        known = self.used_up.get(name)
        since = known.since if known is not None else now
        count = used_up(compiled, name[len(compiled.limit.name) + 1 :], span, slots, since)
        if compiled.limit.shadow:
            if count is not None:
                shadowed = self._counts.shadowed
                shadowed[compiled.limit.name] = shadowed.get(compiled.limit.name, 0) + 1
            return
        if count is None:
            self.used_up.pop(name, None)
        elif known is not None or len(self.used_up) < _MOST_USED_UP:
            self.used_up[name] = count
        else:
            limit = compiled.limit.name
            self._stale = self._stale or limit not in self._crowded
            self._crowded[limit] = max(count.until, self._crowded.get(limit, 0.0))
            return
        self._stale = self._stale or count != known
        near = count is None and span.used(slots) + self._soon.get(name, 0) >= _NEAR * compiled.capacity
        if near and len(self._watched) < _MOST_WATCHED:
            self._watched[name] = compiled
        else:
            self._watched.pop(name, None)

    def _tell(self) -> None:
        """Writes the file, if it says something new."""
        if self._path is None:
            return
        self._forget_past()
        if not self._stale:
            return
        self._stale = False
        self._exhaustion.pushed(self.used_up)
        # What allows nothing at all needs no count.
        asked = [
            each
            for name, each in self._limits.items()
            if name in self._unpriced
            or name in self._crowded
            or (each.capacity == 0 and not each.limit.shadow)
        ]
        text = render(self._concerned, self.used_up.values(), asked)
        if text == self._written or (self._written is None and not text and not self._path.exists()):
            return
        try:
            _replace(self._path, f"{HEAD} {time.time_ns()}\n{text}")
            self._written = text
        except OSError as error:
            _log.error("Envoy cannot be told what is used up: %s", error)
            self._all_anew = self._stale = True


def _replace(path: Path, text: str) -> None:
    """For Envoy, which is of the same user; it never sees half of it."""
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    fresh.replace(path)
