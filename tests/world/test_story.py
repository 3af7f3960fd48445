"""The story of the first token, as a person would live it: a cluster, the mission's two manifests, a real model."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.world import gateway_story
from tests.world.conftest import MANIFESTS, ROOT, Cluster, free_port, needs_kubectl, wait_until

pytestmark = [pytest.mark.world, pytest.mark.timeout(300), pytest.mark.xdist_group("port-8080")]

GROUPS = MANIFESTS / "leader-worker-set" / "leader-worker-set.yaml"
ROUTE = MANIFESTS / "ai-gateway-route" / "ai-gateway-route.yaml"
PODS = [
    f"deepseek-r1-inference-{group}{worker}"
    for group in (0, 1)
    for worker in ("", *(f"-{i}" for i in range(1, 8)))
]


def ready_pods(cluster: Cluster) -> dict[str, str]:
    """Name to uid of the group set's Ready pods."""
    return {
        pod["metadata"]["name"]: pod["metadata"]["uid"]
        for pod in cluster.items("pods", "-l", "leaderworkerset.sigs.k8s.io/name=deepseek-r1-inference")
        if "deletionTimestamp" not in pod["metadata"]
        and any(
            each["type"] == "Ready" and each["status"] == "True"
            for each in pod["status"].get("conditions", ())
        )
    }


@pytest.fixture(scope="module")
def groups(cluster: Cluster) -> dict[str, str]:
    """The mission's first manifest, applied unmodified and Ready."""
    cluster.kaji("apply", "-f", str(GROUPS))
    return wait_until(
        lambda: pods if len(pods := ready_pods(cluster)) == 16 else None, "16 pods are Ready", seconds=90
    )


def test_the_manifests_are_the_missions_own() -> None:
    for path in (GROUPS, ROUTE):
        source = MANIFESTS.parent.parent / "shared" / "mission" / "manifests" / path.name
        if source.exists():
            assert path.read_text() == source.read_text()


def test_two_groups_of_eight_are_ready_on_the_nodes_that_fit(
    cluster: Cluster, groups: dict[str, str]
) -> None:
    assert sorted(groups) == sorted(PODS)
    nodes: dict[str, int] = {}
    for pod in cluster.items("pods", "-l", "leaderworkerset.sigs.k8s.io/name=deepseek-r1-inference"):
        nodes[pod["spec"]["nodeName"]] = nodes.get(pod["spec"]["nodeName"], 0) + 1
    assert nodes == {"node-1": 8, "node-2": 8}


def test_all_of_a_kind_is_a_list_though_there_is_only_one(cluster: Cluster, groups: dict[str, str]) -> None:
    every = json.loads(cluster.kaji("get", "lws", "-o", "json").stdout)
    assert (every["kind"], len(every["items"])) == ("List", 1)
    one = json.loads(cluster.kaji("get", "lws", "deepseek-r1-inference", "-o", "json").stdout)
    assert one["kind"] == "LeaderWorkerSet"


@needs_kubectl
def test_kubectl_shows_the_groups_and_that_they_are_simulated(
    cluster: Cluster, groups: dict[str, str]
) -> None:
    shown = cluster.kubectl("get", "lws,pods", "-o", "wide").stdout
    assert re.search(r"leaderworkerset\S*/deepseek-r1-inference +2 +2 +2", shown), shown
    row = next(line for line in shown.splitlines() if "pod/deepseek-r1-inference-1-7" in line)
    assert "Running" in row
    assert "imulated" in row


def test_a_chat_completion_comes_from_the_real_model_through_the_gateway(cluster: Cluster) -> None:
    client = openai.OpenAI(base_url=cluster.gateway_url, api_key="none", max_retries=0)
    answer = client.chat.completions.create(
        model="smollm2-135m", messages=[{"role": "user", "content": "Say hello."}], max_tokens=8
    )
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0


