"""Carries out a plan: one stage after another, the requests of a stage side by side.

An error of one request does not keep the others of its stage from being tried, but later stages from being begun; the
first error is raised.
"""

from __future__ import annotations

import msgspec

from kajitori.api.leaderworkerset.v1 import LeaderWorkerSet
from kajitori.api.resource import (
    DISAGGREGATED_SET_ROLE_SCALERS,
    LEADER_WORKER_SETS,
    SERVICES,
)
from kajitori.base.errors import AlreadyExists, Conflict
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
from kajitori.groups.disaggregated_sets.observed import Body, Scaler, Service, World
from kajitori.groups.names_in_use import NamesInUse
from kajitori.groups.requests import Requests
from kajitori.kube.client import Client


class Informers(msgspec.Struct, frozen=True):
    """The caches that learn of what was done."""

    leader_worker_sets: Informer[LeaderWorkerSet]
    services: Informer[Service]
    scalers: Informer[Scaler]


class Execution:
    """One plan of one set on its way."""

    def __init__(self, client: Client, informers: Informers, world: World, names: NamesInUse) -> None:
        self._client = client
        self._informers = informers
        self._requests = Requests(
            client,
            world.set.namespace,
            world.set.uid,
            lambda name, holder: names.note(name, holder, world.now),
        )

    async def carry_out(self, plan: Plan) -> None:
        """Raises the first error of the first stage that had one."""
        for stage in plan.stages:
            await self._requests.all(self._do, stage)
            self._requests.raise_first()

    async def _do(self, action: Action) -> None:
        caches = self._informers
        match action:
            case CreateSet(body):
                await self._requests.create(
                    LEADER_WORKER_SETS, body, LeaderWorkerSet, caches.leader_worker_sets
                )
            case ChangeSet(child, patch):
                await self._requests.patch(
                    LEADER_WORKER_SETS, child.lws, patch, LeaderWorkerSet, caches.leader_worker_sets
                )
            case DeleteSet(child):
                await self._requests.delete(LEADER_WORKER_SETS, child.lws, caches.leader_worker_sets)
            case CreateService(body):
                await self._requests.create(SERVICES, body, Service, caches.services)
            case MendService(service, selector):
                # In a merge patch only a null takes out what another writer put in.
                spec = {"selector": dict.fromkeys(service.spec.selector) | selector}
                await self._requests.patch(SERVICES, service, {"spec": spec}, Service, caches.services)
            case DeleteService(service):
                await self._requests.delete(SERVICES, service, caches.services)
            case CreateScaler(_, body):
                await self._create_scaler(body)
            case DeleteScaler(_, scaler):
                await self._requests.delete(DISAGGREGATED_SET_ROLE_SCALERS, scaler, caches.scalers)
            case TellScaler(scaler, status):
                patch = {"status": {"replicas": 0, **msgspec.to_builtins(status)}}
                await self._requests.patch(
                    DISAGGREGATED_SET_ROLE_SCALERS,
                    scaler,
                    patch,
                    Scaler,
                    caches.scalers,
                    subresource="status",
                )

    async def _create_scaler(self, body: Body) -> None:
        try:
            made = await self._client.create(DISAGGREGATED_SET_ROLE_SCALERS, body, type=Scaler)
        except AlreadyExists as error:
            # All of them are in the cache, whosever they are: it is late.
            name = body["metadata"]["name"]
            raise Conflict(f"scaler {name} is not known yet", reason="AlreadyExists") from error
        self._informers.scalers.remember(made)
