"""Schemas of the built-in kinds as plain data: OpenAPI v3 without prose, `$ref` by bare definition name.

The data is made by `tools/generate_kubernetes_schemas.py`. Definitions carry `x-kubernetes-list-type`,
`-list-map-keys`, `-patch-merge-key`, `-patch-strategy`, `-group-version-kind` as upstream publishes them.
The numbers of their fields in protobuf are made by `tools/generate_protobuf_tables.py`.
"""

from __future__ import annotations

import gzip
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec

KUBERNETES_VERSION = "v1.36.3"


@cache
def _data() -> dict[str, Any]:
    return msgspec.json.decode(
        gzip.decompress(files("kajitori.api.schemas").joinpath("kubernetes.json.gz").read_bytes())
    )


def definitions() -> dict[str, dict[str, Any]]:
    """Every definition by name, such as `io.k8s.api.core.v1.Pod`. Shared: do not change it."""
    return _data()["definitions"]


def builtin_resources() -> dict[str, list[dict[str, Any]]]:
    """For each group version (`api/v1`, `apis/apps/v1`): resources and subresources with `name`, `kind`
    (group, version, kind), `namespaced`, `verbs`. Shared: do not change it."""
    return _data()["resources"]


def forget() -> None:
    """Let go of what was read, 2 MB; who asks again reads again."""
    _data.cache_clear()


@cache
def protobuf_messages() -> dict[str, list[tuple[int, str, str, str]]]:
    """For each definition its fields on the protobuf wire: number, JSON name, type and label, where type is a
    scalar (`string bytes bool int32 int64 double`) or a definition, and label is empty, `z` (a zero value is
    as good as absent), `r` (repeated), `m` (map from string) or `i` (its fields belong to the message around it).
    """
    raw = gzip.decompress(files("kajitori.api.schemas").joinpath("protobuf.json.gz").read_bytes())
    return msgspec.json.decode(raw, type=dict[str, list[tuple[int, str, str, str]]])
