"""A controller: objects change, keys are queued, a reconcile gets a key and makes the world fit.

A reconcile never learns which event brought its key; it reads the cache and decides anew. It returns `Done` (or
nothing), or `After(seconds)` to be called again though nothing changes. `Terminal` is logged and counted and not
tried again until the object changes; any other error brings the key back with a growing delay. An error in one
reconcile, foreseen or not, touches no other key.

Source of the meaning: controller-runtime, `pkg/reconcile`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from kajitori.base.errors import Conflict, KajitoriError, Terminal
from kajitori.control.cache import HasMetadata, Informer
from kajitori.control.keys import Key, keys_of_owner, own_key
from kajitori.control.logs import reconcile_context
from kajitori.control.metrics import Metrics
from kajitori.control.queue import LONGEST_BACKOFF_SECONDS, QueueClosed, WorkQueue

__all__ = ["After", "Controller", "Done", "Key", "Reconcile", "Result", "keys_of_owner", "own_key"]

_log = logging.getLogger(__name__)

T = TypeVar("T", bound=HasMetadata)


@dataclasses.dataclass(frozen=True)
class Done:
    """Nothing more to do until something changes."""


@dataclasses.dataclass(frozen=True)
class After:
    """Look again after so many seconds."""

    seconds: float


Result = Done | After | None
Reconcile = Callable[[Key], Awaitable[Result]]


class Controller:
    """One reconcile function, its queue and its workers.

    workers: how many keys at once; never the same key twice. longest_backoff_seconds: a key that fails again and again
    is tried at least so often.
    """

    def __init__(
        self,
        name: str,
        reconcile: Reconcile,
        *,
        workers: int = 1,
        metrics: Metrics | None = None,
        longest_backoff_seconds: float = LONGEST_BACKOFF_SECONDS,
    ) -> None:
        self.name = name
        metrics = metrics or Metrics()
        self.queue: WorkQueue[Key] = WorkQueue(
            name, metrics=metrics, longest_backoff_seconds=longest_backoff_seconds
        )
        self._reconcile = reconcile
        self._workers = workers
        self._reconciles = metrics.reconciles
        self._seconds = metrics.reconcile_seconds.labels(name)
        self._active = metrics.active_workers.labels(name)
        self._panics = metrics.panics.labels(name)

    def watch(
        self,
        informer: Informer[T],
        key_of: Callable[[T], Iterable[Key]] = own_key,
        *,
        when: Callable[[T | None, T | None], bool] | None = None,
    ) -> None:
        """Queue the keys of each object that changes, of what it was as well as of what it is.

        when: given (old, new), says whether the change matters; all do by default.
        """

        def on_change(old: T | None, new: T | None) -> None:
            if when is not None and not when(old, new):
                return
            for obj in (old, new):
                if obj is not None:
                    for key in key_of(obj):
                        self.queue.add(key)

        informer.on_change(on_change)

    def enqueue(self, key: Key) -> None:
        """Ask for a reconcile from elsewhere."""
        self.queue.add(key)

    async def run(self) -> None:
        """Work until `stop`; returns when the reconciles in progress have ended."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(self._workers):
                tasks.create_task(self._work(), name=f"{self.name}-{number}")

    def stop(self) -> None:
        """Begin no further reconcile."""
        self.queue.close()

    async def _work(self) -> None:
        while True:
            try:
                key = await self.queue.get()
            except QueueClosed:
                return
            started = asyncio.get_running_loop().time()
            self._active.inc()
            try:
                with reconcile_context(self.name, str(key)):
                    result = await self._handle(key)
            finally:
                self._active.dec()
                self.queue.done(key)
            self._seconds.observe(asyncio.get_running_loop().time() - started)
            self._reconciles.labels(self.name, result).inc()

    async def _handle(self, key: Key) -> str:
        """Reconcile one key and decide when it comes again; returns the result's label."""
        try:
            result = await self._reconcile(key)
        except Terminal as error:
            _log.error("gave up until the object changes: %s", error)
            self.queue.forget(key)
            return "terminal"
        except Conflict as error:
            # The ordinary outcome of working from a cache that is a little late.
            delay = self.queue.add_rate_limited(key)
            _log.debug("conflict, again in %.3f s: %s", delay, error)
            return "conflict"
        except KajitoriError as error:
            delay = self.queue.add_rate_limited(key)
            _log.warning("failed, again in %.3f s: %s", delay, error)
            return "error"
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Something inside was cancelled, not this worker.
            self.queue.add_rate_limited(key)
            return "error"
        except Exception:
            self._panics.inc()
            delay = self.queue.add_rate_limited(key)
            _log.exception("failed in a way nobody had foreseen, again in %.3f s", delay)
            return "error"
        self.queue.forget(key)
        if isinstance(result, After):
            self.queue.add_after(key, result.seconds)
            return "after"
        return "done"
