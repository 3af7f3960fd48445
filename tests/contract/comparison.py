"""Holds answers of both servers against each other.

What differs by nature is taken out first: uids, versions, times; addresses and ports that are handed out; names made
of chance. Fields that are null say the same as fields that are left out (docs/reference/embedded-cluster.md).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import yaml
from tests.servers import without_volatile

from kajitori.laptop.apiserver.kinds.builtin import builtin_kinds

Object = dict[str, Any]
KINDS = {(kind.resource.api_version, kind.resource.kind): kind.resource for kind in builtin_kinds()}
_OBJECTS = Path(__file__).with_name("objects.yaml")
_HANDED_OUT = {"clusterIP", "clusterIPs", "nodePort", "healthCheckNodePort", "lastPhaseTransitionTime"}
_UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_CHANCE = re.compile(r"kube-api-access-[a-z0-9]{5}")


def sample_objects(namespace: str) -> list[Object]:
    """The objects of `objects.yaml`; names that the whole cluster shares begin with the namespace's."""
    text = _OBJECTS.read_text().replace("NAMESPACE", namespace)
    return [document for document in yaml.safe_load_all(text) if document]


def collection_of(obj: Object, namespace: str) -> str:
    """The path of an object's collection."""
    resource = KINDS[obj["apiVersion"], obj["kind"]]
    base = f"/apis/{resource.group}/{resource.version}" if resource.group else "/api/v1"
    return (
        f"{base}/namespaces/{namespace}/{resource.plural}"
        if resource.namespaced
        else f"{base}/{resource.plural}"
    )


def comparable(value: Any) -> Any:
    """An answer without what differs by nature."""
    return _settled(without_volatile(value))


def _settled(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: "handed out" if key in _HANDED_OUT and inner not in ("None", ["None"]) else _settled(inner)
            for key, inner in value.items()
            if inner is not None
        }
    if isinstance(value, list):
        return [_settled(inner) for inner in value]
    if isinstance(value, str):
        return _CHANCE.sub("kube-api-access-x", _UID.sub("UID", value))
    return value


def differences(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Where two values differ, one line each."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        missing = "nothing"
        return [
            line
            for key in sorted({*ours, *theirs})
            for line in differences(ours.get(key, missing), theirs.get(key, missing), f"{path}.{key}")
        ]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [
            line
            for index, (left, right) in enumerate(zip(ours, theirs, strict=True))
            for line in differences(left, right, f"{path}[{index}]")
        ]
    if ours == theirs:
        return []
    return [f"{path}: ours {_shown(ours)}, real {_shown(theirs)}"]


def _shown(value: Any) -> str:
    return msgspec.json.encode(value).decode()[:300]
