"""Groups of real processes: their controller finds out why one failed, and restarts them in their pods."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.definitions import install_definitions
from tests.node.conftest import RunningNode, compile_programs, running_node
from tests.waiting import eventually

from kajitori.api.resource import EVENTS, LEADER_WORKER_SETS, PODS
from kajitori.base.errors import NotFound
from kajitori.control.runtime import Runtime
from kajitori.groups.leader_worker_sets import controller
from kajitori.groups.leader_worker_sets.rbac import IN_PLACE_RULES, LAPTOP_RULES, RULES
from kajitori.kube.client import Client
from kajitori.kube.config import load_config

DEADLINE_SECONDS = 40.0
LOADING_SECONDS = 1.5
# Weights are fetched once for each volume. A file of the name `crash` makes the process fail as an engine would.
SCRIPT = f"""
trap 'exit 0' TERM
test -e /weights/loaded || {{ sleep {LOADING_SECONDS}; touch /weights/loaded; echo fetched the weights; }}
touch /weights/serving
while test ! -e /weights/crash; do sleep 0.05; done
rm /weights/crash
echo 'loading key hf_abcdefghijklmnop'
echo 'RuntimeError: CUDA error: an illegal memory access'
exit 3
"""


def a_set(name: str, **annotations: str) -> dict[str, Any]:
    container = {
        "name": "engine",
        "image": "busybox",
        "command": ["sh", "-c", SCRIPT],
        "volumeMounts": [{"name": "weights", "mountPath": "/weights"}],
        "readinessProbe": {"exec": {"command": ["test", "-e", "/weights/serving"]}, "periodSeconds": 1},
    }
    template = {
        "spec": {
            "nodeName": "node-1",
            "terminationGracePeriodSeconds": 2,
            "containers": [container],
            "volumes": [{"name": "weights", "emptyDir": {}}],
        }
    }
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": name, "namespace": "default", "annotations": annotations},
        "spec": {"replicas": 1, "leaderWorkerTemplate": {"size": 3, "workerTemplate": template}},
    }


class Groups:
    """A node of processes and the controller of groups, with the rights that it says it needs."""

    def __init__(self, node: RunningNode) -> None:
        self.node = node
        self.client = node.client

    async def apply(self, lws: dict[str, Any]) -> None:
        await self.client.apply(LEADER_WORKER_SETS, lws, field_manager="test")
        await self.until_ready(lws["metadata"]["name"])

    async def status(self, name: str) -> dict[str, Any]:
        return (await self.client.get(LEADER_WORKER_SETS, name, "default")).get("status", {})

    async def until(self, holds: Callable[[], Any]) -> Any:
        try:
            return await eventually(holds)
        except AssertionError as late:
            listed = await self.client.list(EVENTS, "default")
            raise AssertionError("\n".join(event["note"] for event in listed.items)) from late

    async def until_ready(self, name: str) -> None:
        async def ready() -> bool:
            return (await self.status(name)).get("readyReplicas") == 1

        await self.until(ready)

    async def pods(self) -> dict[str, dict[str, Any]]:
        return {pod["metadata"]["name"]: pod for pod in (await self.client.list(PODS, "default")).items}

    async def told(self, reason: str) -> list[str]:
        listed = await self.client.list(EVENTS, "default")
        return [event["note"] for event in listed.items if event["reason"] == reason]

    async def fails_to_obey(self) -> None:
        """A command that ends badly leads to new pods at once, not after a minute."""
        command = json.dumps(["sh", "-c", "echo no such process >&2; exit 3"])
        asked = {"groups.kajitori.dev/restart": "InPlace", "groups.kajitori.dev/in-place-command": command}
        await self.apply(a_set("y", **asked))
        await self.crash((await self.pods())["y-0-1"])

        async def told() -> str:
            notes = [note for note in await self.told("RecreateGroup") if "y-0" in note]
            return notes[0] if notes else ""

        note = await self.until(told)
        assert (
            "echo no such process >&2; exit 3' ended with exit code 3 in container engine of pod y-0" in note
        )
        assert "no such process), recreating it: container engine of pod y-0-1" in note

    async def crash(self, pod: dict[str, Any]) -> None:
        """Have the engine of the pod fail."""
        volume = self.node.home / "nodes/node-1/pods" / pod["metadata"]["uid"] / "volumes" / "weights"
        found = [volume] if volume.exists() else list(volume.parents[1].glob("**/weights"))
        (found[0] / "crash").touch()


@contextlib.asynccontextmanager
async def running_groups(home: Path, native: Path, rules: list[dict[str, Any]]) -> AsyncIterator[Groups]:
    (home / "run/component-roles.json").write_text(json.dumps({"system:kajitori:controllers": rules}))
    async with running_node(home, compile_programs(native)) as node:
        await install_definitions(node.client, "LeaderWorkerSet")
        try:
            yield Groups(node)
        finally:
            for name in await Groups(node).pods():
                with contextlib.suppress(NotFound):
                    await node.client.delete(PODS, name, "default", grace_period_seconds=0)


@contextlib.asynccontextmanager
async def running_controller(groups: Groups) -> AsyncIterator[None]:
    config = load_config(str(groups.node.server.kubeconfig_of("controllers")))
    async with Client(config, user_agent="kajitori-controllers") as client:
        runtime = Runtime(client, grace_seconds=2.0)
        controller.register(runtime)
        stop = asyncio.Event()
        running = asyncio.ensure_future(runtime.run(stop))
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(running, return_exceptions=True)


async def test_a_group_restarts_in_its_pods_and_fetches_no_weights_again(
    home: Path, native_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with (
        running_groups(home, native_cache, [*RULES, *LAPTOP_RULES]) as groups,
        running_controller(groups),
    ):
        await groups.apply(a_set("x", **{"groups.kajitori.dev/restart": "InPlace"}))
        before = await groups.pods()
        began = time.monotonic()
        await groups.crash(before["x-0-1"])
        (note,) = await groups.until(lambda: groups.told("RestartedInPlace"))
        await groups.until_ready("x")
        in_place_seconds = time.monotonic() - began
        after = await groups.pods()
        assert {name: pod["metadata"]["uid"] for name, pod in after.items()} == {
            name: pod["metadata"]["uid"] for name, pod in before.items()
        }
        assert [pod["status"]["containerStatuses"][0]["restartCount"] for pod in after.values()] == [1, 1, 1]
        for pod in after.values():
            assert "fetched the weights" in groups.node.log(pod, "engine", 0)
            assert "fetched the weights" not in groups.node.log(pod, "engine", 1)
        assert "container engine of pod x-0-1 on node-1 restarted: exit code 3" in note
        (record,) = (await groups.status("x"))["restarts"]
        assert (record["outcome"], record["how"], record["exitCode"]) == ("InPlace", "ContainerRestarted", 3)
        assert record["lastLog"].splitlines()[-2:] == [
            "loading key hf_***",
            "RuntimeError: CUDA error: an illegal memory access",
        ]
        assert not await groups.told("RecreateGroup")
        # The same with new pods, for comparison.
        began = time.monotonic()
        await groups.client.delete(PODS, "x-0-2", "default")
        await groups.until(lambda: groups.told("RecreateGroup"))

        async def recreated() -> bool:
            now = await groups.pods()
            fresh = all(now[name]["metadata"]["uid"] != before[name]["metadata"]["uid"] for name in now)
            return len(now) == 3 and fresh and (await groups.status("x")).get("readyReplicas") == 1

        await groups.until(recreated)
        recreated_seconds = time.monotonic() - began
        await groups.fails_to_obey()
        with capsys.disabled():
            print(f" in place {in_place_seconds:.1f} s, with new pods {recreated_seconds:.1f} s", end="")


async def test_without_the_right_or_the_command_the_group_is_made_anew_and_says_why(
    home: Path, native_cache: Path
) -> None:
    rules = [rule for rule in [*RULES, *LAPTOP_RULES] if rule not in IN_PLACE_RULES]
    async with running_groups(home, native_cache, rules) as groups, running_controller(groups):
        await groups.apply(a_set("x", **{"groups.kajitori.dev/restart": "InPlace"}))
        before = await groups.pods()
        await groups.crash(before["x-0-1"])
        (note,) = await groups.until(lambda: groups.told("RecreateGroup"))
        assert "did not come about (the controller may not run commands in containers (pods/exec))" in note
        assert "RuntimeError: CUDA error" in note
        (warning,) = await groups.until(lambda: groups.told("FieldsNotHonoured"))
        assert "groups are recreated" in warning

        async def recreated() -> bool:
            now = await groups.pods()
            return len(now) == 3 and all(
                now[name]["metadata"]["uid"] != before[name]["metadata"]["uid"] for name in now
            )

        await groups.until(recreated)


async def test_a_controller_that_dies_in_the_middle_is_followed_by_one_that_finishes(
    home: Path, native_cache: Path
) -> None:
    async with running_groups(home, native_cache, [*RULES, *LAPTOP_RULES]) as groups:

        async def noted(annotation: str) -> str:
            leader = (await groups.pods())["x-0"]
            return leader["metadata"]["annotations"].get(f"groups.kajitori.dev/{annotation}", "")

        async with running_controller(groups):
            await groups.apply(a_set("x", **{"groups.kajitori.dev/restart": "InPlace"}))
            before = await groups.pods()
            await groups.crash(before["x-0-1"])
            await groups.until(lambda: noted("restarting-in-place"))
        async with running_controller(groups):
            await groups.until(lambda: noted("accepted-restarts"))
            await groups.until_ready("x")
        after = await groups.pods()
        assert {pod["metadata"]["uid"] for pod in after.values()} == {
            pod["metadata"]["uid"] for pod in before.values()
        }
        assert all(pod["status"]["containerStatuses"][0]["restartCount"] for pod in after.values())
        assert not await noted("restarting-in-place")
        assert not await groups.told("RecreateGroup")
