"""The process of the gateway: its controller, Envoy's control plane, the ledger, and on a laptop the service proxy.

python -m kajitori.app.gateway --home HOME              on a laptop
python -m kajitori.app.gateway --run DIR --bind 0.0.0.0 on any cluster, beside the Envoy that reads DIR's bootstrap
"""

from __future__ import annotations

import argparse
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from kajitori.app.daemon import cluster_config, run_daemon, stop_on_signals
from kajitori.control.runtime import Runtime
from kajitori.gateway.ads import AdsServer
from kajitori.gateway.bootstrap import write_bootstrap
from kajitori.gateway.controller import SOURCE
from kajitori.gateway.controller import register as register_gateway
from kajitori.gateway.encode import Encoder
from kajitori.gateway.envoy import load_schema
from kajitori.gateway.ledger import Ledger
from kajitori.gateway.metrics import GatewayMetrics
from kajitori.gateway.observed import Settings
from kajitori.gateway.records import FILE_NAME, RecordStore
from kajitori.gateway.server import ControlPlane
from kajitori.gateway.xds import Snapshot
from kajitori.kube.client import Client

USER = "gateway"
BOOTSTRAP = "envoy-bootstrap.json"


async def run(home: Path | None, run_folder: Path, bind_address: str, endpoint: str) -> None:
    """Serve Envoy until told to stop. Envoy keeps what it has while this process is away."""
    stop = stop_on_signals()
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            Client(cluster_config(home, USER), user_agent="kajitori-gateway")
        )
        runtime = Runtime(client, endpoint=endpoint)
        metrics = GatewayMetrics()
        runtime.metrics.registry.register(metrics)
        store = RecordStore((home or run_folder) / FILE_NAME)
        stack.callback(store.close)
        ledger = Ledger(store, metrics)
        sources = (SOURCE, *(("services",) if home else ()))
        # In a laptop's home, so that `kaji down --purge` leaves nothing behind.
        schema = load_schema(cache_folder=home / "cache" if home else None)
        ads = AdsServer(schema, Snapshot(Encoder(schema)), sources)
        register_gateway(runtime, ads, ledger, Settings(bind_address=bind_address))
        if home:
            from kajitori.laptop import services  # a real cluster has kube-proxy

            services.register(runtime, ads)
        runtime.service("ledger", ledger.run)
        control_plane = ControlPlane(schema, ads, ledger.take)
        stack.push_async_callback(control_plane.close)
        await control_plane.start(run_folder / "ads.sock")
        write_bootstrap(run_folder / BOOTSTRAP, run_folder / "ads.sock", run_folder / "envoy-admin.sock")
        await runtime.run(stop)


def main() -> int:
    parser = argparse.ArgumentParser(prog="kajitori.app.gateway", description=__doc__)
    parser.add_argument("--home", type=Path, help="the folder of a laptop cluster")
    parser.add_argument("--run", type=Path, help="folder of sockets and bootstrap; default HOME/run")
    parser.add_argument("--bind", default="", help="address of the listeners; default 127.0.0.1 with --home")
    parser.add_argument("--endpoint", default="", help="of /metrics and /healthz: 127.0.0.1:PORT or a path")
    options = parser.parse_args()
    home: Path | None = options.home
    run_folder: Path | None = options.run or (home / "run" if home else None)
    if run_folder is None:
        parser.error("give --home or --run")
    bind_address = options.bind or ("127.0.0.1" if home else "0.0.0.0")
    endpoint = options.endpoint or (str(run_folder / "gateway.sock") if home else "")
    run_daemon(run(home, run_folder, bind_address, endpoint))
    return 0


if __name__ == "__main__":
    sys.exit(main())
