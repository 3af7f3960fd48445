"""Create or change objects from files, folders or standard input (server-side apply).

kaji apply -f examples/first-token       kaji apply -f - < model.yaml
kaji apply -f model.yaml --dry-run       kaji apply -f model.yaml --strict
"""

from __future__ import annotations

import argparse
import json
import re
from typing import Any

from kajitori.api.resource import Resource
from kajitori.base.errors import (
    ApiError,
    BadRequest,
    Conflict,
    Invalid,
    InvalidManifest,
    KajitoriError,
    NotFound,
    Unreachable,
    UsageError,
)
from kajitori.cli.connection import Cluster, cluster_arguments, open_cluster
from kajitori.cli.manifests import Manifest, read_manifests
from kajitori.cli.output import paint, warn

FIELD_MANAGER = "kaji"
# What must exist before the rest: namespaces, definitions, accounts.
_FIRST = ("Namespace", "CustomResourceDefinition", "GatewayClass", "ServiceAccount", "ConfigMap", "Secret")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-f", "--filename", action="append", required=True, help="file, folder, or - for standard input"
    )
    parser.add_argument("--dry-run", action="store_true", help="check on the server, change nothing")
    parser.add_argument("--strict", action="store_true", help="an unknown field is an error, not a warning")
    parser.add_argument("--force-conflicts", action="store_true", help="take fields over from other managers")
    cluster_arguments(parser)


def run(options: argparse.Namespace) -> int:
    manifests = read_manifests(options.filename)
    cluster = open_cluster(options)
    return apply_manifests(
        cluster, manifests, dry_run=options.dry_run, strict=options.strict, force=options.force_conflicts
    )


def apply_manifests(
    cluster: Cluster,
    manifests: list[Manifest],
    *,
    dry_run: bool = False,
    strict: bool = False,
    force: bool = False,
    quiet: bool = False,
    told: set[str] | None = None,
) -> int:
    """Apply all, what others need first; every refusal is printed and the rest goes on. Returns the exit code.

    told: gets the warnings that were printed.
    """
    failed = 0
    order = sorted(manifests, key=lambda manifest: _rank(manifest.object["kind"]))
    warned: set[str] = set() if told is None else told
    for manifest in order:
        try:
            warnings = _apply(cluster, manifest, dry_run=dry_run, strict=strict, force=force, quiet=quiet)
            for warning in warnings:
                text = f"{manifest.place(_field_of(warning))}: {warning}"
                if text not in warned:
                    warn(text)
                warned.add(text)
        except Unreachable:  # nor will the others be answered
            raise
        except KajitoriError as error:
            failed += 1
            for line in refusal_lines(manifest, error):
                print(f"{paint('✗', '31')} {line}")
    if failed and failed < len(order):
        print(f"{failed} of {len(order)} objects were refused; the others were taken.")
    return 1 if failed else 0


def _rank(kind: str) -> int:
    return _FIRST.index(kind) if kind in _FIRST else len(_FIRST)


def _apply(
    cluster: Cluster, manifest: Manifest, *, dry_run: bool, strict: bool, force: bool, quiet: bool
) -> list[str]:
    """Apply one object and say so; returns the server's warnings."""
    obj = manifest.object
    resource = cluster.find_kind(obj["apiVersion"], obj["kind"])
    metadata = obj.get("metadata") or {}
    name = metadata.get("name")
    if not name:
        raise InvalidManifest("metadata.name is missing", where=manifest.place("metadata"))
    namespace = metadata.get("namespace") or cluster.namespace
    path = resource.path(namespace, name)
    before = _current(cluster, path)
    query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict" if strict else "Warn"}
    if dry_run:
        query["dryRun"] = "All"
    if force:
        query["force"] = "true"
    try:
        answer, warnings = cluster.client.apply(path, obj, query)
    except ApiError as error:
        several = _SEVERAL.findall(error.message) or [error.message]
        if not all(_UNDECLARED in one for one in several):
            raise
        # Server-side apply refuses what the schema does not know; like any other write, ours leaves it out and says so.
        known, warnings = _without_unknown_fields(cluster, resource, namespace, obj)
        if strict:
            raise BadRequest("; ".join(warnings) or error.message) from None
        answer, more = cluster.client.apply(path, known, query)
        warnings += more
    if not quiet:
        print(
            f"{paint('✓', '32')} {_title(resource, answer)} {_outcome(before, answer)}{' (dry run)' if dry_run else ''}"
        )
    return warnings


_UNDECLARED = "field not declared in schema"
# Server-side apply puts each of several problems on a line of its own.
_SEVERAL = re.compile(r"^  (\.\S.*)$", re.MULTILINE)
_UNKNOWN = re.compile(r'unknown field "([^"]+)"')
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def _without_unknown_fields(
    cluster: Cluster, resource: Resource, namespace: str, obj: dict[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """The object without the fields that the server does not know, and its warnings about them.

    The server names them when asked for a dry run of a creation under another name.
    """
    trial = {**obj, "metadata": {**obj["metadata"], "name": f"{obj['metadata']['name'][:40]}-dry-run"}}
    _, warnings = cluster.client.request(
        "POST",
        resource.path(namespace),
        query={"dryRun": "All", "fieldValidation": "Warn", "fieldManager": FIELD_MANAGER},
        body=json.dumps(trial).encode(),
    )
    known = json.loads(json.dumps(obj))
    for warning in warnings:
        match = _UNKNOWN.match(warning)
        if match:
            _remove(known, match[1])
    return known, warnings


def _remove(obj: Any, path: str) -> None:
    *steps, last = [name or int(index) for name, index in _STEP.findall(path)]
    for step in steps:
        obj = obj[step]
    del obj[last]


def _current(cluster: Cluster, path: str) -> dict[str, Any] | None:
    try:
        return cluster.client.get(path)
    except NotFound:
        return None


def _outcome(before: dict[str, Any] | None, after: dict[str, Any]) -> str:
    if before is None:
        return "created"
    same = before["metadata"].get("resourceVersion") == after["metadata"].get("resourceVersion")
    return "unchanged" if same else "configured"


def _title(resource: Resource, obj: dict[str, Any]) -> str:
    return f"{resource.kind} {obj['metadata']['name']}"


def _field_of(message: str) -> str:
    """The field path that a message names: `unknown field "spec.x"`, `.spec.x: field not declared`, `.spec.x: expected`."""
    refused = re.search(r"\.([a-zA-Z]\S*): (?:" + _UNDECLARED + "|expected )", message)
    if refused:
        return refused[1]
    parts = message.split('"')
    return parts[1] if len(parts) > 1 else ""


def refusal_lines(manifest: Manifest, error: KajitoriError) -> list[str]:
    """One line for each cause, each with the line of the file on which it stands."""
    if isinstance(error, Invalid) and error.causes:
        return [
            f"{manifest.place(cause.get('field', ''))}: {manifest.title}: {cause.get('field')}: {cause.get('message')}"
            for cause in error.causes
            # Of what was not looked at for the other causes' sake, an API server says this in place of a field.
            if cause.get("field") != "<nil>" or len(error.causes) == 1
        ]
    if isinstance(error, Conflict) and error.causes:
        return [
            f"{manifest.place('')}: {manifest.title}: {error.message} (--force-conflicts takes the fields over)"
        ]
    if several := _SEVERAL.findall(error.message):
        return [f"{manifest.place(_field_of(one))}: {manifest.title}: {one}" for one in several]
    field = _field_of(error.message) or ("kind" if isinstance(error, UsageError) else "")
    return [f"{manifest.place(field)}: {manifest.title}: {error}"]
