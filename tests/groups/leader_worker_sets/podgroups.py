"""Definitions of other schedulers' kinds, as far as our objects have fields; written from their documentation."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from tests.servers import Server
from tests.waiting import eventually

from kajitori.api.resource import CUSTOM_RESOURCE_DEFINITIONS, Resource
from kajitori.base.errors import AlreadyExists, NotFound

VOLCANO = Resource("scheduling.volcano.sh", "v1beta1", "podgroups", "PodGroup")
COSCHEDULING = Resource("scheduling.x-k8s.io", "v1alpha1", "podgroups", "PodGroup")
WORKLOADS = Resource("kueue.x-k8s.io", "v1beta1", "workloads", "Workload")

_QUANTITIES = {
    "type": "object",
    "additionalProperties": {
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "x-kubernetes-int-or-string": True,
    },
}
_FIELDS: dict[str, dict[str, Any]] = {
    "scheduling.volcano.sh": {
        "minMember": {"type": "integer", "format": "int32"},
        "minResources": _QUANTITIES,
        "queue": {"type": "string", "default": "default"},
        "priorityClassName": {"type": "string"},
    },
    "scheduling.x-k8s.io": {
        "minMember": {"type": "integer", "format": "int32", "minimum": 1},
        "minResources": _QUANTITIES,
        "scheduleTimeoutSeconds": {"type": "integer", "format": "int32"},
    },
    "kueue.x-k8s.io": {"queueName": {"type": "string"}},
}


def definition(resource: Resource) -> dict[str, Any]:
    spec = {"type": "object", "properties": _FIELDS[resource.group]}
    schema = {"type": "object", "properties": {"spec": spec}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": resource.qualified_name,
            "annotations": {"api-approved.kubernetes.io": "unapproved, a stand-in for tests"},
        },
        "spec": {
            "group": resource.group,
            "scope": "Namespaced",
            "names": {
                "plural": resource.plural,
                "singular": resource.kind.lower(),
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
            },
            "versions": [
                {
                    "name": resource.version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


@contextlib.asynccontextmanager
async def served(server: Server, resource: Resource) -> AsyncIterator[None]:
    """The kind is served meanwhile."""
    with contextlib.suppress(AlreadyExists):
        await server.client.create(CUSTOM_RESOURCE_DEFINITIONS, definition(resource))

    async def listed() -> bool:
        return (await server.http.get(resource.path())).code == 200

    try:
        await eventually(listed, f"{resource.qualified_name} is served")
        yield
    finally:
        with contextlib.suppress(NotFound):
            await server.client.delete(CUSTOM_RESOURCE_DEFINITIONS, resource.qualified_name)
