"""Watches of kinds that a webhook converts: each change is converted before it is shown.

Such a watcher is told that something happened and reads from the history at its own pace, since others must not
wait for its webhook. Versions that were converted for somebody are there for everybody.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.laptop.apiserver import status
from kajitori.laptop.apiserver.views import frame, read_object
from kajitori.laptop.apiserver.watch import Watcher

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Iterable

    from kajitori.laptop.apiserver.history import Event
    from kajitori.laptop.apiserver.selectors import Selector
    from kajitori.laptop.apiserver.state import ServerState
    from kajitori.laptop.apiserver.store import Entry
    from kajitori.laptop.apiserver.views import View

Send = "Callable[[Iterable[bytes]], Awaitable[None]]"


class ConvertedWatcher(Watcher):
    """changed: set while there may be changes that were not sent yet."""

    def __init__(self, selector: Selector, view: View, transport: asyncio.Transport, bookmarks: bool) -> None:
        super().__init__(selector, view, transport, bookmarks)
        self.changed = asyncio.Event()

    @property
    def channel(self) -> Hashable:
        return self

    def offer(self, event: Event) -> bytes | None:
        self.changed.set()
        return None

    def end(self) -> None:
        super().end()
        self.changed.set()

    def send_bookmark(self, version: int) -> None:
        # A bookmark must not pass by changes that are still being converted.
        if not self.changed.is_set():
            super().send_bookmark(version)


def _entries(events: list[Event], *, before: bool) -> list[Entry]:
    found = [event.entry for event in events]
    if before:
        found += [event.before for event in events if event.before is not None]
    return found


def _line(watcher: ConvertedWatcher, event: Event) -> bytes | None:
    selector, entry = watcher.selector, event.entry
    if selector.namespace and entry.namespace != selector.namespace:
        return None
    was = event.before is not None and selector.matches(event.before)
    now = not event.deleted and selector.matches(entry)
    if now or (was and event.deleted) or (event.deleted and selector.everything):
        change = "DELETED" if event.deleted else "MODIFIED" if was else "ADDED"
        return frame(watcher.view.line(change, entry))
    if not was or event.before is None:
        return None
    left: dict[str, Any] = read_object(watcher.view.kind, event.before)
    left["metadata"]["resourceVersion"] = str(event.version)
    return frame(b'{"type":"DELETED","object":%b}\n' % msgspec.json.encode(left))


async def follow_converted(
    state: ServerState,
    resource: str,
    watcher: ConvertedWatcher,
    send: Callable[[Iterable[bytes]], Awaitable[None]],
) -> None:
    """Send what happens after the watcher's version until it has to end."""
    table = state.store.table(resource)
    kind = watcher.view.kind
    selective = not watcher.selector.everything
    state.hub.join(resource, watcher)
    while not watcher.done.done() and not state.stopping.is_set():
        watcher.changed.clear()
        if not table.history.covers(watcher.version):
            await send([watcher.too_old(state.store.version)])
            return
        events = list(table.history.since(watcher.version))
        if not events:
            await watcher.changed.wait()
            continue
        watcher.changed.set()
        try:
            await state.conversion.ensure(kind, _entries(events, before=selective))
        except status.StatusError as error:
            await send([frame(b'{"type":"ERROR","object":%b}\n' % msgspec.json.encode(error.status))])
            return
        await send(line for event in events if (line := _line(watcher, event)) is not None)
        watcher.version = max(watcher.version, events[-1].version)
