"""Carries out a plan: requests in its order of kinds, so that a crash between any two of them is harmless.

First what pods depend on (Services, claims), then deletes, then all that is made or changed, at most so many requests
at once. What the server answers goes into the cache straight away, so that the next plan knows of it. An error of one
request does not keep the others from being tried; the first is raised at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any

import msgspec

from kajitori.api.resource import JOB_SETS, JOBS, PERSISTENT_VOLUME_CLAIMS, SERVICES, Resource
from kajitori.base.errors import AlreadyExists, Conflict, KajitoriError, NotFound
from kajitori.control.cache import Informer
from kajitori.groups.job_sets.actions import (
    Action,
    CreateClaim,
    CreateJob,
    CreateService,
    DeleteJob,
    DeleteSet,
    MendService,
    Plan,
    ResumeJob,
    SuspendJob,
)
from kajitori.groups.job_sets.memory import Memory
from kajitori.groups.job_sets.observed import Claim, Job, Service, World
from kajitori.kube.client import Client

REQUESTS_AT_ONCE = 32


class Informers(msgspec.Struct, frozen=True):
    """The caches that learn of what was done."""

    jobs: Informer[Job]
    services: Informer[Service]
    claims: Informer[Claim]


class Execution:
    """One plan of one set on its way."""

    def __init__(self, client: Client, informers: Informers, world: World, memory: Memory) -> None:
        self._client = client
        self._informers = informers
        self._world = world
        self._memory = memory
        self._limit = asyncio.Semaphore(REQUESTS_AT_ONCE)
        self._errors: list[KajitoriError] = []

    async def carry_out(self, plan: Plan) -> None:
        """Raises the first error, when all was tried that could be."""
        needed = (CreateService, MendService, CreateClaim)
        await self._all(action for action in plan.actions if isinstance(action, needed))
        self._raise_first()
        await self._all(action for action in plan.actions if isinstance(action, DeleteJob))
        rest = (*needed, DeleteJob)
        await self._all(action for action in plan.actions if not isinstance(action, rest))
        self._raise_first()

    async def _all(self, actions: Iterable[Action]) -> None:
        async with asyncio.TaskGroup() as tasks:
            for action in actions:
                tasks.create_task(self._try(action))

    async def _try(self, action: Action) -> None:
        async with self._limit:
            try:
                await self._do(action)
            except KajitoriError as error:
                self._errors.append(error)

    def _raise_first(self) -> None:
        if self._errors:
            raise self._errors[0]

    async def _do(self, action: Action) -> None:
        match action:
            case CreateJob(body):
                await self._create(JOBS, body, Job, self._informers.jobs)
            case DeleteJob(job):
                await self._delete(job)
            case SuspendJob(job):
                await self._patch(JOBS, job, {"spec": {"suspend": True}}, Job, self._informers.jobs)
            case ResumeJob(job, template):
                await self._resume(job, template)
            case CreateService(body):
                await self._create(SERVICES, body, Service, self._informers.services)
            case MendService(service, spec):
                # In a merge patch only a null takes out what another writer put in.
                selector = dict.fromkeys(service.spec.selector) | spec["selector"]
                published = spec["publishNotReadyAddresses"]
                mended = {"spec": {"selector": selector, "publishNotReadyAddresses": published}}
                await self._patch(SERVICES, service, mended, Service, self._informers.services)
            case CreateClaim(body):
                await self._create_claim(body)
            case DeleteSet():
                await self._delete_set()

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
        """The name is in use: by ourselves, so that the cache is late, or by somebody else."""
        try:
            held = await self._client.get(resource, name, self._world.namespace, type=kind)
        except NotFound as gone:
            raise Conflict(f"{resource.kind} {name} was there a moment ago", reason="Conflict") from gone
        owner = held.metadata.controller
        if owner is not None and owner.uid == self._world.uid:
            informer.remember(held)
            return
        holder = f"of {owner.kind} {owner.name}" if owner else "of somebody else"
        self._memory.note_taken(f"{resource.kind} {name}", holder, self._world.now)

    async def _create_claim(self, body: dict[str, Any]) -> None:
        # One that is there already is used, whoever made it: claims that are kept outlive their sets.
        try:
            made = await self._client.create(PERSISTENT_VOLUME_CLAIMS, body, type=Claim)
        except AlreadyExists:
            name = body["metadata"]["name"]
            with contextlib.suppress(NotFound):
                made = await self._client.get(
                    PERSISTENT_VOLUME_CLAIMS, name, self._world.namespace, type=Claim
                )
                self._informers.claims.remember(made)
            return
        self._informers.claims.remember(made)

    async def _resume(self, job: Job, template: dict[str, Any] | None) -> None:
        if template is not None and job.status.start_time is not None:
            # A Job that has been started keeps its template.
            forgotten = {"status": {"startTime": None}}
            if not await self._patch(JOBS, job, forgotten, Job, self._informers.jobs, subresource="status"):
                return
        spec: dict[str, Any] = {"suspend": False}
        if template is not None:
            spec["template"] = template
        await self._patch(JOBS, job, {"spec": spec}, Job, self._informers.jobs)

    async def _patch(
        self,
        resource: Resource,
        obj: Job | Service,
        patch: dict[str, Any],
        kind: type[Any],
        informer: Informer[Any],
        *,
        subresource: str | None = None,
    ) -> bool:
        """Whether it was changed. Not if it is gone or was replaced: the watch will tell, and the next plan sees it."""
        # With its uid in the patch, an object that was deleted and made again is not taken for the one we saw.
        patch = {**patch, "metadata": {"uid": obj.metadata.uid}}
        try:
            changed = await self._client.patch(
                resource,
                obj.metadata.name,
                patch,
                namespace=obj.metadata.namespace,
                subresource=subresource,
                type=kind,
            )
        except (NotFound, Conflict):
            return False
        informer.remember(changed)
        return True

    async def _delete(self, job: Job) -> None:
        """Its pods go first: the name is free only when they are gone."""
        try:
            lingering = await self._client.delete(
                JOBS,
                job.name,
                job.metadata.namespace,
                preconditions_uid=job.metadata.uid,
                propagation_policy="Foreground",
            )
        except (NotFound, Conflict):
            lingering = None
        if lingering is None:
            self._informers.jobs.forget(job)
        else:
            self._informers.jobs.remember(msgspec.convert(lingering, Job))

    async def _delete_set(self) -> None:
        with contextlib.suppress(NotFound, Conflict):
            await self._client.delete(
                JOB_SETS,
                self._world.name,
                self._world.namespace,
                preconditions_uid=self._world.uid,
                propagation_policy="Foreground",
            )
