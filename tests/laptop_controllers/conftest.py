"""A real embedded API server, the controllers on it, and a stand-in for nodes that makes pods run."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest
from tests.waiting import PATIENCE_SECONDS, eventually

from kajitori.api.resource import NODES, PODS
from kajitori.base.clock import SystemClock, rfc3339
from kajitori.base.errors import Conflict, NotFound
from kajitori.control.runtime import Runtime
from kajitori.kube.client import Client
from kajitori.kube.config import load_config
from kajitori.laptop.apiserver.testing import running_api_server
from kajitori.laptop.controllers.rbac import RULES

Check = Callable[[], Awaitable[Any]]


class ShiftedClock:
    """The time of day, which a test may move forward."""

    def __init__(self) -> None:
        self.offset_seconds = 0.0

    def now(self) -> float:
        return SystemClock().now() + self.offset_seconds


class World:
    """One cluster: `client` is the admin's, `runtime` runs the controllers that were asked for."""

    def __init__(self, server: Any, client: Client, controllers_client: Client) -> None:
        self.server = server
        self.client = client
        self.clock = ShiftedClock()
        self._controllers_client = controllers_client
        self._stack = contextlib.AsyncExitStack()
        self.runtime: Runtime | None = None

    async def start(self, *modules: Any, register: Callable[[Runtime], Any] | None = None) -> Runtime:
        """Run the controllers of these modules; again: as another process that starts anew."""
        runtime = Runtime(self._controllers_client, clock=self.clock)
        for module in modules:
            module.register(runtime)
        if register is not None:
            register(runtime)
        stop = asyncio.Event()
        running = asyncio.ensure_future(runtime.run(stop))

        async def end() -> None:
            stop.set()
            await running

        self._stack.push_async_callback(end)
        async with asyncio.timeout(20):
            await runtime.ready.wait()
        self.runtime = runtime
        return runtime

    async def stop(self) -> None:
        await self._stack.aclose()

    async def until(self, check: Check, seconds: float = PATIENCE_SECONDS) -> Any:
        """Wait until the check gives something true; a failing assertion counts as not yet."""
        return await eventually(check, str(check), seconds, despite=(AssertionError, NotFound, KeyError))

    async def pods(self, namespace: str = "default", selector: str = "") -> list[dict[str, Any]]:
        return (await self.client.list(PODS, namespace, label_selector=selector)).items

    async def add_node(self, name: str, labels: dict[str, str] | None = None, ready: bool = True) -> None:
        await self.client.create(NODES, {"metadata": {"name": name, "labels": labels or {}}})
        await self.set_node_ready(name, "True" if ready else "False")

    async def set_node_ready(self, name: str, status: str) -> None:
        now = rfc3339(self.clock.now())
        condition = {
            "type": "Ready", "status": status, "reason": "Test", "message": "by the test",
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        }  # fmt: skip
        await self.client.patch(
            NODES, name, {"status": {"conditions": [condition]}}, patch_type="strategic", subresource="status"
        )

    async def run_pods(
        self, names: Iterable[str] | None = None, *, ready: bool = True, namespace: str = "default"
    ) -> None:
        """Do a node's work once: what is new runs (and is ready), what is being deleted goes."""
        for pod in await self.pods(namespace):
            name = pod["metadata"]["name"]
            if names is not None and name not in names:
                continue
            with contextlib.suppress(NotFound, Conflict):
                if "deletionTimestamp" in pod["metadata"]:
                    await self.client.delete(PODS, name, namespace, grace_period_seconds=0)
                elif not pod["status"].get("podIP"):
                    await self.set_pod(name, ready=ready, namespace=namespace)

    async def set_pod(
        self, name: str, *, ready: bool, namespace: str = "default", ip: str = "", phase: str = "Running"
    ) -> None:
        number = sum(name.encode()) % 250 + 1
        now = rfc3339(self.clock.now())
        status = {
            "phase": phase, "podIP": ip or f"127.16.{sum(name.encode()[::2]) % 200}.{number}",
            "conditions": [{"type": "Ready", "status": str(ready), "lastTransitionTime": now}],
        }  # fmt: skip
        status["podIPs"] = [{"ip": status["podIP"]}]
        await self.client.patch(PODS, name, {"status": status}, namespace=namespace, subresource="status")

    @contextlib.asynccontextmanager
    async def nodes_at_work(self, *, ready: bool = True, namespace: str = "default"):
        """Make pods run, and end, as nodes would, for as long as the context lasts."""

        async def work() -> None:
            while True:
                await self.run_pods(ready=ready, namespace=namespace)
                await asyncio.sleep(0.05)

        task = asyncio.ensure_future(work())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def world(tmp_path):
    # The controllers get the rights that they say they need, and no others.
    rights = tmp_path / "run" / "component-roles.json"
    rights.parent.mkdir(parents=True)
    rights.write_text(json.dumps({"system:kajitori:controllers": RULES}))
    async with running_api_server(tmp_path) as server:
        admin = load_config(str(server.kubeconfig))
        controllers = load_config(str(server.kubeconfig_of("controllers")))
        async with Client(admin) as client, Client(controllers) as controllers_client:
            world = World(server, client, controllers_client)
            yield world
            await world.stop()
