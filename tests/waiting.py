"""The one way in which tests wait for what they do not do themselves.

They look again and again until something holds, with a deadline that no look can skip, and that a busy machine with
two cores does not reach. Where a loop runs on virtual time, so does the waiting.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

PATIENCE_SECONDS = 30.0
What = str | Callable[[], Any]


async def eventually(
    look: Callable[[], Any],
    what: What = "what was waited for",
    seconds: float = PATIENCE_SECONDS,
    *,
    pause_seconds: float = 0.02,
    despite: tuple[type[Exception], ...] = (),
) -> Any:
    """What `look` gives, or what the awaitable that it gives comes to, as soon as that is true.

    what: named when the time is over; a function is asked then. despite: exceptions that only mean "not yet".
    """
    patience = _Patience(what, seconds, asyncio.get_running_loop().time)
    while True:
        patience.begin_look()
        try:
            looked = look()
            found = await looked if inspect.isawaitable(looked) else looked
        except despite as error:
            patience.end_look(error)
        else:
            if found:
                return found
            patience.end_look(found)
        await asyncio.sleep(pause_seconds)


def eventually_blocking(
    look: Callable[[], Any],
    what: What = "what was waited for",
    seconds: float = PATIENCE_SECONDS,
    *,
    pause_seconds: float = 0.02,
    despite: tuple[type[Exception], ...] = (),
) -> Any:
    """The same without an event loop."""
    patience = _Patience(what, seconds, time.monotonic)
    while True:
        patience.begin_look()
        try:
            found = look()
        except despite as error:
            patience.end_look(error)
        else:
            if found:
                return found
            patience.end_look(found)
        time.sleep(pause_seconds)


class _Patience:
    """A look that began after the deadline was the last one, so that what came true meanwhile is still seen."""

    def __init__(self, what: What, seconds: float, clock: Callable[[], float]) -> None:
        self._what = what
        self._seconds = seconds
        self._clock = clock
        self._deadline = clock() + seconds
        self._last = False

    def begin_look(self) -> None:
        self._last = self._clock() > self._deadline

    def end_look(self, found: object) -> None:
        """Fails if that was the last look."""
        if self._last:
            what = self._what() if callable(self._what) else self._what
            raise AssertionError(f"not within {self._seconds:.0f} s: {what}; last {found!r}") from (
                found if isinstance(found, Exception) else None
            )
