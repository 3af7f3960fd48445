"""Keeps ControllerRevisions on the server: takes strays, makes new ones, gives old ones a new number, deletes."""

from __future__ import annotations

import msgspec

from kajitori.api.kubernetes.meta_v1 import LabelSelector
from kajitori.api.resource import CONTROLLER_REVISIONS, Resource
from kajitori.base.errors import AlreadyExists, NotFound
from kajitori.control.cache import Informer
from kajitori.control.runtime import Runtime
from kajitori.kube.objects import Object
from kajitori.laptop.controllers import ownership
from kajitori.laptop.controllers.pods import PODS_BY_CONTROLLER, controller_index
from kajitori.laptop.controllers.revisions import RevisionView, by_number
from kajitori.laptop.controllers.views import View
from kajitori.model.selection import matches


class History:
    """The revisions of the workloads of one process."""

    def __init__(self, runtime: Runtime) -> None:
        self._client = runtime.client
        self.revisions: Informer[RevisionView] = runtime.informer(
            CONTROLLER_REVISIONS, RevisionView, indexers={PODS_BY_CONTROLLER: controller_index}
        )

    async def claim(
        self, resource: Resource, owner: View, selector: LabelSelector, *, release: bool = False
    ) -> list[RevisionView]:
        """The owner's revisions by number, after taking those that nobody owns.

        release: let go of those whose labels no longer fit, which otherwise are only left out.
        """
        mine: list[RevisionView] = []
        for one in self.revisions.by_index(PODS_BY_CONTROLLER, owner.metadata.uid):
            if matches(selector, one.metadata.labels):
                mine.append(one)
            elif release and owner.metadata.deletion_timestamp is None:
                await ownership.release(self._client, CONTROLLER_REVISIONS, one, owner.metadata.uid)
        strays = [
            one
            for one in self.revisions.by_index(PODS_BY_CONTROLLER, f"none/{owner.metadata.namespace}")
            if matches(selector, one.metadata.labels) and one.metadata.deletion_timestamp is None
        ]
        if strays and await ownership.still_there(self._client, resource, owner):
            for one in strays:
                adopted = await ownership.adopt(self._client, CONTROLLER_REVISIONS, one, owner)
                mine.append(self._remember(msgspec.convert(adopted, RevisionView)))
        return by_number(mine)

    async def create(self, body: Object) -> RevisionView | None:
        """The new revision, or the one of that name if it keeps the same; None if the name is another's."""
        try:
            return self._remember(await self._client.create(CONTROLLER_REVISIONS, body, type=RevisionView))
        except AlreadyExists:
            metadata = body["metadata"]
            live = await self._client.get(
                CONTROLLER_REVISIONS, metadata["name"], metadata["namespace"], type=RevisionView
            )
            return self._remember(live) if live.data == body["data"] else None

    async def renumber(self, revision: RevisionView, number: int) -> RevisionView:
        """Make it the newest."""
        return self._remember(
            await self._client.patch(
                CONTROLLER_REVISIONS,
                revision.metadata.name,
                {"metadata": {"uid": revision.metadata.uid}, "revision": number},
                namespace=revision.metadata.namespace,
                type=RevisionView,
            )
        )

    async def delete(self, revision: RevisionView) -> None:
        try:
            await self._client.delete(
                CONTROLLER_REVISIONS,
                revision.metadata.name,
                revision.metadata.namespace,
                preconditions_uid=revision.metadata.uid,
            )
        except NotFound:
            pass
        self.revisions.forget(revision)

    def _remember(self, revision: RevisionView) -> RevisionView:
        self.revisions.remember(revision)
        return revision
