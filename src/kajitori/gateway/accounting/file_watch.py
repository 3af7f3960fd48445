"""Tells when a file changes, by what the system says (inotify): nobody looks at a file to which nothing is written."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os

_MODIFY, _ATTRIBUTES, _MOVED, _DELETED = 0x2, 0x4, 0x800, 0x400
_EVENTS_BYTES = 4096


class FileWatch:
    """Of the file behind a descriptor: it is followed when it is renamed.

    works: whether changes are told; not so where a user has too many watches.
    """

    def __init__(self, descriptor: int) -> None:
        self._events = _watch(descriptor)

    @property
    def works(self) -> bool:
        return self._events >= 0

    def forget(self) -> None:
        """Has `wait` return for later changes only. Call it before the file is looked at."""
        with contextlib.suppress(OSError):
            os.read(self._events, _EVENTS_BYTES)

    async def wait(self, most_seconds: float, woken: asyncio.Event) -> None:
        """Until the file was written to, cut, renamed or taken away, or somebody sets woken, or for a time."""
        loop = asyncio.get_running_loop()
        if self.works:
            loop.add_reader(self._events, woken.set)
        try:
            async with asyncio.timeout(most_seconds):
                await woken.wait()
        except TimeoutError:
            pass
        finally:
            if self.works:
                loop.remove_reader(self._events)

    def close(self) -> None:
        if self._events >= 0:
            os.close(self._events)
            self._events = -1


def _watch(descriptor: int) -> int:
    """A descriptor that is readable when there is something to tell; -1 if there is none to be had."""
    try:
        system = ctypes.CDLL(None)
        events: int = system.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, AttributeError):
        return -1
    if events < 0:
        return -1
    path = f"/proc/self/fd/{descriptor}".encode()
    if system.inotify_add_watch(events, path, _MODIFY | _ATTRIBUTES | _MOVED | _DELETED) < 0:
        os.close(events)
        return -1
    return events
