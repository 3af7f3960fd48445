"""A cluster of the gateway: an embedded API server with our kinds, our controller, and a real Envoy."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from kajitori.api import resource as resources
from kajitori.api.resource import Resource
from kajitori.base.errors import NotFound
from kajitori.control.runtime import Runtime
from kajitori.gateway import controller
from kajitori.gateway.observed import Settings
from kajitori.kube.client import Client
from kajitori.kube.config import load_config
from kajitori.laptop.apiserver.testing import running_api_server
from tests.definitions import install_definitions
from tests.gateway.workbench import CLASS, Reply, Workbench, running_workbench
from tests.waiting import eventually

RESOURCES = {item.kind: item for item in vars(resources).values() if isinstance(item, Resource)}
QUESTION = {"model": "gpt-4o", "messages": []}


def completed(document: dict[str, Any]) -> tuple[Resource, dict[str, Any]]:
    """Of what kind a manifest is, and the manifest with its API version and namespace."""
    resource = RESOURCES[document["kind"]]
    place = {"namespace": "default"} if resource.namespaced else {}
    metadata = {**place, **document["metadata"]}
    return resource, {"apiVersion": resource.api_version, **document, "metadata": metadata}


async def apply(client: Client, *documents: dict[str, Any]) -> None:
    for resource, body in map(completed, documents):
        await client.apply(resource, body, field_manager="test")


class Cluster:
    """client: of an administrator. bench: Envoy and what it listens to."""

    def __init__(self, client: Client, bench: Workbench) -> None:
        self.client = client
        self.bench = bench

    async def apply(self, *documents: dict[str, Any]) -> None:
        await apply(self.client, *documents)

    async def status(self, resource: Resource, name: str) -> dict[str, Any]:
        found = await self.client.get(resource, name, "default" if resource.namespaced else None)
        return found.get("status") or {}

    async def condition(self, resource: Resource, name: str, kind: str, **wanted: str) -> dict[str, Any]:
        """Waits until a condition says what is wanted; `message` need only contain it."""
        part = wanted.pop("message", "")
        status: dict[str, Any] = {}

        async def told() -> dict[str, Any] | None:
            nonlocal status
            status = await self.status(resource, name)
            for found in _conditions(status):
                same = all(found[key] == value for key, value in wanted.items())
                if found["type"] == kind and same and part in found["message"]:
                    return found
            return None

        return await eventually(told, lambda: f"{kind} of {name} with {wanted} {part!r}; it says {status}")

    async def answered(self, status: int, body: dict[str, Any] = QUESTION, **headers: str) -> Reply:
        """Waits until a request is answered with this status."""
        reply: Reply | None = None

        async def is_answered() -> Reply | None:
            nonlocal reply
            reply = await self.bench.post(body, headers=headers)
            return reply if reply.status == status else None

        return await eventually(
            is_answered, lambda: f"status {status}; the last was {reply}", despite=(OSError,)
        )

    async def there(self, resource: Resource, name: str) -> dict[str, Any]:
        """Waits until an object is there."""
        return await eventually(
            lambda: self.client.get(resource, name, "default"), f"{name} is there", despite=(NotFound,)
        )

    async def gone(self, resource: Resource, name: str) -> None:
        """Waits until an object is no longer there."""

        async def is_gone() -> bool:
            try:
                await self.client.get(resource, name, "default")
            except NotFound:
                return True
            return False

        await eventually(is_gone, f"{name} is gone")


def _conditions(status: dict[str, Any]) -> list[dict[str, Any]]:
    """Those of the object and of its parts."""
    parts = [*status.get("parents", ()), *status.get("listeners", ()), *status.get("ancestors", ())]
    return [*status.get("conditions", ()), *(each for part in parts for each in part["conditions"])]


@contextlib.asynccontextmanager
async def running_cluster(**surroundings: Any) -> AsyncIterator[Cluster]:
    """With our GatewayClass. surroundings: what `GatewayController` takes besides."""
    async with (
        running_api_server() as server,
        running_workbench() as bench,
        Client(load_config(str(server.kubeconfig))) as client,
    ):
        await install_definitions(client)
        runtime = Runtime(client)
        settings = Settings(bind_address="127.0.0.1", access_log=str(bench.access_log))
        controller.GatewayController(runtime, bench.ads, bench.ledger, settings, **surroundings)
        stop = asyncio.Event()
        running = asyncio.create_task(runtime.run(stop))
        try:
            await apply(client, CLASS)
            yield Cluster(client, bench)
        finally:
            stop.set()
            await running
