"""How long a daemon that fails again and again on a node is left alone before it is replaced. Pure: times are given."""

from __future__ import annotations

import msgspec

FIRST_SECONDS = 1.0
LONGEST_SECONDS = 900.0


class _Entry(msgspec.Struct, frozen=True):
    seconds: float
    since: float


class FailureBackoff:
    """Delays that double with each failure from 1 s to 15 min, and are forgotten half an hour after the last one."""

    def __init__(self) -> None:
        self._entries: dict[object, _Entry] = {}

    def remaining_seconds(self, key: object, now: float) -> float:
        entry = self._entries.get(key)
        if entry is None:
            return 0.0
        passed = now - entry.since
        if passed > 2 * LONGEST_SECONDS:
            del self._entries[key]
            return 0.0
        return max(0.0, entry.seconds - passed)

    def note(self, key: object, now: float) -> None:
        """It failed once more and is replaced now."""
        entry = self._entries.get(key)
        known = entry is not None and now - entry.since <= 2 * LONGEST_SECONDS
        seconds = min(LONGEST_SECONDS, entry.seconds * 2) if known and entry is not None else FIRST_SECONDS
        self._entries[key] = _Entry(seconds, now)

    def forget_old(self, now: float) -> None:
        for key in [one for one, entry in self._entries.items() if now - entry.since > 2 * LONGEST_SECONDS]:
            del self._entries[key]
