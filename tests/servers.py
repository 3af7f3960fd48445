"""Two API servers with their controllers and schedulers, for one suite that runs on both.

`server` is parametrised: "embedded" is ours, "real" is kube-apiserver with etcd, kube-controller-manager and
kube-scheduler. Each worker starts each of them once (see `conftest.py` for the order). A test makes what it
needs in a `namespace` of its own. `nodes` adds nodes whose pods are only said to run (see `fake_nodes`).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tools.kubernetes.build import have_go
from tools.kubernetes.control_plane import APISERVER, CONTROLLERS, free_ports, running_control_plane

from kajitori.api.crds import all_crds
from kajitori.api.resource import CUSTOM_RESOURCE_DEFINITIONS
from kajitori.app.rights import write_component_rules
from kajitori.kube.client import Client
from kajitori.kube.config import load_config
from kajitori.laptop.apiserver import pki
from kajitori.laptop.apiserver.testing import prepare_home
from kajitori.laptop.settings import ClusterSettings, write_settings
from tests.waiting import eventually, eventually_blocking
from tests.wire import Api, Object, tls_context

ROOT = Path(__file__).resolve().parents[1]
NAMES = itertools.count(1)
# The real controllers' pace is made for large clusters; tests wait for them.
QUICK_CONTROLLERS = (
    "--horizontal-pod-autoscaler-sync-period=1s",
    "--resource-quota-sync-period=10s",
    "--kube-api-qps=500",
    "--kube-api-burst=1000",
)

# Endpoints of this machine's loopback are refused; Services of type ExternalName lead to it, but only this way.
TO_NAMES = ("--enable-aggregator-routing=false",)


@dataclass(frozen=True)
class Place:
    """A running API server as processes. home: its folder, with `pki/`."""

    name: str
    home: Path
    url: str
    kubeconfig: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)


@dataclass
class Server:
    """A server as one test sees it. client: of an administrator. http: the same, but bare."""

    place: Place
    client: Client
    http: Api
    _others: list[Api] = field(default_factory=list)

    @property
    def name(self) -> str:
        """`embedded` or `real`."""
        return self.place.name

    @property
    def url(self) -> str:
        return self.place.url

    @property
    def kubeconfig(self) -> Path:
        return self.place.kubeconfig

    def kubeconfig_of(self, user: str, *groups: str) -> Path:
        """With a new client certificate of this user in these groups."""
        path = (
            self.place.home
            / "test-users"
            / f"{user.replace(':', '-')}-{'-'.join(groups) or 'none'}.kubeconfig"
        )
        identity = pki.Identity(path.stem, user, groups)
        pki.write_kubeconfig(path, self.url, pki.Authority(self.place.home / "pki"), identity)
        return path

    def as_user(self, user: str, *groups: str) -> Api:
        """A bare client with a new client certificate."""
        return self._keep(Api(self.url, tls_context(self.kubeconfig_of(user, *groups))))

    def bearer(self, token: str = "", **headers: str) -> Api:
        """A bare client without a certificate; with a token if one is given."""
        if token:
            headers["Authorization"] = f"Bearer {token}"
        context = tls_context(self.kubeconfig, with_certificate=False)
        return self._keep(Api(self.url, context, headers))

    def _keep(self, api: Api) -> Api:
        self._others.append(api)
        return api

    async def close(self) -> None:
        for api in (self.http, *self._others):
            await api.close()


def _start(words: list[str], home: Path, name: str) -> subprocess.Popen[bytes]:
    with (home / "log" / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", *words],
            stdout=log,
            stderr=log,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": "src:."},
        )


def wait_for_url(url: str, kubeconfig: Path, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
    def well() -> bool:
        assert process.poll() is None, f"{process.args} ended"
        with urllib.request.urlopen(url, context=tls_context(kubeconfig), timeout=5) as answer:
            return answer.status == 200

    eventually_blocking(well, f"{url} is ready", seconds, despite=(OSError,))


@contextlib.contextmanager
def embedded_place(home: Path) -> Iterator[Place]:
    """Our API server and controllers, without nodes, as `kaji up` starts them."""
    settings = ClusterSettings(port=free_ports(1)[0], nodes=0)
    for name in ("run", "log", "data", "pki", "nodes", "cache"):
        (home / name).mkdir(parents=True, exist_ok=True)
    prepare_home(home)
    write_component_rules(home)
    write_settings(home, settings)
    place = Place("embedded", home, settings.server, home / "kubeconfig")
    try:
        where = ["--home", str(home)]
        place.processes["apiserver"] = _start(["kajitori.laptop.apiserver", *where], home, "apiserver")
        wait_for_url(f"{place.url}/readyz", place.kubeconfig, place.processes["apiserver"])
        place.processes["controllers"] = _start(["kajitori.app.controllers", *where], home, "controllers")
        yield place
    finally:
        for process in reversed(place.processes.values()):
            process.terminate()
        for process in place.processes.values():
            process.wait(30)


@contextlib.contextmanager
def real_place(home: Path) -> Iterator[Place]:
    """kube-apiserver, etcd, kube-controller-manager and kube-scheduler."""
    with running_control_plane(home, flags={APISERVER: TO_NAMES, CONTROLLERS: QUICK_CONTROLLERS}) as plane:
        yield Place("real", home, plane.server, plane.kubeconfig, plane.processes)


async def _make_definitions(kubeconfig: Path) -> None:
    async with Client(load_config(str(kubeconfig))) as client:
        for definition in all_crds():
            await client.apply(CUSTOM_RESOURCE_DEFINITIONS, definition, field_manager="tests")
    config = load_config(str(kubeconfig))
    api = Api(config.server, tls_context(kubeconfig))
    try:
        for definition in all_crds():
            spec = definition["spec"]
            path = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"
            await eventually(lambda path=path: _exists(api, path), f"{path} is served")
    finally:
        await api.close()


@pytest.fixture(scope="session", params=["embedded", "real"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The running server."""
    home = tmp_path_factory.mktemp(request.param)
    if request.param == "real" and not have_go():
        pytest.skip("NOT TESTED: Go is not installed, so nothing was tried on a real kube-apiserver")
    with (embedded_place if request.param == "embedded" else real_place)(home) as running:
        asyncio.run(_make_definitions(running.kubeconfig))
        yield running


