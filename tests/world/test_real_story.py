"""The story of the first token on a real Kubernetes: `kaji install`, the mission's manifests, a real model.

Control plane, nodes, Envoy and clients are in a network namespace. What `kaji install` puts into the cluster runs as
pods of our nodes, under its own service accounts and RBAC.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.world import gateway_story
from tests.world.conftest import ROOT, wait_until
from tests.world.real_world import World, real_world
from tests.world.test_story import GROUPS, MANIFESTS, PODS, ROUTE

pytestmark = [pytest.mark.world, pytest.mark.timeout(400)]

FIRST_TOKEN = MANIFESTS / "first-token"
# Asks through the official client, in the namespace; prints what came.
ASK = """
import json, openai, sys
url, model, prompt = sys.argv[1:4]
client = openai.OpenAI(base_url=url, api_key="of-the-client", max_retries=0, timeout=30)
try:
    answer = client.chat.completions.with_raw_response.create(
        model=model, messages=[{"role": "user", "content": prompt}], max_tokens=8)
    parsed = answer.parse()
    print(json.dumps({"id": answer.headers["x-request-id"], "text": parsed.choices[0].message.content,
                      "usage": parsed.usage.model_dump() if parsed.usage else None}))
except openai.APIError as error:
    print(json.dumps({"error": str(error)}))
"""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    gpus = ("--gpus", "8")
    with real_world(one=gpus, two=gpus) as made:
        made.kaji("install", "--set", "envoy.service.type=ClusterIP")
        yield made


@pytest.fixture(scope="module")
def gateway(world: World) -> str:
    """The first model's manifests, applied; the URL under which it answers."""
    world.kaji("apply", "-f", str(FIRST_TOKEN))

    def address() -> str | None:
        path = "{.status.addresses[*].value}"
        return world.kubectl("get", "gateway", "kaji", "-o", f"jsonpath={path}").stdout or None

    url = f"http://{wait_until(address, 'the Gateway has an address')}:8080/v1"
    wait_until(lambda: "text" in ask(world, url, "smollm2-135m"), "the model answers", seconds=120)
    return url


def ask(world: World, url: str, model: str, prompt: str = "Say hello.") -> dict[str, object]:
    return json.loads(world.python(ASK, url, model, prompt))


def ready(world: World) -> dict[str, str]:
    """Name to uid of the group set's Ready pods."""
    selector = "leaderworkerset.sigs.k8s.io/name=deepseek-r1-inference"
    return {
        pod["metadata"]["name"]: pod["metadata"]["uid"]
        for pod in world.objects("pods", "-l", selector)
        if "deletionTimestamp" not in pod["metadata"]
        and any(
            one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", ())
        )
    }


@pytest.fixture(scope="module")
def groups(world: World) -> dict[str, str]:
    """The mission's first manifest, applied unmodified and Ready."""
    world.kubectl("apply", "-f", str(GROUPS))
    return wait_until(
        lambda: pods if len(pods := ready(world)) == 16 else None, "16 pods are Ready", seconds=120
    )


def test_what_was_installed_runs_twice_under_accounts_of_its_own(world: World) -> None:
    pods = world.objects("pods", "-n", "kajitori-system")
    accounts = sorted(pod["spec"]["serviceAccountName"] for pod in pods)
    assert accounts == sorted(["kajitori-controllers", "kajitori-gateway", "kajitori-envoy"] * 2)
    assert {pod["status"]["phase"] for pod in pods} == {"Running"}
    again = world.kaji("install", "--set", "envoy.service.type=ClusterIP").stdout
    assert "applied" in again


def test_two_groups_of_eight_are_ready_and_kubectl_shows_them(world: World, groups: dict[str, str]) -> None:
    assert sorted(groups) == sorted(PODS)
    shown = world.kubectl("get", "lws", "-o", "wide").stdout
    assert re.search(r"deepseek-r1-inference +2 +2 +2", shown), shown


def test_a_chat_completion_comes_from_the_real_model_through_the_gateway(world: World, gateway: str) -> None:
    answer = ask(world, gateway, "smollm2-135m", "What is Kubernetes?")
    assert answer["text"]
    assert isinstance(answer["usage"], dict) and answer["usage"]["completion_tokens"] > 0
    models = json.loads(world.run("curl", "-sS", f"{gateway}/models").stdout)
    assert "smollm2-135m" in [model["id"] for model in models["data"]]
    assert "smollm2-135m" in str(ask(world, gateway, "nope")["error"])


def test_kaji_chat_status_and_logs_work_with_any_kubeconfig(
    world: World, gateway: str, groups: dict[str, str]
) -> None:
    shown = world.kaji("chat", "smollm2-135m", "Say hello.", "--max-tokens", "8").stdout
    assert re.search(r"\d+ \+ \d+ tokens · first after \d+ ms", shown), shown
    status = world.kaji("status").stdout
    assert "smollm2-135m" in status and "8 of 8" in status
    assert "imulated" in world.kaji("logs", "deepseek-r1-inference-0").stdout


