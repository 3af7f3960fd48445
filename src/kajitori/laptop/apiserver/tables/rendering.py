"""The Table and PartialObjectMetadata forms of objects, lists and watch events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kajitori.laptop.apiserver.kinds.kind import Kind

Object = dict[str, Any]

_PARTIAL = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}


def partial_metadata(obj: Object) -> Object:
    """Only the metadata of an object."""
    return {**_PARTIAL, "metadata": obj.get("metadata", {})}


def table(
    kind: Kind,
    objects: Iterable[Object],
    now_seconds: float,
    *,
    include_object: str = "Metadata",
    list_metadata: Object | None = None,
    with_columns: bool = True,
) -> Object:
    """A Table of the objects.

    include_object: `Metadata`, `Object` or `None`, as the query asks. list_metadata: resourceVersion, continue and
    remainingItemCount of a list; of a single object pass its resourceVersion. with_columns: false for the
    second and later events of a watch.
    """
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_metadata or {},
        "columnDefinitions": [column.definition() for column in kind.columns] if with_columns else None,
        "rows": [_row(kind, obj, now_seconds, include_object) for obj in objects],
    }


def _row(kind: Kind, obj: Object, now_seconds: float, include_object: str) -> Object:
    row: Object = {"cells": kind.cells(obj, now_seconds)}
    conditions = kind.row_conditions(obj)
    if conditions:
        row["conditions"] = conditions
    if include_object == "None":
        row["object"] = None
    else:
        row["object"] = obj if include_object == "Object" else partial_metadata(obj)
    return row


def bookmark_table(resource_version: str, annotations: dict[str, str] | None = None) -> Object:
    """What a watch in table form sends as a bookmark: a row without content whose object has the version."""
    metadata: Object = {"resourceVersion": resource_version}
    if annotations:
        metadata["annotations"] = annotations
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": resource_version},
        "columnDefinitions": None,
        "rows": [{"cells": ["", 0, "<unknown>"], "object": {**_PARTIAL, "metadata": metadata}}],
    }
