"""What the server tells of its groups, versions and resources: the aggregated form that kubectl and client-go
ask for, and the older documents, one a group version, that other clients read.

Documents are made from the registry when first asked for and kept until its revision changes.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.laptop.apiserver.api_services.documents import (
    RemoteVersions,
    remote_group,
    remote_resources,
)
from kajitori.laptop.apiserver.kinds.facts import GROUP_ORDER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kajitori.laptop.apiserver.kinds.kind import Kind, Subresource
    from kajitori.laptop.apiserver.kinds.registry import Registry

Object = dict[str, Any]

# Its kind is made as custom ones are, and belongs to every cluster.
_OWN_GROUP = "apiregistration.k8s.io"
AGGREGATED_TYPE = "application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON document that is the same for everybody. etag: of its content, in quotes."""

    body: bytes
    etag: str
    content_type: str = "application/json"


_VERSION = re.compile(r"v(\d+)(?:(alpha|beta)(\d+))?")
_STAGES = {"alpha": 0, "beta": 1, None: 2}


def version_rank(version: str) -> tuple[int, int, int, int, str]:
    """Sorts versions by preference, best first: GA before beta before alpha, then the higher number; texts that
    are no Kubernetes version come last, by alphabet."""
    match = _VERSION.fullmatch(version)
    if match is None:
        return (1, 0, 0, 0, version)
    major, stage, minor = match.groups()
    return (0, -_STAGES[stage], -int(major), -int(minor or 0), "")


def _group_rank(group: str) -> tuple[int, str]:
    try:
        return (GROUP_ORDER.index(group), "")
    except ValueError:
        return (len(GROUP_ORDER), group)


