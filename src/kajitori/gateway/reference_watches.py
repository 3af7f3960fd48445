"""Secrets and ConfigMaps that our objects refer to (`kajitori.gateway.references`), each watched by itself: no other one of the
cluster is ever read.

RBAC cannot say "what is referred to", so the right is wider than its use; who wants it narrower names namespaces.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

from kajitori.control.cache import HasMetadata, Informer

if TYPE_CHECKING:
    from collections.abc import Callable

    from kajitori.api.resource import Resource
    from kajitori.control.runtime import Runtime

T = TypeVar("T", bound=HasMetadata)
ObjectKey = tuple[str, str]
# An object that cannot be read holds up the first plan that needs it no longer than this.
_PATIENCE_SECONDS = 3.0


class ReferenceWatches(Generic[T]):
    """Follows the objects of a kind that are wanted now. on_change: called when one of them changes."""

    def __init__(
        self, runtime: Runtime, resource: Resource, projection: type[T], on_change: Callable[[], None]
    ) -> None:
        self._runtime = runtime
        self._resource = resource
        self._projection = projection
        self._on_change = on_change
        self._informers: dict[ObjectKey, Informer[T]] = {}
        self._tasks: dict[ObjectKey, asyncio.Task[None]] = {}
        runtime.service(f"referenced {resource.plural}", self._end_with_the_process, everywhere=True)

    async def want(self, keys: set[ObjectKey]) -> None:
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

    def list(self) -> tuple[T, ...]:
        """Those that are there."""
        return tuple(item for informer in self._informers.values() for item in informer.list())

    def _follow(self, key: ObjectKey) -> Informer[T]:
        namespace, name = key
        informer = Informer(
            self._runtime.client, self._resource, self._projection, namespace=namespace, field_selector=f"metadata.name={name}",
            metrics=self._runtime.metrics,
        )  # fmt: skip
        informer.on_change(lambda old, new: self._on_change())
        self._informers[key] = informer
        self._tasks[key] = asyncio.create_task(
            informer.run(), name=f"{self._resource.plural} {namespace}/{name}"
        )
        return informer

    async def _end_with_the_process(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            tasks, self._tasks = list(self._tasks.values()), {}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