def test_a_stream_arrives_piece_by_piece_with_its_usage(cluster: Cluster) -> None:
    client = openai.OpenAI(base_url=cluster.gateway_url, api_key="none", max_retries=0)
    events = list(
        client.chat.completions.create(
            model="smollm2-135m",
            messages=[{"role": "user", "content": "Count to five."}],
            max_tokens=12,
            # The likeliest words: by chance the model may have said all after two.
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert sum(bool(event.choices and event.choices[0].delta.content) for event in events) > 3
    assert events[-1].usage is not None


def test_the_gateway_lists_the_models(cluster: Cluster) -> None:
    client = openai.OpenAI(base_url=cluster.gateway_url, api_key="none", max_retries=0)
    assert "smollm2-135m" in [model.id for model in client.models.list()]


def test_an_unknown_model_is_404_with_the_models_that_exist(cluster: Cluster) -> None:
    client = openai.OpenAI(base_url=cluster.gateway_url, api_key="none", max_retries=0)
    with pytest.raises(openai.NotFoundError, match="smollm2-135m"):
        client.chat.completions.create(model="nope", messages=[{"role": "user", "content": "x"}])


def test_kaji_chat_streams_and_shows_tokens_and_times(cluster: Cluster) -> None:
    shown = cluster.kaji("chat", "smollm2-135m", "Say hello.", "--max-tokens", "8").stdout
    assert re.search(r"\d+ \+ \d+ tokens · first after \d+ ms", shown), shown
    assert "simulated" not in shown


def test_curl_needs_nothing_but_the_model(cluster: Cluster) -> None:
    body = json.dumps(
        {"model": "smollm2-135m", "max_tokens": 4, "messages": [{"role": "user", "content": "Hi"}]}
    )
    done = cluster.command("curl", "-sS", f"{cluster.gateway_url}/chat/completions", "-d", body)
    assert json.loads(done.stdout)["choices"]


def test_a_deleted_worker_restarts_its_whole_group_and_no_other(
    cluster: Cluster, groups: dict[str, str]
) -> None:
    before = ready_pods(cluster)
    victim = "deepseek-r1-inference-0-3"
    cluster.kaji("delete", "pod", victim)
    group = {name for name in PODS if name.startswith("deepseek-r1-inference-0")}

    def recreated() -> dict[str, str] | None:
        now = ready_pods(cluster)
        return now if len(now) == 16 and all(now[name] != before[name] for name in group) else None

    after = wait_until(recreated, "group 0 is Ready with new pods", seconds=90)
    assert {name: after[name] for name in set(PODS) - group} == {
        name: before[name] for name in set(PODS) - group
    }
    told = cluster.kaji("explain", f"pod/{victim}").stdout
    assert "kubernetes-admin" in told
    assert re.search(r"delete pods/deepseek-r1-inference-0-3", told), told
    other = cluster.kaji("explain", "pod/deepseek-r1-inference-0-5").stdout
    assert victim in other, other


@needs_kubectl
@needs_kubectl
def test_a_process_killed_in_a_container_restarts_its_whole_group_and_no_other(
    cluster: Cluster, groups: dict[str, str]
) -> None:
    before = ready_pods(cluster)
    victim = "deepseek-r1-inference-1-2"
    # What ends the container may end the command in it first.
    cluster.kubectl("exec", victim, "--", "kill", "1", check=False)
    group = {name for name in PODS if name.startswith("deepseek-r1-inference-1")}

    def recreated() -> dict[str, str] | None:
        now = ready_pods(cluster)
        return now if len(now) == 16 and all(now[name] != before[name] for name in group) else None

    after = wait_until(recreated, "group 1 is Ready with new pods", seconds=90)
    assert {name: after[name] for name in set(PODS) - group} == {
        name: before[name] for name in set(PODS) - group
    }
    told = cluster.kaji("explain", f"pod/{victim}").stdout
    assert re.search(r"vllm-worker.*exit code|exit code.*vllm-worker", told), told


class Provider:
    """One of the stand-ins, as a process that can be killed."""

    def __init__(self, port: int, name: str, folder: Path) -> None:
        self.record = folder / f"{name}.jsonl"
        self.record.touch()
        script = Path(__file__).with_name("provider.py")
        self.process = subprocess.Popen([sys.executable, str(script), str(port), str(self.record), name])

    def requests(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.record.read_text().splitlines()]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def providers(tmp_path: Path) -> Iterator[tuple[Provider, Provider]]:
    made = (Provider(9101, "azure", tmp_path), Provider(9102, "openai", tmp_path))
    yield made
    for provider in made:
        provider.kill()


def test_the_second_provider_answers_when_the_first_is_killed_under_load(
    cluster: Cluster, providers: tuple[Provider, Provider]
) -> None:
    azure, second = providers
    cluster.kaji("apply", "-f", str(ROUTE))
    client = openai.OpenAI(
        base_url="http://127.0.0.1:8080/v1", api_key="of-the-client", max_retries=0, timeout=20
    )

    def ask() -> str | None:
        answer = client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "x"}])
        return answer.choices[0].message.content

    def first_answer() -> str | None:
        try:
            return ask()
        except (openai.APIStatusError, openai.APIConnectionError):
            return None

    assert wait_until(first_answer, "the route serves") == "from azure"
    sent = azure.requests()[-1]
    assert sent["path"] == "/openai/deployments/gpt-4o/chat/completions?api-version=2025-01-01-preview"
    assert sent["headers"]["api-key"] == "not-a-real-azure-key"
    assert "of-the-client" not in json.dumps(sent["headers"])

    answers: list[str | None] = []
    ends = time.monotonic() + 3
    killed = False
    while time.monotonic() < ends:
        answers.append(ask())
        if not killed and len(answers) >= 10:
            azure.kill()
            killed = True
    assert answers[0] == "from azure"
    assert answers[-1] == "from openai"
    sent = second.requests()[-1]
    assert sent["path"] == "/v1/chat/completions"
    assert sent["headers"]["authorization"] == "Bearer not-a-real-openai-key"
    assert "api-key" not in sent["headers"]

    response = client.chat.completions.with_raw_response.create(
        model="gpt-4o", messages=[{"role": "user", "content": "x"}]
    )
    request_id = response.headers["x-request-id"]
    told = wait_until(
        lambda: (
            done.stdout
            if (done := cluster.kaji("explain", "request", request_id, check=False)).returncode == 0
            else None
        ),
        "the ledger has the request",
        seconds=20,
    )
    assert "azure" in told
    assert "openai" in told
    assert re.search(r"tokenCost\D+11", told), told  # 12 / 3 + 7
    assert "not-a-real" not in told


def test_status_and_logs_and_get_tell_what_runs(cluster: Cluster, groups: dict[str, str]) -> None:
    status = cluster.kaji("status").stdout
    assert "smollm2-135m" in status
    assert "8 of 8" in status
    logs = cluster.kaji("logs", "deepseek-r1-inference-0").stdout
    assert "imulated" in logs
    assert "deepseek-r1-inference-1-7" in cluster.kaji("get", "pods").stdout


class Embedded:
    """The place of the gateway's story on an embedded cluster."""

    def __init__(self, cluster: Cluster, port: int) -> None:
        self.port = port
        self.kaji = cluster.kaji
        self.apply = cluster.apply

    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def python(self, code: str, *arguments: str) -> str:
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def popen(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(words, text=True, cwd=ROOT)


def test_the_story_of_the_gateway_on_an_embedded_cluster(cluster: Cluster) -> None:
    port = free_port()
    gateway_story.tell(Embedded(cluster, port), port)
