"""A thousand pods come and go, and nothing of them is left: no process, file, descriptor, address or memory."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.world.conftest import Cluster, down, processes_of, up, wait_until

# A thousand pods beside each other are a load of their own: no second test of this kind at the same time.
pytestmark = [pytest.mark.world, pytest.mark.timeout(900), pytest.mark.xdist_group("many")]

PODS = 1_000
ROUNDS = 2
SLEEP_SECONDS = "31536"
DEADLINE_SECONDS = 300.0
LABEL = "app.kubernetes.io/part-of"
# What a process may have more than before: connections that are kept for a while, a log that was opened since.
SPARE_DESCRIPTORS = 40
# The server keeps the latest changes for those who watch, bounded by number, bytes and age.
MOST_SERVER_GROWTH_MIB = 192
MOST_GROWTH_MIB = 64

SERVICE = f"""
apiVersion: v1
kind: Service
metadata: {{name: many}}
spec:
  clusterIP: None
  selector: {{{LABEL}: many}}
  ports: [{{port: 80}}]
"""

SLEEPERS = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}, {label}: many}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{{name: sleep, image: busybox, command: [sleep, "{seconds}"]}}]
"""


def test_a_thousand_pods_come_and_go_and_leave_nothing(tmp_path: Path) -> None:
    cluster = up(tmp_path / "home", "--no-model", "--nodes", "2", "--node-cpus", "1000")
    try:
        cluster.apply(SERVICE)
        _create(cluster, "warm", 20)
        _delete(cluster, "warm")
        before = _Measure(cluster)
        # A node has 1,022 addresses: were those of the first round kept, the second would find too few.
        for _ in range(ROUNDS):
            _create(cluster, "many", PODS)
            _check_that_all_run(cluster)
            _delete(cluster, "many")
            _check_that_nothing_is_left(cluster, before)
        _create(cluster, "again", 100)
        assert len({pod["status"]["podIP"] for pod in cluster.items("pods")}) == 100
    finally:
        down(cluster)


def _check_that_all_run(cluster: Cluster) -> None:
    pods = cluster.items("pods")
    assert Counter(pod["status"]["phase"] for pod in pods) == {"Running": PODS}
    assert set(Counter(pod["spec"]["nodeName"] for pod in pods)) == {"node-1", "node-2"}
    addresses = {pod["status"]["podIP"] for pod in pods}
    assert len(addresses) == PODS
    assert len(_sleepers(cluster)) == PODS
    wait_until(lambda: _endpoints(cluster) == addresses, "the Service has all their addresses")


def _check_that_nothing_is_left(cluster: Cluster, before: _Measure) -> None:
    wait_until(lambda: not _sleepers(cluster), "their processes are gone")
    wait_until(lambda: not _files(cluster), "their files are gone")
    wait_until(lambda: not _endpoints(cluster), "the Service has no addresses")
    assert cluster.processes() == before.pids, "a process of the cluster was started again"
    wait_until(lambda: _descriptors_are_back(cluster, before), "descriptors are given back")
    after = _Measure(cluster)
    assert after.children == before.children
    for name, memory_mib in after.memory_mib.items():
        growth = memory_mib - before.memory_mib[name]
        most = MOST_SERVER_GROWTH_MIB if name == "apiserver" else MOST_GROWTH_MIB
        assert growth <= most, f"{name} has grown by {growth:.0f} MiB"


class _Measure:
    """What the cluster's own processes hold."""

    def __init__(self, cluster: Cluster) -> None:
        self.pids = pids = cluster.processes()
        self.descriptors = {name: len(os.listdir(f"/proc/{pid}/fd")) for name, pid in pids.items()}
        self.children = {name: _children(pid) for name, pid in pids.items()}
        self.memory_mib = {name: _resident_mib(pid) for name, pid in pids.items()}


def _children(pid: int) -> int:
    return len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def _resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"no memory of process {pid}")


def _descriptors_are_back(cluster: Cluster, before: _Measure) -> bool:
    now = _Measure(cluster).descriptors
    return all(now[name] <= count + SPARE_DESCRIPTORS for name, count in before.descriptors.items())


def _create(cluster: Cluster, name: str, replicas: int) -> None:
    cluster.apply(SLEEPERS.format(name=name, replicas=replicas, seconds=SLEEP_SECONDS, label=LABEL))

    def available() -> bool:
        time.sleep(0.5)
        status: dict[str, Any] = cluster.get("deployment", name).get("status") or {}
        return status.get("availableReplicas") == replicas

    wait_until(available, f"{replicas} pods are available", DEADLINE_SECONDS)


def _delete(cluster: Cluster, name: str) -> None:
    cluster.kaji("delete", "deployment", name)

    def gone() -> bool:
        time.sleep(0.5)
        return not cluster.kaji("get", "pods", "-o", "name").stdout

    wait_until(gone, "the pods are gone", DEADLINE_SECONDS)


def _sleepers(cluster: Cluster) -> list[str]:
    return [line for line in processes_of(cluster.home) if line.strip() == f"sleep {SLEEP_SECONDS}"]


def _endpoints(cluster: Cluster) -> set[str]:
    slices = cluster.items("endpointslices", "-l", "kubernetes.io/service-name=many")
    return {
        address
        for one in slices
        for endpoint in one.get("endpoints") or ()
        for address in endpoint["addresses"]
    }


def _files(cluster: Cluster) -> list[Path]:
    nodes = cluster.home / "nodes"
    return [*nodes.glob("*/pods/*"), *nodes.glob("*/hosts/default"), *nodes.glob("*/scratch/*")]
