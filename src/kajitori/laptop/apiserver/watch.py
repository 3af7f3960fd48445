"""Watches: every committed change goes to all who asked for it, encoded once and shared.

A watcher first catches up (from the present state or from the history) at its own pace, then is *live*: the hub
writes to its connection directly, all changes of one commit in one write. Live watchers that ask for the same are
in one channel, which finds out once what they get. A reader that lets more than a few
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
    from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator

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

    @property
    def channel(self) -> Hashable:
        """Equal for watchers that get the same bytes."""
        if not self.view.shared:
            return self
        selector = self.selector
        return (selector.namespace, selector.labels, selector.fields, self.view.key)

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

    def offer(self, event: Event) -> bytes | None:
        """What the watchers of this one's channel are to get at once because of an event."""
        return self.line(event) if event.version > self.version else None

    def send(self, data: bytes) -> None:
        if self.done.done():
            return
        transport = self.transport
        if transport.is_closing():
            self.end()
        elif transport.get_write_buffer_size() > UNSENT_BYTES_LIMIT:
            transport.abort()
            self.end()
        else:
            transport.write(data)

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


class _Channel:
    """Live watchers that get the same bytes. first: the one that is asked what they are."""

    __slots__ = ("first", "outbox", "watchers")

    def __init__(self, first: Watcher) -> None:
        self.first = first
        self.watchers: set[Watcher] = set()
        self.outbox: list[bytes] = []

    def flush(self) -> None:
        data = b"".join(self.outbox)
        self.outbox.clear()
        for watcher in self.watchers:
            watcher.send(data)


class Hub:
    """Live watchers by resource. Told of changes by the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._live: dict[str, dict[Hashable, _Channel]] = {}
        self._dirty: list[_Channel] = []
        # Lines are shared among those who watch now, and made again for who comes later.
        self._shown: list[Event] = []
        self._catching_up: set[Watcher] = set()
        store.listeners.append(self._on_event)
        store.after_commit.append(self._flush)

    def _on_event(self, resource: str, event: Event) -> None:
        self._shown.append(event)
        channels = self._live.get(resource)
        if channels is None:
            return
        for channel in channels.values():
            try:
                line = channel.first.offer(event)
            except Exception:
                # One watch that cannot be served must not hold up the write and all the others.
                log.exception("a watch of %s was ended: an event cannot be shown", resource)
                for watcher in channel.watchers:
                    watcher.transport.abort()
                    watcher.end()
                continue
            if line is not None:
                if not channel.outbox:
                    self._dirty.append(channel)
                channel.outbox.append(line)

    def _flush(self) -> None:
        for event in self._shown:
            event.lines.clear()
        self._shown.clear()
        dirty, self._dirty = self._dirty, []
        for channel in dirty:
            channel.flush()

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
        channels = self._live.setdefault(resource, {})
        # One that knows a version which is still to come is not told what happens until then.
        key = watcher.channel if watcher.version <= self._store.version else watcher
        channel = channels.get(key)
        if channel is None:
            channel = channels[key] = _Channel(watcher)
        channel.watchers.add(watcher)

    def leave(self, resource: str, watcher: Watcher) -> None:
        channels = self._live.get(resource, {})
        for key in (watcher.channel, watcher):
            channel = channels.get(key)
            if channel is not None and watcher in channel.watchers:
                channel.watchers.remove(watcher)
                if not channel.watchers:
                    del channels[key]
                elif channel.first is watcher:
                    channel.first = next(iter(channel.watchers))
        watcher.end()

    def end_all(self, resource: str | None = None) -> None:
        """End the watches of one resource (its definition goes or changes) or of all."""
        for name in self._live if resource is None else (resource,):
            for watcher in self.live(name):
                watcher.end()
        if resource is None:
            for watcher in self._catching_up:
                watcher.end()

    def bookmark_all(self) -> None:
        version = self._store.version
        for resource in self._live:
            for watcher in self.live(resource):
                if not watcher.done.done():
                    watcher.send_bookmark(version)

    def live(self, resource: str) -> frozenset[Watcher]:
        """Those who are told of changes of a resource as they happen."""
        channels = self._live.get(resource, {})
        return frozenset(watcher for channel in channels.values() for watcher in channel.watchers)

    def count(self) -> int:
        return sum(len(channel.watchers) for channels in self._live.values() for channel in channels.values())
