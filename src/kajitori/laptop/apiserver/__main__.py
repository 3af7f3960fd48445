"""`python -m kajitori.laptop.apiserver --home DIR [--port N]`: serve until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from pathlib import Path

import msgspec
import uvloop

from kajitori.base.errors import KajitoriError, UsageError
from kajitori.laptop.apiserver.housekeeping import keep_memory_small
from kajitori.laptop.apiserver.server import ApiServer
from kajitori.laptop.settings import ClusterSettings, default_home, read_settings

log = logging.getLogger("kajitori.laptop.apiserver")


async def serve(home: Path, settings: ClusterSettings) -> None:
    loop = asyncio.get_running_loop()
    asked_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop.set)
    server = ApiServer(home, settings)
    await server.start()
    # What was loaded stays: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    log.info("serving on %s", server.state.server)
    housekeeping = asyncio.create_task(keep_memory_small(server.state.store), name="housekeeping")
    await asked_to_stop.wait()
    housekeeping.cancel()
    log.info("stopping")
    await server.stop()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m kajitori.laptop.apiserver", description=__doc__)
    parser.add_argument("--home", type=Path, default=default_home(), help="folder of the cluster")
    parser.add_argument("--port", type=int, default=None, help="port on 127.0.0.1, 0 for any")
    arguments = parser.parse_args()
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    # Secrets are in here: nobody else reads what this process writes.
    os.umask(0o077)
    home: Path = arguments.home.absolute()
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        try:
            settings = read_settings(home)
        except UsageError:
            if (home / "cluster.json").exists():
                raise
            settings = ClusterSettings()
        if arguments.port is not None:
            settings = msgspec.structs.replace(settings, port=arguments.port)
        uvloop.run(serve(home, settings))
    except KajitoriError as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
