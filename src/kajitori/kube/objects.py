"""Small facts about objects, whether they are dicts as decoded or structs: identity, owners, conditions.

A struct counts if it has `metadata` with `name`, `namespace`, `uid` and `owner_references`, and says its kind
by `kind` and `api_version` (a projection may carry them as class attributes or fields). Where an object does not
say its kind, as items of lists do not, pass its `Resource`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from kajitori.api.resource import Resource

Object = dict[str, Any]
AnyObject = Mapping[str, Any] | msgspec.Struct


class Identity(msgspec.Struct, frozen=True):
    """What says which object is meant."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str = ""
    resource_version: str = ""


def identity(obj: AnyObject, resource: Resource | None = None) -> Identity:
    """Works on dicts and structs alike; missing parts are empty."""
    if isinstance(obj, Mapping):
        metadata: Mapping[str, Any] = obj.get("metadata") or {}
        kind, api_version = obj.get("kind"), obj.get("apiVersion")
        name, namespace = metadata.get("name"), metadata.get("namespace")
        uid, version = metadata.get("uid"), metadata.get("resourceVersion")
    else:
        meta: Any = getattr(obj, "metadata", None)
        kind, api_version = getattr(obj, "kind", None), getattr(obj, "api_version", None)
        name, namespace = getattr(meta, "name", None), getattr(meta, "namespace", None)
        uid, version = getattr(meta, "uid", None), getattr(meta, "resource_version", None)
    if resource is not None:
        kind, api_version = kind or resource.kind, api_version or resource.api_version
    return Identity(api_version or "", kind or "", namespace or "", name or "", uid or "", str(version or ""))


def describe(obj: AnyObject, resource: Resource | None = None) -> str:
    """As messages name it: `Pod default/web`, `Node node-1`."""
    who = identity(obj, resource)
    path = f"{who.namespace}/{who.name}" if who.namespace else who.name
    return f"{who.kind} {path}" if who.kind else path


def reference(obj: AnyObject, resource: Resource | None = None) -> dict[str, str]:
    """An ObjectReference, without its empty parts."""
    who = identity(obj, resource)
    parts = {
        "apiVersion": who.api_version,
        "kind": who.kind,
        "namespace": who.namespace,
        "name": who.name,
        "uid": who.uid,
    }
    return {key: value for key, value in parts.items() if value}


def owner_reference(
    obj: AnyObject, controller: bool = True, block: bool = True, resource: Resource | None = None
) -> Object:
    """The entry for `metadata.ownerReferences` of what `obj` owns. Raises ValueError if its uid is unknown."""
    who = identity(obj, resource)
    if not who.uid or not who.kind:
        raise ValueError(f"{describe(obj, resource)} has no uid or kind yet: it cannot own anything")
    return {
        "apiVersion": who.api_version,
        "kind": who.kind,
        "name": who.name,
        "uid": who.uid,
        "controller": controller,
        "blockOwnerDeletion": block,
    }


def set_condition(
    conditions: list[Object],
    type_name: str,
    status: str,
    reason: str,
    message: str,
    now: str,
    *,
    observed_generation: int | None = None,
) -> list[Object]:
    """The list with this condition in it; its transition time moves only when its status does.

    now: RFC 3339. The given list stays as it is. Source: Kubernetes API conventions, "Typical status properties".
    """
    fresh: Object = {"type": type_name, "status": status, "reason": reason, "message": message}
    if observed_generation is not None:
        fresh["observedGeneration"] = observed_generation
    result: list[Object] = []
    found = False
    for old in conditions:
        if old.get("type") == type_name:
            found = True
            moved = old.get("status") != status
            result.append(
                {**fresh, "lastTransitionTime": now if moved else old.get("lastTransitionTime", now)}
            )
        else:
            result.append(old)
    if not found:
        result.append({**fresh, "lastTransitionTime": now})
    return result
