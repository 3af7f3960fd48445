"""Ends namespaces: everything in them is deleted, then the namespace's finalizer is taken away.

While something is left that does not go at once (pods with grace, objects with finalizers), the conditions of
the namespace say what, and it is looked at again after a while that grows.
"""

from __future__ import annotations

import collections

from kajitori.api.resource import NAMESPACES, Resource
from kajitori.base.clock import rfc3339
from kajitori.base.errors import ApiError, Conflict, NotFound
from kajitori.control.cache import Informer
from kajitori.control.controller import After, Key, Result
from kajitori.control.runtime import Runtime
from kajitori.laptop.controllers.discovery import discover
from kajitori.laptop.controllers.namespaces.plan import Remaining, plan_conditions
from kajitori.laptop.controllers.views import NamespaceView, View

FINALIZER = "kubernetes"
# These are views of something else: events are stored once and served by two groups, metrics not at all.
_SKIPPED_GROUPS = frozenset({"metrics.k8s.io", "authorization.k8s.io", "authentication.k8s.io"})
_LONGEST_WAIT_SECONDS = 15.0


class Namespaces:
    """Reconciles one namespace at a time."""

    def __init__(self, runtime: Runtime) -> None:
        self._client = runtime.client
        self._clock = runtime.clock
        self._namespaces: Informer[NamespaceView] = runtime.informer(NAMESPACES, NamespaceView)
        self._rounds: collections.Counter[str] = collections.Counter()
        runtime.controller("namespace", self.reconcile, workers=2).watch(
            self._namespaces, when=lambda old, new: new is not None and _is_ending(new)
        )

    async def reconcile(self, key: Key) -> Result:
        namespace = self._namespaces.get("", key.name)
        if namespace is None or not _is_ending(namespace):
            self._rounds.pop(key.name, None)
            return None
        if FINALIZER not in (namespace.spec.get("finalizers") or ()):
            return None
        remaining = await self._empty(key.name)
        if remaining.is_empty:
            self._rounds.pop(key.name, None)
            await self._finalize(namespace)
            return None
        await self._tell(namespace, remaining)
        self._rounds[key.name] += 1
        return After(min(_LONGEST_WAIT_SECONDS, 0.25 * 2 ** min(self._rounds[key.name], 10)))

    async def _empty(self, name: str) -> Remaining:
        """Delete what can be deleted and count what is left."""
        remaining = Remaining({}, {}, [])
        for served in (await discover(self._client)).preferred:
            resource = served.resource
            if not resource.namespaced or not {"list", "delete"} <= served.verbs:
                continue
            # Both groups of events show the same objects.
            if resource.group in _SKIPPED_GROUPS or resource.qualified_name == "events.events.k8s.io":
                continue
            try:
                await self._empty_resource(resource, name, remaining)
            except NotFound:
                # Its definition went while we were at it.
                continue
            except ApiError as error:
                remaining.failures.append(f"{resource.qualified_name}: {error.message}")
        return remaining

    async def _empty_resource(self, resource: Resource, namespace: str, remaining: Remaining) -> None:
        listed = await self._list(resource, namespace)
        if not listed:
            return
        await self._client.delete_collection(resource, namespace, propagation_policy="Background")
        listed = await self._list(resource, namespace)
        if listed:
            remaining.objects[resource.qualified_name] = len(listed)
        for obj in listed:
            for finalizer in obj.metadata.finalizers:
                remaining.finalizers[finalizer] = remaining.finalizers.get(finalizer, 0) + 1

    async def _list(self, resource: Resource, namespace: str) -> list[View]:
        found = await self._client.list(resource, namespace, type=View, metadata_only=True)
        return found.items

    async def _finalize(self, namespace: NamespaceView) -> None:
        try:
            live = await self._client.get(NAMESPACES, namespace.metadata.name)
            if live["metadata"]["uid"] != namespace.metadata.uid:
                return
            kept = [name for name in live["spec"].get("finalizers") or () if name != FINALIZER]
            live["spec"]["finalizers"] = kept
            await self._client.update(NAMESPACES, live, subresource="finalize")
        except NotFound:
            pass

    async def _tell(self, namespace: NamespaceView, remaining: Remaining) -> None:
        conditions = plan_conditions(namespace, remaining, rfc3339(self._clock.now()))
        if conditions == namespace.status.get("conditions"):
            return
        try:
            await self._client.patch(
                NAMESPACES,
                namespace.metadata.name,
                {"status": {"conditions": conditions}},
                subresource="status",
            )
        except (NotFound, Conflict):
            pass


def _is_ending(namespace: NamespaceView) -> bool:
    return namespace.metadata.deletion_timestamp is not None


def register(runtime: Runtime) -> None:
    Namespaces(runtime)
