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
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        found, late = None, loop.time() > deadline
        try:
            looked = look()
            found = await looked if inspect.isawaitable(looked) else looked
        except despite as error:
            if late:
                raise AssertionError(_told(what, seconds, error)) from error
        if found:
            return found
        if late:
            raise AssertionError(_told(what, seconds, found))
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
    deadline = time.monotonic() + seconds
    while True:
        found, late = None, time.monotonic() > deadline
        try:
            found = look()
        except despite as error:
            if late:
                raise AssertionError(_told(what, seconds, error)) from error
        if found:
            return found
        if late:
            raise AssertionError(_told(what, seconds, found))
        time.sleep(pause_seconds)


def _told(what: What, seconds: float, found: object) -> str:
    return f"not within {seconds:.0f} s: {what() if callable(what) else what}; last {found!r}"
