"""The garbage collector: follows the metadata of everything served and acts on owner references.

Every resource with list, watch and delete is watched, custom ones as soon as their definition is served, with
two indexes: by uid and by the owners' uids. What other controllers of the process watch is read from their caches. Work is queued by uid. Before an object is deleted since its owner is
absent, the server is asked for that owner, so an outdated cache never costs anybody an object.
"""

from __future__ import annotations

import asyncio
import collections
import logging
from typing import Any

from kajitori.api.kubernetes.meta_v1 import OwnerReference
from kajitori.api.resource import CUSTOM_RESOURCE_DEFINITIONS, Resource
from kajitori.base.errors import NotFound, Unreachable
from kajitori.control.cache import HasWholeMetadata, Informer, PartialObject
from kajitori.control.controller import Key, Result
from kajitori.control.runtime import Runtime
from kajitori.kube.objects import Object
from kajitori.laptop.controllers.discovery import Discovery, discover
from kajitori.laptop.controllers.garbage.plan import (
    FOREGROUND,
    ORPHAN,
    Delete,
    DropReferences,
    OwnerState,
    blocks,
    decide,
    is_deleting,
    orphans_dependents,
    waits_for_dependents,
)

_log = logging.getLogger(__name__)

_BY_OWNER = "garbage collector's owner"
# Events name no owners and come in masses.
_IGNORED = frozenset({"events", "events.events.k8s.io"})
_REMEMBERED_ABSENT = 1000
_SYNC_SECONDS = 30.0


