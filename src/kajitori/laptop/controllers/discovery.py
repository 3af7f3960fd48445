"""Which resources the server serves now, custom ones included.

One request each for `/api` and `/apis` in the aggregated form; of every group only the preferred version counts,
since all versions are the same objects.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kajitori.api.resource import Resource
from kajitori.kube.client import Client

_ACCEPT = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


class _Kind(msgspec.Struct):
    kind: str = ""


class _Found(msgspec.Struct, rename="camel"):
    resource: str
    response_kind: _Kind = msgspec.field(default_factory=_Kind)
    scope: str = "Namespaced"
    verbs: list[str] = []


class _Version(msgspec.Struct):
    version: str
    resources: list[_Found] = []


class _Group(msgspec.Struct):
    metadata: dict[str, Any] = {}
    versions: list[_Version] = []


class _Groups(msgspec.Struct):
    items: list[_Group] = []


class Served(msgspec.Struct, frozen=True):
    """One resource and what may be done with it."""

    resource: Resource
    verbs: frozenset[str]


class Discovery(msgspec.Struct, frozen=True):
    """preferred: each resource once. kinds: (group, kind) in whatever version to its preferred resource."""

    preferred: list[Served]
    kinds: dict[tuple[str, str], Resource]


async def discover(client: Client) -> Discovery:
    """Ask the server. Raises ApiError or Unreachable."""
    preferred: list[Served] = []
    kinds: dict[tuple[str, str], Resource] = {}
    for path in ("/api", "/apis"):
        body = await client.request("GET", path, headers=[("Accept", _ACCEPT)])
        for group in msgspec.json.decode(body, type=_Groups).items:
            _add_group(group, preferred, kinds)
    return Discovery(preferred, kinds)


def _add_group(group: _Group, preferred: list[Served], kinds: dict[tuple[str, str], Resource]) -> None:
    name = str(group.metadata.get("name") or "")
    seen: set[str] = set()
    for version in group.versions:
        for found in version.resources:
            if found.resource in seen:
                continue
            seen.add(found.resource)
            resource = Resource(
                name, version.version, found.resource, found.response_kind.kind, found.scope == "Namespaced"
            )
            preferred.append(Served(resource, frozenset(found.verbs)))
            kinds.setdefault((name, found.response_kind.kind), resource)
