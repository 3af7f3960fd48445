"""Logs, exec, attach and port-forward, on the node's socket and through the API server."""

from __future__ import annotations

import asyncio
import json
import shutil
import struct
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from tests.node.conftest import (
    RunningNode,
    container_status,
    is_ready,
    phase_is,
    shell,
    until,
)
from tests.waiting import eventually

from kajitori.api.resource import PODS


@pytest.fixture
async def kubelet(node: RunningNode) -> AsyncIterator[aiohttp.ClientSession]:
    path = node.home / "run/node-1.sock"
    await until(path.exists)
    async with aiohttp.ClientSession("http://node-1", connector=aiohttp.UnixConnector(str(path))) as session:
        yield session


async def logs(kubelet: aiohttp.ClientSession, pod: str, **options: Any) -> str:
    async with kubelet.get(f"/containerLogs/default/{pod}/c0", params=options) as answer:
        return await answer.text()


async def test_logs_come_whole_or_in_part(node: RunningNode, kubelet: aiohttp.ClientSession) -> None:
    script = "for i in 1 2 3 4 5; do echo line $i; done; echo late >&2"
    await node.create_pod("p", shell(script), restartPolicy="Never")
    await node.wait_for("p", phase_is("Succeeded"))
    assert sorted((await logs(kubelet, "p")).splitlines()) == ["late", *(f"line {n}" for n in range(1, 6))]
    assert (await logs(kubelet, "p", stream="Stdout", tailLines=2)).splitlines()[-1] == "line 5"
    assert await logs(kubelet, "p", tailLines=0) == ""
    assert len(await logs(kubelet, "p", limitBytes=7)) == 7
    stamped = (await logs(kubelet, "p", timestamps="true")).splitlines()
    assert all(line.split(" ")[0].endswith("Z") for line in stamped)
    assert await logs(kubelet, "p", sinceTime="2999-01-01T00:00:00Z") == ""
    assert "not found" in await logs(kubelet, "p", previous="true")


async def test_followed_logs_end_with_the_container(
    node: RunningNode, kubelet: aiohttp.ClientSession
) -> None:
    await node.create_pod("p", shell("echo first; sleep 0.5; echo second"), restartPolicy="Never")
    await node.wait_for("p", phase_is("Running"))
    assert await logs(kubelet, "p", follow="true") == "first\nsecond\n"


async def test_previous_logs_are_those_of_the_attempt_before(
    node: RunningNode, kubelet: aiohttp.ClientSession
) -> None:
    mounts = [{"name": "v", "mountPath": "/v"}]
    script = "n=$(cat /v/n 2>/dev/null || echo 0); echo attempt $n; echo $((n+1)) > /v/n; test $n = 0 && exit 1; sleep 1000"
    await node.create_pod("p", shell(script, volumeMounts=mounts), volumes=[{"name": "v", "emptyDir": {}}])
    await node.wait_for("p", lambda pod: container_status(pod).get("restartCount") == 1 and is_ready(pod))
    assert await logs(kubelet, "p", previous="true") == "attempt 0\n"
    # Ready comes before the first line.
    assert await eventually(lambda: logs(kubelet, "p", follow="false"), "a line") == "attempt 1\n"


async def test_logs_of_a_container_that_waits_say_so(
    node: RunningNode, kubelet: aiohttp.ClientSession
) -> None:
    await node.create_pod("p", {"image": "example.com/none"})
    await node.wait_for("p", lambda pod: "waiting" in container_status(pod).get("state", {}))
    assert await logs(kubelet, "p") == 'container "c0" in pod "p" is waiting to start: ImageNotMapped'


class Session:
    """What came over an upgraded connection, by channel."""

    def __init__(self) -> None:
        self.output: dict[int, bytes] = {}

    @property
    def result(self) -> dict[str, Any]:
        return json.loads(self.output[3])


async def talk(socket: aiohttp.ClientWebSocketResponse, *frames: bytes) -> Session:
    for frame in frames:
        await socket.send_bytes(frame)
    session = Session()
    async for message in socket:
        channel = message.data[0]
        session.output[channel] = session.output.get(channel, b"") + message.data[1:]
    return session


def upgraded(kubelet: aiohttp.ClientSession, path: str, protocol: str = "v5.channel.k8s.io") -> Any:
    return kubelet.ws_connect(path, protocols=(protocol,))


