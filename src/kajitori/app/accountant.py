"""The process of the accountant: admission and the ledger of this machine's Envoy.

python -m kajitori.app.accountant --home HOME

On any other cluster `kaji serve accountant` is the same, beside each Envoy.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from kajitori.app.daemon import run_daemon, stop_on_signals
from kajitori.app.gateway_places import DISCOVERY_SOCKET, accounting_places
from kajitori.base.errors import KajitoriError
from kajitori.gateway.accounting.accountant import Accountant
from kajitori.gateway.accounting.header_attributes import read_header_attributes
from kajitori.gateway.accounting.policy_delivery import local_channel
from kajitori.gateway.limits.metrics import LimitMetrics
from kajitori.gateway.limits.opening import open_engine
from kajitori.gateway.telemetry.exporter import open_exporter
from kajitori.laptop.settings import read_settings


async def run(home: Path) -> None:
    """Serve until told to stop. Envoy serves on while this process is away, but for what must be asked."""
    socket = home / "run" / DISCOVERY_SOCKET
    settings = read_settings(home)
    port = settings.administration_port
    endpoint = f"{settings.gateway_address}:{port}" if port else ""
    places = accounting_places(home)
    attributes = read_header_attributes(os.environ)
    telemetry = open_exporter(os.environ, "", attributes)
    engine = open_engine(places.folder)
    accountant = Accountant(
        places,
        lambda: local_channel(socket),
        engine,
        endpoint=endpoint,
        telemetry=telemetry,
        metric_headers=attributes.metrics,
    )
    accountant.registry.register(LimitMetrics(engine))
    try:
        await accountant.run(stop_on_signals())
    finally:
        await engine.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="kajitori.app.accountant", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the folder of a laptop cluster")
    try:
        run_daemon(run(parser.parse_args().home))
    except KajitoriError as error:
        logging.getLogger(__name__).error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
