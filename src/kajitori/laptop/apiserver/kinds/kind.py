"""A kind as the server sees it: names, verbs, subresources, and what happens to an object on its way in.

An object comes in as JSON, is made to fit (`conform`), is prepared (`prepare_create`, `prepare_update`: what the
server itself sets, defaults, what a client may not change) and is checked (`validate`). Everything here is a
pure function of the object, the stored one and a `Context`; objects are changed in place, and a stored object
is never changed: callers hand in a new one. `BuiltinKind` and `CustomKind` fill in where a kind differs.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kajitori.laptop.apiserver.kinds.narrowing import NARROWED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kajitori.api.resource import Resource
    from kajitori.laptop.apiserver.conversion import Converter
    from kajitori.laptop.apiserver.kinds.paths import FieldGetter
    from kajitori.laptop.apiserver.schema import Schema
    from kajitori.laptop.apiserver.status import FieldError
    from kajitori.laptop.apiserver.tables.columns import Column


def _finds_nothing(_resource: Resource, _namespace: str, _name: str) -> dict[str, Any] | None:
    return None


@dataclass(frozen=True, slots=True)
class Context:
    """What a request brings besides its object.

    now: RFC 3339 with seconds. uid: for the new object. lookup(resource, namespace, name): a stored object or
    None; used where a default depends on another object (the service account and priority class of a pod).
    """

    now: str
    uid: str = ""
    lookup: Callable[[Resource, str, str], dict[str, Any] | None] = _finds_nothing


@dataclass(frozen=True, slots=True)
class Subresource:
    """A subresource: `status`, `scale`, `log`, ...; group, version, kind are those of its body."""

    name: str
    group: str
    version: str
    kind: str
    verbs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ScalePaths:
    """Where the scale subresource finds its numbers; JSON paths such as `.spec.replicas`, selector may be empty."""

    replicas: str
    status_replicas: str
    selector: str = ""


@dataclass(frozen=True, slots=True)
class UnknownField:
    """A field that the kind does not have and that was dropped.

    path: as messages show it, such as `spec.template.spec.containers[0].imag`. known: the names that would
    have been right in that place.
    """

    path: str
    known: tuple[str, ...] = ()


_SERVER_OWNED = ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion")
_KEPT_FROM_OLD = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds")


@dataclass(eq=False)
class Kind:
    """One served kind.

    verbs: of the main resource. storage: the resource that its objects are stored as (another group or version
    where two views share one store, or a custom resource has several versions). has_status: status is written by
    its own subresource only. created_by_put: PUT to an absent name creates.
    updated_by_version: PUT must name the version that it replaces; custom kinds always ask for it. warning: for a deprecated version.
    schema_since: objects of a lower store version were written under another schema, and are pruned and
    defaulted when they are read.
    """

    resource: Resource
    singular: str
    list_kind: str
    verbs: frozenset[str]
    subresources: dict[str, Subresource]
    storage: Resource
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    scale: ScalePaths | None = None
    field_selectors: Mapping[str, FieldGetter] = field(default_factory=dict)
    has_generation: bool = False
    created_by_put: bool = False
    updated_by_version: bool = False
    warning: str = ""
    custom: bool = False
    schema_since: int = 0
    # The webhook of a definition that converts between its versions, and the version of objects that carry none.
    conversion: Converter | None = None
    unlabelled_version: str = ""

    def __post_init__(self) -> None:
        self.has_status = "status" in self.subresources
        self.namespaced = self.resource.namespaced

    def __repr__(self) -> str:
        return f"<Kind {self.resource.qualified_name} {self.resource.version}>"

    # What a kind must say of itself.

    @property
    def schema(self) -> Schema:
        """The schema that patches and apply walk."""
        raise NotImplementedError

    @property
    def columns(self) -> Sequence[Column]:
        """Of its table."""
        raise NotImplementedError

    def cells(self, obj: dict[str, Any], now_seconds: float) -> list[Any]:
        """One row, a cell for each of `columns`. now_seconds: Unix time, for ages."""
        raise NotImplementedError

    def conform(self, obj: dict[str, Any]) -> list[UnknownField]:
        """Makes the object fit the kind, in place: unknown fields and nulls dropped, quantities in canonical form.
        Raises `WrongType` where a value cannot be read as its field's type."""
        raise NotImplementedError

    def default(self, obj: dict[str, Any]) -> None:
        """Fills in what was left open."""
        raise NotImplementedError

    def check(self, new: dict[str, Any], old: dict[str, Any] | None, subresource: str) -> list[FieldError]:
        """The rules of this kind; metadata is checked already."""
        raise NotImplementedError

    def admit_new(self, obj: dict[str, Any], context: Context) -> None:
        """What the server adds to a new object of this kind."""

    def admit_changed(self, new: dict[str, Any], old: dict[str, Any], context: Context) -> None:
        """What the server keeps or adds when an object of this kind changes."""

    def to_stored(self, obj: dict[str, Any]) -> dict[str, Any]:
        """The object in the form that is stored; the object itself where both forms are one."""
        return obj

    def from_stored(self, obj: dict[str, Any]) -> dict[str, Any]:
        """A stored object as this version shows it; the object itself where both forms are one."""
        return obj

    # What all kinds have in common.

    def prepare_create(self, obj: dict[str, Any], context: Context) -> None:
        """Before a new object is checked and stored. Its name and namespace are set already."""
        self.begin_create(obj, context)
        self.admit_new(obj, context)

    def begin_create(self, obj: dict[str, Any], context: Context) -> None:
        """The first half of `prepare_create`: identity and defaults. What is there now belongs to the writer."""
        metadata: dict[str, Any] = obj.setdefault("metadata", {})
        for key in _SERVER_OWNED:
            metadata.pop(key, None)
        metadata["uid"] = context.uid
        metadata["creationTimestamp"] = context.now
        if self.has_generation:
            metadata["generation"] = 1
        else:
            metadata.pop("generation", None)
        if self.has_status and not self.keeps_new_status:
            if "status" in self.blank:
                obj["status"] = deepcopy(self.blank["status"])
            else:
                obj.pop("status", None)
        self.default(obj)

    @property
    def blank(self) -> dict[str, Any]:
        """An object of this kind that nobody has written anything to: not to be changed."""
        return {}

    @property
    def keeps_new_status(self) -> bool:
        """A status that comes with a new object is stored, although status has its own subresource."""
        return False

    def prepare_update(
        self, new: dict[str, Any], old: dict[str, Any], context: Context, subresource: str = ""
    ) -> None:
        """Before a changed object is checked and stored. subresource: empty, `status`, or one of
        `kajitori.laptop.apiserver.kinds.narrowing`. That both mean the same object (name, uid) is checked before."""
        self.begin_update(new, old, subresource)
        self.finish_update(new, old, context, subresource)

    def begin_update(self, new: dict[str, Any], old: dict[str, Any], subresource: str = "") -> None:
        """The first half of `prepare_update`: what a client cannot change, and defaults. What differs now is the writer's."""
        metadata: dict[str, Any] = new.setdefault("metadata", {})
        stored: dict[str, Any] = old["metadata"]
        metadata.pop("selfLink", None)
        for key in _KEPT_FROM_OLD:
            if key in stored:
                metadata[key] = stored[key]
            else:
                metadata.pop(key, None)
        if subresource == "status":
            self.keep_all_but_status(new, old)
            if self.custom:
                self.default(new)
            return
        if subresource:
            NARROWED[subresource](new, old)
            self.default(new)
        else:
            if self.has_status:
                if "status" in old:
                    new["status"] = old["status"]
                else:
                    new.pop("status", None)
            self.default(new)

    def finish_update(
        self, new: dict[str, Any], old: dict[str, Any], context: Context, subresource: str = ""
    ) -> None:
        """The second half of `prepare_update`: what the server keeps or adds, and the generation."""
        if subresource == "status":
            return
        if not subresource:
            self.admit_changed(new, old, context)
        if self.has_generation and self.asks_for_change(new, old):
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1

    def countable(self, obj: dict[str, Any], subresource: str) -> dict[str, Any]:
        """The part of an object that a write can own: all but its status where that has writes of its own."""
        if not self.has_status or subresource:
            return obj
        return {field: value for field, value in obj.items() if field != "status"}

    def keep_all_but_status(self, new: dict[str, Any], old: dict[str, Any]) -> None:
        """For a write to the status subresource: everything outside metadata and status stays as it is stored."""
        for key in [key for key in new if key not in old and key != "status"]:
            del new[key]
        new.update((key, value) for key, value in old.items() if key not in ("status", "metadata"))

    def asks_for_change(self, new: dict[str, Any], old: dict[str, Any]) -> bool:
        """Whether the change counts as a new generation."""
        if "spec" in new or "spec" in old:
            return new.get("spec") != old.get("spec")
        return any(
            new.get(key) != old.get(key)
            for key in new.keys() | old.keys()
            if key not in ("metadata", "status", "apiVersion", "kind")
        )

    def validate(
        self, new: dict[str, Any], old: dict[str, Any] | None = None, subresource: str = ""
    ) -> list[FieldError]:
        """All that is wrong with the prepared object; old: the stored one when it is a change."""
        raise NotImplementedError

    def warnings_about(self, obj: dict[str, Any]) -> list[str]:
        """What is allowed in the prepared object and probably not meant."""
        return []
