"""Simulated engines as real processes, for the tests beside this module."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

import kajitori.engines.simulated
from tests.waiting import eventually_blocking

PROGRAM = str(Path(kajitori.engines.simulated.__file__).with_name("__main__.py"))
PATIENCE_SECONDS = 30


def free_port(address: str = "127.0.0.1") -> int:
    with socket.socket() as listener:
        listener.bind((address, 0))
        return listener.getsockname()[1]


def start(arguments: Sequence[str], log: Path | None = None, **environment: str) -> subprocess.Popen[bytes]:
    """A simulated vllm, started as a node starts it: without site-packages."""
    with open(log, "wb") if log else open(os.devnull, "wb") as stderr:
        return subprocess.Popen(
            [sys.executable, "-E", "-P", "-S", PROGRAM, *arguments],
            stderr=stderr,
            env={"PATH": os.environ["PATH"], **environment},
        )


def wait_for(condition: Callable[[], bool], what: str) -> None:
    eventually_blocking(condition, what)


def status_of(url: str) -> int:
    """HTTP status, 0 where nobody listens."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return 0


class Engine:
    """A group of ranks on loopback addresses of their own; the leader is rank 0."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        nodes: int = 1,
        model: str = "Qwen/Qwen3-32B",
        **env: str,
    ):
        self.folder = folder
        self.nodes = nodes
        self.address = f"127.210.{os.getpid() % 250}.{1 + len(list(folder.iterdir()))}"
        self.port = free_port(self.address)
        self.model = model
        self.arguments = arguments
        self.environment = {"KAJITORI_SIMULATED_LOAD_SECONDS": "0", **env}
        if nodes > 1:
            self.meeting_port = free_port(self.address)
        self.ranks: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    def start_rank(self, rank: int) -> subprocess.Popen[bytes]:
        command = ["serve", self.model, *self.arguments]
        if self.nodes > 1:
            command += [f"--nnodes={self.nodes}", f"--node-rank={rank}", f"--master-addr={self.address}"]
            command += [f"--master-port={self.meeting_port}", f"--tensor-parallel-size={self.nodes}"]
        command += [f"--port={self.port}"] if rank == 0 else ["--headless"]
        return start(command, self.log(rank), KAJITORI_POD_IP=self.address, **self.environment)

    def log(self, rank: int) -> Path:
        return self.folder / f"rank-{rank}.log"

    def __enter__(self) -> Engine:
        self.ranks = [self.start_rank(rank) for rank in range(self.nodes)]
        return self

    def wait_ready(self) -> Engine:
        def ready() -> bool:
            assert self.ranks[0].poll() is None, self.log(0).read_text()
            return status_of(self.url + "/health") == 200

        wait_for(ready, "the engine to be ready")
        return self

    def __exit__(self, *exception: object) -> None:
        for process in self.ranks:
            process.kill()
        for process in self.ranks:
            process.wait()
