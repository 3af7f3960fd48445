"""Which limits are used up, as far as this process has met it: by refusing, or by booking what nobody was asked about."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Mapping
from typing import TYPE_CHECKING

from kajitori.gateway.accounting.exhaustion_reports import Exhaustion, merged

if TYPE_CHECKING:
    from kajitori.base.clock import Clock
    from kajitori.gateway.limits.used_up_file import UsedUp

_MOST_KNOWN = 2_000


class KnownExhaustion:
    """changed: set when another limit is used up, or one is free before its time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._met: dict[str, Exhaustion] = {}
        self._pushed: dict[str, Exhaustion] = {}
        self.changed = asyncio.Event()

    def meet(self, frees: Mapping[str, float], now: float) -> None:
        """Notes limits that keep a request back, each with when it frees."""
        for name, until in frees.items():
            known = self._met.get(name)
            if known is None or known.until <= now:
                if len(self._met) >= _MOST_KNOWN:
                    self._met = {each: found for each, found in self._met.items() if found.until > now}
                if len(self._met) >= _MOST_KNOWN:
                    return
                self._met[name] = Exhaustion(name, now, until)
                self.changed.set()
            elif until > known.until:
                self._met[name] = Exhaustion(name, known.since, until)

    def keep(self, unchanged: Container[str]) -> None:
        """Forgets limits that were changed or taken away: what kept requests back may do so no longer."""
        kept = {name: found for name, found in self._met.items() if name in unchanged}
        if len(kept) != len(self._met):
            self._met = kept
            self.changed.set()

    def pushed(self, counts: Mapping[str, UsedUp]) -> None:
        """Takes all counts that are used up of limits that nobody is asked about."""
        found: dict[str, Exhaustion] = {}
        for count in counts.values():
            name = count.compiled.limit.name
            known = found.get(name)
            since, until, number = count.since, count.until, 1
            if known is not None:
                since, until = min(since, known.since), max(until, known.until)
                number = known.counts + 1
            found[name] = Exhaustion(name, since, until, number)
        if found.keys() != self._pushed.keys():
            self.changed.set()
        self._pushed = found

    def exhausted(self) -> list[Exhaustion]:
        """All that are used up now, in the order of their names."""
        return merged((*self._met.values(), *self._pushed.values()), self._clock.now())
