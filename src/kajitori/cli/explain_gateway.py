"""What `kaji explain` says of the gateway's objects besides bad conditions: what good ones tell, and what nobody answers."""

from __future__ import annotations

import time
from typing import Any

from kajitori.base.clock import rfc3339
from kajitori.base.errors import KajitoriError, NotFound
from kajitori.cli.connection import Cluster

_GATEWAY_API = "gateway.networking.k8s.io"
# Their messages say more than that all is well: the order of backends, what no object names.
_GROUPS_THAT_TELL = ("aigateway.envoyproxy.io", "gateway.envoyproxy.io", "gateway.kajitori.dev")
_TELLING = ("Accepted", "Overridden")


def remarks(obj: dict[str, Any]) -> list[str]:
    """What conditions that are as they should be tell, each once; and of a key, that it holds no longer."""
    group = str(obj.get("apiVersion", "")).partition("/")[0]
    if group not in _GROUPS_THAT_TELL:
        return []
    found = {
        item["message"]: None
        for item in _conditions(obj)
        if item["type"] in _TELLING and item["status"] == "True" and item.get("message")
    }
    if obj.get("kind") == "APIKey":
        found |= dict.fromkeys(_over(obj.get("spec") or {}))
    return list(found)


def _over(spec: dict[str, Any]) -> list[str]:
    found = ["it was revoked: its requests are answered with 401"] if spec.get("disabled") else []
    if (spec.get("expiresAt") or "9") < rfc3339(time.time()):
        found.append(f"it expired at {spec['expiresAt']}: its requests are answered with 401")
    return found


def unanswered(cluster: Cluster, obj: dict[str, Any]) -> list[str]:
    """Of an object that no controller has said anything about: which of its parents or targets do not exist.

    A parent that is not there has nobody who could say so.
    """
    spec = obj.get("spec") or {}
    single = spec.get("targetRef")
    named = [*(spec.get("parentRefs") or ()), *(spec.get("targetRefs") or ()), *([single] if single else ())]
    if not named or _conditions(obj):
        return []
    found: list[str] = []
    for item in named:
        kind = item.get("kind") or "Gateway"
        namespace = item.get("namespace") or obj["metadata"].get("namespace") or cluster.namespace
        try:
            served = cluster.find(f"{kind}.{item.get('group', _GATEWAY_API)}".rstrip("."))
            cluster.get(served.resource, item["name"], namespace)
        except NotFound:
            found.append(f"{kind} {namespace}/{item['name']} does not exist, so nobody serves it there")
        except KajitoriError:
            continue  # of a kind that this cluster does not know, or that may not be read
    return found


def _conditions(obj: dict[str, Any]) -> list[dict[str, Any]]:
    status = obj.get("status") or {}
    found: list[dict[str, Any]] = list(status.get("conditions") or ())
    for part in (*(status.get("parents") or ()), *(status.get("ancestors") or ())):
        found += part.get("conditions") or ()
    return found
