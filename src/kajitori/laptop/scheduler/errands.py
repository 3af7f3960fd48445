"""What the scheduler has done to pods: they are bound, sent away, promised a node.

Everything here is one request about one pod, and what happens when it is refused. Nothing is decided.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from kajitori.api.resource import PODS
from kajitori.base.clock import rfc3339
from kajitori.base.errors import Conflict, KajitoriError, NotFound
from kajitori.kube.objects import Object, set_condition
from kajitori.scheduling.views import PodView

if TYPE_CHECKING:
    from kajitori.base.clock import Clock
    from kajitori.control.cache import Informer
    from kajitori.kube.client import Client
    from kajitori.kube.events import EventRecorder
    from kajitori.scheduling.demand import Demand

_log = logging.getLogger(__name__)

COMPONENT = "default-scheduler"
RETRY_SECONDS = 1.0


class Errands:
    """writes: limits requests at a time."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        recorder: EventRecorder,
        pods: Informer[PodView],
        writes: asyncio.Semaphore,
    ) -> None:
        self._client = client
        self._clock = clock
        self._recorder = recorder
        self._pods = pods
        self._writes = writes

    async def bind(self, demand: Demand, node: str) -> float | None:
        """None once the pod is on the node; else after how many seconds to take back what was assumed."""
        body: Object = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": demand.name, "namespace": demand.namespace, "uid": demand.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        try:
            async with self._writes:
                await self._client.create(PODS, body, namespace=demand.namespace, subresource="binding")
        except (NotFound, Conflict) as error:
            # Gone, or bound by someone else: the watch tells. If it is neither, the pod is planned again.
            _log.info("%s was not bound to %s: %s", demand.key, node, error)
            return RETRY_SECONDS / 10
        except KajitoriError as error:
            _log.warning("%s could not be bound to %s, again soon: %s", demand.key, node, error)
            return RETRY_SECONDS
        pod = self._pods.get(demand.namespace, demand.name)
        await self._recorder.record(
            pod or _about(demand),
            "Scheduled",
            f"Successfully assigned {demand.key} to {node}",
            action="Binding",
        )
        return None

    async def nominate(self, demand: Demand, node: str) -> None:
        """The node that is being cleared for the pod; empty for none."""
        patch: Object = {"metadata": {"uid": demand.uid}, "status": {"nominatedNodeName": node or None}}
        with contextlib.suppress(NotFound, Conflict):
            await self._patch_status(demand, patch)

    async def evict(self, victim: Demand, cause: str) -> bool:
        """The pod is told to go. Whether it could be told, or is gone. cause: for whom, after `Preempted by`."""
        pod = self._pods.get(victim.namespace, victim.name)
        if pod is None or pod.metadata.uid != victim.uid:
            return True
        now = rfc3339(self._clock.now())
        message = f"{COMPONENT}: preempting to accommodate a higher priority pod"
        conditions = set_condition(
            pod.status.conditions, "DisruptionTarget", "True", "PreemptionByScheduler", message, now
        )
        patch: Object = {"metadata": {"uid": victim.uid}, "status": {"conditions": conditions}}
        try:
            await self._patch_status(victim, patch)
            async with self._writes:
                await self._client.delete(PODS, victim.name, victim.namespace, preconditions_uid=victim.uid)
        except (NotFound, Conflict):
            return True
        except KajitoriError as error:
            _log.warning("%s could not be told to go: %s", victim.key, error)
            return False
        await self._recorder.record(pod, "Preempted", f"Preempted by {cause}", action="Preempting")
        return True

    async def _patch_status(self, demand: Demand, patch: Object) -> None:
        async with self._writes:
            await self._client.patch(
                PODS, demand.name, patch, namespace=demand.namespace, subresource="status", type=PodView
            )


def _about(demand: Demand) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": demand.namespace, "name": demand.name, "uid": demand.uid},
    }
