"""Bring an installation to this version: definitions, stored objects, then the processes.

kaji upgrade                              with the choices of the installation
kaji upgrade --set groups.replicas=3      and one more
kaji upgrade --reset-values               with the defaults
kaji upgrade --only-definitions           nothing but definitions and stored objects, as beside Helm

Objects that are stored in an old version of their kind are rewritten. A downgrade is refused.
"""

from __future__ import annotations

import argparse

from kajitori.base.errors import UsageError
from kajitori.cli.install import (
    bring,
    open_client,
    refuse_helm,
    say,
    say_states,
    target_arguments,
    value_arguments,
    wait_arguments,
)


def arguments(parser: argparse.ArgumentParser) -> None:
    target_arguments(parser)
    value_arguments(parser)
    parser.add_argument("--reset-values", action="store_true", help="forget the installation's choices")
    parser.add_argument("--only-definitions", action="store_true", help="definitions and stored objects only")
    parser.add_argument("--dry-run", action="store_true", help="check on the server, change nothing")
    wait_arguments(parser)


def run(options: argparse.Namespace) -> int:
    from kajitori.app.install import installer
    from kajitori.app.install.stored_versions import migrate_stored_versions
    from kajitori.app.install.survey import check_record_right, read_record, refuse_downgrade, survey
    from kajitori.app.install.values import complete, overlay, read_choices

    with open_client(options) as client:
        check_record_right(client, options.namespace)
        record = read_record(client, options.namespace)
        kept = {} if options.reset_values else record.get("values", {})
        chosen = overlay(kept, read_choices(options.values, options.settings))
        values = complete(chosen)
        installer.check_rights(client, options.namespace, values)
        found = survey(client, options.namespace, values, chosen)
        refuse_downgrade(found)
        if options.only_definitions:
            installer.apply_definitions(client, found, say)
            migrate_stored_versions(client, say)
            return 0
        if not found.installed:
            raise UsageError(
                f"Kajitori is not installed in the namespace {options.namespace}",
                hint="`kaji install` does that",
            )
        refuse_helm(found)
        say("from", f"{found.installed} in {options.namespace}")
        say_states(found)
        if options.dry_run:
            installer.dry_run(client, found, say)
            return 0
        installer.apply_definitions(client, found, say)
        migrate_stored_versions(client, say)
        bring(client, found, options, definitions=False)
    return 0
