"""What the gates write: opened pods, gangs that are given up, and events. Failures are told by what is returned."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from kajitori.api.resource import PODS, Resource
from kajitori.base.errors import Conflict, KajitoriError, NotFound
from kajitori.control.cache import Informer
from kajitori.kube.client import Client
from kajitori.kube.events import EventRecorder
from kajitori.model.gang import RELEASED_ANNOTATION
from kajitori.scheduling.gates.members import Failure, Standing
from kajitori.scheduling.gates.opening import opening_patch
from kajitori.scheduling.views import PodView

_log = logging.getLogger(__name__)

_PATCHES_AT_ONCE = 32


class Writer:
    """Writes to pods of gangs. pods: the cache that learns of what was written."""

    def __init__(self, client: Client, recorder: EventRecorder, pods: Informer[PodView]) -> None:
        self._client = client
        self._recorder = recorder
        self._pods = pods
        self._patches = asyncio.Semaphore(_PATCHES_AT_ONCE)

    async def open(self, pod: PodView, node: str) -> bool:
        """Tie the pod to its node and take our gate away. False where that did not come about."""
        return await self._patch(pod, opening_patch(pod, node), "be opened")

    async def give_up(self, standing: Standing, failure: Failure) -> bool:
        """Tell whoever made the gang that it has to be made anew."""
        pod = failure.pod
        annotations = {RELEASED_ANNOTATION: failure.reason}
        patch = {"metadata": {"uid": pod.metadata.uid, "annotations": annotations}}
        if not await self._patch(pod, patch, "be given up"):
            return False
        message = f"gang {standing.gang.name} is given up and its places released: {failure.reason}"
        await self.tell(standing, "GangReleased", message, warning=True)
        return True

    async def _patch(self, pod: PodView, patch: dict[str, Any], what: str) -> bool:
        try:
            async with self._patches:
                changed = await self._client.patch(
                    PODS, pod.metadata.name, patch, namespace=pod.metadata.namespace, type=PodView
                )
        except (NotFound, Conflict):
            # Gone or made anew: the watch tells.
            return False
        except KajitoriError as error:
            _log.warning("%s could not %s, again soon: %s", pod.key, what, error)
            return False
        self._pods.remember(changed)
        return True

    async def tell(self, standing: Standing, reason: str, message: str, *, warning: bool = False) -> None:
        """On the first pod of the gang; a warning also on what made it, where people look first."""
        pod = min((*standing.waiting, *standing.tied, *standing.bound), key=lambda pod: pod.metadata.name)
        about: list[tuple[Any, Resource | None]] = [(pod, PODS)]
        if warning and (owner := pod.metadata.controller) is not None:
            metadata = {"name": owner.name, "namespace": pod.metadata.namespace, "uid": owner.uid}
            about.append(({"apiVersion": owner.api_version, "kind": owner.kind, "metadata": metadata}, None))
        for regarding, resource in about:
            await self._recorder.record(
                regarding,
                reason,
                message,
                type="Warning" if warning else "Normal",
                action="Scheduling",
                resource=resource,
            )
