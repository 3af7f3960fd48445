"""The process of the gateway: its controller, the control plane of Envoy and its accountant, the service proxy.

python -m kajitori.app.gateway --home HOME              on a laptop

On any other cluster `kaji serve gateway` runs the part that a cluster needs.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from kajitori.app.daemon import cluster_config, run_daemon, stop_on_signals
from kajitori.app.gateway_places import DISCOVERY_SOCKET, accounting_places
from kajitori.control.runtime import Runtime
from kajitori.gateway.accounting.header_attributes import read_header_attributes
from kajitori.gateway.accounting.policy_delivery import PolicyServer
from kajitori.gateway.controller import SOURCE, GatewayController
from kajitori.gateway.credentials.exchange import Surroundings
from kajitori.gateway.envoy.ads import AdsServer
from kajitori.gateway.envoy.bootstrap import write_bootstrap
from kajitori.gateway.envoy.encode import Encoder
from kajitori.gateway.envoy.schema import load_schema
from kajitori.gateway.envoy.server import ControlPlane
from kajitori.gateway.envoy.xds import Snapshot
from kajitori.gateway.observed import Settings
from kajitori.kube.client import Client
from kajitori.laptop import services
from kajitori.laptop.settings import read_settings

USER = "gateway"
BOOTSTRAP = "envoy-bootstrap.json"


async def run(home: Path, endpoint: str) -> None:
    """Serve Envoy until told to stop. Envoy keeps what it has while this process is away."""
    stop = stop_on_signals()
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            Client(cluster_config(home, USER), user_agent="kajitori-gateway")
        )
        runtime = Runtime(client, endpoint=endpoint)
        run_folder, places = home / "run", accounting_places(home)
        policies = PolicyServer()
        # In a laptop's home, so that `kaji down --purge` leaves nothing behind.
        schema = load_schema(cache_folder=home / "cache")
        ads = AdsServer(schema, Snapshot(Encoder(schema)), (SOURCE, services.SOURCE))
        settings = Settings(
            bind_address=read_settings(home).gateway_address,
            access_log=str(places.access_log),
            logged_headers=read_header_attributes(os.environ).headers,
            rescue_sockets=(str(places.rescue), str(places.inner)),
        )
        GatewayController(
            runtime,
            ads,
            policies,
            settings,
            surroundings=Surroundings(environment=dict(os.environ)),
            exhaustion=policies.exhaustion,
        )
        services.register(runtime, ads)
        control_plane = ControlPlane(ads, policies)
        stack.push_async_callback(control_plane.close)
        await control_plane.start(run_folder / DISCOVERY_SOCKET)
        write_bootstrap(
            run_folder / BOOTSTRAP, run_folder / DISCOVERY_SOCKET, places.envoy_admin, places.admission
        )
        await runtime.run(stop)


def main() -> int:
    parser = argparse.ArgumentParser(prog="kajitori.app.gateway", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the folder of a laptop cluster")
    parser.add_argument("--endpoint", default="", help="of /metrics and /healthz: 127.0.0.1:PORT or a path")
    options = parser.parse_args()
    home: Path = options.home
    run_daemon(run(home, options.endpoint or str(home / "run" / "gateway.sock")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
