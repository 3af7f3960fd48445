"""The Node object and its lease: what the node is and has, and that it lives.

The object is written when the agent starts and when something about it changes; the lease is renewed every few
seconds, and costs the API server a fraction of that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import platform
import time
from pathlib import Path
from typing import Any

import kajitori
from kajitori.api.resource import LEASES, NODES
from kajitori.base.clock import rfc3339, rfc3339_micro
from kajitori.base.errors import AlreadyExists, ApiError, Conflict, Invalid, NotFound, Unreachable
from kajitori.laptop.node.launch import GPU_RESOURCE
from kajitori.laptop.node.node import Node
from kajitori.model.hardware import find_gpu

_log = logging.getLogger(__name__)

LEASE_NAMESPACE = "kube-node-lease"
LEASE_SECONDS = 40
LATE_HEARTBEATS = 2
LOOKS_AFTER_SILENCE = 3
MAXIMUM_PODS = 1000
SIMULATED_GPU_LABEL = "kajitori.dev/simulated-gpu"
BIND_CONDITION = "kajitori.dev/PodAddressesInUse"
NAMESPACES_CONDITION = "kajitori.dev/PodsIsolated"
SERVICES_CONDITION = "kajitori.dev/ServicesReachable"
CERTIFICATE_CONDITION = "kajitori.dev/ServingCertificate"
KUBELET_VERSION = "v1.36.3"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def capacity(node: Node) -> dict[str, str]:
    """What the node has; memory and processors of the machine, unless settings say otherwise."""
    settings = node.settings
    memory_kib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024
    disk = os.statvfs(node.home)
    resources = {
        "cpu": settings.cpus or str(os.cpu_count() or 1),
        "memory": settings.memory or f"{memory_kib}Ki",
        "pods": str(MAXIMUM_PODS),
        "ephemeral-storage": f"{disk.f_frsize * disk.f_blocks // 1024}Ki",
    }
    if settings.gpus:
        resources[GPU_RESOURCE] = str(settings.gpus)
    return resources


def labels(node: Node) -> dict[str, str]:
    settings = node.settings
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    result = {
        "kubernetes.io/hostname": node.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture,
        "topology.kubernetes.io/region": settings.region,
        "topology.kubernetes.io/zone": settings.zone,
        "kajitori.dev/rack": settings.rack,
    }
    result = {key: value for key, value in result.items() if value}
    if settings.gpus:
        gpu = find_gpu(settings.gpu)
        result |= {
            SIMULATED_GPU_LABEL: "true",
            "nvidia.com/gpu.present": "true",
            "nvidia.com/gpu.product": gpu.product,
            "nvidia.com/gpu.count": str(settings.gpus),
            "nvidia.com/gpu.memory": str(gpu.memory_mib),
        }
    return result | settings.labels


def conditions(node: Node, now: float, before: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The node's conditions. before: those that the API server has, by type, for their transition times."""
    wanted = _own_conditions(node)
    if node.settings.joined:
        wanted += _joined_conditions(node)
    result: list[dict[str, Any]] = []
    for kind, value, reason, message in wanted:
        status = "True" if value else "False"
        old = before.get(kind, {})
        changed = old.get("status") != status
        result.append(
            {
                "type": kind,
                "status": status,
                "reason": reason,
                "message": message,
                "lastHeartbeatTime": rfc3339(now),
                "lastTransitionTime": rfc3339(now)
                if changed
                else old.get("lastTransitionTime", rfc3339(now)),
            }
        )
    return result


