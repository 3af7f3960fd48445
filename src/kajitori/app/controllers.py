"""The process of the controllers: cluster controllers, scheduler and capabilities over one connection.

python -m kajitori.app.controllers --home HOME    on a laptop, as its user `system:kajitori:controllers`

On any other cluster `kaji serve controllers` runs the capabilities alone.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

from kajitori.api import schemas
from kajitori.app.daemon import cluster_config, run_daemon, stop_on_signals
from kajitori.control.runtime import Runtime
from kajitori.kube.client import Client

USER = "controllers"
CAPABILITIES = (
    "kajitori.groups.leader_worker_sets.controller",
    "kajitori.groups.disaggregated_sets.controller",
    "kajitori.groups.job_sets.controller",
    "kajitori.scheduling.gates.controller",
)
# What a real cluster has of its own.
LAPTOP = ("kajitori.laptop.controllers", "kajitori.laptop.scheduler.controller")


async def run(home: Path, endpoint: str) -> None:
    """Register every room and run until told to stop."""
    stop = stop_on_signals()
    async with Client(cluster_config(home, USER), user_agent="kajitori-controllers") as client:
        # The supervisor sees to it that there is one of us; a Lease would only cost writes.
        runtime = Runtime(client, endpoint=endpoint)
        for name in (*LAPTOP, *CAPABILITIES):
            import_module(name).register(runtime)
        _register_for_nodes(runtime, home)
        # Rules of custom resources were written from them; from here on they are the API server's.
        schemas.forget()
        await runtime.run(stop)


def _register_for_nodes(runtime: Runtime, home: Path) -> None:
    """What a cluster needs for nodes that join, from the folder that only its own processes have."""
    from kajitori.laptop.controllers import certificates, node_ranges
    from kajitori.laptop.settings import read_settings

    certificates.register(runtime, home / "pki")
    node_ranges.register(runtime, read_settings(home).ranges_to_give)


def main() -> int:
    parser = argparse.ArgumentParser(prog="kajitori.app.controllers", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the folder of a laptop cluster")
    parser.add_argument("--endpoint", default="", help="of /metrics and /healthz: 127.0.0.1:PORT or a path")
    options = parser.parse_args()
    home: Path = options.home
    run_daemon(run(home, options.endpoint or str(home / "run" / "controllers.sock")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
