"""Gives memory back to the machine after many pods have come or gone."""

from __future__ import annotations

import asyncio
import gc

from kajitori.base.memory import give_back

_QUIET_SECONDS = 5.0


class MemoryTrimmer:
    """`note` a change; once it has been quiet for a while, what is free goes back."""

    def __init__(self) -> None:
        self._handle: asyncio.TimerHandle | None = None

    def note(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle = asyncio.get_running_loop().call_later(_QUIET_SECONDS, self._trim)

    def _trim(self) -> None:
        self._handle = None
        gc.collect()
        give_back()
