"""Keys: which object a reconcile is about, and how objects lead to the keys of those that depend on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from kajitori.control.cache import HasMetadata, MetadataLike


class Key(NamedTuple):
    """namespace: empty for cluster-scoped objects."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def own_key(obj: HasMetadata) -> tuple[Key]:
    """The object's own key."""
    return (Key(obj.metadata.namespace or "", obj.metadata.name or ""),)


class OwnerLike(Protocol):
    @property
    def api_version(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def uid(self) -> str: ...
    @property
    def controller(self) -> bool | None: ...


class OwnedMetadata(MetadataLike, Protocol):
    @property
    def owner_references(self) -> Iterable[OwnerLike]: ...


class HasOwners(Protocol):
    @property
    def metadata(self) -> OwnedMetadata: ...


def keys_of_owner(kind: str, group: str | None = None) -> Callable[[HasOwners], Iterable[Key]]:
    """The key of the object's controller, if it is of this kind (and of this API group, where given)."""

    def keys(obj: HasOwners) -> Iterable[Key]:
        for owner in obj.metadata.owner_references:
            if owner.controller and owner.kind == kind:
                owner_group = owner.api_version.rpartition("/")[0]
                if group is None or owner_group == group:
                    yield Key(obj.metadata.namespace or "", owner.name)

    return keys
