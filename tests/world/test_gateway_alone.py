"""A gateway without a cluster: `kaji gateway run`, `lint` and `try`, as a person would use them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.workbench import free_port
from tests.world import gateway_story
from tests.world.conftest import ROOT, wait_until

pytestmark = [pytest.mark.world, pytest.mark.timeout(180)]
KAJI = [sys.executable, "-m", "kajitori.cli"]
Object = dict[str, Any]


class Provider(BaseHTTPRequestHandler):
    """An OpenAI-compatible endpoint; remembers what it was asked."""

    seen: list[tuple[str, str, Object]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        Provider.seen.append((self.path, self.headers["authorization"], body))
        usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
        message = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
        answer = {
            "id": "x",
            "object": "chat.completion",
            "model": body["model"],
            "choices": [message],
            "usage": usage,
        }
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture(scope="module")
def provider() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="kaji-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


CONFIGURATION = """\
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: alone}
spec: {controllerName: gateway.envoyproxy.io/gatewayclass-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: alone, namespace: elsewhere}
spec:
  gatewayClassName: alone
  listeners: [{name: http, protocol: HTTP, port: ${PORT}}]
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {name: provider, namespace: elsewhere}
spec: {endpoints: [{ip: {address: 127.0.0.1, port: ${PROVIDER}}}]}
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIServiceBackend
metadata: {name: provider, namespace: elsewhere}
spec:
  schema: {name: OpenAI}
  backendRef: {group: gateway.envoyproxy.io, kind: Backend, name: provider}
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {name: first, namespace: elsewhere}
spec:
  parentRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: alone}]
  rules:
  - matches: [{headers: [{name: x-ai-eg-model, value: "${MODEL:=gpt-4o}"}]}]
    backendRefs: [{name: provider}]
"""
ROUTE = """\
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {name: NAME, namespace: elsewhere}
spec:
  parentRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: alone}]
  rules:
  - matches: [{headers: [{name: x-ai-eg-model, value: NAME}]}]
    backendRefs: [{name: provider}]
