"""Nodes whose pods are only said to run: the same on both servers, so that controllers are tried alike.

A pod that is bound to one of them is Running and Ready at once, a deleted one ends at once. Annotations on a pod:
`kajitori.dev/test-exit: CODE` its containers end with that code; `kajitori.dev/test-ready: "false"` it never
becomes ready while the annotation says so.

python -m tests.fake_nodes --kubeconfig FILE [--count 2]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from kajitori.api.resource import LEASES, NODES, PODS
from kajitori.base.clock import rfc3339
from kajitori.base.errors import AlreadyExists, ApiError, Conflict, NotFound
from kajitori.kube.client import Client
from kajitori.kube.config import load_config

Object = dict[str, Any]
EXIT = "kajitori.dev/test-exit"
READY = "kajitori.dev/test-ready"
LEASE_SECONDS = 10.0
RESTART_SECONDS = 0.3


def node_name(number: int) -> str:
    return f"fake-{number}"


def _node(number: int) -> Object:
    name = node_name(number)
    room = {
        "cpu": "64",
        "memory": "256Gi",
        "ephemeral-storage": "100Gi",
        "pods": "500",
        "nvidia.com/gpu": "8",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "topology.kubernetes.io/zone": f"zone-{number}",
                "kajitori.dev/fake": "true",
            },
        },
        "status": {
            "capacity": room,
            "allocatable": room,
            "addresses": [
                {"type": "InternalIP", "address": f"10.1.0.{number}"},
                {"type": "Hostname", "address": name},
            ],
        },
    }


def _now() -> str:
    return rfc3339(time.time())


class FakeNodes:
    """Some nodes and their pods."""

    def __init__(self, client: Client, count: int = 0, bodies: Sequence[Object] = ()) -> None:
        """bodies: what the nodes are, instead of so many equal ones."""
        self._client = client
        self._bodies = list(bodies) or [_node(number) for number in range(1, count + 1)]
        self._names = [body["metadata"]["name"] for body in self._bodies]
        # By uid of the pod: a write that was given up may have reached the server, and a pod has one address.
        self._addresses: dict[str, str] = {}
        self._given = 0
        self._seen: dict[str, str] = {}
        self._restarts: Counter[str] = Counter()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        await self._register()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._renew())
            group.create_task(self._follow())

    async def _register(self) -> None:
        for body in self._bodies:
            with contextlib.suppress(AlreadyExists):
                await self._client.create(NODES, body)
            conditions = [
                {
                    "type": kind,
                    "status": state,
                    "reason": "Fake",
                    "message": "",
                    "lastHeartbeatTime": _now(),
                    "lastTransitionTime": _now(),
                }
                for kind, state in (("Ready", "True"), ("MemoryPressure", "False"), ("DiskPressure", "False"))
            ]
            status = {**body["status"], "conditions": conditions}
            await self._client.patch(
                NODES, body["metadata"]["name"], {"status": status}, subresource="status"
            )

    async def _renew(self) -> None:
        while True:
            for name in self._names:
                spec = {
                    "holderIdentity": name,
                    "leaseDurationSeconds": 40,
                    "renewTime": rfc3339(time.time()).replace("Z", ".000000Z"),
                }
                lease = {
                    "apiVersion": "coordination.k8s.io/v1",
                    "kind": "Lease",
                    "metadata": {"name": name, "namespace": "kube-node-lease"},
                    "spec": spec,
                }
                with contextlib.suppress(ApiError):
                    await self._client.apply(LEASES, lease, field_manager="fake-node")
            await asyncio.sleep(LEASE_SECONDS)

    async def _follow(self) -> None:
        while True:
            version = ""
            with contextlib.suppress(ApiError):
                found = await self._client.list(PODS)
                for pod in found.items:
                    self._take(pod)
                version = found.resource_version
                async for event in self._client.watch(PODS, resource_version=version):
                    if event.type == "DELETED":
                        self._forget(event.object)
                    elif event.type != "BOOKMARK":
                        self._take(event.object)

    def _forget(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        task = self._tasks.pop(uid, None)
        if task is not None:
            task.cancel()
        self._seen.pop(uid, None)
        self._addresses.pop(uid, None)
        self._restarts.pop(uid, None)

    def _take(self, pod: Object) -> None:
        if pod["spec"].get("nodeName") not in self._names:
            return
        metadata = pod["metadata"]
        deleted = "deletionTimestamp" in metadata
        annotations = metadata.get("annotations") or {}
        wanted = (
            f"{deleted} {annotations.get(EXIT)} {annotations.get(READY)} {pod['spec'].get('restartPolicy')}"
        )
        uid = metadata["uid"]
        if self._seen.get(uid) == wanted:
            return
        self._seen[uid] = wanted
        if uid in self._tasks:
            self._tasks[uid].cancel()
        work = self._end(pod) if deleted else self._play(pod)
        self._tasks[uid] = asyncio.create_task(_quietly(work))

    async def _play(self, pod: Object) -> None:
        annotations = pod["metadata"].get("annotations") or {}
        policy = pod["spec"].get("restartPolicy", "Always")
        phase = (pod.get("status") or {}).get("phase")
        if phase in ("Succeeded", "Failed"):
            return
        code = annotations.get(EXIT)
        if code is None:
            ready = annotations.get(READY) != "false"
            await self._write(
                pod, "Running", ready, {"running": {"startedAt": pod["metadata"]["creationTimestamp"]}}
            )
            return
        ended = {"terminated": _terminated(int(code))}
        final = policy == "Never" or (policy == "OnFailure" and code == "0")
        if final:
            await self._write(pod, "Succeeded" if code == "0" else "Failed", False, ended)
            return
        while True:
            await self._write(pod, "Running", False, ended)
            self._restarts[pod["metadata"]["uid"]] += 1
            await asyncio.sleep(RESTART_SECONDS)

    async def _end(self, pod: Object) -> None:
        if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            await self._write(pod, "Failed", False, {"terminated": _terminated(143)})
        metadata = pod["metadata"]
        await self._insist(
            pod,
            lambda: self._client.delete(
                PODS,
                metadata["name"],
                metadata["namespace"],
                grace_period_seconds=0,
                preconditions_uid=metadata["uid"],
            ),
        )

    async def _insist(self, pod: Object, write: Callable[[], Awaitable[Any]]) -> None:
        """Write again where others wrote in between: nothing else would make these nodes look at the pod once more.

        Raises Conflict where this pod is gone and another has its name, NotFound where none has.
        """
        metadata = pod["metadata"]
        while True:
            try:
                await write()
            except Conflict:
                found = await self._client.get(PODS, metadata["name"], metadata["namespace"])
                if found["metadata"]["uid"] != metadata["uid"]:
                    raise
                await asyncio.sleep(0.05)
            else:
                return

    async def _write(self, pod: Object, phase: str, ready: bool, state: Object) -> None:
        metadata = pod["metadata"]
        status = pod.get("status") or {}
        address = status.get("podIP") or self._address(metadata["uid"])
        now = _now()
        conditions = [
            {"type": kind, "status": "True" if ready else "False", "lastTransitionTime": now}
            for kind in ("ContainersReady", "Ready")
        ]
        conditions.append({"type": "Initialized", "status": "True", "lastTransitionTime": now})
        conditions.append({"type": "PodScheduled", "status": "True", "lastTransitionTime": now})
        statuses = [
            {
                "name": container["name"],
                "image": container.get("image", ""),
                "imageID": "",
                "ready": ready,
                "restartCount": self._restarts[metadata["uid"]],
                "state": state,
            }
            for container in pod["spec"]["containers"]
        ]
        patch = {
            "metadata": {"uid": metadata["uid"]},
            "status": {
                "phase": phase,
                "podIP": address,
                "podIPs": [{"ip": address}],
                "hostIP": "10.1.0.1",
                "startTime": status.get("startTime") or now,
                "conditions": conditions,
                "containerStatuses": statuses,
            },
        }
        await self._insist(
            pod,
            lambda: self._client.patch(
                PODS,
                metadata["name"],
                patch,
                namespace=metadata["namespace"],
                subresource="status",
                patch_type="strategic",
            ),
        )

    def _address(self, uid: str) -> str:
        if uid not in self._addresses:
            self._given += 1
            self._addresses[uid] = f"10.244.{self._given // 250 % 250}.{self._given % 250 + 1}"
        return self._addresses[uid]


def _terminated(code: int) -> Object:
    return {
        "exitCode": code,
        "reason": "Completed" if code == 0 else "Error",
        "startedAt": _now(),
        "finishedAt": _now(),
    }


async def _quietly(work: Any) -> None:
    with contextlib.suppress(NotFound, Conflict):
        await work


async def _main(kubeconfig: str, count: int) -> None:
    async with Client(load_config(kubeconfig), user_agent="fake-nodes") as client:
        await FakeNodes(client, count).run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--count", type=int, default=2)
    options = parser.parse_args()
    asyncio.run(_main(options.kubeconfig, options.count))
