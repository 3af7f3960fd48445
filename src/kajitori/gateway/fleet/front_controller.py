"""Keeps the Service in front of the Envoy fleet in step with the ports of the Gateways' listeners."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from kajitori.api.kubernetes.core_v1 import Service
from kajitori.api.resource import DEPLOYMENTS, SERVICES
from kajitori.base.errors import NotFound
from kajitori.control.controller import Key
from kajitori.gateway.fleet.front import Front, differs, service_body

if TYPE_CHECKING:
    from kajitori.control.runtime import Runtime
    from kajitori.gateway.controller import GatewayController
    from kajitori.gateway.observed import Settings

_log = logging.getLogger(__name__)

FIELD_MANAGER = "kajitori-gateway"


class FrontController:
    """Applies one Service."""

    def __init__(
        self, runtime: Runtime, gateway: GatewayController, settings: Settings, front: Front
    ) -> None:
        self._client = runtime.client
        self._gateway = gateway
        self._settings = settings
        self._front = front
        self._services = runtime.informer(SERVICES, Service)
        self._key = Key(front.namespace, front.name)
        controller = runtime.controller("gateway-front", self._reconcile)
        controller.watch(self._services, lambda _: (self._key,), when=self._is_ours)
        gateway.on_ports(lambda: controller.enqueue(self._key))
        controller.enqueue(self._key)

    def _is_ours(self, old: Service | None, new: Service | None) -> bool:
        item = new or old
        return item is not None and (item.metadata.namespace, item.metadata.name) == self._key

    async def _reconcile(self, key: Key) -> None:
        ports = self._gateway.ports
        if not ports:
            return
        body = service_body(self._front, self._settings, ports, None)
        if not differs(self._services.get(*key), body):
            return
        owner = await self._owner()
        body = service_body(self._front, self._settings, ports, owner)
        await self._client.apply(SERVICES, body, field_manager=FIELD_MANAGER)
        _log.info("Service %s serves the ports %s", key, ", ".join(map(str, ports)))

    async def _owner(self) -> dict[str, Any] | None:
        """Envoy's Deployment, so that the Service goes with it."""
        if not self._front.deployment:
            return None
        try:
            deployment = await self._client.get(DEPLOYMENTS, self._front.deployment, self._front.namespace)
        except NotFound:
            return None
        return {
            "apiVersion": DEPLOYMENTS.api_version,
            "kind": DEPLOYMENTS.kind,
            "name": self._front.deployment,
            "uid": deployment["metadata"]["uid"],
        }
