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

import pytest

from kajitori.laptop.node import runner as runner_script
from kajitori.laptop.node.native import compile_programs
from kajitori.laptop.node.runner_client import ContainerRecord, RunnerClient, RunnerInfo

DEADLINE_SECONDS = 30.0


async def until(condition: Callable[[], Any], what: str = "") -> Any:
    """Wait for a condition; its value."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not (value := condition()):
            await asyncio.sleep(0.01)
        return value


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
