"""What is done to the pods of a job: made, deleted, taken, let go, freed from the finalizer.

Each answer of the server goes into the cache at once, so that a late watch never makes it be done twice.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kajitori.api.resource import PODS
from kajitori.base.errors import ApiError, Conflict, Forbidden, Invalid, NotFound
from kajitori.control.cache import Informer
from kajitori.kube.client import Client
from kajitori.kube.events import EventRecorder
from kajitori.kube.objects import owner_reference
from kajitori.laptop.controllers.jobs.pods import new_pod
from kajitori.laptop.controllers.jobs.situation import FINALIZER, is_tracked
from kajitori.laptop.controllers.jobs.views import JobView
from kajitori.laptop.controllers.views import PodView


class TrackedPods:
    """recorder: of events about jobs."""

    def __init__(self, client: Client, informer: Informer[PodView], recorder: EventRecorder) -> None:
        self._client = client
        self._informer = informer
        self._recorder = recorder

    async def create(self, job: JobView, index: int | None, replaced: PodView | None) -> None:
        """Raises ApiError; a namespace that is going away is told nothing."""
        try:
            made = await self._client.create(PODS, new_pod(job, index, replaced), type=PodView)
        except (Forbidden, Invalid, NotFound) as error:
            if not is_namespace_going(error):
                text = f"Error creating: {error.message}"
                await self._recorder.record(job, "FailedCreate", text, type="Warning")
            raise
        self._informer.remember(made)
        text = f"Created pod: {made.metadata.name}"
        await self._recorder.record(job, "SuccessfulCreate", text, action="Create")

    async def delete(self, job: JobView, pod: PodView) -> None:
        """Ask for its end; one that is gone already is no error. Raises ApiError."""
        name = pod.metadata.name
        try:
            left = await self._client.delete(
                PODS, name, pod.metadata.namespace, preconditions_uid=pod.metadata.uid
            )
        except NotFound:
            self._informer.forget(pod)
            return
        except ApiError as error:
            await self._recorder.record(
                job, "FailedDelete", f"Error deleting: {error.message}", type="Warning"
            )
            raise
        if left is None:
            self._informer.forget(pod)
        else:
            self._informer.remember(msgspec.convert(left, PodView))
        await self._recorder.record(job, "SuccessfulDelete", f"Deleted pod: {name}", action="Delete")

    async def free(self, pod: PodView) -> None:
        """Take the finalizer away. Raises ApiError."""
        if is_tracked(pod):
            await self._patch(pod, {"$deleteFromPrimitiveList/finalizers": [FINALIZER]})

    async def adopt(self, job: JobView, pod: PodView) -> PodView | None:
        """Make the job its controller; None if it is gone."""
        return await self._patch(pod, {"ownerReferences": [owner_reference(job)], "finalizers": [FINALIZER]})

    async def let_go(self, job: JobView, pod: PodView) -> None:
        """It no longer fits the job's selector."""
        removal = {"$patch": "delete", "uid": job.metadata.uid}
        change: dict[str, Any] = {"ownerReferences": [removal]}
        if is_tracked(pod):
            change["$deleteFromPrimitiveList/finalizers"] = [FINALIZER]
        await self._patch(pod, change)

    async def _patch(self, pod: PodView, change: dict[str, Any]) -> PodView | None:
        # The uid makes the server refuse if another pod has the name by now.
        patch = {"metadata": {"uid": pod.metadata.uid, **change}}
        try:
            changed = await self._client.patch(
                PODS,
                pod.metadata.name,
                patch,
                namespace=pod.metadata.namespace,
                patch_type="strategic",
                type=PodView,
            )
        except (NotFound, Conflict):
            self._informer.forget(pod)
            return None
        metadata = changed.metadata
        if (
            metadata.deletion_timestamp
            and not metadata.finalizers
            and not metadata.deletion_grace_period_seconds
        ):
            # The finalizer was all that held it.
            self._informer.forget(changed)
        else:
            self._informer.remember(changed)
        return changed


def is_namespace_going(error: ApiError) -> bool:
    return any(cause.get("reason") == "NamespaceTerminating" for cause in error.causes)
