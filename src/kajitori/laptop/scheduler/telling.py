"""Pods that wait are told why: a condition, and an event.

The numbers in such a message change with every pod that is placed anywhere. So a pod is told anew at growing intervals
only, always the latest, and nothing where it knows already.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import msgspec

from kajitori.api.resource import PODS
from kajitori.base.clock import rfc3339
from kajitori.base.errors import Conflict, KajitoriError, NotFound
from kajitori.kube.objects import Object, set_condition
from kajitori.scheduling.views import PodView

if TYPE_CHECKING:
    from collections.abc import Callable

    from kajitori.base.clock import Clock
    from kajitori.control.cache import Informer
    from kajitori.kube.client import Client
    from kajitori.kube.events import EventRecorder
    from kajitori.scheduling.demand import Demand

_log = logging.getLogger(__name__)

GATED = "SchedulingGated"
UNSCHEDULABLE = "Unschedulable"

_TRIES = 10
_RETRY_SECONDS = 1.0
_SHORTEST_INTERVAL_SECONDS = 0.25
_LONGEST_INTERVAL_SECONDS = 10.0


class _Talk(msgspec.Struct):
    """What one pod was told. next_at: not again before (time of the event loop). busy: somebody is at it."""

    message: str
    interval_seconds: float = 0.0
    next_at: float = 0.0
    busy: bool = False


class Telling:
    """waits: whether the pod of this uid still waits; asked before each write. writes: limits requests at a time."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        recorder: EventRecorder,
        pods: Informer[PodView],
        writes: asyncio.Semaphore,
        waits: Callable[[str], bool],
    ) -> None:
        self._client = client
        self._clock = clock
        self._recorder = recorder
        self._pods = pods
        self._writes = writes
        self._waits = waits
        self._talks: dict[str, _Talk] = {}

    def news(self, demand: Demand, message: str) -> bool:
        """Whether someone must `tell` it; note what."""
        talk = self._talks.get(demand.uid)
        if talk is None:
            pod = self._pods.get(demand.namespace, demand.name)
            if pod is not None and pod.metadata.uid == demand.uid and _knows(pod, UNSCHEDULABLE, message):
                return False
            talk = self._talks[demand.uid] = _Talk(message)
        elif talk.busy or talk.message == message:
            talk.message = message
            return False
        talk.message = message
        talk.busy = True
        return True

    def forget(self, uid: str) -> None:
        """It waits no longer."""
        self._talks.pop(uid, None)

    async def tell(self, demand: Demand) -> None:
        """The latest message for it, once it is time."""
        loop = asyncio.get_running_loop()
        talk = self._talks.get(demand.uid)
        while talk is not None:
            await asyncio.sleep(max(0.0, talk.next_at - loop.time()))
            if self._talks.get(demand.uid) is not talk:
                return
            message = talk.message
            pod = await self.set_condition(
                demand, UNSCHEDULABLE, message, lambda pod: self._waits(pod.metadata.uid)
            )
            if pod is not None:
                await self._recorder.record(
                    pod, "FailedScheduling", message, type="Warning", action="Scheduling"
                )
            talk.interval_seconds = min(
                max(_SHORTEST_INTERVAL_SECONDS, 2 * talk.interval_seconds), _LONGEST_INTERVAL_SECONDS
            )
            talk.next_at = loop.time() + talk.interval_seconds
            if talk.message == message:
                talk.busy = False
                return

    async def tell_gated(self, demand: Demand, gates: str) -> None:
        """It is not looked at before these are gone."""

        def still_gated(pod: PodView) -> bool:
            return bool(pod.spec.scheduling_gates)

        message = f"Scheduling is blocked due to non-empty scheduling gates: {gates}"
        await self.set_condition(demand, GATED, message, still_gated)

    async def set_condition(
        self, demand: Demand, reason: str, message: str, holds: Callable[[PodView], bool]
    ) -> PodView | None:
        """PodScheduled=False for this reason, as long as that `holds`. The pod if it was news to it.

        The version guards against saying so of a pod that has been bound since.
        """
        for _ in range(_TRIES):
            pod = self._pods.get(demand.namespace, demand.name)
            if pod is None or pod.metadata.uid != demand.uid or not holds(pod):
                return None
            if _knows(pod, reason, message):
                return None
            try:
                changed = await self._write(pod, reason, message)
            except NotFound:
                return None
            except Conflict:
                # The cache is behind by a moment.
                await asyncio.sleep(_RETRY_SECONDS / 10)
            except KajitoriError as error:
                _log.warning("the condition of %s could not be written, again soon: %s", demand.key, error)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                self._pods.remember(changed)
                return changed
        return None

    async def _write(self, pod: PodView, reason: str, message: str) -> PodView:
        now = rfc3339(self._clock.now())
        conditions = set_condition(pod.status.conditions, "PodScheduled", "False", reason, message, now)
        patch: Object = {
            "metadata": {"uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version},
            "status": {"conditions": conditions},
        }
        async with self._writes:
            return await self._client.patch(
                PODS,
                pod.metadata.name,
                patch,
                namespace=pod.metadata.namespace,
                subresource="status",
                type=PodView,
            )


def _knows(pod: PodView, reason: str, message: str) -> bool:
    known = pod.condition("PodScheduled")
    return (known.get("status"), known.get("reason"), known.get("message")) == ("False", reason, message)
