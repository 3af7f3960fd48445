"""The service proxy of joined nodes: Envoy at the addresses of Services, one for all nodes of a network namespace.

python -m kajitori.app.node.services --home HOME

Nodes of one machine share its addresses, so one of them serves: who holds an abstract socket that is named after the
range. The kernel frees it when its holder ends, whatever the cause, and another node's process takes over.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from kajitori.app.daemon import cluster_config, run_daemon, stop_on_signals
from kajitori.app.supervisor import die_with_parent
from kajitori.control.runtime import Runtime
from kajitori.engines.envoy import envoy_arguments, find_envoy
from kajitori.gateway.envoy.ads import AdsServer
from kajitori.gateway.envoy.bootstrap import write_bootstrap
from kajitori.gateway.envoy.encode import Encoder
from kajitori.gateway.envoy.schema import load_schema
from kajitori.gateway.envoy.server import ControlPlane
from kajitori.gateway.envoy.xds import Snapshot
from kajitori.kube.client import Client
from kajitori.laptop import services
from kajitori.laptop.settings import read_node_settings

_LOOK_SECONDS = 1.0
_RESTART_SECONDS = 1.0


def _claim(cidr: str) -> socket.socket | None:
    """What holds the range in this network namespace, or None while another process does."""
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        claim.bind(f"\0kajitori-services-{cidr}")
    except OSError:
        claim.close()
        return None
    return claim


async def run(home: Path) -> None:
    """Serve when it is this node's turn, until told to stop."""
    settings = read_node_settings(home)
    stop = stop_on_signals()
    while (claim := _claim(settings.service_cidr)) is None:
        try:
            await asyncio.wait_for(stop.wait(), _LOOK_SECONDS)
        except TimeoutError:
            continue
        return
    with claim:
        await _serve(home, settings.name, stop)


async def _serve(home: Path, name: str, stop: asyncio.Event) -> None:
    folder = home / "run"
    bootstrap = folder / "envoy-bootstrap.json"
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            Client(cluster_config(home, name), user_agent="kajitori-service-proxy")
        )
        runtime = Runtime(client, endpoint=str(folder / "services.sock"))
        schema = load_schema(cache_folder=home / "cache")
        ads = AdsServer(schema, Snapshot(Encoder(schema)), (services.SOURCE,))
        services.register(runtime, ads)
        control_plane = ControlPlane(ads)
        stack.push_async_callback(control_plane.close)
        await control_plane.start(folder / "ads.sock")
        write_bootstrap(bootstrap, folder / "ads.sock", folder / "envoy-admin.sock")
        envoy = asyncio.create_task(_keep_envoy(bootstrap), name="envoy")
        try:
            await runtime.run(stop)
        finally:
            envoy.cancel()
            await asyncio.gather(envoy, return_exceptions=True)


async def _keep_envoy(bootstrap: Path) -> None:
    """Envoy as a child: it must not outlive the claim."""
    while True:
        process = await asyncio.create_subprocess_exec(
            find_envoy(),
            *envoy_arguments(bootstrap),
            stdin=asyncio.subprocess.DEVNULL,
            preexec_fn=die_with_parent(os.getpid()),
        )
        try:
            await process.wait()
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
        await asyncio.sleep(_RESTART_SECONDS)


def main() -> int:
    parser = argparse.ArgumentParser(prog="kajitori.app.node.services", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the home of a joined node")
    run_daemon(run(parser.parse_args().home))
    return 0


if __name__ == "__main__":
    sys.exit(main())
