"""The endpoints controller: keeps the EndpointSlices (and the legacy Endpoints) of Services with selectors.

A change of a pod touches only the Services that select it, found by an index over one of each selector's labels.
Changes in quick succession are written together: a Service is looked at every 100 ms at most, one of many endpoints
less often, so that a thousand pods becoming ready cost few writes and not a thousand of growing size. The legacy
object holds all endpoints in one piece, so that its interval grows faster.
"""

from __future__ import annotations

import asyncio

from kajitori.api.resource import ENDPOINT_SLICES, ENDPOINTS, NODES, PODS, SERVICES, Resource
from kajitori.base.errors import AlreadyExists, ApiError, Forbidden, NotFound
from kajitori.control.cache import Informer
from kajitori.control.controller import After, Key, Result
from kajitori.control.runtime import Runtime
from kajitori.kube.objects import Object
from kajitori.laptop.controllers.endpoint_slices.plan import (
    MANAGED_BY,
    SERVICE_NAME,
    SLICE_MANAGER,
    Group,
    groups,
    plan_slices,
    plan_subsets,
    selected,
)
from kajitori.laptop.controllers.views import EndpointSliceView, EndpointsView, NodeView, PodView, ServiceView

_SHORTEST_INTERVAL_SECONDS = 0.1
_SECONDS_AN_ENDPOINT = 2e-4
_LEGACY_SECONDS_AN_ENDPOINT = 2e-3
_BY_SELECTOR, _BY_LABEL = "selector", "label"
ZONE = "topology.kubernetes.io/zone"
_OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
_LEGACY_MANAGED_BY = "endpoints.kubernetes.io/managed-by"


def _selector_index(service: ServiceView) -> list[str]:
    """One of the selector's labels: a pod that the Service selects has it."""
    for key, value in sorted(service.spec.selector.items()):
        return [f"{service.metadata.namespace}/{key}={value}"]
    return []


def _label_index(pod: PodView) -> list[str]:
    return [f"{pod.metadata.namespace}/{key}={value}" for key, value in pod.metadata.labels.items()]


