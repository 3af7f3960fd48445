"""Creating and deleting the pods of a workload: the event that tells of it, and the cache that knows at once."""

from __future__ import annotations

import msgspec

from kajitori.api.resource import PODS
from kajitori.base.errors import ApiError, NotFound
from kajitori.control.cache import Informer
from kajitori.kube.client import Client
from kajitori.kube.events import EventRecorder
from kajitori.kube.objects import Object
from kajitori.laptop.controllers.views import PodView, View


class PodWrites:
    """Of one controller, whose `recorder` tells its owners."""

    def __init__(self, client: Client, pods: Informer[PodView], recorder: EventRecorder) -> None:
        self._client = client
        self._pods = pods
        self._recorder = recorder

    async def create(self, owner: View, body: Object) -> PodView:
        """The new pod. A failure is told, unless its namespace is on its way out, and raised."""
        try:
            made = await self._client.create(PODS, body, type=PodView)
        except ApiError as error:
            if not any(cause.get("reason") == "NamespaceTerminating" for cause in error.causes):
                text = f"Error creating: {error.message}"
                await self._recorder.record(owner, "FailedCreate", text, type="Warning", action="Create")
            raise
        self._pods.remember(made)
        await self._recorder.record(
            owner, "SuccessfulCreate", f"Created pod: {made.metadata.name}", action="Create"
        )
        return made

    async def delete(self, owner: View, pod: PodView) -> PodView | None:
        """The pod if it lingers. One that is gone already is no failure."""
        name = pod.metadata.name
        try:
            left = await self._client.delete(
                PODS, name, pod.metadata.namespace, preconditions_uid=pod.metadata.uid
            )
        except NotFound:
            left = None
        except ApiError as error:
            text = f"Error deleting: {error.message}"
            await self._recorder.record(owner, "FailedDelete", text, type="Warning", action="Delete")
            raise
        else:
            await self._recorder.record(owner, "SuccessfulDelete", f"Deleted pod: {name}", action="Delete")
        if left is None:
            self._pods.forget(pod)
            return None
        lingering = msgspec.convert(left, PodView)
        self._pods.remember(lingering)
        return lingering
