"""Several clusters on one machine, ports that are taken, and clusters that come back."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from kajitori.app.supervisor import claim_slot
from kajitori.laptop.settings import read_settings
from tests.world.conftest import Cluster, down, free_port, up, wait_until

pytestmark = [pytest.mark.world, pytest.mark.timeout(300), pytest.mark.xdist_group("side-by-side")]

SERVER = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers:
  - name: main
    image: python:3.11
    command: [python, -m, http.server, "8000"]
    readinessProbe: {httpGet: {path: /, port: 8000}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: web2, labels: {app: web}}
spec:
  containers:
  - name: main
    image: python:3.11
    command: [python, -m, http.server, "8000"]
    readinessProbe: {httpGet: {path: /, port: 8000}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8000}]
"""

CLIENT = """
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: python:3.11
    command:
    - python
    - -c
    - |
      import time, urllib.request
      def status(host):
          while True:  # endpoints follow readiness a moment later
              try:
                  return urllib.request.urlopen(f"http://{host}/", timeout=10).status
              except OSError:
                  time.sleep(0.2)
      for host in ("web", "web.default", "web.default.svc", "web.default.svc.cluster.local"):
          print(host, status(host))
"""


def test_two_clusters_live_side_by_side_and_neither_sees_the_other(tmp_path: Path) -> None:
    one, two = up(tmp_path / "one", "--no-model"), up(tmp_path / "two", "--no-model", "--nodes", "1")
    try:
        for cluster in (one, two):
            cluster.apply(SERVER)
            wait_until(lambda cluster=cluster: _ready(cluster), "two web servers on port 8000 are ready", 60)
            cluster.apply(CLIENT)
            wait_until(
                lambda cluster=cluster: cluster.get("pod", "client")["status"].get("phase") == "Succeeded",
                "the client found the service by its names",
                60,
            )
            assert cluster.kaji("logs", "client").stdout.count(" 200\n") == 4
        one.kaji("delete", "pod", "web")
        assert len(two.items("pods", "-l", "app=web")) == 2
        assert len(two.items("nodes")) == 1
    finally:
        down(one)
        down(two)


def _ready(cluster: Cluster) -> bool:
    pods = cluster.items("pods", "-l", "app=web")
    return len(pods) == 2 and all(pod["status"]["containerStatuses"][0]["ready"] for pod in pods if pod["status"].get("containerStatuses")) and all(pod["status"].get("containerStatuses") for pod in pods)  # fmt: skip


def test_a_port_that_is_taken_is_refused_with_its_owner_and_nothing_is_left(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        cluster = Cluster(tmp_path / "home", port, free_port())
        done = cluster.kaji("up", "--detach", "--port", str(port), check=False)
    assert done.returncode == 2
    assert f"port {port} (API server) is taken by pid" in done.stderr
    assert "--port" in done.stderr
    assert not cluster.home.exists()


def test_a_second_up_says_that_the_cluster_runs_and_refuses_other_settings(tmp_path: Path) -> None:
    cluster = up(tmp_path / "home", "--no-model", "--nodes", "1")
    try:
        again = cluster.kaji("up", "--detach", "--no-model")
        assert "is running already (pid" in again.stdout
        other = cluster.kaji("up", "--detach", "--nodes", "3", check=False)
        assert other.returncode == 2
        assert "--nodes" in other.stderr
        assert len(cluster.items("nodes")) == 1
    finally:
        down(cluster)


def test_a_cluster_whose_addresses_were_taken_comes_back_with_others(tmp_path: Path) -> None:
    cluster = up(tmp_path / "home", "--no-model", "--nodes", "1")
    try:
        cluster.apply(SERVER)
        wait_until(lambda: _ready(cluster), "the web servers are ready", 60)
        before = cluster.get("service", "web")["spec"]["clusterIP"]
        cluster.kaji("down")
        with claim_slot(read_settings(cluster.home).slot):
            cluster.kaji("up", "--detach", "--no-model")
        after = cluster.get("service", "web")["spec"]["clusterIP"]
        assert after.split(".")[1] != before.split(".")[1]
        wait_until(lambda: _ready(cluster), "the web servers are ready again", 60)
        addresses = {pod["status"]["podIP"] for pod in cluster.items("pods", "-l", "app=web")}
        assert not {address.split(".")[1] for address in addresses} & {before.split(".")[1]}
        cluster.apply(CLIENT)
        wait_until(
            lambda: cluster.get("pod", "client")["status"].get("phase") == "Succeeded",
            "the client found them",
            60,
        )
    finally:
        down(cluster)