@pytest.fixture
async def server(place: Place) -> AsyncIterator[Server]:
    async with Client(load_config(str(place.kubeconfig)), user_agent="contract") as client:
        server = Server(place, client, Api(place.url, tls_context(place.kubeconfig)))
        try:
            yield server
        finally:
            await server.close()


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, Place]]:
    """Ours and the real one at once, for tests that hold answers against each other."""
    if not have_go():
        pytest.skip("NOT TESTED: Go is not installed, so nothing was tried on a real kube-apiserver")
    with (
        embedded_place(tmp_path_factory.mktemp("embedded")) as embedded,
        real_place(tmp_path_factory.mktemp("real")) as real,
    ):
        for running in (embedded, real):
            asyncio.run(_make_definitions(running.kubeconfig))
        yield embedded, real


@pytest.fixture
async def servers(places: tuple[Place, Place]) -> AsyncIterator[tuple[Server, Server]]:
    """(ours, the real one)."""
    embedded, real = places
    async with (
        Client(load_config(str(embedded.kubeconfig)), user_agent="contract") as ours,
        Client(load_config(str(real.kubeconfig)), user_agent="contract") as theirs,
    ):
        pair = (
            Server(embedded, ours, Api(embedded.url, tls_context(embedded.kubeconfig))),
            Server(real, theirs, Api(real.url, tls_context(real.kubeconfig))),
        )
        try:
            yield pair
        finally:
            for server in pair:
                await server.close()


@pytest.fixture
async def shared_namespace(servers: tuple[Server, Server]) -> AsyncIterator[str]:
    """A namespace of the same name on both."""
    name = f"t{os.getpid()}-{next(NAMES)}"
    for server in servers:
        await make_namespace(server, name)
    yield name
    for server in servers:
        await server.http.delete(f"/api/v1/namespaces/{name}")


async def make_namespace(server: Server, name: str) -> None:
    """With its default service account."""
    (await server.http.create("/api/v1/namespaces", {"metadata": {"name": name}})).ok()
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    await eventually(lambda: _exists(server.http, account), f"{name} has its service account")


@pytest.fixture
async def namespace(server: Server) -> AsyncIterator[str]:
    """A namespace of the test's own, with its default service account; deleted afterwards, not waited for."""
    name = f"t{os.getpid()}-{next(NAMES)}"
    await make_namespace(server, name)
    yield name
    await server.http.delete(f"/api/v1/namespaces/{name}")


async def _exists(api: Api, path: str) -> bool:
    return (await api.get(path)).code == 200


@pytest.fixture(scope="session")
def nodes(place: Place) -> Iterator[list[str]]:
    """Names of two nodes that only say that their pods run."""
    process = _start(["tests.fake_nodes", "--kubeconfig", str(place.kubeconfig)], _logs(place), "fake-nodes")
    names = ["fake-1", "fake-2"]
    try:
        asyncio.run(_nodes_are_ready(place, names, process))
        yield names
    finally:
        process.terminate()
        process.wait(30)


def _logs(place: Place) -> Path:
    (place.home / "log").mkdir(exist_ok=True)
    return place.home


async def _nodes_are_ready(place: Place, names: list[str], process: subprocess.Popen[bytes]) -> None:
    api = Api(place.url, tls_context(place.kubeconfig))

    async def ready(name: str) -> bool:
        assert process.poll() is None, "the fake nodes ended"
        answer = await api.get(f"/api/v1/nodes/{name}")
        return answer.code == 200 and not answer.json["spec"].get("taints")

    try:
        for name in names:
            await eventually(lambda name=name: ready(name), f"{name} is ready")
    finally:
        await api.close()


def pod(name: str, **spec: Any) -> Object:
    """A pod with one container `c`."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "busybox:1"}], **spec},
    }


def config_map(name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def without_volatile(value: Any) -> Any:
    """An answer without what differs from server to server and from time to time: uids, versions, times."""
    volatile = {
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "time",
        "lastTransitionTime",
        "deletionTimestamp",
    }
    if isinstance(value, dict):
        return {key: without_volatile(inner) for key, inner in value.items() if key not in volatile}
    if isinstance(value, list):
        return [without_volatile(inner) for inner in value]
    return value
