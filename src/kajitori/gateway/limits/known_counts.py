"""What is known of the counts of limits that nobody is asked about: which are used up, and which soon will be. Pure.

Clients choose what counts are apart by, so no more than some thousands are known one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from kajitori.gateway.limits.decision import Taken
from kajitori.gateway.limits.matching import CompiledLimit
from kajitori.gateway.limits.used_up_file import UsedUp, used_up

_NEAR = 0.8
# Envoy writes so often, and what it wrote is read so often while nobody waits (see `LogReader`).
_WRITING_SECONDS, _READING_SECONDS = 0.1, 1.0
_MOST_WATCHED = 2_000
_MOST_USED_UP = 2_000


class KnownCounts:
    """used_up: by name. crowded: limits of which more are used up than are known, with when the last of them frees.

    watched: those that are near their limit. stale: whether anything has changed of what is used up since somebody said that
    nothing has.
    """

    def __init__(self) -> None:
        self.used_up: dict[str, UsedUp] = {}
        self.crowded: dict[str, float] = {}
        self.watched: dict[str, CompiledLimit] = {}
        self.stale = True
        # What counts will have taken by the next reading, if it goes on so.
        self._soon: dict[str, float] = {}
        self._booked_at = 0.0

    def configure(self, limits: Mapping[str, CompiledLimit]) -> None:
        """Takes other limits. What one says that has changed is not known before its counts are judged anew."""
        self.watched.clear()
        self.crowded.clear()
        kept = ((name, each, limits.get(each.compiled.limit.name)) for name, each in self.used_up.items())
        self.used_up = {
            name: msgspec.structs.replace(each, compiled=compiled)
            for name, each, compiled in kept
            if compiled is not None and compiled.limit == each.compiled.limit
        }
        self.stale = True

    def look_ahead(self, booked: Iterable[Taken], now: float) -> None:
        """Notes what was booked at once. now: in seconds of a clock that nobody puts back."""
        took, self._booked_at = now - self._booked_at, now
        # After a silence what came first is read at once.
        took = _WRITING_SECONDS if took > 2 * _READING_SECONDS else max(took, _WRITING_SECONDS)
        self._soon = {taken.counter: taken.amount * _READING_SECONDS / took for taken in booked}

    def calm_down(self, now: float) -> None:
        """Forgets what was foreseen, if it has not gone on so. now: as before."""
        if now > self._booked_at + 2 * _READING_SECONDS:
            self._soon = {}

    def in_doubt(self) -> dict[str, CompiledLimit]:
        """All that keep somebody waiting, to be judged again."""
        return self.watched | {name: each.compiled for name, each in self.used_up.items()}

    def judge(self, name: str, compiled: CompiledLimit, slots: Mapping[int, int], now: float) -> bool:
        """Takes in how a count stands, by slot; whether it is used up. now: seconds since 1970. A shadow keeps nobody back."""
        span = compiled.window.at(now)
        known = self.used_up.get(name)
        since = known.since if known is not None else now
        count = used_up(compiled, name[len(compiled.limit.name) + 1 :], span, slots, since)
        if compiled.limit.shadow:
            return count is not None
        near = count is None and span.used(slots) + self._soon.get(name, 0) >= _NEAR * compiled.capacity
        if near and len(self.watched) < _MOST_WATCHED:
            self.watched[name] = compiled
        else:
            self.watched.pop(name, None)
        if count is None:
            self.used_up.pop(name, None)
        elif known is not None or len(self.used_up) < _MOST_USED_UP:
            self.used_up[name] = count
        else:
            limit = compiled.limit.name
            self.stale = self.stale or limit not in self.crowded
            self.crowded[limit] = max(count.until, self.crowded.get(limit, 0.0))
            return True
        self.stale = self.stale or count != known
        return count is not None

    def forget_past(self, now: float) -> None:
        """Takes away what is free again."""
        for name in [name for name, each in self.used_up.items() if each.until <= now]:
            del self.used_up[name]
            self.stale = True
        for name in [name for name, until in self.crowded.items() if until <= now]:
            del self.crowded[name]
            self.stale = True

    def frees(self) -> float | None:
        """When the first of what is used up is free, in seconds since 1970; None if nothing is."""
        return min((*(each.until for each in self.used_up.values()), *self.crowded.values()), default=None)
