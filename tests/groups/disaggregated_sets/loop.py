"""Both group controllers on an embedded API server, with a node that runs nothing and says that all is well."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from tests.definitions import install_definitions
from tests.groups.leader_worker_sets.loop import CountingTransport, FakeNode, Loop, condition

from kajitori.api.disaggregatedset import v1
from kajitori.api.resource import (
    DISAGGREGATED_SETS,
    LEADER_WORKER_SETS,
    SERVICE_ACCOUNTS,
)
from kajitori.control.runtime import Runtime
from kajitori.groups.disaggregated_sets import controller as disaggregated_sets
from kajitori.groups.leader_worker_sets import controller as leader_worker_sets
from kajitori.groups.rbac import LAPTOP_RULES, RULES
from kajitori.kube.client import Client
from kajitori.kube.config import load_config
from kajitori.laptop.apiserver.testing import RunningApiServer, running_api_server

KINDS = ("LeaderWorkerSet", "DisaggregatedSet", "DisaggregatedSetRoleScaler")
Object = dict[str, Any]


class SetLoop(Loop):
    """A running cluster of both controllers and one fake node."""

    async def apply_set(self, manifest: Object) -> Object:
        return await self.client.apply(
            DISAGGREGATED_SETS, manifest, field_manager="test", field_validation="Strict", namespace="default"
        )

    async def the_set(self, name: str = "x") -> Object:
        return await self.client.get(DISAGGREGATED_SETS, name, "default")

    async def children(self) -> dict[str, Object]:
        listed = await self.client.list(LEADER_WORKER_SETS, "default")
        return {one["metadata"]["name"]: one for one in listed.items}

    async def available_set(self, name: str = "x") -> Object:
        """Wait until the set says that it is available as it stands; returns it."""

        async def check() -> Object | None:
            found = await self.the_set(name)
            current = found.get("status", {}).get("observedGeneration") == found["metadata"]["generation"]
            return found if current and condition(found, v1.AVAILABLE) == "True" else None

        return await self.until(check)


@contextlib.asynccontextmanager
async def running(
    server: RunningApiServer, rooms: Iterable[Any], writes: float = float("inf")
) -> AsyncIterator[CountingTransport]:
    """Controllers in a process of their own, with the rights that they say they need. writes: it dies after so many."""
    config = load_config(str(server.kubeconfig_of("controllers")))
    transport = CountingTransport(config, user_agent="kajitori-controllers")
    transport.writes_left = writes
    async with Client(config, transport=transport, user_agent="kajitori-controllers") as client:
        runtime = Runtime(client, grace_seconds=5.0)
        for room in rooms:
            room.register(runtime)
        stop = asyncio.Event()
        working = asyncio.ensure_future(runtime.run(stop))
        try:
            yield transport
        finally:
            stop.set()
            await asyncio.gather(working, return_exceptions=True)


@contextlib.asynccontextmanager
async def running_set_loop(*, with_controller: bool = True) -> AsyncIterator[SetLoop]:
    """The controller of LeaderWorkerSets always runs; with_controller: that of DisaggregatedSets too.

    `requests` are those of the controller of DisaggregatedSets.
    """
    async with contextlib.AsyncExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kajitori-")))
        (home / "run").mkdir()
        roles = {"system:kajitori:controllers": [*RULES, *LAPTOP_RULES]}
        (home / "run" / "component-roles.json").write_text(json.dumps(roles))
        server = await stack.enter_async_context(running_api_server(home))
        config = load_config(str(server.kubeconfig))
        admin = await stack.enter_async_context(Client(config, user_agent="kubectl/test"))
        node_client = await stack.enter_async_context(Client(config, user_agent="fake-node"))
        await install_definitions(admin, *KINDS)
        account = {"metadata": {"name": "default", "namespace": "default"}}
        await admin.create(SERVICE_ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", **account})
        await stack.enter_async_context(running(server, [leader_worker_sets]))
        rooms = [disaggregated_sets] if with_controller else []
        transport = await stack.enter_async_context(running(server, rooms))
        node = FakeNode(node_client)
        working = asyncio.ensure_future(node.run())
        try:
            yield SetLoop(server, admin, node, transport.requests)
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
