"""The processes of a laptop cluster: what each is called and how it is started.

Flows in: the cluster's home and settings. Flows out: one `Process` each, in the order in which they start;
they stop in the opposite order. The supervisor runs them; nothing here has effects.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from kajitori.engines.envoy import envoy_arguments, find_envoy
from kajitori.laptop.settings import ClusterSettings, NodeSettings


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


def cluster_processes(home: Path, settings: ClusterSettings) -> list[Process]:
    """All processes of the cluster in this home, first to start first."""
    bootstrap = home / "run" / "envoy-bootstrap.json"
    kubeconfig = home / "kubeconfig"
    where = ("--home", str(home))

    def module(name: str, *arguments: str) -> tuple[str, ...]:
        return (sys.executable, "-m", name, *where, *arguments)

    node_names = [] if settings.gateway_only else settings.node_names
    controllers = Process(
        "controllers",
        module("kajitori.app.controllers"),
        after=kubeconfig,
        # aiohttp reads the machine's certificate authorities when it is imported, 2 MB that controllers never need: the API
        # server is checked against the authority in the kubeconfig.
        environment={"SSL_CERT_FILE": os.devnull},
    )
    return [
        Process("apiserver", module("kajitori.laptop.apiserver", "--port", str(settings.port))),
        *(
            Process(f"runner-{node}", runner_command(home, node), stop_grace_seconds=10.0)
            for node in node_names
        ),
        *(() if settings.gateway_only else (controllers,)),
        Process("gateway", module("kajitori.app.gateway"), after=kubeconfig),
        # Ends after Envoy, whose last lines it reads.
        Process("accountant", module("kajitori.app.accountant"), after=bootstrap),
        Process("envoy", (str(find_envoy()), *envoy_arguments(bootstrap)), after=bootstrap),
        *(
            Process(node, module("kajitori.laptop.node", "--name", node), after=kubeconfig)
            for node in node_names
        ),
    ]


def joined_node_processes(home: Path, settings: NodeSettings) -> list[Process]:
    """The processes of a node that joined another cluster; its kubeconfig is there before they start."""
    where = ("--home", str(home))
    agent = (sys.executable, "-m", "kajitori.laptop.node", *where, "--name", settings.name)
    processes = [
        Process(f"runner-{settings.name}", runner_command(home, settings.name), stop_grace_seconds=10.0),
        Process(settings.name, agent),
    ]
    # Services at loopback addresses are an embedded cluster's of this machine, and served by it.
    if settings.service_cidr and not settings.service_cidr.startswith("127."):
        processes.append(Process("services", (sys.executable, "-m", "kajitori.app.node.services", *where)))
    return processes


def runner_command(home: Path, node: str) -> tuple[str, ...]:
    """The runner is started by its path, without site packages: it stays small and imports nothing of ours."""
    spec = find_spec("kajitori.laptop.node.runner")
    assert spec is not None and spec.origin is not None
    return (sys.executable, "-S", "-E", spec.origin, "--home", str(home), "--name", node)