def _own_conditions(node: Node) -> list[tuple[str, bool, str, str]]:
    """Type, whether it is true, reason and message of each."""
    info, native = node.runner_info, node.native
    ready = node.runner_connected.is_set()
    return [
        ("MemoryPressure", False, "KubeletHasSufficientMemory", "there is memory"),
        ("DiskPressure", False, "KubeletHasNoDiskPressure", "there is disk"),
        ("PIDPressure", False, "KubeletHasSufficientPID", "there are process ids"),
        (
            "Ready",
            ready,
            "KubeletReady" if ready else "RunnerNotConnected",
            "pods run as processes of this machine" if ready else "the node's runner does not answer",
        ),
        (
            BIND_CONDITION,
            bool(native.bind_library),
            "BindRewritten" if native.bind_library else "NoCompiler",
            "programs that listen on all addresses get their pod's"
            if native.bind_library
            else f"programs that listen on all addresses take the port from other pods: {native.message}",
        ),
        (
            NAMESPACES_CONDITION,
            info.namespaces,
            "Namespaces" if info.namespaces else "NoNamespaces",
            "pods have their own mounts, processes and host names"
            if info.namespaces
            else f"volumes are not at their mount paths, cluster names do not resolve: {info.message}",
        ),
    ]


def _joined_conditions(node: Node) -> list[tuple[str, bool, str, str]]:
    settings, problem = node.settings, node.certificate_problem
    return [
        (
            SERVICES_CONDITION,
            bool(settings.service_cidr),
            "ServicesServed" if settings.service_cidr else "RangeIsNotLocal",
            f"addresses of Services ({settings.service_cidr}) lead to their endpoints"
            if settings.service_cidr
            else "Services are reachable by the addresses of their pods only: "
            "the cluster's service range is not this machine's",
        ),
        (
            CERTIFICATE_CONDITION,
            not problem,
            "Approved" if not problem else "NotApproved",
            problem or "logs, exec, attach and port-forward are served with an approved certificate",
        ),
    ]


def _node_info() -> dict[str, str]:
    def read(path: str) -> str:
        with contextlib.suppress(OSError):
            return Path(path).read_text().strip()
        return ""

    system = dict(
        line.rstrip().replace('"', "").split("=", 1)
        for line in read("/etc/os-release").splitlines()
        if "=" in line
    )
    return {
        "machineID": read("/etc/machine-id"),
        "systemUUID": read("/etc/machine-id"),
        "bootID": read("/proc/sys/kernel/random/boot_id"),
        "kernelVersion": platform.release(),
        "osImage": system.get("PRETTY_NAME", "Linux"),
        "containerRuntimeVersion": f"kajitori://{kajitori.__version__}",
        "kubeletVersion": KUBELET_VERSION,
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
    }


def node_status(node: Node, before: dict[str, Any]) -> dict[str, Any]:
    """The status that the node writes. before: the status that the API server has."""
    resources = capacity(node)
    known = {condition["type"]: condition for condition in before.get("conditions") or ()}
    status: dict[str, Any] = {
        "capacity": resources,
        "allocatable": resources,
        "addresses": [
            {"type": "InternalIP", "address": node.settings.address},
            {"type": "Hostname", "address": node.name},
        ],
        "nodeInfo": _node_info(),
        "conditions": conditions(node, time.time(), known),
    }
    if node.settings.port:
        status["daemonEndpoints"] = {"kubeletEndpoint": {"Port": node.settings.port}}
    return status


