"""A node of ours joins the embedded cluster, as a guest beside its own nodes."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tools.kubernetes.build import build, have_go

from tests.world.conftest import Cluster, down, processes_of, up, wait_until

pytestmark = [pytest.mark.world, pytest.mark.timeout(240)]

POD = """
apiVersion: v1
kind: Pod
metadata: {name: visitor}
spec:
  nodeName: guest
  containers:
  - {name: c, image: busybox, command: [sh, -c, "echo hello from $(hostname); sleep 1000"]}
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = up(tmp_path_factory.mktemp("kj") / "home", "--no-model", "--nodes", "1", "--gpus", "0")
    try:
        yield made
    finally:
        made.kaji("node", "leave", "guest", "--force", "--drain-seconds", "1", check=False)
        down(made)


def node_home(cluster: Cluster) -> Path:
    return cluster.home.with_name(f"{cluster.home.name}-nodes") / "guest"


@pytest.fixture
def guest(cluster: Cluster) -> None:
    """It has joined, whatever the tests before did with it."""
    if not node_home(cluster).exists():
        cluster.kaji("node", "join", "--kubeconfig", str(cluster.home / "kubeconfig"), "--name", "guest")


@pytest.fixture
def visitor(cluster: Cluster, guest: None) -> dict[str, Any]:
    """The status of the guest's pod, which runs."""
    cluster.apply(POD)
    wait_until(lambda: cluster.get("pod", "visitor")["status"].get("phase") == "Running", "the pod runs")
    return cluster.get("pod", "visitor")["status"]


def test_a_guest_runs_pods_and_its_logs_come_over_tls(cluster: Cluster, visitor: dict[str, Any]) -> None:
    assert cluster.get("node", "guest")["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"] >= 10250
    wait_until(
        lambda: cluster.kaji("logs", "visitor").stdout == "hello from visitor\n", "the first line is logged"
    )


@pytest.mark.skipif(not have_go(), reason="NOT TESTED: Go is not installed, so there is no kubectl")
@pytest.mark.parametrize("websockets", ["true", "false"])
def test_kubectl_execs_on_a_guest(cluster: Cluster, visitor: dict[str, Any], websockets: str) -> None:
    cluster.environment["KUBECTL_REMOTE_COMMAND_WEBSOCKETS"] = websockets
    kubectl = (str(build() / "kubernetes-control-plane"), "kubectl")
    done = cluster.command(
        *kubectl, "exec", "-i", "visitor", "--", "sh", "-c", "cat; exit 5", stdin="in\n", check=False
    )
    assert (done.returncode, done.stdout) == (5, "in\n")


def test_joining_again_changes_nothing_and_starts_what_was_stopped(
    cluster: Cluster, visitor: dict[str, Any]
) -> None:
    before = visitor["containerStatuses"]
    assert "runs already" in cluster.kaji("node", "join", "--name", "guest").stdout
    refused = cluster.kaji("node", "join", "--name", "guest", "--gpus", "4", check=False)
    assert refused.returncode == 2 and "other settings than --gpus" in refused.stderr
    assert cluster.get("pod", "visitor")["status"]["containerStatuses"] == before
    lock = int((node_home(cluster) / "run" / "supervisor.lock").read_text())
    os.kill(lock, signal.SIGKILL)
    wait_until(lambda: "stopped" in cluster.kaji("node", "list").stdout, "the tree is gone")
    cluster.kaji("node", "join", "--name", "guest")
    wait_until(
        lambda: (
            cluster.get("pod", "visitor")["status"]["containerStatuses"][0]["restartCount"]
            == before[0]["restartCount"] + 1
        ),
        "the pod was started again",
    )


def test_the_name_of_a_node_that_is_at_work_is_refused(
    cluster: Cluster, visitor: dict[str, Any], tmp_path: Path
) -> None:
    """Of the cluster's own nodes, and of one that joined from another folder."""
    join = ("node", "join", "--kubeconfig", str(cluster.home / "kubeconfig"), "--name")
    for words in ((*join, "node-1"), (*join, "guest", "--home", str(tmp_path / "other"))):
        refused = cluster.kaji(*words, check=False)
        assert refused.returncode == 2
        assert "which is Ready and was not joined from" in refused.stderr and "--name" in refused.stderr
    uids = {pod["metadata"]["name"] for pod in cluster.items("pods")}
    assert "visitor" in uids
    # What the refused join left goes.
    assert "not finished" in cluster.kaji("node", "leave", "node-1").stdout
    refused = cluster.kaji("node", "leave", "node-1", check=False)
    assert refused.returncode == 2
    assert "this machine has no node node-1" in refused.stderr and "joined are: guest" in refused.stderr
    assert "node-1" in [node["metadata"]["name"] for node in cluster.items("nodes")]


def test_a_node_whose_object_was_deleted_is_told_so(cluster: Cluster) -> None:
    cluster.kaji("node", "join", "--kubeconfig", str(cluster.home / "kubeconfig"), "--name", "second")
    cluster.kaji("delete", "node", "second")
    for words in (("node", "status", "second"), ("node", "join", "--name", "second")):
        told = cluster.kaji(*words, check=False)
        assert told.returncode != 0
        assert "no Node second any more" in told.stderr and "`kaji node leave second`" in told.stderr
    cluster.kaji("node", "leave", "second")


def test_nothing_is_installed_into_a_cluster_that_has_it_all(cluster: Cluster) -> None:
    for words in (("install",), ("upgrade",), ("uninstall", "--yes")):
        refused = cluster.kaji(*words, "--kubeconfig", str(cluster.home / "kubeconfig"), check=False)
        assert refused.returncode == 2 and "is a cluster of `kaji up`" in refused.stderr


def test_a_guest_that_leaves_is_forgotten(cluster: Cluster, guest: None) -> None:
    cluster.kaji("node", "leave", "guest", "--drain-seconds", "10")
    assert "guest" not in [node["metadata"]["name"] for node in cluster.items("nodes")]
    assert not node_home(cluster).exists()
    wait_until(lambda: not processes_of(node_home(cluster)), "every process of the node is gone")
    assert json.loads(cluster.kaji("get", "csr", "-o", "json").stdout)["items"] == []
