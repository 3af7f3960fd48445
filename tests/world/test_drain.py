"""A group that is scaled away while it streams an answer: the answer ends, and nothing new goes there."""

from __future__ import annotations

import http.client
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.world.conftest import Cluster, down, up, wait_until

pytestmark = [pytest.mark.world, pytest.mark.timeout(180)]

# An engine of few words: an answer goes on until somebody says /end, and its metrics tell how many are open.
ENGINE = """
import http.server, os, threading
running, ended = [], threading.Event()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path == "/end":
            ended.set()
        if self.path == "/stream":
            return self.stream()
        text = f"vllm:num_requests_running{{model_name=\\\\"x\\\\"}} {len(running)}\\\\n"
        self.whole(text if self.path == "/metrics" else os.environ["HOSTNAME"])
    def whole(self, text):
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(text.encode())
    def stream(self):
        running.append(self)
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(os.environ["HOSTNAME"].encode() + b"\\\\n")
        while not ended.wait(0.1):
            self.wfile.write(b"token\\\\n")
        self.wfile.write(b"done\\\\n")
        self.close_connection = True
        running.remove(self)
http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
"""

SET = """
apiVersion: leaderworkerset.x-k8s.io/v1
kind: LeaderWorkerSet
metadata:
  name: engine
  annotations: {groups.kajitori.dev/drain-seconds: "60"}
spec:
  replicas: 2
  leaderWorkerTemplate:
    size: 2
    leaderTemplate:
      spec:
        terminationGracePeriodSeconds: 0
        containers:
        - name: engine
          image: python:3.11
          command: [python, -c, "exec(__import__('os').environ['ENGINE'])"]
          env: [{name: ENGINE, value: %s}]
          ports: [{containerPort: 8000}]
          readinessProbe: {httpGet: {path: /, port: 8000}, periodSeconds: 1}
    workerTemplate:
      spec:
        terminationGracePeriodSeconds: 0
        containers: [{name: worker, image: busybox, command: [sleep, "3600"]}]
---
apiVersion: v1
kind: Service
metadata: {name: engine-leaders}
spec:
  selector: {leaderworkerset.sigs.k8s.io/name: engine, leaderworkerset.sigs.k8s.io/worker-index: "0"}
  ports: [{port: 80, targetPort: 8000}]
"""


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Cluster]:
    made = up(tmp_path / "home", "--no-model", "--nodes", "1")
    yield made
    down(made)


def quoted(text: str) -> str:
    return '"' + text.replace('"', '\\"').replace("\n", "\\n") + '"'


def leader(cluster: Cluster, name: str) -> dict[str, Any] | None:
    pods = cluster.items("pods", "-l", "leaderworkerset.sigs.k8s.io/worker-index=0")
    return next((pod for pod in pods if pod["metadata"]["name"] == name), None)


def ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def ask(address: str, path: str = "/") -> str:
    """The leader that answers a new connection; empty if none does."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
            return answer.read().decode()
    except OSError:
        return ""


def open_stream(address: str, wanted: str) -> http.client.HTTPResponse:
    """An answer that goes on, of this leader."""
    for _ in range(50):
        connection = http.client.HTTPConnection(address, timeout=30)
        connection.request("GET", "/stream")
        answer = connection.getresponse()
        if answer.readline().decode().strip() == wanted:
            return answer
        connection.close()
    raise AssertionError(f"{wanted} never answers")


def test_an_answer_ends_before_its_group_does_and_no_new_one_begins_there(bare: Cluster) -> None:
    manifest = SET % quoted(ENGINE)
    bare.apply(manifest)
    address: str = bare.get("service", "engine-leaders")["spec"]["clusterIP"]
    wait_until(lambda: {ask(address) for _ in range(6)} == {"engine-0", "engine-1"}, "both leaders answer")
    stream = open_stream(address, "engine-1")
    bare.apply(manifest.replace("replicas: 2", "replicas: 1"))
    wait_until(
        lambda: {ask(address) for _ in range(20)} == {"engine-0"}, "new connections go to the other group"
    )
    assert stream.readline() == b"token\n"
    draining = leader(bare, "engine-1")
    assert draining is not None
    assert not ready(draining)
    assert "deletionTimestamp" not in draining["metadata"]
    ask(f"{draining['status']['podIP']}:8000", "/end")
    assert stream.read().splitlines()[-1] == b"done"
    # Long before its minute is over: its metrics say that nothing is left.
    wait_until(lambda: leader(bare, "engine-1") is None, "the group is deleted", 30)
    assert ask(address) == "engine-0"
