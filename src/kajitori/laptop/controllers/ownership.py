"""Taking and letting go of objects: owner references written so that only the object that was meant is touched.

Strategic merge patches name the object's uid, which the server refuses if another object has the name by now.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from kajitori.api.kubernetes.meta_v1 import LabelSelector
from kajitori.api.resource import Resource
from kajitori.base.errors import ApiError, NotFound
from kajitori.control.cache import Metadata
from kajitori.control.controller import Key
from kajitori.kube.client import Client
from kajitori.kube.objects import Object, owner_reference
from kajitori.laptop.controllers.views import View
from kajitori.model.selection import is_empty, matches


class _Selecting(Protocol):
    @property
    def selector(self) -> LabelSelector: ...


class Selector(Protocol):
    """An object that selects others by their labels."""

    @property
    def metadata(self) -> Metadata: ...
    @property
    def spec(self) -> _Selecting: ...


def would_adopt(owners: Iterable[Selector], orphan: View) -> list[Key]:
    """Keys of those that may want an object without a controller."""
    labels = orphan.metadata.labels
    if orphan.metadata.controller is not None or not labels:
        return []
    return [
        Key(one.metadata.namespace, one.metadata.name)
        for one in owners
        if not is_empty(one.spec.selector) and matches(one.spec.selector, labels)
    ]


async def still_there(client: Client, resource: Resource, owner: View) -> bool:
    """Whether the owner exists and is not being deleted, asked of the server and not of a cache."""
    try:
        live = await client.get(resource, owner.metadata.name, owner.metadata.namespace, type=View)
    except NotFound:
        return False
    return live.metadata.uid == owner.metadata.uid and live.metadata.deletion_timestamp is None


async def adopt(client: Client, resource: Resource, obj: View, owner: View) -> Object:
    """Make `owner` the controller of `obj`; returns the object."""
    patch = {"metadata": {"uid": obj.metadata.uid, "ownerReferences": [owner_reference(owner)]}}
    return await client.patch(
        resource, obj.metadata.name, patch, namespace=obj.metadata.namespace, patch_type="strategic"
    )


async def release(client: Client, resource: Resource, obj: View, owner_uid: str) -> Object | None:
    """Take the owner's reference away; None if the object is gone."""
    removal = {"$patch": "delete", "uid": owner_uid}
    patch = {"metadata": {"uid": obj.metadata.uid, "ownerReferences": [removal]}}
    try:
        return await client.patch(
            resource, obj.metadata.name, patch, namespace=obj.metadata.namespace, patch_type="strategic"
        )
    except NotFound:
        return None
    except ApiError as error:
        # Another object has the name by now: there is nothing left to release.
        if error.code in (409, 422):
            return None
        raise
