"""Racks of fake nodes for one test, gangs of pods, and the gates in this process where no other one runs them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from kajitori.api.resource import EVENTS, NODES, PODS, Resource
from kajitori.control.runtime import Runtime
from kajitori.groups import rbac as groups_rbac
from kajitori.groups.leader_worker_sets import controller as groups
from kajitori.kube.client import Client
from kajitori.kube.config import load_config
from kajitori.model.gang import GATE, Gang, gang_annotations, gang_labels
from kajitori.scheduling import rbac as scheduling_rbac
from kajitori.scheduling.gates import controller as gates
from tests.fake_nodes import FakeNodes
from tests.groups.leader_worker_sets.loop import CountingTransport
from tests.servers import Server
from tests.waiting import eventually

Object = dict[str, Any]
RACK = "example.com/rack"
OWNER = "example.com/test"
USER = "gang-gates"
CLUSTER_ROLES = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False)
CLUSTER_ROLE_BINDINGS = Resource(
    "rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False
)
GPU = "nvidia.com/gpu"


def rack_node(test: str, rack: str, number: int, gpus: int) -> Object:
    name = f"{test}-{rack}-{number}"
    room = {"cpu": "64", "memory": "256Gi", "ephemeral-storage": "100Gi", "pods": "110", GPU: str(gpus)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, OWNER: test, RACK: rack}},
        "status": {
            "capacity": room,
            "allocatable": room,
            "addresses": [{"type": "InternalIP", "address": f"10.2.0.{number}"}],
        },
    }


@contextlib.asynccontextmanager
async def running_racks(
    server: Server, test: str, racks: int = 2, nodes: int = 4, gpus: int = 2
) -> AsyncIterator[None]:
    """Racks r1, r2, ... of so many nodes each; gone afterwards."""
    bodies = [
        rack_node(test, f"r{rack}", number, gpus)
        for rack in range(1, racks + 1)
        for number in range(1, nodes + 1)
    ]
    async with Client(load_config(str(server.kubeconfig)), user_agent="fake-nodes") as client:
        running = asyncio.ensure_future(FakeNodes(client, bodies=bodies).run())
        try:
            for body in bodies:
                name = body["metadata"]["name"]
                await eventually(lambda name=name: _usable(server, name), f"{name} is ready")
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            for body in bodies:
                await server.client.delete(NODES, body["metadata"]["name"])


async def _usable(server: Server, name: str) -> bool:
    answer = await server.http.get(f"/api/v1/nodes/{name}")
    return answer.code == 200 and not answer.json["spec"].get("taints")


@contextlib.asynccontextmanager
async def running_gates(
    server: Server, *, with_groups: bool = False, writes: float = float("inf"), everywhere: bool = False
) -> AsyncIterator[CountingTransport | None]:
    """The gates, and the controller of LeaderWorkerSets; on the embedded server they run already.

    writes: they die after so many. everywhere: also where they run already.
    """
    if server.name == "embedded" and not everywhere:
        yield None
        return
    config = load_config(str(await _with_rights_of_controllers(server)))
    transport = CountingTransport(config, user_agent="kajitori-controllers")
    transport.writes_left = writes
    async with Client(config, transport=transport, user_agent="kajitori-controllers") as client:
        runtime = Runtime(client, grace_seconds=2.0)
        gates.register(runtime)
        if with_groups:
            groups.register(runtime, audit=False, gang_default="Gate")
        stop = asyncio.Event()
        running = asyncio.ensure_future(runtime.run(stop))
        try:
            yield transport
        finally:
            stop.set()
            await asyncio.gather(running, return_exceptions=True)


async def _with_rights_of_controllers(server: Server) -> Path:
    """A kubeconfig of a user that may do what the gates and groups say they need, and no more."""
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": USER},
        "rules": [*groups_rbac.RULES, *scheduling_rbac.RULES],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": USER},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": USER},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USER}],
    }
    for resource, body in ((CLUSTER_ROLES, role), (CLUSTER_ROLE_BINDINGS, binding)):
        await server.client.apply(resource, body, field_manager="tests")
    return server.kubeconfig_of(USER)


def gang_pod(test: str, gang: Gang, number: int, *, gated: bool = True, **spec: Any) -> Object:
    """One GPU on a node of this test."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{gang.name}-{number}",
            "namespace": test,
            "labels": gang_labels(gang),
            "annotations": gang_annotations(gang),
        },
        "spec": {
            "containers": [
                {
                    "name": "c",
                    "image": "busybox:1",
                    "resources": {"requests": {"cpu": "1", GPU: "1"}, "limits": {GPU: "1"}},
                }
            ],
            "nodeSelector": {OWNER: test},
            **({"schedulingGates": [{"name": GATE}]} if gated else {}),
            **spec,
        },
    }


async def make(server: Server, *pods: Object) -> None:
    for pod in pods:
        await server.client.create(PODS, pod)


async def pods_of(server: Server, test: str, prefix: str = "") -> list[Object]:
    found = (await server.client.list(PODS, test)).items
    return sorted(
        (pod for pod in found if pod["metadata"]["name"].startswith(prefix)),
        key=lambda pod: pod["metadata"]["name"],
    )


async def places(server: Server, test: str, prefix: str = "") -> list[str]:
    """Names of nodes, one for each pod; empty for one that has none."""
    return [pod["spec"].get("nodeName", "") for pod in await pods_of(server, test, prefix)]


async def all_placed(server: Server, test: str, prefix: str, count: int) -> list[str] | None:
    nodes = await places(server, test, prefix)
    return nodes if len(nodes) == count and all(nodes) else None


def racks_of(test: str, nodes: list[str]) -> set[str]:
    return {node.removeprefix(f"{test}-").split("-")[0] for node in nodes}


async def told(server: Server, test: str, reason: str) -> list[Object]:
    return [event for event in (await server.client.list(EVENTS, test)).items if event["reason"] == reason]


async def delete_all(server: Server, test: str, prefix: str) -> None:
    for pod in await pods_of(server, test, prefix):
        await server.client.delete(PODS, pod["metadata"]["name"], test)
