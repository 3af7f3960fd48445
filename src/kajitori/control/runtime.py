"""The process that controllers run in: shared informers, controllers, services, leadership, an orderly end.

Rooms register what they need; `run` starts it in order: the endpoint, the informers, and, once they are synced
and this process leads, controllers and services. What writes nothing may run on every replica, leader or not.
When told to stop, no reconcile begins, those in progress end, then services, events, informers and the lease
follow. A service is a long-running coroutine that is no reconcile, such as a server; one that fails is started
again with a growing delay and touches nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar, cast

import msgspec

from kajitori.api.resource import Resource
from kajitori.base.clock import Clock, SystemClock
from kajitori.control.cache import HasMetadata, HasWholeMetadata, Indexers, Informer, Metadata
from kajitori.control.controller import Controller, Reconcile
from kajitori.control.endpoint import serve_endpoint
from kajitori.control.metrics import Metrics
from kajitori.control.queue import LONGEST_BACKOFF_SECONDS
from kajitori.kube.client import Client
from kajitori.kube.events import EventRecorder
from kajitori.kube.lease import LeaderElection

_log = logging.getLogger(__name__)

T = TypeVar("T", bound=HasMetadata)
_Service = tuple[str, Callable[[], Awaitable[None]]]

# Resource, projection, namespace, label selector, field selector, whether it is of the metadata only.
_Key = tuple[Resource, type[Any], str | None, str, str, bool]

_GRACE_SECONDS = 20.0
_LONGEST_SERVICE_BACKOFF_SECONDS = 30.0


class Runtime:
    """Everything that the controllers of one process share.

    seed: of all jitter; give it for a run that shall repeat exactly. election: None where the process is alone.
    endpoint: address of /metrics and /healthz (see `kajitori.control.endpoint`), empty for none.
    ready: set while the caches are filled, leader or not. leading: set while this process does what only one may.
    """

    def __init__(
        self,
        client: Client,
        *,
        clock: Clock | None = None,
        seed: int | None = None,
        election: LeaderElection | None = None,
        endpoint: str = "",
        metrics: Metrics | None = None,
        instance: str = "",
        grace_seconds: float = _GRACE_SECONDS,
    ) -> None:
        self.client = client
        self.clock: Clock = clock or SystemClock()
        self.random = random.Random(seed)
        self.metrics = metrics or Metrics()
        self.endpoint = endpoint
        self.ready = asyncio.Event()
        self.leading = asyncio.Event()
        self._also_ready: list[Callable[[], bool]] = []
        self._seeded = seed is not None
        self._election = election
        self._instance = instance
        self._grace_seconds = grace_seconds
        self._informers: dict[_Key, Informer[Any]] = {}
        self._required: list[Informer[Any]] = []
        self._controllers: list[Controller] = []
        self._services: list[_Service] = []
        # What runs whether this process leads or not.
        self._everywhere: tuple[list[Controller], list[_Service]] = ([], [])
        self._recorders: dict[str, EventRecorder] = {}
        self._informer_tasks: list[asyncio.Task[None]] | None = None

    def informer(
        self,
        resource: Resource,
        type: type[T],
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        indexers: Indexers[T] | None = None,
        metadata_only: bool = False,
        optional: bool = False,
    ) -> Informer[T]:
        """The informer of this resource and projection, shared by all who ask for the same.

        optional: the resource may not be served; controllers then start without it, and look at `has_synced`.
        """
        key = (resource, type, namespace, label_selector, field_selector, metadata_only)
        known = cast("Informer[T] | None", self._informers.get(key))
        if known is not None:
            known.add_indexers(indexers or {})
        else:
            known = Informer(
                self.client, resource, type, namespace=namespace, label_selector=label_selector,
                field_selector=field_selector, indexers=indexers, metadata_only=metadata_only,
                metrics=self.metrics, seed=self._next_seed(),
            )  # fmt: skip
            self._informers[key] = known
            if self._informer_tasks is not None:
                self._start_informer(known)
        if not optional and known not in self._required:
            self._required.append(known)
        return known

    def shared_informer(self, resource: Resource) -> Informer[HasWholeMetadata] | None:
        """One of those made so far that has all objects of the resource with their whole metadata, for who reads no more.

        What others ask for is watched already; a second watch would bring the same once more.
        """
        for key, informer in self._informers.items():
            if key[0] == resource and not any(key[2:5]) and _has_whole_metadata(key[1]):
                return informer
        return None

    def controller(
        self,
        name: str,
        reconcile: Reconcile,
        *,
        workers: int = 1,
        everywhere: bool = False,
        longest_backoff_seconds: float = LONGEST_BACKOFF_SECONDS,
    ) -> Controller:
        """A controller of this process; add what it watches with `watch`.

        everywhere: it writes nothing to the cluster, so it runs on every replica.
        """
        made = Controller(
            name,
            reconcile,
            workers=workers,
            metrics=self.metrics,
            longest_backoff_seconds=longest_backoff_seconds,
        )
        (self._everywhere[0] if everywhere else self._controllers).append(made)
        return made

    def service(self, name: str, run: Callable[[], Awaitable[None]], *, everywhere: bool = False) -> None:
        """A coroutine that runs beside the controllers, until it returns or is cancelled at the end."""
        (self._everywhere[1] if everywhere else self._services).append((name, run))

    def ready_when(self, holds: Callable[[], bool]) -> None:
        """One more condition of /readyz, beside filled caches."""
        self._also_ready.append(holds)

    def is_ready(self) -> bool:
        """What /readyz says."""
        return self.ready.is_set() and all(holds() for holds in self._also_ready)

    def recorder(self, component: str) -> EventRecorder:
        """The recorder of events of one component, shared."""
        recorder = self._recorders.get(component)
        if recorder is None:
            source = random.Random(self._next_seed())
            recorder = self._recorders[component] = EventRecorder(
                self.client, component, instance=self._instance, clock=self.clock,
                new_id=lambda: f"{source.getrandbits(64):016x}",
            )  # fmt: skip
        return recorder

    def _next_seed(self) -> int | None:
        return self.random.getrandbits(64) if self._seeded else None

    async def run(self, stop: asyncio.Event | None = None) -> None:
        """Run until `stop` is set or the task is cancelled. Raises LeadershipLost, or what a controller's own
        machinery (never a reconcile) raises.
        """
        stop = stop or asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            if self.endpoint:
                self.endpoint = await stack.enter_async_context(
                    serve_endpoint(self.endpoint, self.metrics.registry, self.is_ready)
                )
            stack.push_async_callback(self._close)
            self._informer_tasks = []
            for informer in self._informers.values():
                self._start_informer(informer)
            working = asyncio.ensure_future(self._work_when_due())
            stopping = asyncio.ensure_future(stop.wait())
            try:
                await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
                if not working.done():
                    await self._stop_gently(working)
                if working.done() and not working.cancelled():
                    working.result()
            finally:
                working.cancel()
                stopping.cancel()
                await asyncio.gather(working, stopping, return_exceptions=True)

    async def _work_when_due(self) -> None:
        for informer in list(self._required):
            await informer.synced()
        self.ready.set()
        working = [asyncio.ensure_future(self._work(*self._everywhere))] if any(self._everywhere) else []
        lead = self._lead if self._election is None else partial(self._election.lead, self._lead)
        working.append(asyncio.ensure_future(lead()))
        try:
            done, _ = await asyncio.wait(working, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            self.ready.clear()
            for task in working:
                task.cancel()
            await asyncio.gather(*working, return_exceptions=True)

    async def _lead(self) -> None:
        self.metrics.leader.set(1)
        self.leading.set()
        try:
            await self._work(self._controllers, self._services)
        finally:
            self.leading.clear()
            self.metrics.leader.set(0)

    async def _work(self, controllers: list[Controller], services: list[_Service]) -> None:
        serving = [asyncio.ensure_future(self._serve(name, service)) for name, service in services]
        try:
            async with asyncio.TaskGroup() as tasks:
                for controller in controllers:
                    tasks.create_task(controller.run(), name=controller.name)
            if not controllers:
                await asyncio.gather(*serving)
        finally:
            for service in serving:
                service.cancel()
            await asyncio.gather(*serving, return_exceptions=True)

    async def _serve(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        delay = 0.5
        while True:
            started = asyncio.get_running_loop().time()
            try:
                await run()
                return
            except Exception:
                if asyncio.get_running_loop().time() - started > _LONGEST_SERVICE_BACKOFF_SECONDS:
                    delay = 0.5
                _log.exception("service %s failed, again in %.1f s", name, delay)
            await asyncio.sleep(delay)
            delay = min(_LONGEST_SERVICE_BACKOFF_SECONDS, delay * 2)

    async def _stop_gently(self, working: asyncio.Future[None]) -> None:
        """Let reconciles in progress end; a runtime that was still waiting to lead just stops."""
        if not self.leading.is_set() or not self._controllers:
            return
        for controller in (*self._controllers, *self._everywhere[0]):
            controller.stop()
        _, pending = await asyncio.wait((working,), timeout=self._grace_seconds)
        if pending:
            _log.warning("reconciles still running after %.0f s are cut off", self._grace_seconds)

    def _start_informer(self, informer: Informer[Any]) -> None:
        assert self._informer_tasks is not None
        name = f"informer of {informer.resource.qualified_name}"
        self._informer_tasks.append(asyncio.get_running_loop().create_task(informer.run(), name=name))

    async def _close(self) -> None:
        for recorder in self._recorders.values():
            await recorder.close()
        tasks, self._informer_tasks = self._informer_tasks or [], None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _has_whole_metadata(projection: type[Any]) -> bool:
    return any(
        field.name == "metadata" and field.type is Metadata for field in msgspec.structs.fields(projection)
    )