class Registration:
    """Keeps the Node object and the lease."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._changed = asyncio.Event()
        self._lease: dict[str, Any] | None = None
        self._uid = ""
        self._renewed = time.time()
        self._looks_due = 0

    def changed(self) -> None:
        """Something that the Node object says may have changed."""
        self._changed.set()

    async def run(self) -> None:
        """Forever: register, then keep the lease, and the object where it changed."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_node())
            group.create_task(self._keep_lease())

    async def _keep_node(self) -> None:
        while True:
            self._changed.clear()
            try:
                await self._write_node()
            except (ApiError, Unreachable) as error:
                _log.warning("registering the node: %s", error)
                await asyncio.sleep(1.0)
                continue
            await self._changed.wait()
            await asyncio.sleep(0.1)

    async def _write_node(self) -> None:
        node, client = self._node, self._node.client
        try:
            current: dict[str, Any] = await client.get(NODES, node.name)
        except NotFound:
            body: dict[str, Any] = {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": node.name, "labels": labels(node), "annotations": self._annotations()},
                "spec": self._spec(),
                "status": node_status(node, {}),
            }
            with contextlib.suppress(AlreadyExists):
                created: dict[str, Any] = await client.create(NODES, body)
                self._uid = created["metadata"]["uid"]
                return
            current = await client.get(NODES, node.name)
        self._uid = current["metadata"]["uid"]
        given = current["metadata"].get("labels") or {}
        if any(given.get(key) != value for key, value in labels(node).items()):
            await client.patch(NODES, node.name, {"metadata": {"labels": labels(node)}})
        before = current.get("status") or {}
        status = node_status(node, before)
        if _without_heartbeats(status) != _without_heartbeats(before, status):
            await client.patch(
                NODES, node.name, {"status": status}, patch_type="strategic", subresource="status"
            )

    def _annotations(self) -> dict[str, str]:
        if not self._node.settings.gpus:
            return {}
        return {"kajitori.dev/simulated": f"{self._node.settings.gpus} GPUs of this node are simulated"}

    def _spec(self) -> dict[str, Any]:
        settings = self._node.settings
        spec: dict[str, Any] = {"podCIDR": settings.pod_cidr, "podCIDRs": [settings.pod_cidr]}
        if settings.joined:
            # No provider: what watches over machines of a cloud shall not look for this one.
            return spec | ({"taints": settings.taints} if settings.taints else {})
        return spec | {"providerID": f"kajitori://{self._node.name}"}

    async def _keep_lease(self) -> None:
        while True:
            try:
                await self._renew_lease()
                seconds = self._node.options.heartbeat_seconds
                self._look_if_late(seconds)
            except (NotFound, Conflict, AlreadyExists):
                self._lease = None
                seconds = 0.1
            except (ApiError, Unreachable, Invalid) as error:
                _log.warning("renewing the lease: %s", error)
                self._lease = None
                seconds = 1.0
            await asyncio.sleep(seconds)

    def _look_if_late(self, heartbeat_seconds: float) -> None:
        """After a silence the node may have been called lost, and only it can say that it is not.

        The network may have been cut, or the machine slept. Whoever calls a node lost may have seen its lease as it was
        before it was renewed, so the object is looked at a few times.
        """
        now = time.time()  # runs on while the machine sleeps
        if abs(now - self._renewed) > LATE_HEARTBEATS * heartbeat_seconds:
            self._looks_due = LOOKS_AFTER_SILENCE
        self._renewed = now
        if self._looks_due:
            self._looks_due -= 1
            self.changed()

    async def _renew_lease(self) -> None:
        client, name = self._node.client, self._node.name
        now = rfc3339_micro(time.time())
        lease = self._lease
        if lease is None:
            try:
                lease = await client.get(LEASES, name, LEASE_NAMESPACE)
            except NotFound:
                body: dict[str, Any] = {
                    "apiVersion": LEASES.api_version,
                    "kind": LEASES.kind,
                    "metadata": {"name": name, "namespace": LEASE_NAMESPACE},
                    "spec": {"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now},
                }
                if self._uid:
                    owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": self._uid}
                    body["metadata"]["ownerReferences"] = [owner]
                self._lease = await client.create(LEASES, body)
                return
        lease["spec"] |= {
            "holderIdentity": name,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": now,
        }
        self._lease = await client.update(LEASES, lease)


def _without_heartbeats(status: dict[str, Any], like: dict[str, Any] | None = None) -> dict[str, Any]:
    """What of a status is worth writing for. like: only what that status speaks of."""
    keys = like if like is not None else status
    result = {key: status.get(key) for key in keys if key != "conditions"}
    result["conditions"] = {
        condition["type"]: (condition["status"], condition.get("message"))
        for condition in status.get("conditions") or ()
        if like is None or condition["type"] in {each["type"] for each in like["conditions"]}
    }
    return result
