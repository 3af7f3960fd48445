"""Parts of a running cluster are killed with `kill -9`, each under load, in turn and at random."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from kajitori.api.resource import CONFIG_MAPS
from kajitori.base.errors import ApiError, NotFound, Unreachable
from kajitori.kube.config import load_config
from kajitori.kube.direct import DirectClient
from tests.world.conftest import Cluster, free_port, processes_of, up, wait_until

pytestmark = [pytest.mark.world, pytest.mark.timeout(400), pytest.mark.xdist_group("faults")]

WORKLOAD = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: steady}
spec:
  replicas: 4
  selector: {matchLabels: {app: steady}}
  template:
    metadata: {labels: {app: steady}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: main, image: busybox, command: [sleep, "86400"]}
"""

ROUTE = """
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {{name: streamer}}
spec:
  endpoints:
  - ip: {{address: 127.0.0.1, port: {port}}}
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIServiceBackend
metadata: {{name: streamer}}
spec:
  schema: {{name: OpenAI}}
  backendRef: {{name: streamer, kind: Backend, group: gateway.envoyproxy.io}}
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {{name: streamer}}
spec:
  parentRefs: [{{name: kaji, kind: Gateway, group: gateway.networking.k8s.io}}]
  rules:
  - matches: [{{headers: [{{type: Exact, name: x-ai-eg-model, value: streamer}}]}}]
    backendRefs: [{{name: streamer}}]
"""


