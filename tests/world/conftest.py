"""Whole clusters with real processes. Each test module gets one, in a folder and on ports of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import eventually_blocking

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "examples"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """Look until the condition gives something true; fails with `what` when the time is over."""
    return eventually_blocking(condition, what, seconds, pause_seconds=0.05)


class Cluster:
    """A running cluster, as a person at a terminal has it."""

    def __init__(self, home: Path, port: int, gateway_port: int) -> None:
        self.home = home
        self.port = port
        self.gateway_port = gateway_port
        self.environment = {
            **os.environ,
            "KUBECONFIG": str(home / "kubeconfig"),
            "KAJI_HOME": str(home),
            "PYTHONDONTWRITEBYTECODE": "",
        }

    @property
    def gateway_url(self) -> str:
        return f"http://127.0.0.1:{self.gateway_port}/v1"

    def command(
        self, *words: str, check: bool = True, stdin: str | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            words,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode:
            pytest.fail(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def kaji(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.command(sys.executable, "-m", "kajitori.cli", *words, **options)

    def kubectl(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.command(
            "kubectl", "--cache-dir", str(self.home / "run" / "kubectl-cache"), *words, **options
        )

    def get(self, *words: str) -> Any:
        """`kaji get ... -o json`, decoded; a List's items."""
        value = json.loads(self.kaji("get", *words, "-o", "json").stdout)
        return value["items"] if value.get("kind") == "List" else value

    def items(self, *words: str) -> list[dict[str, Any]]:
        value = self.get(*words)
        return value if isinstance(value, list) else [value]

    def apply(self, text: str) -> None:
        self.kaji("apply", "-f", "-", stdin=text)

    def processes(self) -> dict[str, int]:
        """The pid of each process of the tree that runs."""
        report = json.loads(self.kaji("status", "-o", "json", check=False).stdout)
        return {process["name"]: process["pid"] for process in report["processes"] if process["pid"]}


def up(home: Path, *options: str) -> Cluster:
    cluster = Cluster(home, free_port(), free_port())
    cluster.kaji(
        "up", "--detach", "--home", str(home), "--port", str(cluster.port),
        "--gateway-port", str(cluster.gateway_port), *options, timeout=300,
    )  # fmt: skip
    return cluster


def processes_of(home: Path) -> list[str]:
    """Command lines of all processes that name this home, or that see files of it mounted, as pods do."""
    found: list[str] = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                mounts = (folder / "mountinfo").read_text(errors="replace")
            except OSError:
                continue
            if str(home) in line or str(home) in mounts:
                found.append(line)
    return found


def down(cluster: Cluster) -> None:
    cluster.kaji("down", "--purge", "--home", str(cluster.home))
    assert not cluster.home.exists()
    wait_until(lambda: not processes_of(cluster.home), "every process of the cluster is gone")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with two nodes of 8 simulated H200 and the first model; nothing of it is left afterwards."""
    home = tmp_path_factory.mktemp("kaji") / "home"
    made = up(home)
    yield made
    logs = home / "log"
    kept = os.environ.get("KAJI_TEST_LOGS")
    if kept and logs.exists():
        shutil.copytree(logs, Path(kept) / home.parent.name, dirs_exist_ok=True)
    down(made)


needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="KUBECTL IS NOT INSTALLED")
