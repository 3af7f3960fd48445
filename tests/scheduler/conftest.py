"""Pods and nodes for plans, and a scheduler on a real embedded API server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import pytest

from kajitori.api.resource import EVENTS, NODES, PODS, SERVICE_ACCOUNTS
from kajitori.base.errors import NotFound
from kajitori.control.runtime import Runtime
from kajitori.kube.client import Client
from kajitori.kube.config import load_config
from kajitori.laptop.apiserver.testing import running_api_server
from kajitori.laptop.scheduler.controller import Scheduler, register
from kajitori.laptop.scheduler.rbac import RULES
from kajitori.model.gang import GANG_LABEL, Gang, gang_annotations, gang_labels
from tests.waiting import PATIENCE_SECONDS, eventually


class World:
    """One cluster. `client` is the admin's; the scheduler has its own rights and no others."""

    def __init__(self, client: Client, scheduler_client: Client) -> None:
        self.client = client
        self.scheduler_client = scheduler_client
        self._stop = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> Scheduler:
        runtime = Runtime(self.scheduler_client)
        scheduler = register(runtime)
        self._stop = asyncio.Event()
        self._running = asyncio.create_task(runtime.run(self._stop))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await runtime.ready.wait()
        return scheduler

    async def stop(self) -> None:
        self._stop.set()
        if self._running is not None:
            await self._running

    async def until(self, check: Callable[[], Awaitable[Any]], what: str) -> Any:
        return await eventually(check, what)

    async def add_node(self, name: str, labels: dict[str, str] | None = None, **allocatable: str) -> None:
        await self.client.create(NODES, {"metadata": {"name": name, "labels": labels or {}}})
        # Nodes come tainted as not ready, until the node controller hears from them.
        await self.client.patch(NODES, name, {"spec": {"taints": None}})
        offered = {
            "cpu": "8",
            "memory": "16Gi",
            "pods": "110",
            **allocatable,
        }
        await self.client.patch(
            NODES, name, {"status": {"allocatable": offered, "capacity": offered}}, subresource="status"
        )

    async def add_pod(self, name: str, requests: dict[str, str] | None = None, **spec: Any) -> None:
        resources = {
            "requests": requests or {},
            "limits": {k: v for k, v in (requests or {}).items() if "/" in k},
        }
        container = {"name": "c", "image": "busybox", "resources": resources}
        marks = {"labels": spec.pop("labels", {}), "annotations": spec.pop("annotations", {})}
        body = {
            "metadata": {
                "name": name,
                "labels": {"app": name, **marks["labels"]},
                "annotations": marks["annotations"],
            },
            "spec": {"containers": [container], **spec},
        }
        await self.client.create(PODS, body, namespace="default")

    async def add_gang(
        self, gang: Gang, numbers: Iterable[int], requests: dict[str, str], **spec: Any
    ) -> None:
        labels, annotations = gang_labels(gang), gang_annotations(gang)
        for number in numbers:
            name = f"{gang.name}-{number}"
            await self.add_pod(name, requests, labels=labels, annotations=annotations, **spec)

    async def nodes_of(self, gang: Gang) -> list[str]:
        """Of its pods that exist; empty for those without."""
        chosen = f"{GANG_LABEL}={gang.name}"
        pods = (await self.client.list(PODS, "default", label_selector=chosen)).items
        return [pod["spec"].get("nodeName", "") for pod in pods]

    async def all_bound(self, gang: Gang) -> list[str]:
        async def check() -> list[str]:
            nodes = await self.nodes_of(gang)
            return nodes if len(nodes) == gang.size and all(nodes) else []

        return await self.until(check, f"all of {gang.name} on nodes")

    async def pod(self, name: str) -> dict[str, Any]:
        return await self.client.get(PODS, name, "default")

    async def node_of(self, name: str) -> str:
        try:
            return (await self.pod(name))["spec"].get("nodeName", "")
        except NotFound:
            return ""

    async def scheduled_condition(self, name: str) -> dict[str, Any]:
        conditions = (await self.pod(name))["status"].get("conditions", [])
        return next((c for c in conditions if c["type"] == "PodScheduled"), {})

    async def bound(self, name: str) -> str:
        return await self.until(lambda: self.node_of(name), f"{name} on a node")

    async def waits(self, name: str, part: str) -> dict[str, Any]:
        async def check() -> Any:
            condition = await self.scheduled_condition(name)
            return condition if part in condition.get("message", "") else None

        return await self.until(check, f"{name} waits: {part}")

    async def events(self, name: str, reason: str) -> list[dict[str, Any]]:
        listed = (await self.client.list(EVENTS, "default")).items
        return [event for event in listed if event["regarding"]["name"] == name and event["reason"] == reason]


@pytest.fixture
async def world(tmp_path) -> AsyncIterator[World]:
    rights = tmp_path / "run" / "component-roles.json"
    rights.parent.mkdir(parents=True)
    rights.write_text(json.dumps({"system:kajitori:controllers": RULES}))
    async with running_api_server(tmp_path) as server:
        admin = load_config(str(server.kubeconfig))
        own = load_config(str(server.kubeconfig_of("controllers")))
        async with Client(admin) as client, Client(own) as scheduler_client:
            # What the service account controller would bring.
            await client.create(SERVICE_ACCOUNTS, {"metadata": {"name": "default"}}, namespace="default")
            made = World(client, scheduler_client)
            yield made
            await made.stop()