@pytest.fixture(scope="module")
def loaded(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster with four steady pods and a route to a provider that streams slowly."""
    port = free_port()
    record = tmp_path_factory.mktemp("streamer") / "record.jsonl"
    script = Path(__file__).with_name("provider.py")
    provider = subprocess.Popen([sys.executable, str(script), str(port), str(record), "s"])
    cluster.apply(WORKLOAD)
    cluster.apply(ROUTE.format(port=port))
    wait_until(lambda: len(steady_pods(cluster)) == 4, "the steady pods run")
    wait_until(lambda: stream(cluster, 2)[1], "the streamer's route serves")
    yield cluster
    provider.kill()
    provider.wait()


def steady_pods(cluster: Cluster) -> dict[str, tuple[str, str]]:
    """Name to uid and start time of the container, of the Ready ones."""
    found: dict[str, tuple[str, str]] = {}
    for pod in cluster.items("pods", "-l", "app=steady"):
        ready = any(
            each["type"] == "Ready" and each["status"] == "True"
            for each in pod["status"].get("conditions", ())
        )
        if ready and "deletionTimestamp" not in pod["metadata"]:
            state = pod["status"]["containerStatuses"][0]["state"]
            found[pod["metadata"]["name"]] = (
                pod["metadata"]["uid"],
                state.get("running", {}).get("startedAt", ""),
            )
    return found


def stream(cluster: Cluster, chunks: int, pause_seconds: float = 0.0) -> tuple[int, bool]:
    """Pieces received of a stream through the gateway, and whether it came to its proper end."""
    client = openai.OpenAI(base_url=cluster.gateway_url, api_key="x", max_retries=0, timeout=30)
    count, ended = 0, False
    try:
        for event in client.chat.completions.create(
            model="streamer",
            messages=[{"role": "user", "content": "x"}],
            max_tokens=chunks,
            temperature=pause_seconds,
            stream=True,
        ):
            for choice in event.choices:
                count += bool(choice.delta.content)
                ended |= choice.finish_reason == "stop"
    except (openai.OpenAIError, OSError):
        return count, False
    return count, ended


class Writer(threading.Thread):
    """Creates ConfigMaps without pause and remembers which were acknowledged."""

    def __init__(self, cluster: Cluster, prefix: str) -> None:
        super().__init__(daemon=True)
        self.client = DirectClient(load_config(str(cluster.home / "kubeconfig")))
        self.prefix = prefix
        self.acknowledged: set[str] = set()
        self.stopping = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.stopping.is_set():
            number += 1
            name = f"{self.prefix}-{number}"
            body = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": name},
                "data": {"n": str(number)},
            }
            try:
                self.client.apply(CONFIG_MAPS.path("default", name), body, {"fieldManager": "writer"})
                self.acknowledged.add(name)
            except (Unreachable, ApiError):
                time.sleep(0.02)

    def finish(self) -> set[str]:
        self.stopping.set()
        self.join(30)
        self.client.close()
        return self.acknowledged


def config_maps(cluster: Cluster, prefix: str) -> set[str]:
    return {
        name for item in cluster.items("configmaps") if (name := item["metadata"]["name"]).startswith(prefix)
    }


def kill(cluster: Cluster, process: str) -> int:
    """`kill -9`, and wait until the supervisor has started another; returns the old pid."""
    pid = cluster.processes()[process]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: cluster.processes().get(process) not in (None, pid), f"{process} is started again", 30)
    return pid


def healthy(cluster: Cluster) -> bool:
    return cluster.kaji("status", check=False).returncode == 0 and len(steady_pods(cluster)) == 4


@pytest.mark.parametrize("process", ["apiserver", "controllers", "gateway", "node-1"])
def test_killing_a_part_loses_no_object_cuts_no_stream_and_restarts_no_pod(
    loaded: Cluster, process: str
) -> None:
    before = steady_pods(loaded)
    prefix = f"killed-{process}"
    writer = Writer(loaded, prefix)
    writer.start()
    result: list[tuple[int, bool]] = []
    streaming = threading.Thread(target=lambda: result.append(stream(loaded, 60, 0.05)))
    streaming.start()
    time.sleep(0.5)  # load is on
    kill(loaded, process)
    streaming.join(60)
    acknowledged = writer.finish()
    assert result == [(60, True)]
    wait_until(lambda: healthy(loaded), "the cluster is well again")
    assert steady_pods(loaded) == before
    assert len(acknowledged) > 10
    assert acknowledged <= config_maps(loaded, prefix)


def test_after_envoy_is_killed_new_requests_are_served_again(loaded: Cluster) -> None:
    before = steady_pods(loaded)
    kill(loaded, "envoy")
    wait_until(lambda: stream(loaded, 2)[1], "the gateway serves again", 30)
    assert steady_pods(loaded) == before


def test_a_node_whose_runner_is_killed_runs_its_pods_anew(loaded: Cluster) -> None:
    before = steady_pods(loaded)
    kill(loaded, "runner-node-2")
    wait_until(lambda: healthy(loaded) and steady_pods(loaded) != before, "the pods run again", 90)
    on_first = {
        pod["metadata"]["name"]
        for pod in loaded.items("pods", "-l", "app=steady")
        if pod["spec"]["nodeName"] == "node-1"
    }
    after = steady_pods(loaded)
    assert all(after[name] == before[name] for name in on_first & set(before))


def test_a_killed_engine_is_started_again(loaded: Cluster) -> None:
    def engine() -> dict[str, Any]:
        return loaded.items("pods", "-l", "app=smollm2-135m")[0]["status"]["containerStatuses"][0]

    restarts = engine()["restartCount"]
    pids = [
        int(folder.name)
        for folder in Path("/proc").iterdir()
        if folder.name.isdigit()
        and b"llamacpp" in _read(folder / "cmdline")
        and str(loaded.home).encode() in _read(folder / "mountinfo")
    ]
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_until(
        lambda: engine()["restartCount"] > restarts and engine()["ready"], "the engine serves again", 90
    )
    last = engine()["lastState"]["terminated"]
    assert last["exitCode"] == 137


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_random_kills_for_a_minute_lose_nothing(loaded: Cluster) -> None:
    seed = 20261126
    chance = random.Random(seed)
    writer = Writer(loaded, "random")
    writer.start()
    ends = time.monotonic() + 60
    killed: list[str] = []
    while time.monotonic() < ends:
        running = loaded.processes()
        victims = sorted(name for name in running if not name.startswith("runner-"))
        victim = chance.choice(victims)
        try:
            os.kill(running[victim], signal.SIGKILL)
            killed.append(victim)
        except ProcessLookupError:
            pass
        time.sleep(chance.uniform(0.5, 3))
    acknowledged = writer.finish()
    wait_until(lambda: healthy(loaded), f"the cluster is well after {killed}", 120)
    wait_until(lambda: stream(loaded, 2)[1], "the gateway serves", 60)
    assert acknowledged <= config_maps(loaded, "random")
    assert len(acknowledged) > 100


def test_when_the_supervisor_is_killed_nothing_is_left_and_the_next_start_has_every_object(
    tmp_path: Path,
) -> None:
    made = up(tmp_path / "home", "--no-model")
    made.apply(WORKLOAD)
    wait_until(lambda: len(steady_pods(made)) == 4, "the steady pods run")
    names = {item["metadata"]["name"] for item in made.items("deployments")}
    from kajitori.cli.local import ask_supervisor

    status = ask_supervisor(made.home, "status")
    assert status is not None
    os.kill(status["pid"], signal.SIGKILL)
    wait_until(lambda: not processes_of(made.home), "every process is gone", 20)
    made.kaji("up", "--detach", "--no-model", timeout=300)
    assert {item["metadata"]["name"] for item in made.items("deployments")} == names
    wait_until(lambda: len(steady_pods(made)) == 4, "the steady pods run again", 90)
    made.kaji("down", "--purge")
    assert not processes_of(made.home)


def test_a_namespace_deleted_while_parts_die_is_gone_in_the_end(loaded: Cluster) -> None:
    loaded.apply("{apiVersion: v1, kind: Namespace, metadata: {name: doomed}}")
    for number in range(20):
        loaded.apply(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {"name": f"c{number}", "namespace": "doomed"},
                }
            )
        )
    loaded.kaji("delete", "namespace", "doomed", "--no-wait")
    kill(loaded, "controllers")
    kill(loaded, "apiserver")

    def gone() -> bool:
        with DirectClient(load_config(str(loaded.home / "kubeconfig"))) as client:
            try:
                client.get("/api/v1/namespaces/doomed")
            except NotFound:
                return True
            except Unreachable:
                return False
        return False

    wait_until(gone, "the namespace is gone", 60)
