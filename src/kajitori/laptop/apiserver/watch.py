"""Watches: every committed change goes to all who asked for it, encoded once and shared.

A watcher first catches up (from the present state or from the history) at its own pace, then is *live*: the hub
writes to its connection directly, all changes of one commit in one write. A reader that lets more than a few
megabytes pile up is cut; it comes back with its last version, as it would after any cut connection.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import msgspec

from kajitori.laptop.apiserver import status
from kajitori.laptop.apiserver.store import Entry, Store, Table
from kajitori.laptop.apiserver.views import frame

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from kajitori.laptop.apiserver.history import Event
    from kajitori.laptop.apiserver.selectors import Selector
    from kajitori.laptop.apiserver.views import View

log = logging.getLogger(__name__)
UNSENT_BYTES_LIMIT = 8 << 20
BOOKMARK_SECONDS = 60.0
INITIAL_EVENTS_END = "k8s.io/initial-events-end"


class Watcher:
    """One watch request. `done` is set when it has to end: time is up, the reader is slow, the server stops."""

    def __init__(self, selector: Selector, view: View, transport: asyncio.Transport, bookmarks: bool) -> None:
        self.selector = selector
        self.view = view
        self.bookmarks = bookmarks
        self.version = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport = transport
        self._outbox: list[bytes] = []

    def end(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def line(self, event: Event) -> bytes | None:
        """The framed line for an event, or None if it is not for this watcher."""
        selector = self.selector
        entry = event.entry
        if selector.namespace and entry.namespace != selector.namespace:
            return None
        if selector.everything:
            kind = "DELETED" if event.deleted else "ADDED" if event.before is None else "MODIFIED"
        else:
            was = event.before is not None and selector.matches(event.before)
            now = not event.deleted and selector.matches(entry)
            if now:
                kind = "MODIFIED" if was else "ADDED"
            elif was:
                kind = "DELETED"
                if not event.deleted:
                    return self.view.frame(event, "DELETED", departed(event))
            else:
                return None
        return self.view.frame(event, kind, entry)

    def initial_lines(self, entries: Iterable[Entry]) -> Iterator[bytes]:
        """ADDED for each entry of the present state."""
        return (frame(self.view.line("ADDED", entry)) for entry in entries)

    def too_old(self, current: int) -> bytes:
        """The line that ends a watch from a version which the history no longer covers."""
        error = status.expired(f"too old resource version: {self.version} ({current})")
        return frame(self.view.error(error.status))

    def offer(self, event: Event) -> bool:
        """Queue an event; True if something is to be flushed for the first time."""
        if event.version <= self.version:
            return False
        self.version = event.version
        line = self.line(event)
        if line is None:
            return False
        self._outbox.append(line)
        return len(self._outbox) == 1

    def flush(self) -> None:
        if self.done.done():
            self._outbox.clear()
            return
        if self.transport.is_closing():
            self.end()
        elif self.transport.get_write_buffer_size() > UNSENT_BYTES_LIMIT:
            self.transport.abort()
            self.end()
        else:
            self.transport.write(b"".join(self._outbox))
        self._outbox.clear()

    def bookmark(self, version: int, annotations: dict[str, str] | None = None) -> bytes:
        return frame(self.view.bookmark(version, annotations))

    def send_bookmark(self, version: int) -> None:
        if self.bookmarks and not self.transport.is_closing():
            self.transport.write(self.bookmark(max(version, self.version)))


def departed(event: Event) -> Entry:
    """The state before an event with the event's version: what a watcher gets whose selector no longer matches."""
    assert event.before is not None
    obj = event.before.decode()
    obj["metadata"]["resourceVersion"] = str(event.version)
    before = event.before
    return Entry(before.namespace, before.name, event.version, msgspec.json.encode(obj))


class Hub:
    """Live watchers by resource. Told of changes by the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._live: dict[str, set[Watcher]] = {}
        self._dirty: list[Watcher] = []
        # Lines are shared among those who watch now, and made again for who comes later.
        self._shown: list[Event] = []
        self._catching_up: set[Watcher] = set()
        store.listeners.append(self._on_event)
        store.after_commit.append(self._flush)

    def _on_event(self, resource: str, event: Event) -> None:
        self._shown.append(event)
        for watcher in self._live.get(resource, ()):
            try:
                if watcher.offer(event):
                    self._dirty.append(watcher)
            except Exception:
                # One watch that cannot be served must not hold up the write and all the others.
                log.exception("a watch of %s was ended: an event cannot be shown", resource)
                watcher.transport.abort()
                watcher.end()

    def _flush(self) -> None:
        for event in self._shown:
            event.lines.clear()
        self._shown.clear()
        dirty, self._dirty = self._dirty, []
        for watcher in dirty:
            watcher.flush()

    async def catch_up(
        self, table: Table, watcher: Watcher, send: Callable[[Iterable[bytes]], Awaitable[None]]
    ) -> bool:
        """Send what happened after watcher.version and make the watcher live. False: it lies too far back."""
        self._catching_up.add(watcher)
        try:
            while True:
                if not table.history.covers(watcher.version):
                    return False
                events = table.history.since(watcher.version)
                if not events:
                    return True
                await send(line for event in events if (line := watcher.line(event)) is not None)
                watcher.version = max(watcher.version, events[-1].version)
        finally:
            self._catching_up.discard(watcher)

    def join(self, resource: str, watcher: Watcher) -> None:
        """From now on the watcher is live. No await between its last catching up and this."""
        self._live.setdefault(resource, set()).add(watcher)

    def leave(self, resource: str, watcher: Watcher) -> None:
        live = self._live.get(resource)
        if live is not None:
            live.discard(watcher)
        watcher.end()

    def end_all(self, resource: str | None = None) -> None:
        """End the watches of one resource (its definition goes or changes) or of all."""
        for name, watchers in self._live.items():
            if resource is None or name == resource:
                for watcher in watchers:
                    watcher.end()
        if resource is None:
            for watcher in self._catching_up:
                watcher.end()

    def bookmark_all(self) -> None:
        version = self._store.version
        for watchers in self._live.values():
            for watcher in watchers:
                if not watcher.done.done():
                    watcher.send_bookmark(version)

    def live(self, resource: str) -> frozenset[Watcher]:
        """Those who are told of changes of a resource as they happen."""
        return frozenset(self._live.get(resource, ()))

    def count(self) -> int:
        return sum(len(watchers) for watchers in self._live.values())
