"""The controller on an embedded API server, with a node that runs nothing and says that all is well."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Protocol

from tests.definitions import install_definitions
from tests.waiting import eventually

from kajitori.api.resource import (
    EVENTS,
    LEADER_WORKER_SETS,
    NODES,
    PODS,
    SERVICE_ACCOUNTS,
    SERVICES,
)
from kajitori.base.clock import Clock
from kajitori.base.errors import AlreadyExists, Conflict, NotFound, Unreachable
from kajitori.control.runtime import Runtime
from kajitori.groups.leader_worker_sets import controller
from kajitori.groups.leader_worker_sets.rbac import GANG_OBJECT_RULES, LAPTOP_RULES, RULES
from kajitori.kube.client import Client
from kajitori.kube.config import load_config
from kajitori.kube.transport import HttpTransport
from kajitori.laptop.apiserver.testing import RunningApiServer, running_api_server


class GivesKubeconfigs(Protocol):
    """A server that is asked for no more than this."""

    def kubeconfig_of(self, component: str) -> Path: ...


class CountingTransport(HttpTransport):
    """Counts requests by method and kind of object.

    writes_left: after so many writes nothing gets through any more, as for a process that is no more.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.requests: Counter[str] = Counter()
        self.writes_left = float("inf")

    async def send(self, method: str, target: str, *rest: Any, **options: Any) -> Any:
        if method != "GET":
            if self.writes_left <= 0:
                raise Unreachable("dead")
            self.writes_left -= 1
        self.requests[f"{method} {target.partition('?')[0].split('/')[-1 if method == 'POST' else -2]}"] += 1
        return await super().send(method, target, *rest, **options)


