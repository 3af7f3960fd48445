"""The autoscaler: every 15 seconds reads a scale and its metrics, follows the plan, sets the size, writes status."""

from __future__ import annotations

import asyncio

import msgspec

from kajitori.api.resource import HORIZONTAL_POD_AUTOSCALERS, PODS, Resource
from kajitori.base.errors import ApiError, Conflict, KajitoriError, NotFound
from kajitori.control.cache import Informer
from kajitori.control.controller import After, Key, Result
from kajitori.control.runtime import Runtime
from kajitori.kube.objects import Object
from kajitori.laptop.controllers.autoscaling import plan
from kajitori.laptop.controllers.autoscaling.behavior import Memory
from kajitori.laptop.controllers.autoscaling.metrics import MetricsReader
from kajitori.laptop.controllers.autoscaling.plan import Decision, Event
from kajitori.laptop.controllers.autoscaling.sources import Scene, tolerances_of
from kajitori.laptop.controllers.autoscaling.views import AutoscalerStatusView, AutoscalerView, ScaledPod
from kajitori.laptop.controllers.discovery import Discovery, discover

COMPONENT = "horizontal-pod-autoscaler"
PERIOD_SECONDS = 15.0
_DISCOVERY_SECONDS = 30.0
_ATTEMPTS = 5


class Autoscalers:
    """Reconciles one HorizontalPodAutoscaler at a time."""

    def __init__(self, runtime: Runtime) -> None:
        self._client = runtime.client
        self._clock = runtime.clock
        self._recorder = runtime.recorder(COMPONENT)
        self._memories: dict[Key, tuple[str, Memory]] = {}
        self._pods_of: dict[Key, frozenset[str]] = {}
        self._discovery: Discovery | None = None
        self._discovered_at = float("-inf")
        self._autoscalers: Informer[AutoscalerView] = runtime.informer(
            HORIZONTAL_POD_AUTOSCALERS, AutoscalerView
        )
        controller = runtime.controller("horizontalpodautoscaler", self.reconcile, workers=2)
        # Its own writes of status ask for no further look.
        controller.watch(
            self._autoscalers, when=lambda old, new: old is None or new is None or old.spec != new.spec
        )

    async def reconcile(self, key: Key) -> Result:
        autoscaler = self._autoscalers.get(*key)
        if autoscaler is None:
            self._memories.pop(key, None)
            self._pods_of.pop(key, None)
            return None
        uid, memory = self._memories.get(key, ("", Memory()))
        if uid != autoscaler.metadata.uid:
            memory = Memory()
        try:
            decision = await self._look(key, autoscaler, memory)
        except KajitoriError as error:
            text = plan.without_scale(autoscaler, error.message, self._clock.now())
            decision = Decision(text, memory, events=[Event("Warning", "FailedGetScale", error.message)])
        self._memories[key] = (autoscaler.metadata.uid, decision.memory)
        for event in decision.events:
            await self._recorder.record(autoscaler, event.reason, event.message, type=event.type)
        await self._write_status(autoscaler, decision.status)
        return After(PERIOD_SECONDS)

    async def _look(self, key: Key, autoscaler: AutoscalerView, memory: Memory) -> Decision:
        """Raises where there is no scale to look at."""
        target = autoscaler.spec.scale_target_ref
        resource = await self._find(target.api_version.rpartition("/")[0], target.kind)
        scale = await self._client.get_scale(resource, target.name, key.namespace)
        current = int(scale.get("spec", {}).get("replicas", 0))
        present = int(scale.get("status", {}).get("replicas", 0))
        selector = str(scale.get("status", {}).get("selector", ""))
        pods: list[ScaledPod] = []
        readings, problem = [], None
        if plan.needs_metrics(autoscaler, current):
            if selector:
                pods = await self._pods(key, selector)
                problem = self._ambiguity(key, selector)
            else:
                problem = Event("Warning", "SelectorRequired", "selector is required")
            if problem is None:
                reader = MetricsReader(self._client, self._find, key.namespace, selector)
                readings = [await reader.read(metric) for metric in autoscaler.spec.metrics]
        now = self._clock.now()
        scene = Scene(key.namespace, current, present, pods, tolerances_of(autoscaler), now)
        decision = plan.plan_scaling(autoscaler, scene, readings, memory, problem)
        if decision.replicas is None:
            return decision
        try:
            await self._set_scale(resource, key.namespace, scale, decision.replicas)
        except KajitoriError as error:
            before = autoscaler.status.desired_replicas
            return plan.after_refusal(decision, before, error.message, now)
        return plan.after_change(decision, current, now)

    async def _pods(self, key: Key, selector: str) -> list[ScaledPod]:
        listed = await self._client.list(PODS, key.namespace, label_selector=selector, type=ScaledPod)
        self._pods_of[key] = frozenset(pod.metadata.name for pod in listed.items)
        return listed.items

    def _ambiguity(self, key: Key, selector: str) -> Event | None:
        """Whether another autoscaler counts the same pods."""
        mine = self._pods_of.get(key, frozenset())
        others = [
            other.name
            for other, pods in self._pods_of.items()
            if other != key and other.namespace == key.namespace and pods & mine
        ]
        if not others:
            return None
        shown = " ".join(f"{{{name} {key.namespace}}}" for name in sorted([*others, key.name]))
        text = f"pods by selector {selector} are controlled by multiple HPAs: [{shown}]"
        return Event("Warning", "AmbiguousSelector", text)

    async def _set_scale(self, resource: Resource, namespace: str, scale: Object, replicas: int) -> None:
        for attempt in range(_ATTEMPTS):
            wanted = {**scale, "spec": {**scale.get("spec", {}), "replicas": replicas}}
            try:
                await self._client.update(resource, wanted, namespace=namespace, subresource="scale")
                return
            except Conflict:
                if attempt == _ATTEMPTS - 1:
                    raise
                scale = await self._client.get_scale(resource, scale["metadata"]["name"], namespace)

    async def _find(self, group: str, kind: str) -> Resource:
        """Raises ApiError for a kind that the server does not serve."""
        now = asyncio.get_running_loop().time()
        known = self._discovery.kinds.get((group, kind)) if self._discovery is not None else None
        if known is None or now - self._discovered_at > _DISCOVERY_SECONDS:
            self._discovery = await discover(self._client)
            self._discovered_at = now
            known = self._discovery.kinds.get((group, kind))
        if known is None:
            raise ApiError(f'no matches for kind "{kind}" in group "{group}"', code=404)
        return known

    async def _write_status(self, autoscaler: AutoscalerView, status: AutoscalerStatusView) -> None:
        if status == autoscaler.status:
            return
        patch: Object = {
            "metadata": {"resourceVersion": autoscaler.metadata.resource_version},
            "status": msgspec.to_builtins(status),
        }
        try:
            stored = await self._client.patch(
                HORIZONTAL_POD_AUTOSCALERS,
                autoscaler.metadata.name,
                patch,
                namespace=autoscaler.metadata.namespace,
                subresource="status",
                type=AutoscalerView,
            )
        except NotFound:
            return
        except ApiError as error:
            await self._recorder.record(autoscaler, "FailedUpdateStatus", error.message, type="Warning")
            return
        self._autoscalers.remember(stored)


def register(runtime: Runtime) -> None:
    Autoscalers(runtime)