class GarbageCollector:
    """All of it: what is watched, what is where, and what is to be done about it."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._client = runtime.client
        self._informers: dict[Resource, Informer[Any]] = {}
        # Of those informers that are nobody else's.
        self._tasks: dict[Resource, asyncio.Task[None]] = {}
        self._told_by: set[Resource] = set()
        self._where: dict[str, tuple[Resource, str, str]] = {}
        self._kinds: dict[tuple[str, str], Resource] = {}
        self._absent: collections.OrderedDict[str, None] = collections.OrderedDict()
        self._discover_again = asyncio.Event()
        definitions = runtime.informer(
            CUSTOM_RESOURCE_DEFINITIONS, PartialObject, metadata_only=True, optional=True
        )
        definitions.on_change(lambda old, new: self._discover_again.set())
        self._controller = runtime.controller("garbage", self.reconcile, workers=4)
        runtime.service("garbage discovery", self._follow_resources)

    # What is watched

    async def _follow_resources(self) -> None:
        """Start and end watches as resources come and go. Sleeps until a definition changes."""
        try:
            self._discover_again.set()
            while True:
                await self._discover_again.wait()
                self._discover_again.clear()
                self._adjust(await discover(self._client))
                # A definition changes several times while it is being established.
                await asyncio.sleep(0.2)
        finally:
            tasks, self._tasks = list(self._tasks.values()), {}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._informers.clear()

    def _adjust(self, discovery: Discovery) -> None:
        self._kinds = discovery.kinds
        wanted = {
            served.resource
            for served in discovery.preferred
            if {"list", "watch", "delete"} <= served.verbs and served.resource.qualified_name not in _IGNORED
        }
        for resource in [known for known in self._informers if known not in wanted]:
            if resource in self._tasks:
                self._tasks.pop(resource).cancel()
            for obj in self._informers.pop(resource).list():
                self._gone(obj)
        for served in discovery.preferred:
            if served.resource in wanted and served.resource not in self._informers:
                shared = self._runtime.shared_informer(served.resource)
                if shared is None:
                    self._start(served.resource)
                else:
                    self._share(served.resource, shared)

    def _share(self, resource: Resource, informer: Informer[HasWholeMetadata]) -> None:
        """Read what somebody else's informer has."""
        informer.add_indexers({_BY_OWNER: _owners})
        self._informers[resource] = informer
        if resource not in self._told_by:
            self._told_by.add(resource)
            informer.on_change(lambda old, new: self._changed(resource, old, new))
            return
        # It was not served meanwhile, or this service has begun again.
        for obj in informer.list():
            self._changed(resource, None, obj)

    def _start(self, resource: Resource) -> None:
        informer = Informer(
            self._client, resource, PartialObject, metadata_only=True, metrics=self._runtime.metrics,
            indexers={_BY_OWNER: _owners}, seed=self._runtime.random.getrandbits(64),
        )  # fmt: skip
        self._informers[resource] = informer
        informer.on_change(lambda old, new: self._changed(resource, old, new))
        self._tasks[resource] = asyncio.get_running_loop().create_task(
            informer.run(), name=f"garbage collector's informer of {resource.qualified_name}"
        )

    # What changes lead to

    def _changed(
        self, resource: Resource, old: HasWholeMetadata | None, new: HasWholeMetadata | None
    ) -> None:
        if resource not in self._informers:
            return
        if new is None:
            if old is not None:
                self._gone(old)
            return
        metadata = new.metadata
        self._where[metadata.uid] = (resource, metadata.namespace, metadata.name)
        self._absent.pop(metadata.uid, None)
        if is_deleting(metadata):
            if waits_for_dependents(metadata) or orphans_dependents(metadata):
                self._queue(metadata.uid)
                for dependent in self._dependents(metadata.uid):
                    self._queue(dependent.metadata.uid)
            self._queue_waiting_owners(new)
        elif metadata.owner_references and (
            old is None or old.metadata.owner_references != metadata.owner_references
        ):
            self._queue(metadata.uid)
            if old is not None:
                # An owner that waits may have been let go of.
                self._queue_waiting_owners(old)

    def _gone(self, obj: HasWholeMetadata) -> None:
        uid = obj.metadata.uid
        self._where.pop(uid, None)
        for dependent in self._dependents(uid):
            self._queue(dependent.metadata.uid)
        self._queue_waiting_owners(obj)

    def _queue_waiting_owners(self, obj: HasWholeMetadata) -> None:
        for owner in obj.metadata.owner_references:
            known = self._find(owner.uid)
            if known is not None and waits_for_dependents(known[1].metadata):
                self._queue(owner.uid)

    def _queue(self, uid: str) -> None:
        self._controller.enqueue(Key("", uid))

    def _find(self, uid: str) -> tuple[Resource, HasWholeMetadata] | None:
        place = self._where.get(uid)
        informer = self._informers.get(place[0]) if place is not None else None
        if place is None or informer is None:
            return None
        obj = informer.get(place[1], place[2])
        return (place[0], obj) if obj is not None and obj.metadata.uid == uid else None

    def _dependents(self, uid: str) -> list[HasWholeMetadata]:
        return [obj for informer in self._informers.values() for obj in informer.by_index(_BY_OWNER, uid)]

    # What is done

    async def reconcile(self, key: Key) -> Result:
        """The key's name is a uid."""
        found = self._find(key.name)
        if found is None:
            return
        resource, obj = found
        if waits_for_dependents(obj.metadata):
            await self._finish_foreground(resource, obj)
        elif orphans_dependents(obj.metadata):
            await self._orphan_dependents(resource, obj)
        elif not is_deleting(obj.metadata):
            await self._judge(resource, obj)

    async def _judge(self, resource: Resource, obj: HasWholeMetadata) -> None:
        states = [
            (owner, await self._state(owner, obj.metadata.namespace))
            for owner in obj.metadata.owner_references
        ]
        decision = decide(obj.metadata, states, bool(self._dependents(obj.metadata.uid)))
        if isinstance(decision, DropReferences):
            await self._drop_references(resource, obj, decision.uids)
        elif isinstance(decision, Delete):
            if decision.policy == "Foreground":
                await self._break_circles(obj)
            _log.debug("deleting %s %s: its owners are gone", resource.kind, obj.metadata.name)
            await self._delete(resource, obj, decision.policy)

    async def _state(self, owner: OwnerReference, namespace: str) -> OwnerState:
        known = self._find(owner.uid)
        if known is not None:
            found = known[1].metadata
            if found.namespace in ("", namespace):
                return OwnerState.WAITING if waits_for_dependents(found) else OwnerState.SOLID
            # An owner of another namespace is none: for this object it does not exist.
            return OwnerState.ABSENT
        if owner.uid in self._absent:
            return OwnerState.ABSENT
        group = owner.api_version.rpartition("/")[0]
        resource = self._kinds.get((group, owner.kind))
        if resource is None:
            # Not served now may mean not served yet: never delete on that ground.
            raise Unreachable(f"owner kind {owner.kind} of {owner.api_version} is not served")
        informer = self._informers.get(resource)
        if informer is not None and not informer.has_synced:
            # At the start thousands of objects may name owners that are listed in a moment.
            try:
                async with asyncio.timeout(_SYNC_SECONDS):
                    await informer.synced()
            except TimeoutError:
                raise Unreachable(f"{resource.qualified_name} cannot be listed") from None
            return await self._state(owner, namespace)
        try:
            live = await self._client.get(
                resource, owner.name, namespace if resource.namespaced else None, type=PartialObject
            )
        except NotFound:
            live = None
        if live is None or live.metadata.uid != owner.uid:
            self._absent[owner.uid] = None
            if len(self._absent) > _REMEMBERED_ABSENT:
                self._absent.popitem(last=False)
            return OwnerState.ABSENT
        return OwnerState.WAITING if waits_for_dependents(live.metadata) else OwnerState.SOLID

    async def _break_circles(self, obj: HasWholeMetadata) -> None:
        """If a dependent of this object waits for its dependents itself, nobody may wait for this object:
        a circle of owners would wait for ever."""
        if not any(waits_for_dependents(one.metadata) for one in self._dependents(obj.metadata.uid)):
            return
        found = self._find(obj.metadata.uid)
        if found is None or not any(owner.block_owner_deletion for owner in obj.metadata.owner_references):
            return
        references = [_as_dict(owner, block=False) for owner in obj.metadata.owner_references]
        await self._write_references(found[0], obj, references)

    async def _drop_references(self, resource: Resource, obj: HasWholeMetadata, uids: list[str]) -> None:
        kept = [_as_dict(owner) for owner in obj.metadata.owner_references if owner.uid not in uids]
        await self._write_references(resource, obj, kept)

    async def _write_references(
        self, resource: Resource, obj: HasWholeMetadata, references: list[Object]
    ) -> None:
        # A merge patch, since custom resources know no strategic one; the version guards what it replaces.
        await self._patch_metadata(resource, obj, {"ownerReferences": references or None})

    async def _patch_metadata(self, resource: Resource, obj: HasWholeMetadata, change: Object) -> None:
        informer = self._informers.get(resource)
        metadata = {"uid": obj.metadata.uid, "resourceVersion": obj.metadata.resource_version, **change}
        try:
            stored = await self._client.patch(
                resource,
                obj.metadata.name,
                {"metadata": metadata},
                namespace=obj.metadata.namespace or None,
                type=informer.type if informer is not None else PartialObject,
            )
        except NotFound:
            return
        if informer is not None and not is_deleting(stored.metadata):
            informer.remember(stored)

    async def _delete(self, resource: Resource, obj: HasWholeMetadata, policy: str) -> None:
        try:
            await self._client.delete(
                resource,
                obj.metadata.name,
                obj.metadata.namespace or None,
                propagation_policy=policy,  # pyright: ignore[reportArgumentType]
                preconditions_uid=obj.metadata.uid,
                # A reference added meanwhile to an owner that stays must keep the object.
                preconditions_resource_version=obj.metadata.resource_version,
            )
        except NotFound:
            pass

    async def _finish_foreground(self, resource: Resource, obj: HasWholeMetadata) -> None:
        uid = obj.metadata.uid
        blocking = [one for one in self._dependents(uid) if blocks(one.metadata, uid)]
        if not blocking:
            await self._remove_finalizer(resource, obj, FOREGROUND)
            return
        for dependent in blocking:
            if not is_deleting(dependent.metadata):
                self._queue(dependent.metadata.uid)

    async def _orphan_dependents(self, resource: Resource, obj: HasWholeMetadata) -> None:
        for dependent in self._dependents(obj.metadata.uid):
            found = self._find(dependent.metadata.uid)
            if found is not None:
                await self._drop_references(found[0], found[1], [obj.metadata.uid])
        await self._remove_finalizer(resource, obj, ORPHAN)

    async def _remove_finalizer(self, resource: Resource, obj: HasWholeMetadata, finalizer: str) -> None:
        kept = [name for name in obj.metadata.finalizers if name != finalizer]
        await self._patch_metadata(resource, obj, {"finalizers": kept or None})


def _owners(obj: HasWholeMetadata) -> list[str]:
    return [owner.uid for owner in obj.metadata.owner_references]


def _as_dict(owner: OwnerReference, block: bool | None = None) -> Object:
    body: Object = {
        "apiVersion": owner.api_version,
        "kind": owner.kind,
        "name": owner.name,
        "uid": owner.uid,
    }
    if owner.controller is not None:
        body["controller"] = owner.controller
    blocking = owner.block_owner_deletion if block is None else block
    if blocking is not None:
        body["blockOwnerDeletion"] = blocking
    return body


def register(runtime: Runtime) -> None:
    GarbageCollector(runtime)
