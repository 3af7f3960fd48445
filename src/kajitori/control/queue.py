"""The work queue: keys that need a look, each at most once, however often it is asked for.

A key that is added while somebody works on it is remembered and comes again when that work is done; two workers
never have the same key. Keys leave in the order in which they came, so a busy key cannot starve the others. A
failing key comes back after a delay of its own that doubles from 5 ms to 1,000 s until it is forgotten.

Meaning as in client-go's workqueue; all waiting goes through the event loop, so virtual time holds for it.
"""

from __future__ import annotations

import asyncio
import collections
import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

from kajitori.control.metrics import Metrics

K = TypeVar("K", bound=Hashable)

FIRST_BACKOFF_SECONDS = 0.005
LONGEST_BACKOFF_SECONDS = 1000.0
# 2**40 times the first delay is beyond any longest one; larger exponents only cost time.
_MOST_DOUBLINGS = 40


class QueueClosed(Exception):
    """There is no more work: the worker shall end."""


class WorkQueue(Generic[K]):
    """One controller's queue. Belongs to one event loop; not for use from other threads."""

    def __init__(
        self,
        name: str,
        *,
        metrics: Metrics | None = None,
        first_backoff_seconds: float = FIRST_BACKOFF_SECONDS,
        longest_backoff_seconds: float = LONGEST_BACKOFF_SECONDS,
    ) -> None:
        self.name = name
        self._first_backoff_seconds = first_backoff_seconds
        self._longest_backoff_seconds = longest_backoff_seconds
        self._ready: collections.deque[K] = collections.deque()
        self._dirty: dict[K, float] = {}  # key to the time it became so
        self._processing: dict[K, float] = {}
        self._failures: dict[K, int] = {}
        self._delayed: dict[K, float] = {}
        self._timeline: list[tuple[float, int, K]] = []
        self._sequence = 0
        self._timer: asyncio.Handle | None = None
        self._timer_due = 0.0
        self._waiters: collections.deque[asyncio.Future[None]] = collections.deque()
        self._closed = False
        self._metrics = metrics
        if metrics is not None:
            self._observe(metrics)

    def _observe(self, metrics: Metrics) -> None:
        name = self.name
        metrics.queue_depth.labels(name).set_function(lambda: len(self._ready))
        metrics.unfinished_seconds.labels(name).set_function(lambda: sum(self._running_seconds()))
        metrics.longest_running_seconds.labels(name).set_function(
            lambda: max(self._running_seconds(), default=0.0)
        )
        self._adds = metrics.queue_adds.labels(name)
        self._retries = metrics.queue_retries.labels(name)
        self._queue_seconds = metrics.queue_seconds.labels(name)
        self._work_seconds = metrics.work_seconds.labels(name)

    def _running_seconds(self) -> list[float]:
        if not self._processing:
            return []
        now = asyncio.get_running_loop().time()
        return [now - since for since in self._processing.values()]

    def __len__(self) -> int:
        """Keys ready to be taken."""
        return len(self._ready)

    @property
    def idle(self) -> bool:
        """Nothing ready and nothing being worked on; delayed keys may be waiting."""
        return not self._ready and not self._processing

    def add(self, key: K) -> None:
        """Ask for a look at `key` as soon as possible."""
        if self._closed or key in self._dirty:
            return
        self._dirty[key] = asyncio.get_running_loop().time()
        if self._metrics is not None:
            self._adds.inc()
        if key not in self._processing:
            self._ready.append(key)
            self._wake_one()

    def add_after(self, key: K, seconds: float) -> None:
        """Ask for a look after so many seconds; of several delays of a key, the earliest holds."""
        if self._closed:
            return
        if seconds <= 0:
            self.add(key)
            return
        due = asyncio.get_running_loop().time() + seconds
        if self._delayed.get(key, float("inf")) <= due:
            return
        self._delayed[key] = due
        self._sequence += 1
        heapq.heappush(self._timeline, (due, self._sequence, key))
        self._set_timer()

    def add_rate_limited(self, key: K) -> float:
        """Ask for a look after the key's back-off, which doubles each time; returns the delay in seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(
            self._longest_backoff_seconds, self._first_backoff_seconds * 2.0 ** min(failures, _MOST_DOUBLINGS)
        )
        if self._metrics is not None:
            self._retries.inc()
        self.add_after(key, delay)
        return delay

    def forget(self, key: K) -> None:
        """The key is well again: its next back-off starts small."""
        self._failures.pop(key, None)

    def failures(self, key: K) -> int:
        """How often in a row the key was added with back-off."""
        return self._failures.get(key, 0)

    async def get(self) -> K:
        """The next key, to be given back with `done`. Raises QueueClosed."""
        loop = asyncio.get_running_loop()
        while not self._ready:
            if self._closed:
                raise QueueClosed
            waiter: asyncio.Future[None] = loop.create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled() and self._ready:
                    self._wake_one()
                raise
        if self._closed:
            raise QueueClosed
        key = self._ready.popleft()
        now = loop.time()
        since = self._dirty.pop(key)
        self._processing[key] = now
        if self._metrics is not None:
            self._queue_seconds.observe(now - since)
        return key

    def done(self, key: K) -> None:
        """The work on the key has ended, well or not; if it was asked for meanwhile, it comes again."""
        since = self._processing.pop(key)
        if self._metrics is not None:
            self._work_seconds.observe(asyncio.get_running_loop().time() - since)
        if key in self._dirty:
            self._ready.append(key)
            self._wake_one()

    def close(self) -> None:
        """No key is given out any more; `get` raises QueueClosed, work in progress may still be `done`."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._delayed.clear()
        self._timeline.clear()
        while self._waiters:
            self._wake_one()

    def _wake_one(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _set_timer(self) -> None:
        """One timer for the earliest delayed key, however many there are."""
        due = self._timeline[0][0]
        if self._timer is not None:
            if self._timer_due <= due:
                return
            self._timer.cancel()
        # Noted here: for less than half a millisecond uvloop gives a handle that does not know its time.
        self._timer_due = due
        self._timer = asyncio.get_running_loop().call_at(due, self._release_due)

    def _release_due(self) -> None:
        self._timer = None
        # A timer may fire a clock tick early: count what is due within a millisecond.
        now = asyncio.get_running_loop().time() + 0.001
        while self._timeline and self._timeline[0][0] <= now:
            due, _, key = heapq.heappop(self._timeline)
            if self._delayed.get(key) == due:
                del self._delayed[key]
                self.add(key)
        if self._timeline:
            self._set_timer()
