"""Discovery of what other servers serve, made of the older form in which they tell it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Object = dict[str, Any]
RemoteVersions = dict[str, dict[str, Sequence[Object]]]
"""group -> version -> resources as an APIResourceList has them."""


def remote_resources(group: str, version: str, resources: Sequence[Object]) -> Object:
    """The APIResourceList of a group version."""
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}",
        "resources": list(resources),
    }


def remote_group(group: str, versions: Mapping[str, Sequence[Object]]) -> Object:
    """A group in the aggregated form; a version that told nothing is stale."""
    listed = [
        {
            "version": version,
            "resources": [
                _resource(group, version, one, resources) for one in resources if "/" not in one["name"]
            ],
            "freshness": "Current" if resources else "Stale",
        }
        for version, resources in versions.items()
    ]
    return {"metadata": {"name": group, "creationTimestamp": None}, "versions": listed}


def _response_kind(group: str, version: str, resource: Object) -> Object:
    return {
        "group": resource.get("group") or group,
        "version": resource.get("version") or version,
        "kind": resource.get("kind", ""),
    }


def _resource(group: str, version: str, resource: Object, all_resources: Sequence[Object]) -> Object:
    found: Object = {
        "resource": resource["name"],
        "responseKind": _response_kind(group, version, resource),
        "scope": "Namespaced" if resource.get("namespaced") else "Cluster",
        "singularResource": resource.get("singularName") or "",
        "verbs": list(resource.get("verbs") or ()),
    }
    for field in ("shortNames", "categories"):
        if resource.get(field):
            found[field] = list(resource[field])
    prefix = resource["name"] + "/"
    parts = [
        {
            "subresource": one["name"].removeprefix(prefix),
            "responseKind": _response_kind(group, version, one),
            "verbs": list(one.get("verbs") or ()),
        }
        for one in all_resources
        if one["name"].startswith(prefix)
    ]
    return {**found, "subresources": parts} if parts else found
