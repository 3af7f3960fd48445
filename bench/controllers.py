"""What our controllers ask of a real API server, and what they keep in memory beside other people's pods.

    python bench/controllers.py [requests] [memory]     # both by default

Requests are counted in the audit log of a real API server; one that has no nodes, so the pods' statuses are written
here. Memory is resident memory of the processes of an installation on the embedded server with 10,000 foreign pods
(and 1,000 Services with their EndpointSlices, for the gateway).
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.install.installation import NAMESPACE, Installation, Process, installation  # noqa: E402
from tools.kubernetes.control_plane import free_ports, running_control_plane  # noqa: E402

from kajitori.api.resource import ENDPOINT_SLICES, LEADER_WORKER_SETS, PODS, SERVICE_ACCOUNTS, SERVICES  # noqa: E402
from kajitori.kube.client import Client  # noqa: E402
from kajitori.kube.config import load_config  # noqa: E402
from kajitori.laptop.apiserver.testing import running_api_server  # noqa: E402

SIZE = 8
SETS = 5
IDLE_SECONDS = 60
FOREIGN_PODS = 10_000
FOREIGN_SERVICES = 1_000


def measure_requests() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="kajitori-") as folder,
        running_control_plane(scheduler=False) as plane,
        installation(plane, Path(folder)) as cluster,
    ):
        cluster.until(lambda: cluster.get("/api/v1/namespaces/default/serviceaccounts/default"), "account")
        cluster.kaji("install", "--no-wait")
        controllers = cluster.start("controllers")
        cluster.until(lambda: controllers.leads, "it leads")
        before = counted(cluster)
        for number in range(SETS):
            apply_set(cluster, f"set-{number}")
            cluster.until(lambda name=f"set-{number}": run_pods(cluster, name), "the set is available")
        time.sleep(6)  # counts of events are written every 5 s
        spent = counted(cluster) - before
        total = sum(count for key, count in spent.items() if not key.endswith("leases"))
        print(
            f"requests per set of {SIZE} pods, apply to Available: {total / SETS:.1f} (target {2 * SIZE + 10})"
        )
        for key, count in spent.most_common():
            print(f"  {count / SETS:5.1f}  {key}")
        start = counted(cluster)
        time.sleep(IDLE_SECONDS)
        idle = counted(cluster) - start
        others = {key: count for key, count in idle.items() if not key.endswith("leases")}
        print(f"requests in {IDLE_SECONDS} s of idling: {sum(others.values())} besides leases {others or ''}")


def counted(cluster: Installation) -> Counter[str]:
    """Requests of the controllers so far. A watch counts when it ends."""
    return Counter(
        f"{event['verb']} {'/'.join(filter(None, (reference['resource'], reference.get('subresource'))))}"
        for event in cluster.audited("kajitori-controllers")
        for reference in [event["objectRef"]]
    )


def apply_set(cluster: Installation, name: str) -> None:
    container = {"name": "engine", "image": "busybox:1"}
    body = {
        "apiVersion": LEADER_WORKER_SETS.api_version,
        "kind": "LeaderWorkerSet",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": 1,
            "leaderWorkerTemplate": {
                "size": SIZE,
                "workerTemplate": {"spec": {"containers": [container]}},
            },
        },
    }
    cluster.apply(body, LEADER_WORKER_SETS.path("default", name))


def run_pods(cluster: Installation, name: str) -> bool:
    """Say that the set's pods run; whether it is ready."""
    query = {"labelSelector": f"leaderworkerset.sigs.k8s.io/name={name}"}
    status = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    for pod in cluster.client.get("/api/v1/namespaces/default/pods", query=query)["items"]:
        if pod["status"].get("phase") != "Running":
            cluster.client.request(
                "PATCH",
                PODS.path("default", pod["metadata"]["name"], "status"),
                body=json.dumps(status).encode(),
                content_type="application/merge-patch+json",
            )
    found = cluster.client.get(LEADER_WORKER_SETS.path("default", name))
    return (found.get("status") or {}).get("readyReplicas") == 1


async def measure_memory() -> None:
    async with running_api_server() as server, Client(load_config(str(server.kubeconfig))) as client:
        kaji = [sys.executable, "-m", "kajitori.cli"]
        install = [*kaji, "install", "--no-wait", "--kubeconfig", str(server.kubeconfig)]
        await asyncio.to_thread(subprocess.run, install, check=True, stdout=subprocess.DEVNULL)
        await make_foreign_objects(client)
        with tempfile.TemporaryDirectory(prefix="kajitori-") as folder:
            for component in ("controllers", "gateway"):
                process = start(component, Path(folder), server.kubeconfig)
                try:
                    while not await asyncio.to_thread(lambda process=process: process.ready):
                        await asyncio.sleep(0.2)
                    await asyncio.sleep(3)
                    resident = resident_mib(process.popen.pid)
                    print(f"{component} with {FOREIGN_PODS} foreign pods: {resident:.0f} MiB (target 120)")
                finally:
                    process.kill()


def start(component: str, folder: Path, kubeconfig: Path) -> Process:
    probes, discovery = free_ports(2)
    words = [sys.executable, "-m", "kajitori.cli", "serve", component, "--kubeconfig", str(kubeconfig)]
    words += ["--namespace", NAMESPACE, f"--endpoint=127.0.0.1:{probes}"]
    words += [f"--discovery=127.0.0.1:{discovery}", f"--ledger={folder / 'ledger'}"]
    log = folder / f"{component}.log"
    with log.open("wb") as output:
        environment = {**os.environ, "MALLOC_ARENA_MAX": "2"}  # as the Deployments have it
        popen = subprocess.Popen(words, stdout=output, stderr=output, env=environment)
    return Process(component, popen, probes, log)


async def make_foreign_objects(client: Client) -> None:
    """Pods with the fields that pods have, Services, and slices of ten endpoints each."""
    limit = asyncio.Semaphore(32)
    await client.create(SERVICE_ACCOUNTS, {"metadata": {"name": "default"}}, namespace="default")

    async def create(resource: Any, body: dict[str, Any]) -> None:
        async with limit:
            await client.create(resource, body, namespace="default")

    def endpoint(number: int) -> dict[str, Any]:
        address = f"10.{number // 65536}.{number // 256 % 256}.{number % 256}"
        return {
            "addresses": [address],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": f"node-{number % 100}",
            "targetRef": {"kind": "Pod", "namespace": "default", "name": f"foreign-{number}"},
        }

    pods = [
        create(
            PODS,
            {
                "metadata": {"name": f"foreign-{number}", "labels": {"app": f"app-{number % 1000}"}},
                "spec": {"containers": [{"name": "main", "image": "busybox:1"}]},
            },
        )
        for number in range(FOREIGN_PODS)
    ]
    services = [
        create(
            SERVICES,
            {
                "metadata": {"name": f"app-{number}"},
                "spec": {"selector": {"app": f"app-{number}"}, "ports": [{"port": 80}]},
            },
        )
        for number in range(FOREIGN_SERVICES)
    ]
    slices = [
        create(
            ENDPOINT_SLICES,
            {
                "metadata": {
                    "name": f"app-{number}-x",
                    "labels": {"kubernetes.io/service-name": f"app-{number}"},
                },
                "addressType": "IPv4",
                "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
                "endpoints": [endpoint(number + 1000 * place) for place in range(10)],
            },
        )
        for number in range(FOREIGN_SERVICES)
    ]
    await asyncio.gather(*pods, *services, *slices)


def resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["requests", "memory"]
    if "requests" in wanted:
        measure_requests()
    if "memory" in wanted:
        asyncio.run(measure_memory())