"""


class Running:
    """A gateway in a process of its own. output: what it has printed."""

    def __init__(self, arguments: list[str], home: Path, **variables: str) -> None:
        self.home = home
        self.log = home.with_suffix(".out")
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **variables}
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [*KAJI, "gateway", "run", *arguments, "--home", str(home), "--admin-port", "0"],
                stdout=output, stderr=output, env=environment,
            )  # fmt: skip

    @property
    def output(self) -> str:
        return self.log.read_text()

    def stop(self) -> None:
        # Not SIGINT: a shell that runs in the background lets its children ignore that.
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self.log.unlink()


def ask(port: int, model: str) -> tuple[int, Object]:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions", body, {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def kaji(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*KAJI, *arguments], capture_output=True, text=True, env={**os.environ, **variables}, timeout=120
    )


def test_a_file_is_served_followed_and_tried(provider: int, home: Path) -> None:
    port = free_port()
    file = home / "gateway.yaml"
    file.write_text(CONFIGURATION)
    variables = {"PORT": str(port), "PROVIDER": str(provider)}
    running = Running([str(file)], home, **variables)
    try:
        wait_until(lambda: f"http://localhost:{port}/v1" in running.output, "the gateway serves", seconds=60)
        assert ask(port, "gpt-4o")[0] == 200
        assert ask(port, "gpt-9")[0] == 404
        again = kaji("gateway", "run", str(file), "--home", str(home), **variables)
        assert again.returncode == 2 and "runs in" in again.stderr
        # What is saved takes effect, without a stop.
        file.write_text(CONFIGURATION.replace("name: first", "name: second").replace(":=gpt-4o", ":=gpt-9"))
        wait_until(lambda: ask(port, "gpt-9")[0] == 200, "the new route serves", seconds=30)
        wait_until(lambda: ask(port, "gpt-4o")[0] == 404, "the former route is gone", seconds=30)
        # An object that is wrong is named with its place, and the others take effect.
        wrong = ROUTE.replace("NAME", "wrong").replace("{name: provider}", "{name: provider, weight: lots}")
        edited = CONFIGURATION.replace("name: first", "name: second").replace(":=gpt-4o", ":=gpt-9")
        file.write_text(edited + wrong + ROUTE.replace("NAME", "third"))
        wait_until(lambda: ask(port, "third")[0] == 200, "the route beside the wrong one serves", seconds=30)
        line = (edited + wrong).splitlines().index("    backendRefs: [{name: provider, weight: lots}]") + 1
        assert f"{file}:{line}" in running.output
        assert "spec.rules[0].backendRefs[0].weight" in running.output
        assert (ask(port, "gpt-9")[0], ask(port, "wrong")[0]) == (200, 404)
        # A file that is no YAML changes nothing.
        file.write_text("kind: [")
        wait_until(lambda: "malformed YAML" in running.output, "the mistake is told", seconds=30)
        assert "what was served before is served on" in running.output
        assert (ask(port, "gpt-9")[0], ask(port, "third")[0]) == (200, 200)
    finally:
        running.stop()
    assert running.process.returncode == 0
    # Two requests were answered at the first file, several at the second.
    file.write_text(CONFIGURATION)
    tried = kaji("gateway", "try", str(file), "--requests", str(home), **variables)
    assert tried.returncode == 0, tried.stderr
    assert "no route for model 'gpt-9'" in tried.stdout
    assert re.search(r"same as before +[1-9]", tried.stdout), tried.stdout
    assert "no usable backend" not in tried.stdout and not tried.stderr


def test_variables_of_an_sdk_are_enough(provider: int, home: Path) -> None:
    port = free_port()
    variables = {"OPENAI_API_KEY": "sk-secret", "OPENAI_BASE_URL": f"http://127.0.0.1:{provider}/v1"}
    running = Running(["--port", str(port)], home / "environment", **variables)
    try:
        wait_until(lambda: f"http://localhost:{port}/v1" in running.output, "the gateway serves", seconds=60)
        before = time.time()
        status, answer = ask(port, "whatever/model")
        assert (status, answer["model"]) == (200, "whatever/model")
        assert Provider.seen[-1][:2] == ("/v1/chat/completions", "Bearer sk-secret"), before
        assert "sk-secret" not in running.output
    finally:
        running.stop()


def test_nothing_to_serve_is_told_with_what_to_set(home: Path) -> None:
    empty = dict.fromkeys(("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "ANTHROPIC_API_KEY"), "")
    answer = kaji("gateway", "run", "--home", str(home / "none"), **empty)
    assert answer.returncode == 2
    assert "set one of OPENAI_API_KEY" in answer.stderr


def test_lint_names_each_finding_with_its_line(home: Path) -> None:
    file = home / "wrong.yaml"
    wrong = CONFIGURATION.replace(
        "schema: {name: OpenAI}", "schema: {name: OpenAI}\n  timeouts: {request: 1s}"
    )
    file.write_text(wrong.replace("backendRefs: [{name: provider}]", "backendRefs: [{name: nobody}]"))
    answer = kaji("gateway", "lint", str(file), PORT="1975", PROVIDER="1")
    assert answer.returncode == 1
    line = wrong.splitlines().index("  timeouts: {request: 1s}") + 1
    assert f'{file}:{line}: unknown field "spec.timeouts"' in answer.stderr
    assert "nobody does not exist" in answer.stdout
    file.write_text(CONFIGURATION)
    answer = kaji("gateway", "lint", str(file), PORT="1975", PROVIDER="1")
    assert (answer.returncode, answer.stderr) == (0, ""), answer.stdout


class Alone:
    """The place of the story without a cluster: what is applied is a file that is followed."""

    def __init__(self, home: Path, port: int) -> None:
        self.home = home / "story"
        self.file = home / "story.yaml"
        self.port = port
        self.running: Running | None = None

    def apply(self, manifest: str) -> None:
        self.file.write_text(
            manifest.replace("kajitori", "alone", 1) + "---\n" + CONFIGURATION.split("---")[0]
        )
        self.running = Running([str(self.file)], self.home)
        wait_until(lambda: self.url() in self.output(), "the gateway serves", seconds=60)

    def output(self) -> str:
        return self.running.output if self.running else ""

    def url(self) -> str:
        return f"http://localhost:{self.port}/v1"

    def kaji(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = kaji(*words, "--home", str(self.home))
        assert not check or done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}\n{self.output()}"
        return done

    def python(self, code: str, *arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
        ).stdout

    def popen(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(words, text=True, cwd=ROOT)


def test_the_story_of_the_gateway_without_a_cluster(home: Path) -> None:
    port = free_port()
    place = Alone(home, port)
    try:
        gateway_story.tell(place, port)
    finally:
        if place.running:
            place.running.stop()
