"""Take Kajitori out of a cluster. Users' objects and the definitions of their kinds stay.

kaji uninstall                            asks before it begins
kaji uninstall --yes
kaji uninstall --delete-crds --yes        the definitions too, and with them every object of their kinds
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from kajitori.base.errors import UsageError
from kajitori.cli.install import open_client, say, target_arguments

if TYPE_CHECKING:
    from kajitori.app.install.removal import Remains


def arguments(parser: argparse.ArgumentParser) -> None:
    target_arguments(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--delete-crds",
        action="store_true",
        help="delete our definitions and all users' objects of their kinds",
    )
    parser.add_argument("--timeout", type=float, default=120.0, metavar="SECONDS", help="of waiting (120)")


def run(options: argparse.Namespace) -> int:
    from kajitori.app.install import removal

    with open_client(options) as client:
        removal.check_reads(client)
        remains = removal.find_remains(client, options.namespace)
        going = remains.definitions if options.delete_crds else []
        if not remains.objects and not going:
            say("nothing", f"of Kajitori is in the namespace {options.namespace}")
            return 0
        if removal.is_helms(remains):
            raise UsageError(
                f"Helm manages the installation in {options.namespace}",
                hint=f"`helm uninstall RELEASE --namespace {options.namespace}`, which leaves no record of a release behind",
            )
        removal.check_rights(client, remains, definitions=bool(going))
        _show(options, remains)
        _confirm(options)
        removal.remove(
            client, options.namespace, remains, say, definitions=options.delete_crds, seconds=options.timeout
        )
        _show_what_stays(options, remains)
    return 0


def _show(options: argparse.Namespace, remains: Remains) -> None:
    say("will delete", f"{len(remains.objects)} objects of the installation in {options.namespace}")
    if options.delete_crds:
        for definition, count in remains.definitions:
            say("will delete", f"{definition['metadata']['name']} and {count} objects of users")


def _confirm(options: argparse.Namespace) -> None:
    if options.yes:
        return
    if options.delete_crds or not sys.stdin.isatty():
        raise UsageError("nothing was deleted: this asks for --yes")
    if input("  go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UsageError("nothing was deleted")


def _show_what_stays(options: argparse.Namespace, remains: Remains) -> None:
    if not options.delete_crds and remains.definitions:
        count = sum(count for _, count in remains.definitions)
        say("stays", f"{len(remains.definitions)} definitions with {count} objects of users (--delete-crds)")
    if remains.foreign:
        say("stays", f"Namespace {options.namespace}, since it holds {', '.join(remains.foreign[:5])}")