class Discovery:
    """The documents of one registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._revision = -1
        self._groups: dict[str, dict[str, list[Kind]]] = {}
        self._aggregated: dict[tuple[bool, str], Document] = {}
        self._remote: RemoteVersions = {}

    def _current(self) -> dict[str, dict[str, list[Kind]]]:
        """group -> version -> kinds, groups and versions in order of preference."""
        if self._revision != self._registry.revision:
            found: dict[str, dict[str, list[Kind]]] = {}
            for kind in self._registry.kinds():
                versions = found.setdefault(kind.resource.group, {})
                versions.setdefault(kind.resource.version, []).append(kind)
            self._groups = {
                group: {
                    version: sorted(found[group][version], key=lambda kind: kind.resource.plural)
                    for version in sorted(found[group], key=version_rank)
                }
                for group in sorted(found, key=_group_rank)
            }
            self._aggregated.clear()
            self._revision = self._registry.revision
        return self._groups

    def keep_remote(self, versions: Mapping[tuple[str, str], Sequence[Object]]) -> None:
        """Group versions that are served elsewhere, each with its resources in the older form."""
        found: RemoteVersions = {}
        for (group, version), resources in versions.items():
            found.setdefault(group, {})[version] = resources
        if found != self._remote:
            self._remote = found
            self._aggregated.clear()

    def groups(self) -> dict[str, dict[str, list[Kind]]]:
        """group -> version -> kinds, best first."""
        return self._current()

    def aggregated(self, *, core: bool, version: str = "v2") -> Document:
        """All resources of `/api` (core) or `/apis` in one document; version: `v2` or `v2beta1`."""
        groups = self._current()
        document = self._aggregated.get((core, version))
        if document is None:
            items = [
                _aggregated_group(group, versions)
                for group, versions in groups.items()
                if (group == "") == core
            ]
            if not core:
                items += [remote_group(group, versions) for group, versions in self._remote.items()]
            body = msgspec.json.encode(
                {
                    "kind": "APIGroupDiscoveryList",
                    "apiVersion": f"apidiscovery.k8s.io/{version}",
                    "metadata": {},
                    "items": items,
                }
            )
            etag = f'"{hashlib.sha256(body).hexdigest().upper()}"'
            document = Document(body + b"\n", etag, AGGREGATED_TYPE.format(version=version))
            self._aggregated[core, version] = document
        return document

    def api_versions(self, server_address: str) -> Object:
        """`/api`, in the older form. server_address: host and port that the client called."""
        return {
            "kind": "APIVersions",
            "versions": list(self._current().get("", {})),
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}],
        }

    def group_list(self) -> Object:
        """`/apis`, in the older form."""
        groups = [_group(group, versions) for group, versions in self._current().items() if group]
        groups += [_group(group, versions) for group, versions in self._remote.items()]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}

    def group(self, group: str) -> Object | None:
        """`/apis/GROUP`; None where there is no such group."""
        versions = self._current().get(group) or self._remote.get(group)
        if versions is None or not group:
            return None
        return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, versions)}

    def resource_list(self, group: str, version: str) -> Object | None:
        """`/api/v1` and `/apis/GROUP/VERSION`; None where it is not served."""
        kinds = self._current().get(group, {}).get(version)
        if kinds is None:
            known = self._remote.get(group, {}).get(version)
            return None if known is None else remote_resources(group, version, known)
        resources: list[Object] = []
        for kind in kinds:
            resources.append(_resource(kind))
            resources += [_subresource(kind, kind.subresources[name]) for name in sorted(kind.subresources)]
        return {
            "kind": "APIResourceList",
            **({"apiVersion": "v1"} if group else {}),
            "groupVersion": f"{group}/{version}" if group else version,
            "resources": resources,
        }


def _verbs(kind: Kind) -> list[str]:
    return sorted(kind.verbs)


def _response_kind(kind: Kind) -> Object:
    """Group and version are left empty for built-in kinds: they are those of the document."""
    resource = kind.resource
    if not kind.custom or resource.group == _OWN_GROUP:
        return {"group": "", "version": "", "kind": resource.kind}
    return {"group": resource.group, "version": resource.version, "kind": resource.kind}


def _aggregated_group(group: str, versions: dict[str, list[Kind]]) -> Object:
    return {
        "metadata": {"name": group, "creationTimestamp": None} if group else {"creationTimestamp": None},
        "versions": [
            {
                "version": version,
                "resources": [_aggregated_resource(kind) for kind in kinds],
                "freshness": "Current",
            }
            for version, kinds in versions.items()
        ],
    }


def _aggregated_resource(kind: Kind) -> Object:
    resource = kind.resource
    document: Object = {
        "resource": resource.plural,
        "responseKind": _response_kind(kind),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": _verbs(kind),
    }
    if kind.short_names:
        document["shortNames"] = list(kind.short_names)
    if kind.categories:
        document["categories"] = list(kind.categories)
    if kind.subresources:
        document["subresources"] = [
            _aggregated_subresource(kind, kind.subresources[name]) for name in sorted(kind.subresources)
        ]
    return document


def _aggregated_subresource(kind: Kind, subresource: Subresource) -> Object:
    own = (subresource.group, subresource.version) == (kind.resource.group, kind.resource.version)
    empty = own and (not kind.custom or kind.resource.group == _OWN_GROUP)
    return {
        "subresource": subresource.name,
        "responseKind": {
            "group": "" if empty else subresource.group,
            "version": "" if empty else subresource.version,
            "kind": subresource.kind,
        },
        "verbs": list(subresource.verbs),
    }


def _group(group: str, versions: Iterable[str]) -> Object:
    listed = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
    return {"name": group, "versions": listed, "preferredVersion": listed[0]}


def _resource(kind: Kind) -> Object:
    resource = kind.resource
    document: Object = {
        "name": resource.plural,
        "singularName": kind.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": _verbs(kind),
    }
    if kind.short_names:
        document["shortNames"] = list(kind.short_names)
    if kind.categories:
        document["categories"] = list(kind.categories)
    return document


def _subresource(kind: Kind, subresource: Subresource) -> Object:
    document: Object = {
        "name": f"{kind.resource.plural}/{subresource.name}",
        "singularName": "",
        "namespaced": kind.resource.namespaced,
        "kind": subresource.kind,
        "verbs": list(subresource.verbs),
    }
    if (subresource.group, subresource.version) != (kind.resource.group, kind.resource.version):
        document["group"] = subresource.group
        document["version"] = subresource.version
    return document
