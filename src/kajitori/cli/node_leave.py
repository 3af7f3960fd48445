"""`kaji node leave`: drains a node of this machine, ends its processes and takes it out of its cluster."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import time
from pathlib import Path

from kajitori.base.errors import KajitoriError
from kajitori.cli.joined_nodes import home_of, say


def leave_cluster(options: argparse.Namespace) -> int:
    from kajitori.app.node.join import read_joiner
    from kajitori.app.node.leave import leave
    from kajitori.base.errors import Unreachable
    from kajitori.cli.down import stop
    from kajitori.kube.client import Client
    from kajitori.kube.config import load_config

    if _forget_unfinished(options):
        return 0
    home, settings = home_of(options)
    joiner = read_joiner(home)
    config = load_config(options.kubeconfig or joiner.kubeconfig, options.context or joiner.context)

    async def take_leave() -> None:
        async with Client(config, user_agent="kaji-node-leave") as client:
            await leave(client, settings.name, lambda: stop(home), options.drain_seconds, say)

    try:
        asyncio.run(take_leave())
    except (Unreachable, KajitoriError) as error:
        if not options.force:
            error.hint = error.hint or "--force ends its processes all the same"
            raise
        print(f"  the cluster keeps Node {settings.name}: {error.message}")
        stop(home)
    _remove(home, purge=options.purge)
    return 0


def _forget_unfinished(options: argparse.Namespace) -> bool:
    """Remove the folder of a join that ended before the node was there; False where there is no such folder."""
    from kajitori.laptop.settings import is_joined_home, joined_nodes_folder

    if not options.name or options.home is not None:
        return False
    home = joined_nodes_folder() / options.name
    if is_joined_home(home) or not (home / "pki").is_dir():
        return False
    _remove(home, purge=options.purge)
    say("removed", f"{home}, of a join that was not finished")
    return True


def _remove(home: Path, *, purge: bool) -> None:
    """What is of the node goes; data of volumes stays unless asked for."""
    volumes = home / "volumes"
    keeps = not purge and volumes.is_dir() and any(volumes.iterdir())
    deadline = time.monotonic() + 5
    while True:
        try:
            for path in home.iterdir():
                if path == volumes and keeps:
                    continue
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            break
        except OSError:  # the last process writes its last words
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    if keeps:
        say("kept", f"data of volumes in {volumes} (--purge removes them)")
    else:
        home.rmdir()