def test_a_deleted_worker_restarts_its_whole_group_and_no_other(world: World, groups: dict[str, str]) -> None:
    before = ready(world)
    victim = "deepseek-r1-inference-0-3"
    world.kubectl("delete", "pod", victim)
    group = {name for name in PODS if name.startswith("deepseek-r1-inference-0")}

    def recreated() -> dict[str, str] | None:
        now = ready(world)
        return now if len(now) == 16 and all(now[name] != before[name] for name in group) else None

    after = wait_until(recreated, "group 0 is Ready with new pods", seconds=120)
    assert {name: after[name] for name in set(PODS) - group} == {
        name: before[name] for name in set(PODS) - group
    }
    assert victim in world.kaji("explain", "pod/deepseek-r1-inference-0-5").stdout


@pytest.fixture
def providers(world: World, tmp_path: Path) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """The two providers of the mission's route, inside the namespace."""
    script = Path(__file__).with_name("provider.py")
    made: dict[str, subprocess.Popen[str]] = {}
    for name, port in (("azure", "9101"), ("openai", "9102")):
        record = tmp_path / f"{name}.jsonl"
        record.touch()
        made[name] = world.namespace.popen(sys.executable, str(script), port, str(record), name, text=True)
    yield made
    for process in made.values():
        process.kill()
        process.wait()


def test_the_second_provider_answers_when_the_first_is_killed(
    world: World, gateway: str, providers: dict[str, subprocess.Popen[str]]
) -> None:
    world.kubectl("apply", "-f", str(ROUTE))
    wait_until(lambda: ask(world, gateway, "gpt-4o").get("text") == "from azure", "the route serves")
    providers["azure"].kill()
    answer = ask(world, gateway, "gpt-4o")
    assert answer.get("text") == "from openai", answer

    def told() -> str | None:
        done = world.kaji("explain", "request", str(answer["id"]), check=False)
        return done.stdout if done.returncode == 0 else None

    story = wait_until(told, "a ledger has the request", seconds=20)
    assert "azure" in story and "openai" in story
    assert "not-a-real" not in story


class Real:
    """The place of the gateway's story on a real Kubernetes."""

    def __init__(self, world: World, port: int) -> None:
        self.world, self.port = world, port
        self.kaji, self.python = world.kaji, world.python

    def apply(self, manifest: str) -> None:
        self.world.kubectl("apply", "-f", "-", stdin=manifest)

    def url(self) -> str:
        def address() -> str | None:
            path = "jsonpath={.status.addresses[*].value}"
            return self.world.kubectl("get", "gateway", "story", "-o", path).stdout or None

        return f"http://{wait_until(address, 'the Gateway has an address')}:{self.port}/v1"

    def popen(self, *words: str) -> subprocess.Popen[str]:
        return self.world.namespace.popen(*words, text=True, cwd=ROOT)


def test_the_story_of_the_gateway_on_a_real_cluster(world: World) -> None:
    gateway_story.tell(Real(world, 8090), 8090, envoys=2)


def test_another_leader_acts_when_the_first_one_is_deleted(world: World, groups: dict[str, str]) -> None:
    def holder() -> str:
        path = "{.spec.holderIdentity}"
        return world.kubectl(
            "get", "lease", "kajitori-controllers", "-n", "kajitori-system", "-o", f"jsonpath={path}"
        ).stdout

    first = holder()
    pod = first.rpartition("-")[0]
    world.kubectl("delete", "pod", pod, "-n", "kajitori-system", "--grace-period=0", "--force")
    wait_until(lambda: holder() not in ("", first), "another one leads", seconds=60)
    before = ready(world)
    world.kubectl("delete", "pod", "deepseek-r1-inference-1-2")

    def recreated() -> bool:
        now = ready(world)
        return len(now) == 16 and now["deepseek-r1-inference-1"] != before["deepseek-r1-inference-1"]

    wait_until(recreated, "the new leader recreated group 1", seconds=120)


def test_an_upgrade_to_the_same_version_changes_nothing_and_all_goes_on(world: World, gateway: str) -> None:
    world.kaji("upgrade", "--set", "envoy.service.type=ClusterIP")
    assert ask(world, gateway, "smollm2-135m").get("text")


def test_uninstalling_leaves_what_users_made(world: World, groups: dict[str, str]) -> None:
    told = world.kaji("uninstall", "--yes").stdout
    assert "stays" in told

    def gone() -> bool:
        return world.kubectl("get", "namespace", "kajitori-system", check=False).returncode != 0

    wait_until(gone, "the namespace of the installation is gone", seconds=60)
    assert len(ready(world)) == 16
    assert world.kubectl("get", "lws", "deepseek-r1-inference").returncode == 0
