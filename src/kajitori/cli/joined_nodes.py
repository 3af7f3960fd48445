"""The nodes that this machine joined to clusters: where each has its folder, and which one is meant."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kajitori.base.errors import UsageError
from kajitori.cli.output import paint

if TYPE_CHECKING:
    from kajitori.laptop.settings import NodeSettings


def say(word: str, text: str) -> None:
    """A step that was done, or is waited for."""
    print(f"  {paint('✓', '32') if word != 'waiting' else paint('…', '33')} {word:<9} {text}", flush=True)


def joined_nodes() -> list[tuple[Path, NodeSettings]]:
    """Folder and settings of each, whether it runs or not."""
    from kajitori.laptop.settings import is_joined_home, joined_nodes_folder, read_node_settings

    folder = joined_nodes_folder()
    homes = sorted(path for path in folder.iterdir() if is_joined_home(path)) if folder.is_dir() else []
    return [(home, read_node_settings(home)) for home in homes]


def home_of(options: argparse.Namespace) -> tuple[Path, NodeSettings]:
    """The node that is meant; the only one, if none is named. Raises UsageError."""
    from kajitori.laptop.settings import is_joined_home, joined_nodes_folder, read_node_settings

    if options.home is not None:
        home = options.home.absolute()
        settings = read_node_settings(home)
        if options.name and settings.name != options.name:
            raise UsageError(f"{home} is the home of node {settings.name}, not of {options.name}")
        return home, settings
    if options.name:
        home = joined_nodes_folder() / options.name
        if not is_joined_home(home):
            names = ", ".join(settings.name for _, settings in joined_nodes()) or "none"
            raise UsageError(
                f"this machine has no node {options.name} in {home}",
                hint=f"joined are: {names}; --home names a node with a folder elsewhere",
            )
        return home, read_node_settings(home)
    found = joined_nodes()
    if len(found) != 1:
        if not found:
            raise UsageError(
                f"no node of this machine is in {joined_nodes_folder()}",
                hint="`kaji node join --kubeconfig FILE` joins one; --home names one with a folder elsewhere",
            )
        names = ", ".join(settings.name for _, settings in found)
        raise UsageError("which node?", hint=f"this machine joined: {names}")
    return found[0]
