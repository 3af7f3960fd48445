"""An agent or a runner that dies: pods are taken over, or started again, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.node.conftest import (
    RunningNode,
    RunningRunner,
    condition,
    container_status,
    phase_is,
    running_node,
    shell,
    until,
)
from tests.node.test_runner import processes_with
from tests.waiting import eventually

from kajitori.api.resource import PODS
from kajitori.laptop.node.native import NativePrograms, compile_programs
from kajitori.laptop.settings import write_settings


async def test_pods_go_on_while_their_agent_is_replaced(node: RunningNode) -> None:
    await node.create_pod(
        "p", shell("sleep 1000", readinessProbe={"exec": {"command": ["true"]}, "periodSeconds": 1})
    )
    before = await node.wait_ready("p")
    await node.stop_agent()
    await node.start_agent()
    assert node.agent is not None
    agent = node.agent
    await until(lambda: agent.workers)
    await asyncio.sleep(0.5)
    after = await node.pod("p")
    assert container_status(after)["containerID"] == container_status(before)["containerID"]
    assert after["status"]["podIP"] == before["status"]["podIP"]
    assert condition(after, "Ready") == condition(before, "Ready")
    await node.delete("p")
    await node.wait_gone("p")


async def test_an_agent_that_was_away_reports_how_containers_ended(node: RunningNode) -> None:
    await node.create_pod(
        "p",
        shell(
            "until test -e /go/now; do sleep 0.05; done; exit 6",
            volumeMounts=[{"name": "go", "mountPath": "/go"}],
        ),
        restartPolicy="Never",
        volumes=[{"name": "go", "hostPath": {"path": str(node.home / "go"), "type": "DirectoryOrCreate"}}],
    )
    pod = await node.wait_ready("p")
    await node.stop_agent()
    (node.home / "go/now").touch()
    folder = node.home / "nodes/node-1/pods" / pod["metadata"]["uid"]
    await until(lambda: not processes_with("test -e /go/now"))
    await node.start_agent()
    pod = await node.wait_for("p", phase_is("Failed"))
    assert container_status(pod)["state"]["terminated"]["exitCode"] == 6
    await node.delete("p")
    await node.wait_gone("p")
    await until(lambda: not folder.exists())


async def test_restarts_go_on_counting_after_the_agent_was_replaced(node: RunningNode) -> None:
    await node.create_pod("p", shell("exit 1"))
    pod = await node.wait_for("p", lambda pod: container_status(pod).get("restartCount", 0) >= 2)
    count = container_status(pod)["restartCount"]
    await node.stop_agent()
    await node.start_agent()
    await node.wait_for("p", lambda pod: container_status(pod)["restartCount"] > count)


async def test_pods_that_were_deleted_while_the_agent_was_away_are_ended(node: RunningNode) -> None:
    marker = f"1{os.getpid()}.91"
    for name in ("gently", "by-force"):
        await node.create_pod(name, shell(f"exec sleep {marker}"))
        await node.wait_ready(name)
    await node.stop_agent()
    await node.delete("gently")
    await node.delete("by-force", grace_seconds=0)
    assert len(processes_with(f"sleep\0{marker}")) == 2
    await node.start_agent()
    await node.wait_gone("gently")
    await until(lambda: not processes_with(marker))
    await until(lambda: not list((node.home / "nodes/node-1/pods").iterdir()))


async def test_a_dead_runner_takes_its_containers_along_and_pods_restart_by_their_policy(
    node: RunningNode,
) -> None:
    marker = f"1{os.getpid()}.92"
    await node.create_pod("always", shell(f"exec sleep {marker}"))
    await node.create_pod("never", shell(f"exec sleep {marker}"), restartPolicy="Never")
    await node.wait_ready("always")
    await node.wait_ready("never")
    node.kill_runner()
    await until(lambda: not processes_with(f"sleep\0{marker}"))
    node.start_runner()
    failed = await node.wait_for("never", phase_is("Failed"))
    assert container_status(failed)["state"]["terminated"]["reason"] == "ContainerStatusUnknown"
    restarted = await node.wait_for("always", lambda pod: container_status(pod)["restartCount"] == 1)
    await node.wait_ready("always")
    assert container_status(restarted)["lastState"]["terminated"]["exitCode"] == 137
    await until(lambda: len(processes_with(f"sleep\0{marker}")) == 1)


async def test_runner_and_agent_may_die_together(node: RunningNode) -> None:
    mounts = [{"name": "m", "mountPath": "/m"}]
    volumes = [{"name": "m", "emptyDir": {"medium": "Memory"}}]
    await node.create_pod("p", shell("touch /m/x; exec sleep 1000", volumeMounts=mounts), volumes=volumes)
    await node.wait_ready("p")
    await node.stop_agent()
    node.kill_runner()
    node.start_runner()
    await node.start_agent()
    await node.wait_for("p", lambda pod: container_status(pod)["restartCount"] == 1)
    await node.wait_ready("p")


async def test_a_node_without_a_runner_is_not_ready_and_deletions_wait_for_it(node: RunningNode) -> None:
    from kajitori.api.resource import NODES

    async def ready() -> str:
        found = await node.client.get(NODES, "node-1")
        return next(each["status"] for each in found["status"]["conditions"] if each["type"] == "Ready")

    async def becomes(status: str) -> None:
        async def is_so() -> bool:
            return await ready() == status

        await eventually(is_so, f"the node's Ready is {status}")

    await node.create_pod("p", shell("exec sleep 1000"))
    await node.wait_ready("p")
    node.kill_runner()
    await becomes("False")
    await node.delete("p")
    node.start_runner()
    await node.wait_gone("p")
    await becomes("True")


async def test_pods_run_without_namespaces_and_without_a_compiler_and_say_what_they_lack(home: Path) -> None:
    marker = f"1{os.getpid()}.93"
    native = NativePrograms(message="no C compiler")
    async with running_node(home, native, KAJITORI_NO_NAMESPACES="1") as node:
        await node.create_pod("p", shell(f"setsid sleep {marker} & exec sleep {marker}"))
        pod = await node.wait_ready("p")
        assert "volumes are not at their mount paths" in condition(pod, "kajitori.dev/Limited")["message"]
        await until(lambda: len(processes_with(f"sleep\0{marker}")) == 2)
        await node.delete("p")
        await node.wait_gone("p")
        assert not processes_with(marker)


async def test_the_agents_process_may_be_killed_at_any_time(node: RunningNode) -> None:
    await node.stop_agent()
    write_settings(node.home, node.settings)
    command = [sys.executable, "-m", "kajitori.laptop.node", "--home", str(node.home), "--name", "node-1"]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stderr=subprocess.DEVNULL)

    agent = start()
    try:
        await node.create_pod("stays", shell("exec sleep 1000"))
        stays = await node.wait_ready("stays")
        for number in range(3):
            for name in (f"early-{number}", f"late-{number}"):
                await node.create_pod(name, shell("exec sleep 1000"))
            # Somewhere in the middle of starting these pods.
            await until(lambda number=number: processes_with("init\0") or number)
            agent.kill()
            agent.wait()
            agent = start()
            for name in (f"early-{number}", f"late-{number}"):
                await node.wait_ready(name)
        after = await node.pod("stays")
        assert container_status(after)["containerID"] == container_status(stays)["containerID"]
        names = ["stays", *(f"{kind}-{number}" for kind in ("early", "late") for number in range(3))]
        addresses = {(await node.pod(name))["status"]["podIP"] for name in names}
        assert len(addresses) == len(names)
        for name in names:
            await node.delete(name)
        for name in names:
            await node.wait_gone(name)
        await until(lambda: not list((node.home / "nodes/node-1/pods").iterdir()))
    finally:
        agent.terminate()
        assert agent.wait(20) == 0


async def test_many_pods_come_and_go_without_a_trace(home: Path, native_cache: Path) -> None:
    async with running_node(home, compile_programs(native_cache)) as node:
        count = 40
        await asyncio.gather(
            *(node.create_pod(f"p{number}", shell("exec sleep 1000")) for number in range(count))
        )
        await asyncio.gather(*(node.wait_ready(f"p{number}") for number in range(count)))
        assert node.agent is not None
        addresses = {(await node.pod(f"p{number}"))["status"]["podIP"] for number in range(count)}
        assert len(addresses) == count
        await asyncio.gather(*(node.delete(f"p{number}") for number in range(count)))
        await asyncio.gather(*(node.wait_gone(f"p{number}") for number in range(count)))
        assert len(node.agent.node.addresses) == 0
        await until(lambda: not node.agent.workers)
        assert not list((home / "nodes/node-1/pods").iterdir())
        assert not list((home / "nodes/node-1/hosts").iterdir())
        listed = await node.agent.node.runner.call("list")
        assert listed["containers"] == []


async def test_a_deleted_pod_is_over_before_it_is_gone(node: RunningNode) -> None:
    await node.create_pod("p", shell("exec sleep 1000"))
    pod = await node.wait_ready("p")
    version = pod["metadata"]["resourceVersion"]
    await node.delete("p")
    seen: list[dict[str, Any]] = []
    async with contextlib.aclosing(
        node.client.watch(PODS, "default", resource_version=version, field_selector="metadata.name=p")
    ) as events:
        async for event in events:
            seen.append(event.object)
            if event.type == "DELETED":
                break
    last = seen[-1]
    assert last["status"]["phase"] == "Failed"
    assert container_status(last)["state"]["terminated"]["exitCode"] == 143
    assert condition(last, "Ready")["status"] == "False"


async def test_a_new_agent_hears_of_containers_that_are_just_being_started(runner: RunningRunner) -> None:
    starting = [
        asyncio.create_task(runner.client.start(runner.container(f"c{number}", ["sleep", "1000"])))
        for number in range(5)
    ]
    await asyncio.sleep(0)
    listed = await runner.client.call("list")
    await asyncio.gather(*starting)
    assert sorted(record["name"] for record in listed["containers"]) == [f"c{number}" for number in range(5)]
