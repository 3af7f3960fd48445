"""Carries out a plan: one stage after another, the requests of a stage side by side.

What the server answers goes into the cache straight away, so that the next plan knows of it. An error of one request
does not keep the others of its stage from being tried, but later stages from being begun; the first error is raised.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from kajitori.api.kubernetes.meta_v1 import ObjectMeta
from kajitori.api.leaderworkerset.v1 import LeaderWorkerSet
from kajitori.api.resource import (
    DISAGGREGATED_SET_ROLE_SCALERS,
    LEADER_WORKER_SETS,
    SERVICES,
    Resource,
)
from kajitori.base.errors import AlreadyExists, Conflict, KajitoriError, NotFound
from kajitori.control.cache import Informer
from kajitori.groups.disaggregated_sets.actions import (
    Action,
    ChangeSet,
    CreateScaler,
    CreateService,
    CreateSet,
    DeleteScaler,
    DeleteService,
    DeleteSet,
    MendService,
    Plan,
    TellScaler,
)
from kajitori.groups.disaggregated_sets.observed import (
    PartialMetadata,
    Scaler,
    Service,
    World,
    controlled_by,
    holder_of,
)
from kajitori.kube.client import Client

REQUESTS_AT_ONCE = 16
TAKEN_SECONDS = 30.0


class Informers(msgspec.Struct, frozen=True):
    """The caches that learn of what was done."""

    leader_worker_sets: Informer[LeaderWorkerSet]
    services: Informer[Service]
    scalers: Informer[Scaler]


class Taken:
    """Names of one set that a create found in use, and whose they are; for a while, and lost with the process."""

    def __init__(self) -> None:
        self._names: dict[str, tuple[str, float]] = {}

    def note(self, name: str, holder: str, now: float) -> None:
        """name: such as `Service x-0-12345678-prefill-prv`. now: seconds since 1970."""
        self._names[name] = (holder, now + TAKEN_SECONDS)

    def has(self, name: str) -> bool:
        return name in self._names

    def fresh(self, now: float) -> dict[str, str]:
        self._names = {name: entry for name, entry in self._names.items() if entry[1] > now}
        return {name: holder for name, (holder, _) in self._names.items()}


class Execution:
    """One plan of one set on its way."""

    def __init__(self, client: Client, informers: Informers, world: World, taken: Taken) -> None:
        self._client = client
        self._informers = informers
        self._world = world
        self._taken = taken
        self._limit = asyncio.Semaphore(REQUESTS_AT_ONCE)
        self._errors: list[KajitoriError] = []

    async def carry_out(self, plan: Plan) -> None:
        """Raises the first error of the first stage that had one."""
        for stage in plan.stages:
            async with asyncio.TaskGroup() as tasks:
                for action in stage:
                    tasks.create_task(self._try(action))
            if self._errors:
                raise self._errors[0]

    async def _try(self, action: Action) -> None:
        async with self._limit:
            try:
                await self._do(action)
            except KajitoriError as error:
                self._errors.append(error)

    async def _do(self, action: Action) -> None:
        caches = self._informers
        match action:
            case CreateSet(body):
                await self._create(LEADER_WORKER_SETS, body, LeaderWorkerSet, caches.leader_worker_sets)
            case ChangeSet(child, patch):
                await self._patch(
                    LEADER_WORKER_SETS, child.lws.metadata, patch, LeaderWorkerSet, caches.leader_worker_sets
                )
            case DeleteSet(child):
                await self._delete(
                    LEADER_WORKER_SETS, child.lws, child.lws.metadata, caches.leader_worker_sets
                )
            case CreateService(body):
                await self._create(SERVICES, body, Service, caches.services)
            case MendService(service, selector):
                # In a merge patch only a null takes out what another writer put in.
                spec = {"selector": dict.fromkeys(service.spec.selector) | selector}
                await self._patch(SERVICES, service.metadata, {"spec": spec}, Service, caches.services)
            case DeleteService(service):
                await self._delete(SERVICES, service, service.metadata, caches.services)
            case CreateScaler(_, body):
                await self._create(DISAGGREGATED_SET_ROLE_SCALERS, body, Scaler, caches.scalers)
            case DeleteScaler(_, scaler):
                await self._delete(DISAGGREGATED_SET_ROLE_SCALERS, scaler, scaler.metadata, caches.scalers)
            case TellScaler(scaler, status):
                patch = {"status": {"replicas": 0, **msgspec.to_builtins(status)}}
                await self._patch(
                    DISAGGREGATED_SET_ROLE_SCALERS, scaler.metadata, patch, Scaler, caches.scalers, "status"
                )

    async def _create(
        self, resource: Resource, body: dict[str, Any], kind: type[Any], informer: Informer[Any]
    ) -> None:
        try:
            made = await self._client.create(resource, body, type=kind)
        except AlreadyExists:
            await self._look_at_holder(resource, body["metadata"]["name"], kind, informer)
            return
        informer.remember(made)

    async def _look_at_holder(
        self, resource: Resource, name: str, kind: type[Any], informer: Informer[Any]
    ) -> None:
        """The name is in use: by the set itself, so that the cache is late, or by somebody else."""
        if resource is DISAGGREGATED_SET_ROLE_SCALERS:
            # All of them are in the cache, whosever they are.
            raise Conflict(f"{resource.kind} {name} is not known yet", reason="AlreadyExists")
        try:
            held = await self._client.get(resource, name, self._world.set.namespace, type=kind)
        except NotFound as gone:
            raise Conflict(f"{resource.kind} {name} was there a moment ago", reason="Conflict") from gone
        if controlled_by(held.metadata, self._world.set.uid):
            informer.remember(held)
        else:
            self._taken.note(f"{resource.kind} {name}", holder_of(held.metadata), self._world.now)

    async def _patch(
        self,
        resource: Resource,
        metadata: ObjectMeta | PartialMetadata,
        patch: dict[str, Any],
        kind: type[Any],
        informer: Informer[Any],
        subresource: str | None = None,
    ) -> None:
        # With its uid in the patch, an object that was deleted and made again is not taken for the one we saw.
        patch = {**patch, "metadata": {**patch.get("metadata", {}), "uid": metadata.uid}}
        try:
            changed = await self._client.patch(
                resource,
                metadata.name or "",
                patch,
                namespace=metadata.namespace,
                subresource=subresource,
                type=kind,
            )
        except (NotFound, Conflict):
            # Gone or replaced: the watch will tell, and the next plan sees it.
            return
        informer.remember(changed)

    async def _delete(
        self, resource: Resource, obj: Any, metadata: ObjectMeta | PartialMetadata, informer: Informer[Any]
    ) -> None:
        try:
            lingers = await self._client.delete(
                resource, metadata.name or "", metadata.namespace, preconditions_uid=metadata.uid
            )
        except (NotFound, Conflict):
            # Gone, or another object has the name now.
            return
        if lingers is None:
            informer.forget(obj)
