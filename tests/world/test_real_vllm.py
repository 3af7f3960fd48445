"""A real vLLM in a pod of a whole cluster: Ready by its own health, answering through the gateway, draining at its end.

Skipped, loudly, unless KAJITORI_TEST_VLLM names an environment with vLLM in it (`vllm` for a CPU will do); KAJITORI_TEST_VLLM_MODEL
names a folder with a small model that has a chat template. It takes a minute or two and 3 GB of memory.
"""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kajitori.engines.vllm import ENVIRONMENT_VARIABLE, METRICS
from tests.world.conftest import Cluster, down, processes_of, up, wait_until

VLLM = os.environ.get("KAJITORI_TEST_VLLM", "")
MODEL = os.environ.get("KAJITORI_TEST_VLLM_MODEL", "")
START_SECONDS = 300.0
SIMULATED = "kajitori.dev/Simulated"

pytestmark = [
    pytest.mark.world,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not (VLLM and MODEL),
        reason="NO REAL VLLM: KAJITORI_TEST_VLLM and KAJITORI_TEST_VLLM_MODEL NAME NONE",
    ),
]

MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {name: tiny, labels: {app: tiny}}
spec:
  containers:
  - name: vllm
    image: vllm/vllm-openai:latest
    args: [MODEL, --served-model-name=tiny, --enforce-eager, --max-model-len=2048, --dtype=float32, --shutdown-timeout=20]
    env: [{name: OMP_NUM_THREADS, value: "1"}]
    readinessProbe: {httpGet: {path: /health, port: 8000}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: absent}
spec:
  containers:
  - name: vllm
    image: vllm/vllm-openai:latest
    args: [Qwen/Qwen3-8B]
    readinessProbe: {httpGet: {path: /health, port: 8000}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: tiny}
spec:
  selector: {app: tiny}
  ports: [{port: 8000}]
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIServiceBackend
metadata: {name: tiny}
spec:
  schema: {name: OpenAI}
  backendRef: {group: gateway.envoyproxy.io, kind: Backend, name: tiny}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {name: tiny}
spec:
  endpoints: [{fqdn: {hostname: tiny.default.svc.cluster.local, port: 8000}}]
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {name: tiny}
spec:
  parentRefs: [{name: kaji, kind: Gateway, group: gateway.networking.k8s.io}]
  rules:
  - matches: [{headers: [{type: Exact, name: x-ai-eg-model, value: tiny}]}]
    backendRefs: [{name: tiny}]
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENVIRONMENT_VARIABLE, VLLM)
        made = up(tmp_path_factory.mktemp("kaji") / "home")
    try:
        made.apply(MANIFEST.replace("MODEL", MODEL))
        yield made
    finally:
        down(made)


def pod(cluster: Cluster, name: str) -> dict[str, Any]:
    return cluster.get("pod", name)


def condition(pod: dict[str, Any], kind: str) -> dict[str, Any]:
    return next((each for each in pod["status"].get("conditions", []) if each["type"] == kind), {})


@pytest.fixture(scope="module")
def ready(cluster: Cluster) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = pod(cluster, "tiny")
        assert not found["status"].get("containerStatuses", [{}])[0].get("restartCount"), cluster.kaji(
            "logs", "tiny", "--previous"
        ).stdout[-3000:]
        return found if condition(found, "Ready").get("status") == "True" else None

    return wait_until(look, "the real vLLM is Ready", START_SECONDS)


def processes_of_pod(cluster: Cluster, pod: dict[str, Any]) -> list[str]:
    return processes_of(cluster.home / "nodes" / pod["spec"]["nodeName"] / "pods" / pod["metadata"]["uid"])


def ask(cluster: Cluster, **body: Any) -> bytes:
    request = urllib.request.Request(
        f"{cluster.gateway_url}/chat/completions",
        json.dumps(
            {"model": "tiny", "messages": [{"role": "user", "content": "the server"}], **body}
        ).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        assert "x-kajitori-simulated" not in response.headers
        return response.read()


def test_it_is_ready_and_not_marked_simulated(ready: dict[str, Any]) -> None:
    assert ready["status"]["containerStatuses"][0]["imageID"] == "vllm://docker.io/vllm/vllm-openai"
    assert not condition(ready, SIMULATED)


def test_it_answers_through_the_gateway(cluster: Cluster, ready: dict[str, Any]) -> None:
    answer = json.loads(ask(cluster, max_tokens=8, ignore_eos=True))
    assert answer["usage"]["completion_tokens"] == 8
    assert answer["model"] == "tiny"


def test_its_metrics_have_the_names_of_the_adapter(ready: dict[str, Any]) -> None:
    with urllib.request.urlopen(f"http://{ready['status']['podIP']}:8000/metrics", timeout=30) as response:
        text = response.read().decode()
    for field in METRICS.__struct_fields__:
        name = getattr(METRICS, field)
        assert f"{name}{{" in text or f"{name}_bucket{{" in text, name


def test_a_model_without_local_weights_is_simulated_beside_it(cluster: Cluster) -> None:
    found = wait_until(
        lambda: (
            (seen := pod(cluster, "absent")) and condition(seen, "Ready").get("status") == "True" and seen
        ),
        "the simulated vLLM is Ready",
    )
    assert "Qwen/Qwen3-8B are not on this machine" in condition(found, SIMULATED)["message"]


def test_it_finishes_its_answers_before_it_ends_and_leaves_nothing(
    cluster: Cluster, ready: dict[str, Any]
) -> None:
    def running() -> bool:
        url = f"http://{ready['status']['podIP']}:8000/metrics"
        with urllib.request.urlopen(url, timeout=30) as response:
            lines = response.read().decode().splitlines()
        return any(line.startswith(METRICS.requests_running) and line.endswith(" 1.0") for line in lines)

    assert processes_of_pod(cluster, ready)
    with ThreadPoolExecutor(1) as threads:
        stream = threads.submit(ask, cluster, max_tokens=1900, ignore_eos=True, stream=True)
        wait_until(running, "the request runs")
        cluster.kaji("delete", "pod", "tiny")
        text = stream.result(timeout=120).decode()
    assert text.rstrip().endswith("data: [DONE]")
    assert '"finish_reason":"length"' in text
    assert not processes_of_pod(cluster, ready)
