"""Soft limits, the ones that are not strict and nobody is asked about: what ended is counted, and what is used up is told to
Envoy by a file (`kajitori.gateway.limits.used_up_file`).

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
from collections.abc import Mapping
from pathlib import Path

from kajitori.base.clock import Clock
from kajitori.gateway.accounting.accountant_policy import AccountantPolicy
from kajitori.gateway.limits.decision import Taken
from kajitori.gateway.limits.handing_over import HandingOver
from kajitori.gateway.limits.known_counts import KnownCounts
from kajitori.gateway.limits.known_exhaustion import KnownExhaustion
from kajitori.gateway.limits.limit import is_pushed
from kajitori.gateway.limits.matching import CompiledLimit, Matcher
from kajitori.gateway.limits.pending_charges import PendingCharges
from kajitori.gateway.limits.request import Settlement
from kajitori.gateway.limits.settling import Counts, OpenRequest
from kajitori.gateway.limits.store import Store, StoreLost
from kajitori.gateway.limits.used_up_file import HEAD, Concerned, UsedUp, render

_log = logging.getLogger(__name__)

_AGAIN_SECONDS = 1.0
_SHARED_SECONDS = 0.5
# What is used up, or nearly, is looked at so often without anybody's asking: a clock may be put back, and counts be taken away.
_DOUBT_SECONDS = 60.0
_AT_ONCE = 500


class SoftLimits:
    """path: of the file that Envoy reads; None where it reads none, and all is asked about. exhaustion: is told, too.

    source: whose bookings these are, see `Receipt`.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        counts: Counts,
        path: Path | None,
        exhaustion: KnownExhaustion,
        source: str,
    ) -> None:
        self._store = store
        self._clock = clock
        self._counts = counts
        self._path = path
        self._exhaustion = exhaustion
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._limits: dict[str, CompiledLimit] = {}
        self._charges = PendingCharges(clock, counts.note_estimate)
        self._waiting = HandingOver(store, clock, self._charges, source)
        self._known = KnownCounts()
        self._touched: dict[str, CompiledLimit] = {}
        self._all_anew = self._looked = False
        self._waits: float | None = None  # for which `run` sleeps
        self._doubted = -_DOUBT_SECONDS
        self._written: str | None = None
        self._told_unpriced: dict[str, frozenset[str]] = {}

    def configure(self, policy: AccountantPolicy, matcher: Matcher) -> None:
        """What holds from now on."""
        pushes = policy.pushes and self._path is not None
        self._limits = (
            {name: each for name, each in matcher.by_name.items() if is_pushed(each.limit)} if pushes else {}
        )
        self._concerned = Concerned(policy)
        self._touched.clear()
        self._charges.configure(matcher, self._limits)
        self._known.configure(self._limits)
        self._all_anew = True
        self._wake.set()

    @property
    def awaits(self) -> bool:
        """Whether a count is near its limit, or will be by the next reading, so that what ended should be known soon."""
        return bool(self._known.watched)

    @property
    def used_up(self) -> Mapping[str, UsedUp]:
        """Counts that are used up, by name."""
        return self._known.used_up

    def touch(self, entry: OpenRequest) -> None:
        """Notes the counts of a request that was asked about and has ended."""
        for hold, tag in zip(entry.holds, entry.note.tags, strict=False):
            if hold.kind == "soft" and tag.limit in self._limits:
                self._touched[hold.counter] = self._limits[tag.limit]

    def charge(self, settlement: Settlement) -> None:
        """Counts a request that nobody was asked about, with the next that is handed over."""
        if settlement.attempted:
            try:
                self._charges.add(settlement, self._touched)
            except Exception:
                # A defect that one meets must not take the others of its batch with it.
                _log.exception("request %s cannot be counted", settlement.id)
        elif settlement.refused_by in self._limits:
            refused = self._counts.refused
            refused[settlement.refused_by] = refused.get(settlement.refused_by, 0) + 1

    def book(self, taken: list[Taken]) -> None:
        """Counts what passed though nothing could be reserved for it, with the next that is handed over."""
        for each in taken:
            self._charges.keep(each)

    async def hand_over(self, position: bytes) -> None:
        """Has the store book what was charged, and how far the log is booked with it; what it does not take is kept."""
        try:
            await self._hand_over(position)
        except StoreLost:
            self._counts.store_failures += 1

    async def tell(self) -> None:
        """Tells Envoy what is used up now."""
        if self._waiting or self._touched or self._all_anew or self._charges.unpriced != self._told_unpriced:
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
                self._touched |= self._known.watched
            self._doubt()
            try:
                await self._catch_up()
            except Exception:
                _log.exception("what is used up cannot be told")

    def _doubt(self) -> None:
        now = asyncio.get_running_loop().time()
        self._known.calm_down(now)
        if now >= self._doubted + _DOUBT_SECONDS:
            self._doubted = now
            self._touched |= self._known.in_doubt()
            if self._written and self._path is not None and not self._path.exists():
                self._written, self._known.stale = None, True  # somebody has tidied up

    def _wait_seconds(self) -> float | None:
        if self._waiting or self._touched or self._all_anew:
            return _AGAIN_SECONDS
        if self._store.remote and self._known.watched:
            return _SHARED_SECONDS
        frees = self._known.frees()
        if frees is None:
            return _DOUBT_SECONDS if self._known.watched else None
        return min(max(frees - self._clock.now(), 0.05), _DOUBT_SECONDS)

    async def _catch_up(self) -> None:
        async with self._lock:
            try:
                if self._waiting:
                    await self._hand_over()
                await self._look()
            except StoreLost:
                self._counts.store_failures += 1
            if self._looked:  # else the file says what an earlier process knew
                self._tell()

    async def _hand_over(self, position: bytes = b"") -> None:
        """Raises StoreLost."""
        self._counts.unsettled_dropped += self._charges.dropped
        self._charges.dropped = 0
        taken = await self._waiting.hand_over(position)
        if taken:
            self._known.look_ahead(taken, asyncio.get_running_loop().time())

    async def _look(self) -> None:
        """Reads the counts that may have changed; after a change of the policy all of them. Raises StoreLost."""
        self._known.forget_past(self._clock.now())
        limits = self._limits
        anew, self._all_anew = self._all_anew, False
        touched, self._touched = self._touched, {}
        try:
            if anew:
                names = await self._store.names() if limits else []
                found = ((name, limits.get(name.partition("|")[0])) for name in names)
                touched |= {name: compiled for name, compiled in found if compiled is not None}
            places = list(touched.items())
            for start in range(0, len(places), _AT_ONCE):
                part = places[start : start + _AT_ONCE]
                amounts = await self._store.amounts([name for name, _ in part])
                if self._limits is not limits:
                    return  # the policy has changed meanwhile, and all is looked at anew
                for (name, compiled), slots in zip(part, amounts, strict=True):
                    self._judge(name, compiled, slots)
                await asyncio.sleep(0)  # whoever shares the loop waits no longer than for one part
            self._looked = True
        except StoreLost:
            if self._limits is limits:
                self._all_anew = self._all_anew or anew
                self._touched = touched | self._touched
            raise

    def _judge(self, name: str, compiled: CompiledLimit, slots: Mapping[int, int]) -> None:
        used_up = self._known.judge(name, compiled, slots, self._clock.now())
        if used_up and compiled.limit.shadow:
            self._counts.shadowed[compiled.limit.name] = self._counts.shadowed.get(compiled.limit.name, 0) + 1

    def _tell(self) -> None:
        """Writes the file, if it says something new."""
        if self._path is None:
            return
        self._known.forget_past(self._clock.now())
        unpriced = self._charges.unpriced
        if not self._known.stale and unpriced == self._told_unpriced:
            return
        self._known.stale, self._told_unpriced = False, unpriced
        self._exhaustion.pushed(self.used_up)
        # What allows nothing at all needs no count.
        asked = [
            each
            for name, each in self._limits.items()
            if name in self._known.crowded or (each.capacity == 0 and not each.limit.shadow)
        ]
        without_price = [(self._limits[name], models) for name, models in unpriced.items()]
        text = render(self._concerned, self.used_up.values(), asked, without_price)
        if text == self._written or (self._written is None and not text and not self._path.exists()):
            return
        try:
            _replace(self._path, f"{HEAD} {time.time_ns()}\n{text}")
            self._written = text
        except OSError as error:
            _log.error("Envoy cannot be told what is used up: %s", error)
            self._all_anew = self._known.stale = True


def _replace(path: Path, text: str) -> None:
    """For Envoy, which is of the same user; it never sees half of it."""
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    fresh.replace(path)
