"""The ReplicaSet controller: reads the cache, follows its plan, creates and deletes pods, writes status.

Pods that it creates or deletes are put into the cache at once, so that a late watch never makes it do it twice.
"""

from __future__ import annotations

import asyncio

import msgspec

from kajitori.api.resource import PODS, REPLICA_SETS
from kajitori.base.errors import ApiError, NotFound
from kajitori.control.cache import Informer
from kajitori.control.controller import After, Key, Result, keys_of_owner
from kajitori.control.runtime import Runtime
from kajitori.laptop.controllers import ownership
from kajitori.laptop.controllers.amounts import status_patch
from kajitori.laptop.controllers.ownership import would_adopt
from kajitori.laptop.controllers.pod_writes import PodWrites
from kajitori.laptop.controllers.pods import (
    PODS_BY_CONTROLLER,
    claim_pods,
    controller_index,
    pod_of_template,
    seconds_until_available,
)
from kajitori.laptop.controllers.replica_sets.plan import plan_scaling, plan_status
from kajitori.laptop.controllers.views import PodView, ReplicaSetView

COMPONENT = "replicaset-controller"
# A look costs in proportion to the pods, and each of many pods asks for one: with so many seconds between looks
# for each pod, the cost of a thousand pods becoming ready stays a thousand times that of one.
_SECONDS_A_POD = 2e-4
_SHORTEST_WAIT_SECONDS = 0.01


class ReplicaSets:
    """Reconciles one ReplicaSet at a time."""

    def __init__(self, runtime: Runtime) -> None:
        self._client = runtime.client
        self._clock = runtime.clock
        self._looked: dict[Key, float] = {}
        self._sets: Informer[ReplicaSetView] = runtime.informer(
            REPLICA_SETS, ReplicaSetView, indexers={PODS_BY_CONTROLLER: controller_index}
        )
        self._pods: Informer[PodView] = runtime.informer(
            PODS, PodView, indexers={PODS_BY_CONTROLLER: controller_index}
        )
        self._writes = PodWrites(self._client, self._pods, runtime.recorder(COMPONENT))
        controller = runtime.controller("replicaset", self.reconcile, workers=4)
        controller.watch(self._sets)
        controller.watch(self._pods, keys_of_owner("ReplicaSet", "apps"))
        controller.watch(self._pods, self._may_adopt, when=lambda old, new: new is not None)

    def _may_adopt(self, pod: PodView) -> list[Key]:
        return would_adopt(self._sets.list(pod.metadata.namespace), pod)

    async def reconcile(self, key: Key) -> Result:
        replica_set = self._sets.get(*key)
        if replica_set is None:
            self._looked.pop(key, None)
            return None
        now = asyncio.get_running_loop().time()
        wait = self._looked.get(key, float("-inf")) + replica_set.status.replicas * _SECONDS_A_POD - now
        if wait > _SHORTEST_WAIT_SECONDS:
            return After(wait)
        self._looked[key] = now
        return await self._sync(replica_set)

    async def _sync(self, replica_set: ReplicaSetView) -> Result:
        mine = await self._claim(replica_set)
        failure, problem = "", None
        if replica_set.metadata.deletion_timestamp is None:
            try:
                mine = await self._scale(replica_set, mine)
            except ApiError as error:
                failure, problem = error.message, error
        await self._write_status(replica_set, mine, failure)
        if problem is not None:
            raise problem
        wait = seconds_until_available(mine, replica_set.spec.min_ready_seconds, self._clock.now())
        return After(wait + 0.05) if wait is not None else None

    async def _claim(self, replica_set: ReplicaSetView) -> list[PodView]:
        uid, namespace = replica_set.metadata.uid, replica_set.metadata.namespace
        candidates = self._pods.by_index(PODS_BY_CONTROLLER, uid)
        candidates += self._pods.by_index(PODS_BY_CONTROLLER, f"none/{namespace}")
        claims = claim_pods(
            replica_set, replica_set.spec.selector, candidates, adoptable=lambda pod: pod.is_active
        )
        for pod in claims.release:
            await ownership.release(self._client, PODS, pod, uid)
        mine = claims.mine
        if claims.adopt and await ownership.still_there(self._client, REPLICA_SETS, replica_set):
            for pod in claims.adopt:
                adopted = msgspec.convert(
                    await ownership.adopt(self._client, PODS, pod, replica_set), PodView
                )
                self._pods.remember(adopted)
                mine.append(adopted)
        return mine

    async def _scale(self, replica_set: ReplicaSetView, mine: list[PodView]) -> list[PodView]:
        """Create or delete what is missing or too much; returns the pods as they are then."""
        scaling = plan_scaling(replica_set, mine, self._related(replica_set, mine), self._clock.now())
        for _ in range(scaling.create):
            pod = await self._create(replica_set)
            mine = [*mine, pod]
        for pod in scaling.delete:
            lingering = await self._writes.delete(replica_set, pod)
            mine = [other for other in mine if other.metadata.uid != pod.metadata.uid]
            if lingering is not None:
                mine.append(lingering)
        return mine

    def _related(self, replica_set: ReplicaSetView, mine: list[PodView]) -> list[PodView]:
        owner = replica_set.metadata.controller
        if owner is None:
            return mine
        siblings = self._sets.by_index(PODS_BY_CONTROLLER, owner.uid)
        return [
            pod
            for sibling in siblings
            for pod in self._pods.by_index(PODS_BY_CONTROLLER, sibling.metadata.uid)
        ]

    async def _create(self, replica_set: ReplicaSetView) -> PodView:
        pod = pod_of_template(replica_set, replica_set.spec.template)
        pod["metadata"]["generateName"] = f"{replica_set.metadata.name}-"
        return await self._writes.create(replica_set, pod)

    async def _write_status(self, replica_set: ReplicaSetView, mine: list[PodView], failure: str) -> None:
        wanted = plan_status(replica_set, mine, failure, self._clock.now())
        if wanted == replica_set.status:
            return
        try:
            stored = await self._client.patch(
                REPLICA_SETS,
                replica_set.metadata.name,
                {"status": status_patch(wanted, ("replicas", "terminatingReplicas"))},
                namespace=replica_set.metadata.namespace,
                subresource="status",
                type=ReplicaSetView,
            )
        except NotFound:
            return
        self._sets.remember(stored)


def register(runtime: Runtime) -> None:
    ReplicaSets(runtime)
