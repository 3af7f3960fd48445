"""`kaji serve` on the embedded API server: what it needs of a cluster, and what it can do without."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tools.kubernetes.control_plane import free_ports

from kajitori.api.crds import all_crds
from kajitori.api.resource import CUSTOM_RESOURCE_DEFINITIONS, GATEWAY_CLASSES, LEASES, NAMESPACES
from kajitori.kube.client import Client
from kajitori.kube.config import load_config
from kajitori.laptop.apiserver.testing import RunningApiServer, running_api_server
from tests.install.installation import Process
from tests.waiting import eventually


@pytest.fixture
async def server() -> AsyncIterator[RunningApiServer]:
    async with running_api_server() as found:
        yield found


@contextlib.contextmanager
def serving(component: str, server: RunningApiServer, folder: Path) -> Any:
    probes, discovery = free_ports(2)
    log = folder / f"{component}.log"
    with log.open("wb") as output:
        popen = subprocess.Popen(
            [
                "setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", "kajitori.cli", "serve", component,
                "--kubeconfig", str(server.kubeconfig), "--namespace", "somewhere",
                f"--endpoint=127.0.0.1:{probes}", f"--discovery=127.0.0.1:{discovery}",
                f"--cache={folder / 'cache'}",
            ],
            stdout=output, stderr=output,
        )  # fmt: skip
    process = Process(component, popen, probes, log)
    try:
        yield process
    finally:
        process.kill()


async def until(holds: Any, process: Process) -> None:
    """holds: blocks, or gives something to await."""
    look = holds if inspect.iscoroutinefunction(holds) else lambda: asyncio.to_thread(holds)
    await eventually(look, lambda: process.log.read_text()[-3000:], 40.0)


async def test_the_gateway_serves_what_a_cluster_has_and_names_what_it_lacks(
    server: RunningApiServer, tmp_path: Path
) -> None:
    """As where a foreign definition of another version was kept."""
    async with Client(load_config(str(server.kubeconfig))) as client:
        await client.create(NAMESPACES, {"metadata": {"name": "somewhere"}})
        for definition in all_crds():
            if definition["spec"]["group"] == "gateway.networking.k8s.io":
                await client.apply(CUSTOM_RESOURCE_DEFINITIONS, definition, field_manager="test")
        with serving("gateway", server, tmp_path) as process:
            await until(lambda: process.ready and process.leads, process)
            assert "does not serve aigatewayroutes.aigateway.envoyproxy.io" in process.log.read_text()
            ours = {
                "apiVersion": GATEWAY_CLASSES.api_version,
                "kind": "GatewayClass",
                "metadata": {"name": "ours"},
                "spec": {"controllerName": "kajitori.dev/gateway-controller"},
            }
            await client.apply(GATEWAY_CLASSES, ours, field_manager="test")

            async def accepted() -> bool:
                found = await client.get(GATEWAY_CLASSES, "ours")
                conditions = (found.get("status") or {}).get("conditions") or ()
                return any(each["type"] == "Accepted" and each["status"] == "True" for each in conditions)

            await until(accepted, process)
            assert await asyncio.to_thread(process.terminate) == 0
            leases = (await client.list(LEASES, "somewhere")).items
            # The report of this replica goes with it, the Lease of the leader stays and is free.
            assert [each["metadata"]["name"] for each in leases] == ["kajitori-gateway"]
            assert not leases[0]["spec"].get("holderIdentity")


async def test_probes_answer_before_the_cluster_does(server: RunningApiServer, tmp_path: Path) -> None:
    """Its kind is not defined yet: the controllers wait, alive, and ready for the day."""
    async with Client(load_config(str(server.kubeconfig))) as client:
        await client.create(NAMESPACES, {"metadata": {"name": "somewhere"}})
        with serving("controllers", server, tmp_path) as process:
            await until(lambda: process.answers("/healthz") == "ok\n", process)
            await until(lambda: process.leads, process)
            assert await asyncio.to_thread(process.terminate) == 0