async def test_exec_gives_output_by_channel_and_the_exit_code(
    node: RunningNode, kubelet: aiohttp.ClientSession
) -> None:
    await node.create_pod("p", shell("sleep 1000"))
    await node.wait_ready("p")
    query = "command=sh&command=-c&command=echo+out;+echo+err+>%262;+exit+7&output=1&error=1"
    async with upgraded(kubelet, f"/exec/default/p/c0?{query}") as socket:
        session = await talk(socket)
    assert session.output[1] == b"out\n"
    assert session.output[2] == b"err\n"
    assert session.result["details"]["causes"] == [{"reason": "ExitCode", "message": "7"}]


async def test_exec_takes_input_until_its_half_close(
    node: RunningNode, kubelet: aiohttp.ClientSession
) -> None:
    await node.create_pod("p", shell("sleep 1000"))
    await node.wait_ready("p")
    data = b"x" * 200_000
    frames = [b"\x00" + data[start : start + 30_000] for start in range(0, len(data), 30_000)]
    async with upgraded(kubelet, "/exec/default/p/c0?command=cat&input=1&output=1&error=1") as socket:
        session = await talk(socket, *frames, b"\xff\x00")
    assert session.output[1] == data
    assert session.result["status"] == "Success"


async def test_a_slow_client_gets_the_whole_output(
    node: RunningNode, kubelet: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kajitori.laptop.node.streams._QUIET_SECONDS", 0.02)
    await node.create_pod("p", shell("sleep 1000"))
    await node.wait_ready("p")
    size = 3_000_000
    query = f"command=head&command=-c&command={size}&command=/dev/zero&output=1&error=1"
    async with upgraded(kubelet, f"/exec/default/p/c0?{query}") as socket:
        received = 0
        async for message in socket:
            if message.data[0] == 1:
                received += len(message.data) - 1
            await asyncio.sleep(0.005)  # a client that has other things to do as well
    assert received == size


async def test_exec_of_a_missing_command_names_it(node: RunningNode, kubelet: aiohttp.ClientSession) -> None:
    await node.create_pod("p", shell("sleep 1000"))
    await node.wait_ready("p")
    async with upgraded(kubelet, "/exec/default/p/c0?command=nonesuch&output=1&error=1") as socket:
        session = await talk(socket)
    assert session.result["status"] == "Failure"


async def test_a_terminal_has_the_size_that_the_client_gives(
    node: RunningNode, kubelet: aiohttp.ClientSession
) -> None:
    await node.create_pod("p", shell("sleep 1000"))
    await node.wait_ready("p")
    query = "command=sh&command=-c&command=read+x;+stty+size;+tty&input=1&output=1&tty=1"
    async with upgraded(kubelet, f"/exec/default/p/c0?{query}", "v4.channel.k8s.io") as socket:
        session = await talk(socket, b'\x04{"Width":77,"Height":33}', b"\x00go\n")
    assert b"33 77" in session.output[1]
    assert b"/dev/pts/" in session.output[1]
    assert session.result["status"] == "Success"


async def test_a_client_that_leaves_ends_its_command(
    node: RunningNode, kubelet: aiohttp.ClientSession
) -> None:
    from tests.node.test_runner import processes_with

    await node.create_pod("p", shell("sleep 1000"))
    await node.wait_ready("p")
    async with upgraded(kubelet, "/exec/default/p/c0?command=sleep&command=987.65&output=1"):
        await until(lambda: processes_with("sleep\000987.65"))
    await until(lambda: not processes_with("sleep\000987.65"))


async def test_attach_carries_input_and_output(node: RunningNode, kubelet: aiohttp.ClientSession) -> None:
    await node.create_pod(
        "p", shell("read x; echo got $x", stdin=True, stdinOnce=True), restartPolicy="Never"
    )
    await node.wait_ready("p")
    async with upgraded(kubelet, "/attach/default/p/c0?input=1&output=1&error=1") as socket:
        session = await talk(socket, b"\x00hello\n")
    assert session.output[1] == b"got hello\n"
    await node.wait_for("p", phase_is("Succeeded"))


async def test_the_end_of_the_only_clients_input_is_the_containers(
    node: RunningNode, kubelet: aiohttp.ClientSession
) -> None:
    await node.create_pod("p", shell("cat; echo done", stdin=True, stdinOnce=True), restartPolicy="Never")
    await node.wait_ready("p")
    async with upgraded(kubelet, "/attach/default/p/c0?input=1&output=1&error=1") as socket:
        session = await talk(socket, b"\x00hello\n", b"\xff\x00", b"\x00dropped\n")
    assert session.output[1] == b"hello\ndone\n"
    await node.wait_for("p", phase_is("Succeeded"))


async def test_ports_are_forwarded(node: RunningNode, kubelet: aiohttp.ClientSession) -> None:
    server = (
        "import socket; s = socket.create_server(('', 9000)); open('/v/listens', 'w'); c, _ = s.accept(); "
        "d = c.recv(100); c.sendall(d.upper()); c.close()"
    )
    await node.create_pod(
        "p",
        {
            "image": "python",
            "command": ["python3", "-c", server],
            "readinessProbe": {"exec": {"command": ["test", "-e", "/v/listens"]}, "periodSeconds": 1},
            "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        },
        volumes=[{"name": "v", "emptyDir": {}}],
        restartPolicy="Never",
    )
    await node.wait_ready("p")
    async with upgraded(kubelet, "/portForward/default/p?port=9000", "v4.channel.k8s.io") as socket:
        session = await talk(socket, b"\x00hello")
    assert session.output[0] == struct.pack("<H", 9000) + b"HELLO"
    async with upgraded(kubelet, "/portForward/default/p?port=1", "v4.channel.k8s.io") as socket:
        await socket.receive()
        await socket.receive()
        message = await socket.receive()
        assert b"failed to connect" in message.data


async def test_a_pod_that_is_not_here_is_not_found(kubelet: aiohttp.ClientSession) -> None:
    async with kubelet.get("/containerLogs/default/nobody/c0") as answer:
        assert answer.status == 404


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
async def test_kubectl_reads_logs_and_runs_commands(node: RunningNode) -> None:
    async def kubectl(*arguments: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            "kubectl",
            f"--kubeconfig={node.server.kubeconfig}",
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode()

    await node.create_pod("p", shell("echo hello; sleep 1000"))
    await node.wait_ready("p")
    assert await kubectl("logs", "p") == (0, "hello\n")
    code, output = await kubectl("exec", "p", "--", "sh", "-c", "echo inside; exit 5")
    assert (code, output.splitlines()[0]) == (5, "inside")


async def add_guest(node: RunningNode, pod: str, **guest: Any) -> None:
    container = {"name": "debugger", "image": "busybox", "terminationMessagePolicy": "File", **guest}
    patch = {"spec": {"ephemeralContainers": [container]}}
    await node.client.patch(
        PODS, pod, patch, namespace="default", patch_type="strategic", subresource="ephemeralcontainers"
    )


async def test_a_container_that_is_added_to_a_running_pod_sees_its_targets_processes(
    node: RunningNode, kubelet: aiohttp.ClientSession
) -> None:
    await node.create_pod("p", shell("sleep 98765"))
    await node.wait_ready("p")
    script = "echo $$; cat /proc/[0-9]*/cmdline | tr '\\0' ' '; hostname; read x; echo got $x; exit 3"
    await add_guest(
        node, "p", targetContainerName="c0", command=["sh", "-c", script], stdin=True, stdinOnce=True
    )

    def guest(pod: dict[str, Any]) -> dict[str, Any]:
        return next(iter(pod["status"].get("ephemeralContainerStatuses", ())), {})

    await node.wait_for("p", lambda pod: "running" in guest(pod).get("state", {}))
    async with upgraded(kubelet, "/attach/default/p/debugger?input=1&output=1&error=1") as socket:
        session = await talk(socket, b"\x00hello\n")
    assert session.output[1].endswith(b"got hello\n")
    pod = await node.wait_for("p", lambda pod: "terminated" in guest(pod).get("state", {}))
    assert guest(pod)["state"]["terminated"]["exitCode"] == 3
    assert guest(pod)["restartCount"] == 0
    assert is_ready(pod) and len(pod["status"]["containerStatuses"]) == 1
    async with kubelet.get("/containerLogs/default/p/debugger") as answer:
        text = await answer.text()
    assert "sleep 98765" in text and text.splitlines()[0] != "1"


async def test_a_pod_that_goes_takes_its_guests_along(node: RunningNode) -> None:
    from tests.node.test_runner import processes_with

    await node.create_pod("p", shell("sleep 1000"))
    await node.wait_ready("p")
    await add_guest(node, "p", command=["sleep", "876.54"])
    await until(lambda: processes_with("sleep\000876.54"))
    await node.stop_agent()
    await node.start_agent()
    await until(lambda: node.agent and node.agent.find_worker("default", "p"))
    await node.delete("p", grace_seconds=1)
    await node.wait_gone("p")
    await until(lambda: not processes_with("sleep\000876.54"))
