"""A node that was called lost while nobody heard of it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from kajitori.laptop.node.registration import Registration
from kajitori.laptop.node.runner_client import RunnerInfo
from kajitori.laptop.settings import NodeSettings

HEARTBEAT_SECONDS = 0.02
SILENCE_SECONDS = 0.2


class Server:
    """Holds one Node and its lease; answers the third renewal late, and calls the node lost meanwhile."""

    def __init__(self) -> None:
        self.node: dict[str, Any] = {}
        self.renewals = 0
        self.lost = asyncio.Event()
        self.well_again = asyncio.Event()

    async def get(self, resource: Any, name: str, namespace: str | None = None) -> dict[str, Any]:
        return {"spec": {}} if namespace else self.node

    async def patch(self, resource: Any, name: str, patch: dict[str, Any], **options: Any) -> None:
        self.node = {**self.node, "status": patch["status"]} if "status" in patch else self.node
        if self.lost.is_set() and self.ready == "True":
            self.well_again.set()

    async def update(self, resource: Any, lease: dict[str, Any]) -> dict[str, Any]:
        self.renewals += 1
        if self.renewals == 3:
            await asyncio.sleep(SILENCE_SECONDS)
            for condition in self.node["status"]["conditions"]:
                condition["status"] = "Unknown"
            self.lost.set()
        return lease

    @property
    def ready(self) -> str:
        conditions = self.node["status"]["conditions"]
        return next(one["status"] for one in conditions if one["type"] == "Ready")


async def test_a_node_that_was_called_lost_in_a_silence_says_that_it_is_well(tmp_path: Path) -> None:
    server = Server()
    server.node = {"metadata": {"uid": "u"}, "status": {}}
    connected = asyncio.Event()
    connected.set()
    node: Any = SimpleNamespace(
        name="node-1",
        home=tmp_path,
        client=server,
        settings=NodeSettings(name="node-1", server="https://127.0.0.1", pod_cidr="127.0.0.0/22"),
        runner_info=RunnerInfo(pid=1, namespaces=True, user_namespace=False, message=""),
        runner_connected=connected,
        native=SimpleNamespace(bind_library="x", message=""),
        options=SimpleNamespace(heartbeat_seconds=HEARTBEAT_SECONDS),
        certificate_problem="",
    )
    running = asyncio.create_task(Registration(node).run())
    try:
        await asyncio.wait_for(server.well_again.wait(), 10)
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
