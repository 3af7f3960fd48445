"""The Secrets that policies refer to, each watched by itself: no other Secret of the cluster is ever read.

RBAC cannot say "what is referred to", so the right is wider than its use; who wants it narrower names namespaces.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kajitori.api.kubernetes.core_v1 import Secret
from kajitori.api.resource import SECRETS
from kajitori.control.cache import Informer

if TYPE_CHECKING:
    from collections.abc import Callable

    from kajitori.control.runtime import Runtime

SecretKey = tuple[str, str]
# A Secret that cannot be read holds up the first plan that needs it no longer than this.
_PATIENCE_SECONDS = 3.0


class ReferencedSecrets:
    """Follows the Secrets that are wanted now. on_change: called when one of them changes."""

    def __init__(self, runtime: Runtime, on_change: Callable[[], None]) -> None:
        self._runtime = runtime
        self._on_change = on_change
        self._informers: dict[SecretKey, Informer[Secret]] = {}
        self._tasks: dict[SecretKey, asyncio.Task[None]] = {}
        runtime.service("referenced secrets", self._end_with_the_process, everywhere=True)

    async def want(self, keys: set[SecretKey]) -> None:
        """Follow exactly these; returns when the new ones have been read, or cannot be."""
        for key in self._tasks.keys() - keys:
            self._tasks.pop(key).cancel()
            del self._informers[key]
        fresh = [self._follow(key) for key in sorted(keys - self._tasks.keys())]
        if fresh:
            waiting = [asyncio.ensure_future(informer.synced()) for informer in fresh]
            _, late = await asyncio.wait(waiting, timeout=_PATIENCE_SECONDS)
            for task in late:
                task.cancel()

    def list(self) -> tuple[Secret, ...]:
        """Those that are there."""
        return tuple(secret for informer in self._informers.values() for secret in informer.list())

    def _follow(self, key: SecretKey) -> Informer[Secret]:
        namespace, name = key
        informer = Informer(
            self._runtime.client, SECRETS, Secret, namespace=namespace, field_selector=f"metadata.name={name}",
            metrics=self._runtime.metrics,
        )  # fmt: skip
        informer.on_change(lambda old, new: self._on_change())
        self._informers[key] = informer
        self._tasks[key] = asyncio.create_task(informer.run(), name=f"secret {namespace}/{name}")
        return informer

    async def _end_with_the_process(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            tasks, self._tasks = list(self._tasks.values()), {}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
