"""The requests of one plan, for every kind of set: side by side, at most so many at once.

What the server answers goes into the cache straight away, so that the next plan knows of it. What is gone, or was made
anew under its name, is left to the watch. An error of one request does not keep the others from being tried; whoever
carries the plan out says when the first is raised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from kajitori.api.resource import Resource
from kajitori.base.errors import AlreadyExists, Conflict, KajitoriError, NotFound
from kajitori.control.cache import Informer
from kajitori.groups.ownership import Metadata, controlled_by, holder_of
from kajitori.kube.client import Client
from kajitori.kube.requests import PatchType, Propagation

AT_ONCE = 32

A = TypeVar("A")


class Projection(Protocol):
    @property
    def metadata(self) -> Metadata: ...


class Requests:
    """On behalf of one set. owner_uid: the set's. note_taken: told of a name (`Pod x-0`) that others have, and whose it is.

    found_by: labels by which a plan knows what belongs where.
    """

    def __init__(
        self,
        client: Client,
        namespace: str,
        owner_uid: str,
        note_taken: Callable[[str, str], None],
        found_by: Sequence[str] = (),
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._owner_uid = owner_uid
        self._note_taken = note_taken
        self._found_by = found_by
        self._limit = asyncio.Semaphore(AT_ONCE)
        self._errors: list[KajitoriError] = []

    async def all(self, request: Callable[[A], Awaitable[None]], actions: Iterable[A]) -> None:
        """Do all of these; errors are kept for `raise_first`."""
        async with asyncio.TaskGroup() as tasks:
            for action in actions:
                tasks.create_task(self._try(request, action))

    async def _try(self, request: Callable[[A], Awaitable[None]], action: A) -> None:
        async with self._limit:
            try:
                await request(action)
            except KajitoriError as error:
                self._errors.append(error)

    def raise_first(self) -> None:
        """Raise the first error that there was, if any."""
        if self._errors:
            raise self._errors[0]

    async def create(
        self, resource: Resource, body: dict[str, Any], kind: type[Any], informer: Informer[Any]
    ) -> Any:
        """The created object; None if its name is in use."""
        try:
            made = await self._client.create(resource, body, type=kind)
        except AlreadyExists:
            await self._look_at_holder(resource, body["metadata"], kind, informer)
            return None
        informer.remember(made)
        return made

    async def _look_at_holder(
        self, resource: Resource, wanted: dict[str, Any], kind: type[Any], informer: Informer[Any]
    ) -> None:
        """The name is in use: by the set itself, so that the cache is late, or by somebody else."""
        name: str = wanted["name"]
        try:
            held = await self._client.get(resource, name, self._namespace, type=kind)
        except NotFound as gone:
            raise Conflict(f"{resource.kind} {name} was there a moment ago", reason="Conflict") from gone
        if not controlled_by(held.metadata, self._owner_uid):
            self._note_taken(f"{resource.kind} {name}", holder_of(held.metadata))
        elif changed := self._changed_label(wanted, held.metadata.labels):
            # Somebody set it aside, to look at it perhaps: no plan will find it, and it stays as it is.
            self._note_taken(f"{resource.kind} {name}", f"of this set, whose label {changed} was changed")
        else:
            informer.remember(held)

    def _changed_label(self, wanted: dict[str, Any], labels: Mapping[str, str]) -> str:
        """The first label by which the object would be found and is not; empty if there is none."""
        asked: dict[str, str] = wanted.get("labels") or {}
        return next((key for key in self._found_by if key in asked and asked[key] != labels.get(key)), "")

    async def patch(
        self,
        resource: Resource,
        obj: Projection,
        patch: dict[str, Any],
        kind: type[Any],
        informer: Informer[Any],
        *,
        subresource: str | None = None,
        patch_type: PatchType = "merge",
    ) -> bool:
        """Whether it was changed: not if it is gone or was replaced."""
        metadata = obj.metadata
        # With its uid in the patch, an object that was deleted and made again is not taken for the one we saw.
        patch = {**patch, "metadata": {**patch.get("metadata", {}), "uid": metadata.uid}}
        try:
            changed = await self._client.patch(
                resource,
                metadata.name or "",
                patch,
                namespace=metadata.namespace,
                patch_type=patch_type,
                subresource=subresource,
                type=kind,
            )
        except (NotFound, Conflict):
            return False
        informer.remember(changed)
        return True

    async def delete(
        self,
        resource: Resource,
        obj: Projection,
        informer: Informer[Any],
        propagation_policy: Propagation | None = None,
    ) -> None:
        """Delete this very object; one that lingers is known to be on its way out."""
        metadata = obj.metadata
        try:
            lingering = await self._client.delete(
                resource,
                metadata.name or "",
                metadata.namespace,
                propagation_policy=propagation_policy,
                preconditions_uid=metadata.uid,
            )
        except (NotFound, Conflict):
            lingering = None
        if lingering is None:
            informer.forget(obj)
        else:
            informer.remember(msgspec.convert(lingering, type(obj)))
