"""Our kinds on an API server of a test."""

from __future__ import annotations

from typing import Any

from kajitori.api.crds import all_crds
from kajitori.api.resource import CUSTOM_RESOURCE_DEFINITIONS, Resource
from kajitori.base.errors import NotFound
from kajitori.kube.client import Client
from tests.waiting import eventually


async def install_definitions(client: Client, *kinds: str) -> None:
    """Bring the definitions of these kinds, without any those of all, and wait until they are served."""
    chosen = [each for each in all_crds() if not kinds or each["spec"]["names"]["kind"] in kinds]
    for definition in chosen:
        await client.apply(CUSTOM_RESOURCE_DEFINITIONS, definition, field_manager="test")
    for definition in chosen:
        resource = _resource(definition["spec"])

        async def served(resource: Resource = resource) -> bool:
            await client.list(resource)
            return True

        await eventually(served, f"{resource.qualified_name} is served", despite=(NotFound,))


def _resource(spec: dict[str, Any]) -> Resource:
    version = next(each["name"] for each in spec["versions"] if each["storage"])
    names = spec["names"]
    return Resource(spec["group"], version, names["plural"], names["kind"], spec["scope"] == "Namespaced")
