"""Statuses of pods that others change while they are being written."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from kajitori.laptop.node.environment import Pod
from kajitori.laptop.node.pod import PodWorker
from kajitori.laptop.node.status import ContainerView, PodView, Running
from kajitori.laptop.node.status_writer import StatusWriter

GATE = "example.com/open"
NOW = 1_800_000_000.0


def a_pod(version: int, conditions: list[dict[str, Any]]) -> Pod:
    pod = {
        "metadata": {"name": "p", "namespace": "default", "uid": "u", "resourceVersion": str(version)},
        "spec": {"containers": [{"name": "c", "image": "i"}], "readinessGates": [{"conditionType": GATE}]},
        "status": {"phase": "Pending", "conditions": conditions},
    }
    return msgspec.convert(pod, Pod)


class Worker:
    """A pod whose container is ready."""

    gone = False

    def __init__(self, pod: Pod) -> None:
        self.pod = pod

    def view(self) -> PodView:
        container = ContainerView("c", "main", "i", "i", "", Running(NOW), None, 0, True, True)
        return PodView([container], True, "127.0.0.2", "127.0.0.1", NOW, None, "Always")


async def test_a_gate_that_opens_while_the_status_is_being_written_makes_the_pod_ready() -> None:
    worker = Worker(a_pod(8, []))
    written: list[list[dict[str, Any]]] = []
    ready = asyncio.Event()

    async def patch(resource: Any, name: str, body: dict[str, Any], **options: Any) -> Pod:
        conditions = body["status"]["conditions"]
        written.append(conditions)
        if any(one["type"] == "Ready" and one["status"] == "True" for one in conditions):
            ready.set()
        if len(written) > 1:
            return a_pod(11, [*conditions, {"type": GATE, "status": "True"}])
        # Somebody opens the gate right after our write, and the watch tells it before the answer to us is read.
        worker.pod = a_pod(10, [*conditions, {"type": GATE, "status": "True"}])
        writer.mark(cast("PodWorker", worker))
        return a_pod(9, conditions)

    node: Any = SimpleNamespace(client=SimpleNamespace(patch=patch))
    writer = StatusWriter(node, lambda pod: None)
    writer.mark(cast("PodWorker", worker))
    running = asyncio.create_task(writer.run())
    try:
        await asyncio.wait_for(ready.wait(), 10)
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    assert len(written) == 2
