"""The process of the accountant: admission and the ledger of this machine's Envoy.

python -m kajitori.app.accountant --home HOME

On any other cluster `kaji serve accountant` is the same, beside each Envoy.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from kajitori.app.daemon import run_daemon, stop_on_signals
from kajitori.app.gateway_places import DISCOVERY_SOCKET, accounting_places
from kajitori.base.errors import KajitoriError
from kajitori.gateway.accountant import run_accountant
from kajitori.gateway.accounting.policy_delivery import local_channel
from kajitori.laptop.settings import read_settings


async def run(home: Path) -> None:
    """Serve until told to stop. Envoy serves on while this process is away, but for what must be asked."""
    socket = home / "run" / DISCOVERY_SOCKET
    settings = read_settings(home)
    port = settings.administration_port
    endpoint = f"{settings.gateway_address}:{port}" if port else ""
    await run_accountant(
        accounting_places(home), lambda: local_channel(socket), stop_on_signals(), endpoint=endpoint
    )


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
