"""How requests and refusals are written: queries, headers, delete options, and the error that an answer stands for.

Pure; the client decides what to send and when to try again.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from typing import Literal

import msgspec

from kajitori.base.errors import ApiError, api_error
from kajitori.kube.objects import Object
from kajitori.kube.transport import Answer

PatchType = Literal["merge", "json", "strategic"]
Propagation = Literal["Background", "Foreground", "Orphan"]

PATCH_CONTENT_TYPES: Mapping[str, str] = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}
JSON = ("Accept", "application/json")
_METADATA_ONLY = "application/json;as={kind};g=meta.k8s.io;v=v1,application/json"


def target_of(path: str, query: Mapping[str, str]) -> str:
    """Path and query, quoted; empty values are left out."""
    chosen = {key: value for key, value in query.items() if value}
    return f"{path}?{urllib.parse.urlencode(chosen)}" if chosen else path


def accept_header(metadata_only: bool, kind: str) -> tuple[str, str]:
    """kind: `PartialObjectMetadata`, or its list."""
    return ("Accept", _METADATA_ONLY.format(kind=kind)) if metadata_only else JSON


def write_query(field_manager: str, dry_run: bool, field_validation: str) -> dict[str, str]:
    """The query of any write."""
    return {
        "fieldManager": field_manager,
        "dryRun": "All" if dry_run else "",
        "fieldValidation": field_validation,
    }


def delete_options(
    propagation_policy: Propagation | None, grace_period_seconds: int | None, dry_run: bool
) -> Object:
    """The body of a DELETE, without preconditions."""
    options: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
    if propagation_policy is not None:
        options["propagationPolicy"] = propagation_policy
    if grace_period_seconds is not None:
        options["gracePeriodSeconds"] = grace_period_seconds
    if dry_run:
        options["dryRun"] = ["All"]
    return options


def error_of(answer: Answer) -> ApiError:
    """The error that the answer stands for, even if whoever answered was no API server."""
    header = answer.headers.get("Retry-After", "")
    retry_after_seconds = float(header) if header.isdigit() else None
    try:
        status = msgspec.json.decode(answer.body, type=Object)
    except msgspec.DecodeError:
        status = {}
    if status.get("kind") != "Status":
        lines = answer.body[:300].decode("utf-8", "replace").strip().splitlines()
        status = {"message": f"HTTP {answer.status}" + (f": {lines[0]}" if lines else "")}
    return api_error(status, answer.status, retry_after_seconds)
