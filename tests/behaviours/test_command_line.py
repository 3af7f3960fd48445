"""`kaji rollout` and `kaji explain` on both servers, with the controllers at work."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kajitori.api.resource import JOBS, LEADER_WORKER_SETS, PODS, REPLICA_SETS, SERVICES
from kajitori.kube.client import Client
from tests.behaviours.sight import Sight
from tests.servers import Server

Object = dict[str, Any]
Kaji = Callable[..., Awaitable[tuple[int, str]]]


def a_set(image: str = "busybox:1", **spec: Any) -> Object:
    template = {"spec": {"containers": [{"name": "engine", "image": image}]}}
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": "web"},
        "spec": {"replicas": 3, "leaderWorkerTemplate": {"size": 2, "workerTemplate": template}} | spec,
    }


@pytest.fixture
def kaji(server: Server, namespace: str) -> Kaji:
    """Run the command in this namespace; returns its exit code and all that it printed."""

    async def run(*words: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "kajitori.cli", *words),
            *("-n", namespace, "--kubeconfig", str(server.kubeconfig)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        told, _ = await process.communicate()
        return process.returncode or 0, told.decode()

    return run


async def apply(client: Client, namespace: str, lws: Object) -> None:
    lws = {**lws, "metadata": {"namespace": namespace, **lws["metadata"]}}
    await client.apply(LEADER_WORKER_SETS, lws, field_manager="test", force=True)


def images(sight: Sight) -> dict[str, str]:
    return {name: pod["spec"]["containers"][0]["image"] for name, pod in sight.pods.items()}


async def test_a_rollout_is_planned_followed_paused_taken_back_and_told(
    server: Server, namespace: str, sight: Sight, kaji: Kaji, tmp_path: Any
) -> None:
    await apply(server.client, namespace, a_set())
    code, told = await kaji("rollout", "status", "lws/web", "--timeout", "60s")
    assert code == 0, told
    assert "lws/web is rolled out: 3 of 3 groups updated, 3 ready" in told

    file = tmp_path / "web.json"
    file.write_text(json.dumps(a_set("new:1")))
    code, told = await kaji("rollout", "plan", "lws/web", "-f", str(file))
    assert code == 0, told
    assert "workerTemplate.containers[engine].image: busybox:1 → new:1" in told
    assert [line.split()[:3] for line in told.splitlines() if " replace " in line] == [
        ["1", "replace", "2"],
        ["2", "replace", "1"],
        ["3", "replace", "0"],
    ]
    assert set(images(sight).values()) == {"busybox:1"}
    code, told = await kaji(
        "rollout", "plan", "lws/web", "-f", str(file), "--max-surge", "1", "--max-unavailable", "0"
    )
    assert "At least 3 of 3 groups are ready all the time." in told

    code, told = await kaji("rollout", "undo", "lws/web")
    assert (code, "no earlier revision" in told) == (1, True)
    code, told = await kaji("rollout", "pause", "lws/web")
    assert code == 0, told
    await apply(server.client, namespace, a_set("new:1"))
    await sight.until(lambda: "kajitori.dev/Paused" in str(sight.sets["web"].get("status")), "it says so")

    async def stuck() -> str:
        code, told = await kaji("rollout", "status", "lws/web")
        return told if code == 1 else ""

    told = await stuck()
    assert "kaji rollout resume lws/web" in told
    assert set(images(sight).values()) == {"busybox:1"}
    code, told = await kaji("rollout", "undo", "lws/web")
    assert (code, "--resume" in told) == (1, True)
    assert (await kaji("rollout", "resume", "lws/web"))[0] == 0
    assert (await kaji("rollout", "status", "lws/web", "--timeout", "60s"))[0] == 0
    assert set(images(sight).values()) == {"new:1"}

    await sight.until(lambda: len(sight.revisions) == 1, "old revisions go")
    code, told = await kaji("rollout", "history", "lws/web")
    rows = [line.split() for line in told.splitlines()]
    assert [row[0] for row in rows] == ["REVISION", "1", "2"]
    code, told = await kaji("rollout", "undo", "lws/web")
    assert "goes back to revision 1: workerTemplate.containers[engine].image: new:1 → busybox:1" in told
    assert (await kaji("rollout", "status", "lws/web", "--timeout", "60s"))[0] == 0
    assert set(images(sight).values()) == {"busybox:1"}

    code, told = await kaji("explain", "lws/web")
    assert code == 0
    lines = told.splitlines()
    assert "3 of 3 groups ready, 3 updated" in lines[0]
    assert not [line for line in lines if "✗" in line]
    assert any("revision  3" in line and "new:1 → busybox:1" in line for line in lines)
    assert any("RolloutPaused" in line for line in lines)


async def test_what_keeps_a_set_from_being_ready_is_told_once(
    server: Server, namespace: str, sight: Sight, kaji: Kaji
) -> None:
    lws = a_set(replicas=2)
    container = lws["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]["containers"][0]
    container["resources"] = {"limits": {"nvidia.com/gpu": 9}}
    await apply(server.client, namespace, lws)
    await sight.until(lambda: "DoesNotFit" in str(sight.sets.get("web", {}).get("status")), "it says so")
    code, told = await kaji("rollout", "status", "lws/web")
    assert code == 1
    assert "asks for 9 nvidia.com/gpu and no node has more than 8" in told
    code, told = await kaji("explain", "lws/web")
    assert code == 0
    above = told.partition("what happened:")[0]
    assert "kajitori.dev/DoesNotFit is True: a leader asks for 9 nvidia.com/gpu" in above
    assert "not ready: groups 0, 1" in above
    assert len([line for line in above.splitlines() if "PodScheduled is False" in line]) == 1, above


async def test_workloads_say_why_their_pods_are_stuck(
    server: Server, namespace: str, sight: Sight, kaji: Kaji
) -> None:
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {
            "nodeSelector": {"disk": "none"},
            "containers": [{"name": "c", "image": "busybox:1"}],
        },
    }
    deployment = {
        "metadata": {"name": "web"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template},
    }
    spec = {**template["spec"], "restartPolicy": "Never"}
    job = {"metadata": {"name": "once"}, "spec": {"template": {"spec": spec}}}
    await server.http.create(f"/apis/apps/v1/namespaces/{namespace}/deployments", deployment)
    await server.http.create(f"/apis/batch/v1/namespaces/{namespace}/jobs", job)

    def unplaced() -> bool:
        return len(sight.pods) == 4 and all(
            any(each["type"] == "PodScheduled" for each in pod["status"].get("conditions") or ())
            for pod in sight.pods.values()
        )

    await sight.until(unplaced, "nobody places them")
    _, told = await kaji("explain", "deployment/web")
    above = told.partition("what happened:")[0]
    (line,) = [line for line in above.splitlines() if "PodScheduled is False" in line]
    assert line.strip().startswith("✗ pods web-")
    assert "available" in line
    _, told = await kaji("explain", "job", "once")
    assert "✗ pod once-" in told.partition("what happened:")[0]


async def test_a_service_of_the_same_name_is_named_as_what_blocks(
    server: Server, namespace: str, sight: Sight, kaji: Kaji
) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": namespace}}
    await server.client.create(SERVICES, {**service, "spec": {"ports": [{"port": 80}]}})
    await apply(server.client, namespace, a_set())
    await sight.until(lambda: "NameTaken" in str(sight.sets.get("web", {}).get("status")), "it says so")
    code, told = await kaji("rollout", "status", "lws/web")
    assert code == 1
    assert (
        "Service web is a service that nobody controls" in told or "Service web is of somebody else" in told
    )
    for resource in (PODS, REPLICA_SETS, JOBS):
        assert not (await server.client.list(resource, namespace)).items


def roles(ready: bool = True) -> Object:
    template: Object = {"spec": {"containers": [{"name": "engine", "image": "busybox:1"}]}}
    if not ready:
        template["metadata"] = {"annotations": {"kajitori.dev/test-ready": "false"}}
    return {
        "apiVersion": "disaggregatedset.x-k8s.io/v1",
        "kind": "DisaggregatedSet",
        "metadata": {"name": "pd"},
        "spec": {
            "roles": [
                {
                    "name": name,
                    "spec": {"replicas": 2, "leaderWorkerTemplate": {"size": 1, "workerTemplate": template}},
                }
                for name in ("prefill", "decode")
            ]
        },
    }


async def test_a_rollout_of_roles_is_planned_and_taken_back_from_its_middle(
    server: Server, namespace: str, sight: Sight, kaji: Kaji, tmp_path: Any
) -> None:
    word = "disaggregatedset/pd"
    file = tmp_path / "pd.json"
    file.write_text(json.dumps(roles()))
    assert (await kaji("apply", "-f", str(file)))[0] == 0
    code, told = await kaji("rollout", "status", word, "--timeout", "60s")
    assert code == 0, told
    assert "prefill: 2 of 2 groups updated, 2 ready; decode: 2 of 2 groups updated, 2 ready" in told
    code, told = await kaji("rollout", "undo", word)
    assert (code, "no earlier revision" in told) == (1, True)
    file.write_text(json.dumps(roles(ready=False)))
    code, told = await kaji("rollout", "plan", word, "-f", str(file))
    assert "new decode 0 to 1, new prefill 0 to 1" in told
    assert (await kaji("apply", "-f", str(file)))[0] == 0
    await sight.until(lambda: len(sight.pods) == 6, "the new revision begins")
    code, told = await kaji("rollout", "history", word)
    assert [("now" in line) for line in told.splitlines()] == [False, False, True]
    code, told = await kaji("explain", word)
    assert "0 of 1 groups ready" in told
    code, told = await kaji("rollout", "undo", word)
    assert (code, "goes back to revision" in told) == (0, True), told
    code, told = await kaji("rollout", "status", word, "--timeout", "60s")
    assert code == 0, told
    await sight.until(lambda: len(sight.pods) == 4, "and the new one goes")


async def test_a_set_that_upstream_runs_is_not_paused_in_vain(
    server: Server, namespace: str, kaji: Kaji
) -> None:
    made = await server.client.create(
        LEADER_WORKER_SETS, {**a_set(replicas=0), "metadata": {"name": "web", "namespace": namespace}}
    )
    owner = {
        "apiVersion": made["apiVersion"],
        "kind": made["kind"],
        "name": "web",
        "uid": made["metadata"]["uid"],
        "controller": True,
    }
    labels = {"matchLabels": {"app": "web"}}
    leaders = {
        "metadata": {"name": "web", "ownerReferences": [owner]},
        "spec": {
            "replicas": 0,
            "selector": labels,
            "template": {
                "metadata": {"labels": labels["matchLabels"]},
                "spec": {"containers": [{"name": "c", "image": "busybox:1"}]},
            },
        },
    }
    (await server.http.create(f"/apis/apps/v1/namespaces/{namespace}/statefulsets", leaders)).ok()
    code, told = await kaji("rollout", "pause", "lws/web")
    assert code == 1
    assert "is run by the controller of kubernetes-sigs/lws, which knows no pause" in told
    assert "rollingUpdateConfiguration.partition" in told


async def test_what_is_not_there_is_answered_in_one_sentence(
    server: Server, namespace: str, kaji: Kaji
) -> None:
    for words, code, told in (
        (("status", "lws/none"), 1, '"none" not found (`kaji get leaderworkersets -n'),
        (("status", "nonsense/x"), 2, "the cluster serves no 'nonsense'"),
        (("undo", "pod/x"), 2, "is for LeaderWorkerSets and DisaggregatedSets, not for Pods"),
        (("status", "deployment/x"), 2, "kubectl rollout status deployment/x"),
    ):
        ended, answer = await kaji("rollout", *words)
        assert ended == code
        assert told in answer
        assert answer.count("\n") == 1