class FakeNode:
    """Binds every pod to itself, reports it ready, and ends it when it is deleted.

    paused: names of pods that it leaves alone.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.paused: set[str] = set()
        self.unready: set[str] = set()
        self._seen: dict[str, dict[str, Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        with contextlib.suppress(AlreadyExists):
            await self.client.create(
                NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "fake", "labels": {}}}
            )
        listed = await self.client.list(PODS)
        for pod in listed.items:
            self._note(pod)
        async for event in self.client.watch(PODS, resource_version=listed.resource_version):
            if event.type == "DELETED":
                self._seen.pop(event.object["metadata"]["name"], None)
            else:
                self._note(event.object)

    def resume(self) -> None:
        self.paused.clear()
        for pod in list(self._seen.values()):
            self._note(pod)

    def _note(self, pod: dict[str, Any]) -> None:
        self._seen[pod["metadata"]["name"]] = pod
        if pod["metadata"]["name"] in self.paused:
            return
        task = asyncio.ensure_future(self._handle(pod))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, pod: dict[str, Any]) -> None:
        metadata = pod["metadata"]
        name, namespace = metadata["name"], metadata["namespace"]
        # A server that is away has the pod in its next list.
        with contextlib.suppress(NotFound, Conflict, Unreachable):
            if "deletionTimestamp" in metadata:
                await self.client.delete(
                    PODS, name, namespace, grace_period_seconds=0, preconditions_uid=metadata["uid"]
                )
            elif not pod["spec"].get("nodeName"):
                binding = {
                    "apiVersion": "v1",
                    "kind": "Binding",
                    "metadata": {"name": name, "namespace": namespace},
                    "target": {"kind": "Node", "name": "fake"},
                }
                await self.client.create(PODS, binding, subresource="binding")
            elif pod.get("status", {}).get("phase") == "Pending":
                await self.report(name, namespace, ready=name not in self.unready)
            elif pod["spec"].get("readinessGates"):
                await self._follow_gates(pod)

    async def _follow_gates(self, pod: dict[str, Any]) -> None:
        """A pod with readiness gates is Ready when its containers are and somebody wrote all of them."""
        states = {one["type"]: one["status"] for one in pod["status"].get("conditions", ())}
        wanted = [gate["conditionType"] for gate in pod["spec"]["readinessGates"]]
        ready = all(states.get(kind) == "True" for kind in ("ContainersReady", *wanted))
        if states.get("Ready") != str(ready):
            await self._write_conditions(pod["metadata"], {"Ready": ready})

    async def _write_conditions(
        self, metadata: dict[str, Any], states: dict[str, bool], **status: Any
    ) -> None:
        conditions = [{"type": kind, "status": str(state)} for kind, state in states.items()]
        patch = {"metadata": {"uid": metadata["uid"]}, "status": {**status, "conditions": conditions}}
        await self.client.patch(
            PODS,
            metadata["name"],
            patch,
            namespace=metadata["namespace"],
            patch_type="strategic",
            subresource="status",
        )

    async def report(
        self, name: str, namespace: str = "default", *, ready: bool = True, restarts: int = 0
    ) -> None:
        """Write the status of a running pod; restarts: how often its container was restarted (exit code 137)."""
        last = {
            "terminated": {
                "exitCode": 137,
                "signal": 9,
                "reason": "Error",
                "startedAt": None,
                "finishedAt": None,
            }
        }
        container = {
            "name": "engine",
            "ready": ready,
            "restartCount": restarts,
            "image": "busybox:1",
            "imageID": "",
            "lastState": last if restarts else {},
            "state": {"running": {}},
        }
        states = {"ContainersReady": ready}
        if not self._seen[name]["spec"].get("readinessGates"):
            states["Ready"] = ready
        metadata = {"name": name, "namespace": namespace, "uid": self._seen[name]["metadata"]["uid"]}
        await self._write_conditions(metadata, states, phase="Running", containerStatuses=[container])


class Loop:
    """A running cluster of one controller and one fake node."""

    def __init__(
        self, server: RunningApiServer, client: Client, node: FakeNode, requests: Counter[str]
    ) -> None:
        self.server = server
        self.client = client
        self.node = node
        self.requests = requests

    async def apply(self, lws: dict[str, Any]) -> dict[str, Any]:
        return await self.client.apply(
            LEADER_WORKER_SETS, lws, field_manager="test", field_validation="Strict"
        )

    async def set(self, name: str = "x") -> dict[str, Any]:
        return await self.client.get(LEADER_WORKER_SETS, name, "default")

    async def pods(self) -> dict[str, dict[str, Any]]:
        return {pod["metadata"]["name"]: pod for pod in (await self.client.list(PODS, "default")).items}

    async def uids(self, group: int) -> dict[str, str]:
        return {
            name: pod["metadata"]["uid"]
            for name, pod in (await self.pods()).items()
            if name.split("-")[1] == str(group)
        }

    async def services(self) -> list[str]:
        names = [one["metadata"]["name"] for one in (await self.client.list(SERVICES, "default")).items]
        return [name for name in names if name != "kubernetes"]

    async def events(self, reason: str) -> list[dict[str, Any]]:
        return [
            event for event in (await self.client.list(EVENTS, "default")).items if event["reason"] == reason
        ]

    async def until(self, what: Callable[[], Any]) -> Any:
        """Wait until the awaitable that `what` makes gives something true."""
        return await eventually(what)

    async def available(self, name: str = "x") -> dict[str, Any]:
        """Wait until the set says that it is available as it stands; returns it."""

        async def check() -> dict[str, Any] | None:
            lws = await self.set(name)
            status = lws.get("status", {})
            current = status.get("observedGeneration") == lws["metadata"]["generation"]
            return lws if current and condition(lws, "Available") == "True" else None

        return await self.until(check)


def condition(lws: dict[str, Any], kind: str) -> str:
    found = [one["status"] for one in lws.get("status", {}).get("conditions", ()) if one["type"] == kind]
    return found[0] if found else ""


@contextlib.asynccontextmanager
async def running_controller(
    server: GivesKubeconfigs,
    writes: float = float("inf"),
    clock: Clock | None = None,
    register: Callable[[Runtime], object] = controller.register,
) -> AsyncIterator[CountingTransport]:
    """A controller, alone in its process, with the rights that it says it needs. writes: it dies after so many."""
    config = load_config(str(server.kubeconfig_of("controllers")))
    transport = CountingTransport(config, user_agent="kajitori-controllers")
    transport.writes_left = writes
    async with Client(config, transport=transport, user_agent="kajitori-controllers") as client:
        runtime = Runtime(client, clock=clock, grace_seconds=2.0)
        register(runtime)
        stop = asyncio.Event()
        running = asyncio.ensure_future(runtime.run(stop))
        try:
            yield transport
        finally:
            stop.set()
            await asyncio.gather(running, return_exceptions=True)


@contextlib.asynccontextmanager
async def running_loop(*, with_controller: bool = True) -> AsyncIterator[Loop]:
    async with contextlib.AsyncExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kajitori-")))
        (home / "run").mkdir()
        roles = home / "run" / "component-roles.json"
        roles.write_text(
            json.dumps({"system:kajitori:controllers": [*RULES, *GANG_OBJECT_RULES, *LAPTOP_RULES]})
        )
        server = await stack.enter_async_context(running_api_server(home))
        config = load_config(str(server.kubeconfig))
        admin = await stack.enter_async_context(Client(config, user_agent="kubectl/test"))
        node_client = await stack.enter_async_context(Client(config, user_agent="fake-node"))
        await install_definitions(admin, "LeaderWorkerSet")
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": "default"},
        }
        await admin.create(SERVICE_ACCOUNTS, account)
        requests: Counter[str] = Counter()
        if with_controller:
            requests = (await stack.enter_async_context(running_controller(server))).requests
        node = FakeNode(node_client)
        working = asyncio.ensure_future(node.run())
        try:
            yield Loop(server, admin, node, requests)
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
