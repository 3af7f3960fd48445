"""An API server alone, ours or a real one, whose process a test may kill and start again.

There are no controllers and no scheduler: whoever is tried here is the only one who acts (and tests' fake node).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Protocol

from tests.definitions import install_definitions
from tests.groups.leader_worker_sets.loop import FakeNode, Loop
from tests.servers import wait_for_url
from tests.waiting import eventually
from tools.kubernetes.control_plane import APISERVER, ControlPlane, free_ports, running_control_plane

from kajitori.api.resource import (
    CONTROLLER_REVISIONS,
    LEADER_WORKER_SETS,
    PODS,
    SERVICE_ACCOUNTS,
    SERVICES,
    Resource,
)
from kajitori.base.errors import ApiError, Unreachable
from kajitori.groups.leader_worker_sets.rbac import LAPTOP_RULES, RULES
from kajitori.kube.client import Client
from kajitori.kube.config import load_config
from kajitori.laptop.apiserver.testing import prepare_home
from kajitori.laptop.settings import ClusterSettings, write_settings

CONTROLLERS_USER = "system:kajitori:controllers"
CLUSTER_ROLES = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False)
CLUSTER_ROLE_BINDINGS = Resource(
    "rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False
)


class BareServer(Protocol):
    """name: `embedded` or `real`."""

    name: str

    @property
    def kubeconfig(self) -> Path: ...
    def kubeconfig_of(self, component: str) -> Path: ...
    def kill(self) -> None:
        """SIGKILL to the API server."""
        ...

    async def start(self) -> None:
        """Start it again; it is ready afterwards."""
        ...


class Embedded:
    """`python -m kajitori.laptop.apiserver` in a home of its own."""

    name = "embedded"

    def __init__(self, home: Path) -> None:
        self.home = home
        self.settings = ClusterSettings(port=free_ports(1)[0], nodes=0)
        prepare_home(home)
        (home / "run").mkdir()
        roles = home / "run" / "component-roles.json"
        roles.write_text(json.dumps({CONTROLLERS_USER: [*RULES, *LAPTOP_RULES]}))
        write_settings(home, self.settings)
        self._start()
        self._wait()

    @property
    def kubeconfig(self) -> Path:
        return self.home / "kubeconfig"

    def kubeconfig_of(self, component: str) -> Path:
        return self.home / "pki" / "clients" / f"{component}.kubeconfig"

    async def start(self) -> None:
        self._start()
        await asyncio.to_thread(self._wait)

    def _start(self) -> None:
        with (self.home / "apiserver.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kajitori.laptop.apiserver", "--home", str(self.home)],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
            )

    def _wait(self) -> None:
        wait_for_url(f"{self.settings.server}/readyz", self.kubeconfig, self.process)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Real:
    """kube-apiserver and etcd."""

    name = "real"

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane

    @property
    def kubeconfig(self) -> Path:
        return self.plane.kubeconfig

    def kubeconfig_of(self, component: str) -> Path:
        return self.plane.kubeconfig_of(component, f"system:kajitori:{component}")

    async def start(self) -> None:
        # Not in a thread: it would take the process with it at its end.
        self.plane.start(APISERVER)
        await asyncio.to_thread(self.plane.wait_until_ready, APISERVER)

    def kill(self) -> None:
        self.plane.kill(APISERVER)


@contextlib.contextmanager
def bare_server(kind: str, home: Path) -> Iterator[BareServer]:
    if kind == "embedded":
        server = Embedded(home)
        try:
            yield server
        finally:
            server.kill()
    else:
        with running_control_plane(home, controllers=False, scheduler=False) as plane:
            yield Real(plane)


async def prepare(server: BareServer) -> None:
    """The definition of LeaderWorkerSet, the default service account, the controllers' rights."""
    async with Client(load_config(str(server.kubeconfig)), user_agent="test") as admin:
        await install_definitions(admin, "LeaderWorkerSet")
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": "default"},
        }
        await admin.apply(SERVICE_ACCOUNTS, account, field_manager="test")
        if server.name == "real":
            await _grant(admin)


@contextlib.asynccontextmanager
async def bare_loop(server: BareServer) -> AsyncIterator[Loop]:
    """A fake node that follows the pods, however often the server goes away; the namespace is empty afterwards."""
    config = load_config(str(server.kubeconfig))
    async with Client(config, user_agent="test") as admin:
        node = FakeNode(admin)
        following = asyncio.ensure_future(_follow(node))
        try:
            yield Loop(server, admin, node, Counter())
        finally:
            await _empty(admin)
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def _follow(node: FakeNode) -> None:
    while True:
        with contextlib.suppress(Unreachable, ApiError):
            await node.run()
        await asyncio.sleep(0.05)


async def _empty(admin: Client) -> None:
    for resource in (LEADER_WORKER_SETS, PODS, CONTROLLER_REVISIONS):
        await admin.delete_collection(resource, "default", grace_period_seconds=0)
    for service in (await admin.list(SERVICES, "default")).items:
        if service["metadata"]["name"] != "kubernetes":
            await admin.delete(SERVICES, service["metadata"]["name"], "default")

    async def empty() -> bool:
        return not (await admin.list(PODS, "default")).items

    await eventually(empty, "no pod is left")


async def _grant(admin: Client) -> None:
    name = "kajitori-controllers"
    group = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": RULES}
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "User", "apiGroup": group, "name": CONTROLLERS_USER}],
    }
    await admin.apply(CLUSTER_ROLES, role, field_manager="test")
    await admin.apply(CLUSTER_ROLE_BINDINGS, binding, field_manager="test")
