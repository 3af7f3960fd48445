"""What other schedulers need of the API: whether it is served, and our objects there.

Nothing is asked for until a set wants to be placed that way. Then discovery tells whether the kind is served and in
which version; of kinds that we make objects of, a cache holds the metadata of ours.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

import msgspec

from kajitori.api.leaderworkerset import v1
from kajitori.api.resource import Resource
from kajitori.base.clock import Clock
from kajitori.base.errors import AlreadyExists, Conflict, NotFound
from kajitori.control.cache import Informer
from kajitori.control.runtime import Runtime
from kajitori.groups.late_cache import filled
from kajitori.groups.leader_worker_sets.actions import CreateGangObject, DeleteGangObject, ReleaseWorkload
from kajitori.groups.leader_worker_sets.gang import Method
from kajitori.groups.leader_worker_sets.gang_objects import KINDS, ended_workloads
from kajitori.groups.leader_worker_sets.memory import Memory
from kajitori.groups.leader_worker_sets.observed import GangObject, OtherSchedulers, Pod
from kajitori.kube.client import Client

ABSENT_SECONDS = 5.0


class GangKinds:
    """The kinds, and what is known of them. on_change: told of each of our objects that changes."""

    def __init__(self, runtime: Runtime, on_change: Callable[[GangObject], None]) -> None:
        self._runtime = runtime
        self._client: Client = runtime.client
        self._clock: Clock = runtime.clock
        self._on_change = on_change
        self._served: dict[Method, Resource] = {}
        self._absent_until: dict[Method, float] = {}
        self._informers: dict[Resource, Informer[GangObject]] = {}

    async def look(self, methods: Iterable[Method], set_index: str) -> OtherSchedulers:
        """What these methods need. set_index: `namespace/name` of the set whose objects are wanted."""
        kinds: dict[str, Resource] = {}
        absent: set[str] = set()
        objects: dict[str, list[GangObject]] = {}
        for method in sorted(methods):
            resource = await self._find(method)
            if resource is None:
                absent.add(method)
                continue
            kinds[method] = resource
            if KINDS[method].made:
                informer = await self._informer(resource)
                objects[method] = informer.by_index("set", set_index)
        return OtherSchedulers(kinds, frozenset(absent), objects)

    async def _find(self, method: Method) -> Resource | None:
        if method in self._served:
            return self._served[method]
        now = self._clock.now()
        if self._absent_until.get(method, now) > now:
            return None
        kind = KINDS[method]
        for version in kind.versions:
            resource = kind.resource(version)
            if await self._is_served(resource):
                self._served[method] = resource
                return resource
        self._absent_until[method] = now + ABSENT_SECONDS
        return None

    async def _is_served(self, resource: Resource) -> bool:
        try:
            answer = msgspec.json.decode(await self._client.request("GET", resource.prefix))
        except NotFound:
            return False
        return any(each["name"] == resource.plural for each in answer["resources"])

    async def _informer(self, resource: Resource) -> Informer[GangObject]:
        informer = self._informers.get(resource)
        if informer is None:
            informer = self._informers[resource] = self._runtime.informer(
                resource,
                GangObject,
                label_selector=v1.SET_NAME_LABEL,
                indexers={"set": _set_of},
                metadata_only=True,
                optional=True,
            )
            informer.on_change(self._changed)
        return await filled(informer)

    def _changed(self, old: GangObject | None, new: GangObject | None) -> None:
        obj = new or old
        if obj is not None:
            self._on_change(obj)

    async def carry_out(
        self,
        action: CreateGangObject | DeleteGangObject | ReleaseWorkload,
        namespace: str,
        owner_uid: str,
        memory: Memory,
    ) -> None:
        """Raises Conflict where a name is in use by somebody else's object."""
        match action:
            case CreateGangObject():
                await self._create(action, owner_uid, memory)
            case DeleteGangObject(resource, obj):
                with contextlib.suppress(NotFound, Conflict):
                    await self._client.delete(
                        resource, obj.metadata.name, namespace, preconditions_uid=obj.metadata.uid
                    )
            case ReleaseWorkload(name):
                await self._release(namespace, name)

    async def _create(self, action: CreateGangObject, owner_uid: str, memory: Memory) -> None:
        resource, body = action.resource, action.body
        informer = await self._informer(resource)
        try:
            made = await self._client.create(resource, body, type=GangObject)
        except AlreadyExists:
            name, namespace = body["metadata"]["name"], body["metadata"]["namespace"]
            holder = informer.get(namespace, name)
            if holder is not None and holder.metadata.controlled_by(owner_uid):
                return
            what = f"{resource.kind} {name}"
            memory.note_taken(what, "of somebody else", self._clock.now())
            raise Conflict(f"{what} is of somebody else", reason="AlreadyExists") from None
        except NotFound:
            # Its definition may have been taken away: the next look finds out, and the set says so.
            self._served = {method: served for method, served in self._served.items() if served != resource}
            raise
        informer.remember(made)

    async def release_ended(self, namespace: str, pods: Iterable[Pod]) -> None:
        """Where the set itself is gone: Kueue's records keep its pods from going."""
        for name in ended_workloads([*pods]):
            await self._release(namespace, name)

    async def _release(self, namespace: str, name: str) -> None:
        resource = await self._find("Kueue")
        if resource is not None:
            with contextlib.suppress(NotFound, Conflict):
                await self._client.delete(resource, name, namespace)


def _set_of(obj: GangObject) -> list[str]:
    name = obj.metadata.labels.get(v1.SET_NAME_LABEL)
    return [f"{obj.metadata.namespace}/{name}"] if name else []
