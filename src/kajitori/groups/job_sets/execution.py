"""Carries out a plan: requests in its order of kinds, so that a crash between any two of them is harmless.

First what pods depend on (Services, claims), then deletes, then all that is made or changed. An error of one request does
not keep the others of its kind from being tried.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import msgspec

from kajitori.api.jobset import v1alpha2 as v1
from kajitori.api.resource import JOB_SETS, JOBS, PERSISTENT_VOLUME_CLAIMS, SERVICES
from kajitori.base.errors import AlreadyExists, Conflict, NotFound
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
from kajitori.groups.job_sets.observed import Claim, Job, Service, World
from kajitori.groups.names_in_use import NamesInUse
from kajitori.groups.requests import Requests
from kajitori.kube.client import Client


class Informers(msgspec.Struct, frozen=True):
    """The caches that learn of what was done."""

    jobs: Informer[Job]
    services: Informer[Service]
    claims: Informer[Claim]


class Execution:
    """One plan of one set on its way."""

    def __init__(self, client: Client, informers: Informers, world: World, names: NamesInUse) -> None:
        self._client = client
        self._informers = informers
        self._world = world
        self._requests = Requests(
            client,
            world.namespace,
            world.uid,
            lambda name, holder: names.note(name, holder, world.now),
            found_by=(v1.JOB_SET_NAME, v1.REPLICATED_JOB_NAME, v1.JOB_INDEX),
        )

    async def carry_out(self, plan: Plan) -> None:
        """Raises the first error, when all was tried that could be."""
        needed, deletes, rest = _in_order(plan.actions)
        await self._requests.all(self._do, needed)
        self._requests.raise_first()
        await self._requests.all(self._do, deletes)
        await self._requests.all(self._do, rest)
        self._requests.raise_first()

    async def _do(self, action: Action) -> None:
        match action:
            case CreateJob(body):
                await self._requests.create(JOBS, body, Job, self._informers.jobs)
            case DeleteJob(job):
                # Its pods go first: the name is free only when they are gone.
                await self._requests.delete(JOBS, job, self._informers.jobs, "Foreground")
            case SuspendJob(job):
                await self._requests.patch(JOBS, job, {"spec": {"suspend": True}}, Job, self._informers.jobs)
            case ResumeJob(job, template):
                await self._resume(job, template)
            case CreateService(body):
                await self._requests.create(SERVICES, body, Service, self._informers.services)
            case MendService(service, spec):
                # In a merge patch only a null takes out what another writer put in.
                selector = dict.fromkeys(service.spec.selector) | spec["selector"]
                published = spec["publishNotReadyAddresses"]
                mended = {"spec": {"selector": selector, "publishNotReadyAddresses": published}}
                await self._requests.patch(SERVICES, service, mended, Service, self._informers.services)
            case CreateClaim(body):
                await self._create_claim(body)
            case DeleteSet():
                await self._delete_set()

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
            if not await self._requests.patch(
                JOBS, job, forgotten, Job, self._informers.jobs, subresource="status"
            ):
                return
        spec: dict[str, Any] = {"suspend": False}
        if template is not None:
            spec["template"] = template
        await self._requests.patch(JOBS, job, {"spec": spec}, Job, self._informers.jobs)

    async def _delete_set(self) -> None:
        with contextlib.suppress(NotFound, Conflict):
            await self._client.delete(
                JOB_SETS,
                self._world.name,
                self._world.namespace,
                preconditions_uid=self._world.uid,
                propagation_policy="Foreground",
            )


def _in_order(actions: Sequence[Action]) -> tuple[list[Action], list[Action], list[Action]]:
    """What pods depend on, deletes, and the rest."""
    needed: list[Action] = []
    deletes: list[Action] = []
    rest: list[Action] = []
    for action in actions:
        if isinstance(action, CreateService | MendService | CreateClaim):
            needed.append(action)
        elif isinstance(action, DeleteJob):
            deletes.append(action)
        else:
            rest.append(action)
    return needed, deletes, rest