class EndpointSlices:
    """Reconciles one Service at a time."""

    def __init__(self, runtime: Runtime) -> None:
        self._client = runtime.client
        self._services: Informer[ServiceView] = runtime.informer(
            SERVICES, ServiceView, indexers={_BY_SELECTOR: _selector_index}
        )
        self._pods: Informer[PodView] = runtime.informer(PODS, PodView, indexers={_BY_LABEL: _label_index})
        self._nodes: Informer[NodeView] = runtime.informer(NODES, NodeView)
        self._slices: Informer[EndpointSliceView] = runtime.informer(
            ENDPOINT_SLICES,
            EndpointSliceView,
            label_selector=f"{MANAGED_BY}={SLICE_MANAGER}",
            indexers={
                "service": lambda one: [
                    f"{one.metadata.namespace}/{one.metadata.labels.get(SERVICE_NAME, '')}"
                ]
            },
        )
        self._legacy: Informer[EndpointsView] = runtime.informer(ENDPOINTS, EndpointsView)
        self._written: dict[Key, float] = {}
        self._legacy_written: dict[Key, float] = {}
        controller = runtime.controller("endpointslice", self.reconcile, workers=2)
        controller.watch(self._services)
        controller.watch(self._pods, self._services_of, when=_matters)
        controller.watch(self._slices, _service_of_slice)
        controller.watch(self._legacy, when=lambda old, new: new is None)

    def _services_of(self, pod: PodView) -> list[Key]:
        return [
            Key(pod.metadata.namespace, service.metadata.name)
            for value in _label_index(pod)
            for service in self._services.by_index(_BY_SELECTOR, value)
            if selected(service, pod)
        ]

    async def reconcile(self, key: Key) -> Result:
        service = self._services.get(*key)
        if service is None:
            self._written.pop(key, None)
            self._legacy_written.pop(key, None)
            # Slices go with their owner; the legacy object has none.
            await self._delete_legacy(key)
            return None
        if service.metadata.deletion_timestamp is not None or not service.spec.selector:
            return None
        if service.spec.type == "ExternalName":
            return None
        now = asyncio.get_running_loop().time()
        known = sum(len(one.endpoints) for one in self._slices_of(key))
        interval = max(_SHORTEST_INTERVAL_SECONDS, known * _SECONDS_AN_ENDPOINT)
        wait = self._written.get(key, float("-inf")) + interval - now
        if wait > 0:
            return After(wait)
        wanted = groups(service, self._pods_of(service), self._zone_of)
        try:
            if await self._write_slices(key, service, wanted):
                self._written[key] = asyncio.get_running_loop().time()
            return await self._write_legacy(key, service, wanted)
        except Forbidden as error:
            if not any(cause.get("reason") == "NamespaceTerminating" for cause in error.causes):
                raise
            return None

    def _slices_of(self, key: Key) -> list[EndpointSliceView]:
        return self._slices.by_index("service", f"{key.namespace}/{key.name}")

    def _pods_of(self, service: ServiceView) -> list[PodView]:
        value = _selector_index(service)[0]
        return [pod for pod in self._pods.by_index(_BY_LABEL, value) if selected(service, pod)]

    def _zone_of(self, node_name: str) -> str | None:
        node = self._nodes.get("", node_name)
        return node.metadata.labels.get(ZONE) if node is not None else None

    async def _write_slices(self, key: Key, service: ServiceView, wanted: list[Group]) -> bool:
        existing = self._slices_of(key)
        if not wanted and not existing:
            return False
        changes = plan_slices(service, wanted, existing)
        for one, body in changes.update:
            body["metadata"]["resourceVersion"] = one.metadata.resource_version
            self._slices.remember(await self._client.update(ENDPOINT_SLICES, body, type=EndpointSliceView))
        for body in changes.create:
            try:
                made = await self._client.create(ENDPOINT_SLICES, body, type=EndpointSliceView)
            except AlreadyExists:
                made = await self._client.update(ENDPOINT_SLICES, body, type=EndpointSliceView)
            self._slices.remember(made)
        for one in changes.delete:
            await self._delete(ENDPOINT_SLICES, one.metadata.name, key.namespace)
            self._slices.forget(one)
        return bool(changes.update or changes.create or changes.delete)

    async def _write_legacy(self, key: Key, service: ServiceView, wanted: list[Group]) -> Result:
        count = sum(len(group.endpoints) for group in wanted)
        interval = max(_SHORTEST_INTERVAL_SECONDS, count * _LEGACY_SECONDS_AN_ENDPOINT)
        now = asyncio.get_running_loop().time()
        wait = self._legacy_written.get(key, float("-inf")) + interval - now
        if wait > 0:
            return After(wait)
        publish = service.spec.publish_not_ready_addresses
        subsets, truncated = plan_subsets(wanted, publish_not_ready=publish)
        known = self._legacy.get(*key)
        labels = {**service.metadata.labels, _LEGACY_MANAGED_BY: "endpoint-controller"}
        if service.spec.cluster_ip == "None":
            labels["service.kubernetes.io/headless"] = ""
        if known is not None and known.subsets == subsets and known.metadata.labels == labels:
            return None
        body: Object = {
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {"name": key.name, "namespace": key.namespace, "labels": labels},
            "subsets": subsets,
        }
        if truncated:
            body["metadata"]["annotations"] = {_OVER_CAPACITY: "truncated"}
        if known is None:
            made = await self._client.create(ENDPOINTS, body, type=EndpointsView)
        else:
            body["metadata"]["resourceVersion"] = known.metadata.resource_version
            made = await self._client.update(ENDPOINTS, body, type=EndpointsView)
        self._legacy.remember(made)
        self._legacy_written[key] = asyncio.get_running_loop().time()
        return None

    async def _delete_legacy(self, key: Key) -> None:
        known = self._legacy.get(*key)
        if known is not None and _LEGACY_MANAGED_BY in known.metadata.labels:
            await self._delete(ENDPOINTS, key.name, key.namespace)
            self._legacy.forget(known)

    async def _delete(self, resource: Resource, name: str, namespace: str) -> None:
        try:
            await self._client.delete(resource, name, namespace)
        except NotFound:
            pass
        except ApiError as error:
            if error.code != 409:
                raise


def _service_of_slice(one: EndpointSliceView) -> list[Key]:
    name = one.metadata.labels.get(SERVICE_NAME)
    return [Key(one.metadata.namespace, name)] if name else []


def _matters(old: PodView | None, new: PodView | None) -> bool:
    """Whether a change of a pod may change an endpoint."""
    if old is None or new is None:
        return True
    return _seen(old) != _seen(new)


def _seen(pod: PodView) -> tuple[object, ...]:
    return (
        pod.metadata.labels,
        pod.metadata.uid,
        pod.status.pod_ip,
        pod.status.pod_ips,
        pod.is_ready,
        pod.is_deleting,
        pod.has_ended,
        pod.spec.node_name,
        pod.spec.hostname,
    )


def register(runtime: Runtime) -> None:
    EndpointSlices(runtime)
