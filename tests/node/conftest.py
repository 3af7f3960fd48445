"""A runner in a home of its own, as the supervisor would start it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.waiting import eventually

from kajitori.api.resource import CONFIG_MAPS, EVENTS, PODS, SERVICE_ACCOUNTS
from kajitori.app.supervisor import claim_free_slot
from kajitori.base.errors import AlreadyExists, NotFound
from kajitori.kube.client import Client
from kajitori.kube.config import load_config
from kajitori.laptop.apiserver.testing import RunningApiServer, running_api_server
from kajitori.laptop.node import runner as runner_script
from kajitori.laptop.node.agent import Agent
from kajitori.laptop.node.native import NativePrograms, compile_programs
from kajitori.laptop.node.node import NodeOptions
from kajitori.laptop.node.runner_client import ContainerRecord, RunnerClient, RunnerInfo
from kajitori.laptop.settings import SLOTS, ClusterSettings

DEADLINE_SECONDS = 15.0
# Addresses of this test process alone: pods of another one, or of a cluster on this machine, hold others.
SLOT, SLOT_HELD = claim_free_slot(SLOTS - 1)
SETTINGS = ClusterSettings(slot=SLOT, nodes=1, gpus=8)


async def until(condition: Callable[[], Any], what: str = "") -> Any:
    """Wait for a condition; its value."""
    return await eventually(condition, what or "the condition")


@pytest.fixture(scope="session")
def native_cache() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="kaji-native-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="kaji-node-"))
    (folder / "run").mkdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


class RunningRunner:
    """A runner process and a connected client, with what the client heard."""

    def __init__(self, home: Path, *, environment: dict[str, str] | None = None) -> None:
        self.home = home
        self.environment = environment or {}
        self.records: dict[str, ContainerRecord] = {}
        self.exits: dict[str, ContainerRecord] = {}
        self.info = RunnerInfo()
        self.connections = 0
        self.losses = 0
        self.client = RunnerClient(
            home / "run" / "node-1-runner.sock",
            on_connected=self._on_connected,
            on_exit=lambda record: self.exits.__setitem__(record.name, record),
            on_lost=self._on_lost,
        )
        self.process: subprocess.Popen[bytes] | None = None

    def _on_connected(self, info: RunnerInfo, records: list[ContainerRecord]) -> None:
        self.info = info
        self.records = {record.name: record for record in records}
        self.connections += 1

    def _on_lost(self) -> None:
        self.losses += 1

    def start_process(self) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-S",
                "-E",
                str(runner_script.__file__),
                "--home",
                str(self.home),
                "--name",
                "node-1",
            ],
            env={**os.environ, **self.environment},
            stderr=subprocess.DEVNULL,
        )

    def stop_process(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(20)

    def container(self, name: str, argv: list[str], **options: Any) -> dict[str, Any]:
        """A request to start; options: mounts, environment, folder, exposed, init, stdin, terminal."""
        temporary = self.home / "tmp" / name
        temporary.mkdir(parents=True, exist_ok=True)
        temporary.chmod(0o1777)
        return {
            "name": name,
            "labels": {"pod": "web"},
            "log": str(self.home / "logs" / f"{name}.log"),
            "stdin": options.get("stdin", False),
            "terminal": options.get("terminal", False),
            "command": {
                "argv": argv,
                "environment": {"PATH": os.environ["PATH"], **options.get("environment", {})},
                "folder": options.get("folder", "/work/dir"),
                "programs": options.get("programs", ""),
            },
            "sandbox": {
                "hostname": name,
                "privileged": False,
                "init": options.get("init", ""),
                "files": {
                    "scratch": str(self.home / "nodes/node-1/scratch"),
                    "hidden": str(self.home),
                    "exposed": [str(path) for path in options.get("exposed", [])],
                    "temporary": str(temporary),
                    "folders": [options.get("folder", "/work/dir")],
                    "mounts": options.get("mounts", []),
                },
            },
        }

    def log(self, name: str) -> str:
        path = self.home / "logs" / f"{name}.log"
        return path.read_text() if path.exists() else ""

    async def end_of(self, name: str) -> ContainerRecord:
        return await until(lambda: self.exits.get(name), f"end of {name}")


@contextlib.asynccontextmanager
async def running_runner(
    home: Path, *, kind: type[RunningRunner] = RunningRunner, **options: Any
) -> AsyncIterator[RunningRunner]:
    running = kind(home, **options)
    running.start_process()
    task = asyncio.create_task(running.client.run())
    try:
        await until(lambda: running.connections, "connection to the runner")
        yield running
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        running.stop_process()


@pytest.fixture(params=["python init", "small init", "no namespaces"])
async def any_runner(
    request: pytest.FixtureRequest, home: Path, native_cache: Path
) -> AsyncIterator[RunningRunner]:
    """A runner in each of the ways in which it can hold containers."""
    environment = {"KAJITORI_NO_NAMESPACES": "1"} if request.param == "no namespaces" else {}
    async with running_runner(home, environment=environment) as running:
        if request.param != "python init":
            running_container = running.container
            init = compile_programs(native_cache).init

            def with_init(name: str, argv: list[str], **options: Any) -> dict[str, Any]:
                if not running.info.namespaces:
                    options.setdefault("folder", "/")
                return running_container(name, argv, **{"init": init, **options})

            running.container = with_init  # type: ignore[method-assign]
        yield running


@pytest.fixture
async def runner(home: Path) -> AsyncIterator[RunningRunner]:
    async with running_runner(home) as running:
        yield running


class RunningNode:
    """An API server, a runner and an agent in this process, and a client with all rights."""

    def __init__(self, home: Path, server: RunningApiServer, client: Client, native: NativePrograms) -> None:
        self.home = home
        self.server = server
        self.client = client
        self.native = native
        self.settings = msgspec.structs.replace(SETTINGS, port=int(server.url.rpartition(":")[2]))
        self.options = NodeOptions(
            back_off_first_seconds=0.3, retry_seconds=0.05, longest_retry_seconds=0.2, fresh_seconds=0.2
        )
        self.runner: subprocess.Popen[bytes] | None = None
        self.agent: Agent | None = None
        self._task: asyncio.Task[None] | None = None
        self._node_client: Client | None = None

    def start_runner(self, **environment: str) -> None:
        self.runner = subprocess.Popen(
            [
                sys.executable,
                "-S",
                "-E",
                str(runner_script.__file__),
                "--home",
                str(self.home),
                "--name",
                "node-1",
            ],
            env={**os.environ, **environment},
            stderr=subprocess.DEVNULL,
        )

    def kill_runner(self) -> None:
        assert self.runner is not None
        self.runner.kill()
        self.runner.wait()

    async def start_agent(self) -> None:
        config = load_config(str(self.server.kubeconfig_of("node-1")))
        self._node_client = Client(config, user_agent="node-1")
        self.agent = Agent(
            self.home, self._node_client, self.settings.node("node-1"), self.native, self.options
        )
        self._task = asyncio.create_task(self.agent.run())

    async def stop_agent(self) -> None:
        """As if it was replaced: its pods go on."""
        if self._task and self._node_client:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            await self._node_client.close()
        self._task = None

    async def stop(self) -> None:
        await self.stop_agent()
        if self.runner:
            self.runner.terminate()
            self.runner.wait(20)

    async def create_pod(self, name: str, *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
        """A pod on the node; containers without an image are shells, and end quickly when asked to."""
        filled = [{"name": f"c{index}", "image": "busybox", **each} for index, each in enumerate(containers)]
        body = {
            "metadata": {"name": name, "namespace": "default", **spec.pop("metadata", {})},
            "spec": {"nodeName": "node-1", "terminationGracePeriodSeconds": 5, "containers": filled, **spec},
        }
        return await self.client.create(PODS, body)

    async def pod(self, name: str) -> dict[str, Any]:
        return await self.client.get(PODS, name, "default")

    async def wait_for(self, name: str, condition: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """The pod once the condition holds for it."""
        pod: dict[str, Any] = {}

        async def holds() -> Any:
            nonlocal pod
            pod = await self.pod(name)
            return condition(pod)

        await eventually(
            holds, lambda: f"the condition; the pod is {msgspec.json.encode(pod.get('status')).decode()}"
        )
        return pod

    async def wait_gone(self, name: str) -> None:
        async def gone() -> bool:
            with contextlib.suppress(NotFound):
                return not await self.pod(name)
            return True

        await eventually(gone, f"pod {name} is gone")

    async def wait_ready(self, name: str) -> dict[str, Any]:
        return await self.wait_for(name, is_ready)

    async def delete(self, name: str, grace_seconds: int | None = None) -> None:
        await self.client.delete(PODS, name, "default", grace_period_seconds=grace_seconds)

    def log(self, pod: dict[str, Any], container: str = "c0", attempt: int = 0) -> str:
        """The text that a container has logged."""
        path = self.home / f"nodes/node-1/pods/{pod['metadata']['uid']}/{container}/{attempt}.log"
        if not path.exists():
            return ""
        return "".join(line.split(" ", 3)[3] for line in path.read_text().splitlines(keepends=True))

    async def events(self, name: str) -> list[dict[str, Any]]:
        listed = await self.client.list(EVENTS, "default")
        return [event for event in listed.items if event["regarding"]["name"] == name]

    async def wait_event(self, name: str, reason: str, text: str = "") -> dict[str, Any]:
        events: list[dict[str, Any]] = []

        async def told() -> dict[str, Any] | None:
            nonlocal events
            events = await self.events(name)
            fitting = (each for each in events if each["reason"] == reason and text in each["note"])
            return next(fitting, None)

        return await eventually(told, lambda: f"event {reason} {text!r} of {name} in {events}")


def condition(pod: dict[str, Any], kind: str) -> dict[str, Any]:
    return next((each for each in pod["status"].get("conditions", ()) if each["type"] == kind), {})


def is_ready(pod: dict[str, Any]) -> bool:
    return condition(pod, "Ready").get("status") == "True"


def phase_is(phase: str) -> Callable[[dict[str, Any]], bool]:
    return lambda pod: pod["status"].get("phase") == phase


def container_status(pod: dict[str, Any], name: str = "c0") -> dict[str, Any]:
    statuses = [*pod["status"].get("containerStatuses", ()), *pod["status"].get("initContainerStatuses", ())]
    return next((each for each in statuses if each["name"] == name), {})


def shell(script: str, **fields: Any) -> dict[str, Any]:
    return {"command": ["sh", "-c", script], **fields}


@contextlib.asynccontextmanager
async def running_node(home: Path, native: NativePrograms, **environment: str) -> AsyncIterator[RunningNode]:
    async with (
        running_api_server(home, SETTINGS) as server,
        Client(load_config(str(server.kubeconfig))) as client,
    ):
        running = RunningNode(home, server, client, native)
        authority = (home / "pki" / "ca.crt").read_text()
        roots = {
            "metadata": {"name": "kube-root-ca.crt", "namespace": "default"},
            "data": {"ca.crt": authority},
        }
        await client.create(CONFIG_MAPS, roots)
        with contextlib.suppress(AlreadyExists):
            await client.create(SERVICE_ACCOUNTS, {"metadata": {"name": "default", "namespace": "default"}})
        running.start_runner(**environment)
        try:
            await running.start_agent()
            yield running
        finally:
            await running.stop()


@pytest.fixture
async def node(home: Path, native_cache: Path) -> AsyncIterator[RunningNode]:
    async with running_node(home, compile_programs(native_cache)) as running:
        yield running
