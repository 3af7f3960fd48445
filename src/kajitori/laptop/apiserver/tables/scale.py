"""The table of one Scale, for `kubectl get --subresource=scale`."""

from __future__ import annotations

from typing import Any

from kajitori.laptop.apiserver.tables.cells import Object, age, name_of
from kajitori.laptop.apiserver.tables.columns import columns_of

_COLUMNS = columns_of("Name, Desired:integer, Available:integer, Age")


def scale_table(scale: Object, custom: bool, now_seconds: float) -> Object:
    """A Table with one row. custom: of a custom resource, whose row leaves 0 desired replicas blank."""
    nothing = None if custom else 0
    cells: list[Any] = [
        name_of(scale),
        scale["spec"].get("replicas", nothing),
        scale["status"]["replicas"],
        age(scale, now_seconds),
    ]
    shown = {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": scale["metadata"],
    }
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": scale["metadata"]["resourceVersion"]},
        "columnDefinitions": [column.definition() for column in _COLUMNS],
        "rows": [{"cells": cells, "object": shown}],
    }
