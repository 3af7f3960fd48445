"""Virtual time: an event loop whose clock jumps to the next thing that waits, for tests that wait for nothing.

    run_virtual(scenario())

Hours pass in milliseconds, and since nothing depends on how fast the machine is, the same scenario with the same
seeds does the same things in the same order. Sockets within the process work: the clock only jumps when no I/O
is ready and no thread of the loop's executor is busy. Where other threads or processes take part, as with the
embedded API server's journal, give the loop some patience: real seconds to wait for them before each jump. Such
a run waits for nothing either, but its order is no longer the seeds' alone.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# With nothing scheduled and no I/O for so long in real seconds, nothing will ever happen again.
_DEADLOCK_SECONDS = 20.0


class DeadlockError(RuntimeError):
    """Every task waits for something that nobody will bring about."""


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """A loop whose `time()` starts at 0 and moves only when all tasks wait."""

    def __init__(self, patience_seconds: float = 0.0) -> None:
        self.patience_seconds = patience_seconds
        self._virtual_seconds = 0.0
        self._busy_threads = 0
        super().__init__(_JumpingSelector(self))
        # Sums of delays do not come out exact in floating point; a microsecond is below any delay that matters.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self._virtual_seconds

    def advance(self, seconds: float) -> None:
        """Move the clock."""
        self._virtual_seconds += seconds

    @property
    def has_busy_threads(self) -> bool:
        return self._busy_threads > 0

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self._busy_threads += 1
        future.add_done_callback(self._thread_done)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for the executor's threads. timeout: not heeded, its virtual seconds would pass before a thread ends."""
        self._busy_threads += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self._busy_threads -= 1

    def _thread_done(self, _: object) -> None:
        self._busy_threads -= 1


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualClockLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if self._loop.has_busy_threads or timeout is None:
            ready = super().select(_DEADLOCK_SECONDS)
            if not ready and timeout is None:
                raise DeadlockError("every task waits, and nothing is scheduled")
            return ready
        if self._loop.patience_seconds:
            ready = super().select(min(timeout, self._loop.patience_seconds))
            if ready:
                return ready
        self._loop.advance(timeout)
        return []


def run_virtual(scenario: Coroutine[Any, Any, T], *, patience_seconds: float = 0.0) -> T:
    """Run a coroutine on virtual time from 0 and return its result."""
    with asyncio.Runner(loop_factory=lambda: VirtualClockLoop(patience_seconds)) as runner:
        return runner.run(scenario)
