"""The quota controller: recounts a quota when it changes, when something that it counts goes, and now and then.

What comes is charged by the API server as it is written; so only what goes is watched, and of a kind only while a
quota counts it.
"""

from __future__ import annotations

import asyncio

import msgspec

from kajitori.api.resource import PERSISTENT_VOLUME_CLAIMS, PODS, RESOURCE_QUOTAS, SERVICES, Resource
from kajitori.base.errors import NotFound
from kajitori.control.cache import Informer, PartialObject
from kajitori.control.controller import After, Controller, Key, Result
from kajitori.control.runtime import Runtime
from kajitori.kube.objects import Object
from kajitori.laptop.controllers.discovery import discover
from kajitori.laptop.controllers.quota.plan import QuotaView, is_counted, recount, tracked_resources
from kajitori.laptop.controllers.views import PodView, ServiceView

RESYNC_SECONDS = 300.0
# A namespace that is emptied asks for a recount with each object.
SHORTEST_PAUSE_SECONDS = 0.5
_WEIGHED = {
    "pods": PODS,
    "services": SERVICES,
    "persistentvolumeclaims": PERSISTENT_VOLUME_CLAIMS,
}


class Quotas:
    """Reconciles one ResourceQuota at a time."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._client = runtime.client
        self._clock = runtime.clock
        self._looked: dict[Key, float] = {}
        self._watched: dict[str, Resource] = {}
        self._quotas: Informer[QuotaView] = runtime.informer(RESOURCE_QUOTAS, QuotaView)
        self._pods: Informer[PodView] = runtime.informer(PODS, PodView)
        self._controller: Controller = runtime.controller("resourcequota", self.reconcile)
        self._controller.watch(
            self._quotas,
            when=lambda old, new: old is None or new is None or _is_dirty(new) or old.spec != new.spec,
        )
        self._controller.watch(
            self._pods, lambda pod: self._keys_in(pod.metadata.namespace, "pods"), when=_frees
        )

    def _keys_in(self, namespace: str, resource: str) -> list[Key]:
        return [
            Key(namespace, quota.metadata.name)
            for quota in self._quotas.list(namespace)
            if is_counted(quota, resource)
        ]

    async def reconcile(self, key: Key) -> Result:
        quota = self._quotas.get(*key)
        if quota is None:
            self._looked.pop(key, None)
            return None
        now = asyncio.get_running_loop().time()
        wait = self._looked.get(key, float("-inf")) + SHORTEST_PAUSE_SECONDS - now
        if wait > 0 and not _is_dirty(quota):
            return After(wait)
        self._looked[key] = now
        objects: dict[str, list[Object]] = {}
        for name in tracked_resources(quota.spec.hard):
            resource = await self._resource(name)
            if resource is not None:
                objects[name] = await self._list(resource, key.namespace)
        # What was written since the cache saw the quota has been charged, and is among the objects.
        try:
            quota = await self._client.get(RESOURCE_QUOTAS, key.name, key.namespace, type=QuotaView)
        except NotFound:
            return None
        status = recount(quota.spec, objects, quota.status, self._clock.now())
        if status != quota.status:
            await self._write(quota, status)
        return After(RESYNC_SECONDS)

    async def _list(self, resource: Resource, namespace: str) -> list[Object]:
        whole = resource.qualified_name in _WEIGHED
        return (await self._client.list(resource, namespace, metadata_only=not whole)).items

    async def _resource(self, name: str) -> Resource | None:
        """The resource of a qualified name, watched from now on; None if it is not served."""
        if name not in self._watched:
            resource = _WEIGHED.get(name)
            if resource is None:
                served = await discover(self._client)
                resource = next(
                    (one.resource for one in served.preferred if one.resource.qualified_name == name), None
                )
            if resource is None or not resource.namespaced:
                return None
            self._watched[name] = resource
            self._watch(name, resource)
        return self._watched[name]

    def _watch(self, name: str, resource: Resource) -> None:
        if name == "pods":
            return
        if name == "services":
            services = self._runtime.informer(SERVICES, ServiceView)
            self._controller.watch(
                services,
                lambda service: self._keys_in(service.metadata.namespace, name),
                when=lambda old, new: new is None or (old is not None and old.spec != new.spec),
            )
            return
        informer = self._runtime.informer(resource, PartialObject, metadata_only=True, optional=True)
        self._controller.watch(
            informer,
            lambda obj: self._keys_in(obj.metadata.namespace, name),
            when=lambda old, new: new is None,
        )

    async def _write(self, quota: QuotaView, status: object) -> None:
        patch = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": quota.metadata.resource_version},
            {"op": "add", "path": "/status", "value": msgspec.to_builtins(status)},
        ]
        try:
            stored = await self._client.patch(
                RESOURCE_QUOTAS,
                quota.metadata.name,
                patch,
                namespace=quota.metadata.namespace,
                subresource="status",
                type=QuotaView,
            )
        except NotFound:
            return
        self._quotas.remember(stored)


def _is_dirty(quota: QuotaView) -> bool:
    """The status does not say yet what the spec asks."""
    return quota.status.hard != quota.spec.hard or quota.status.used is None


def _frees(old: PodView | None, new: PodView | None) -> bool:
    """A pod goes, ends, or runs out of its time."""
    if new is None:
        return True
    return old is not None and (old.has_ended, old.is_deleting) != (new.has_ended, new.is_deleting)


def register(runtime: Runtime) -> None:
    Quotas(runtime)
