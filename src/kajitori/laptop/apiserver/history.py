"""What changed lately in one resource: a bounded window from which watches resume and lists look back.

An event that is pushed out raises the floor; whoever asks for what came before it is told to list again (410).
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kajitori.laptop.apiserver.store import Entry

MAXIMUM_EVENTS = 8_192
MAXIMUM_BYTES = 24 << 20
MAXIMUM_AGE_SECONDS = 600.0


class Event:
    """One committed change. entry: the new state, or for a deletion the last one with the deletion's version.

    `lines` holds the encoded watch lines that watchers share, by type and served version.
    """

    __slots__ = ("at", "before", "deleted", "entry", "lines", "version")

    def __init__(self, version: int, before: Entry | None, entry: Entry, deleted: bool) -> None:
        self.version = version
        self.before = before
        self.entry = entry
        self.deleted = deleted
        self.at = time.monotonic()
        self.lines: dict[tuple[str, bytes], bytes] = {}


class History:
    """Events in order of their versions. floor: changes up to and including this version are not known."""

    __slots__ = ("_bytes", "_events", "floor")

    def __init__(self, floor: int) -> None:
        self.floor = floor
        self._events: deque[Event] = deque()
        self._bytes = 0

    def append(self, event: Event) -> None:
        events = self._events
        events.append(event)
        self._bytes += len(event.entry.body)
        while events and (
            len(events) > MAXIMUM_EVENTS or self._bytes > MAXIMUM_BYTES or self._is_old(events[0], event.at)
        ):
            self._drop_oldest()

    def expire(self) -> int:
        """Drop what is too old, also where nothing changes any more; returns how many events."""
        now, before = time.monotonic(), len(self._events)
        while self._events and self._is_old(self._events[0], now):
            self._drop_oldest()
        return before - len(self._events)

    @staticmethod
    def _is_old(event: Event, now: float) -> bool:
        return now - event.at > MAXIMUM_AGE_SECONDS

    def _drop_oldest(self) -> None:
        oldest = self._events.popleft()
        self._bytes -= len(oldest.entry.body)
        self.floor = oldest.version

    def covers(self, version: int) -> bool:
        """Whether every change after `version` is still known."""
        return version >= self.floor

    def since(self, version: int) -> list[Event]:
        """Events after `version`, oldest first."""
        found: list[Event] = []
        for event in reversed(self._events):
            if event.version <= version:
                break
            found.append(event)
        found.reverse()
        return found

    def newest_first(self) -> Iterator[Event]:
        return reversed(self._events)

    def __len__(self) -> int:
        return len(self._events)
