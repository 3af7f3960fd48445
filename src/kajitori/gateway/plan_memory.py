"""What a plan remembers for the next one, so that its cost grows with the change and not with the whole. Pure in effect.

A part of a plan that was made under `PlanMemory.remembered` is taken again while what went into it is the same: the
objects that it was made of, and whatever it looked up in the index meanwhile, which the index notes by table and key. That
something was not there is noted likewise. Informers give the same object while nothing changed, so same means identical.

A plan without a memory is made with an empty one, on the same way; so the result cannot depend on whether there is one, but for a
part that looks at something besides its index. `tests/gateway/test_plan_memory.py` holds the two to each other.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec

from kajitori.gateway.backends.tls_policies import policies_by_target
from kajitori.gateway.conditions import StatusUpdate
from kajitori.gateway.object_memo import ObjectMemo
from kajitori.gateway.observed import Index, Observed

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

T = TypeVar("T")

# Tables of an `Index` by the field of `Observed` that they are made of.
_TABLES = {
    "ai_backends": "ai_backends",
    "gateways": "gateways",
    "backends": "backends",
    "secrets": "secrets",
    "config_maps": "config_maps",
    "http_routes": "http_routes",
    "route_filters": "route_filters",
    "services": "services",
    "slices": "endpoint_slices",
    "policies": "policies",
    "namespace_labels": "namespaces",
}
_OF_TLS, _FIELDS = "tls_policies", "observed"
# Fields that are looked up by key themselves.
_MAPPINGS = ("tokens", "issuers")
_WHOLE = object()
# So many objects are together in a part, more or less.
CHUNK = 32
# Name of a table -> key -> what was found there, None for nothing.
_Looks = dict[str, dict[Any, Any]]


class _Table(dict[Any, Any]):
    """A table that notes what is asked of it."""

    __slots__ = ("_memory", "_name")

    def __init__(self, memory: PlanMemory, name: str, found: Mapping[Any, Any]) -> None:
        super().__init__(found)
        self._memory = memory
        self._name = name

    def get(self, key: Any, default: Any = None) -> Any:
        self._memory.note(self._name, key)
        return super().get(key, default)

    def __getitem__(self, key: Any) -> Any:
        self._memory.note(self._name, key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self._memory.note(self._name, key)
        return super().__contains__(key)

    def __iter__(self) -> Iterator[Any]:
        self._memory.note(self._name, _WHOLE)
        return super().__iter__()

    def __len__(self) -> int:
        self._memory.note(self._name, _WHOLE)
        return super().__len__()

    def keys(self) -> Any:
        self._memory.note(self._name, _WHOLE)
        return super().keys()

    def values(self) -> Any:
        self._memory.note(self._name, _WHOLE)
        return super().values()

    def items(self) -> Any:
        self._memory.note(self._name, _WHOLE)
        return super().items()


class _NotingObserved:
    """An `Observed` that notes which of its fields are read."""

    def __init__(self, memory: PlanMemory, fields: dict[str, Any]) -> None:
        self._memory = memory
        self._fields = fields

    def __getattr__(self, name: str) -> Any:
        try:
            found = self._fields[name]
        except KeyError:
            raise AttributeError(name) from None
        if name not in _MAPPINGS:
            self._memory.note(_FIELDS, name)
        return found


class _Part(msgspec.Struct):
    """objects, values: what it was made of besides look-ups. parts: that were remembered while it was made."""

    objects: tuple[Any, ...]
    values: Any
    looks: _Looks
    result: Any
    parts: dict[Any, _Part]


class PlanMemory:
    """Of one line of plans; each one begins with `begin` and ends with `end`, or else all is forgotten."""

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}
        self._tables: dict[str, _Table] = {}
        # What is other than in the plan before: name of a table -> keys.
        self._changed: dict[str, set[Any]] = {}
        self._parts: dict[Any, _Part] = {}
        self._used: dict[Any, _Part] = {}
        self._statuses: dict[tuple[str, str, str], StatusUpdate] = {}
        self._told: dict[tuple[str, str, str], StatusUpdate] = {}
        self._noting: _Looks | None = None
        self._index: Index | None = None
        self._making = False
        self._memos: dict[str, ObjectMemo] = {}

    def begin(self, observed: Observed) -> Index:
        """The index for a plan of these objects."""
        if self._making:
            self._forget()
        self._making = True
        before, fields = self._fields, _fields(observed)
        for name, value in fields.items():
            if name in before and _same_field(before[name], value):
                fields[name] = before[name]
        changed = {name for name, value in fields.items() if before.get(name, _WHOLE) is not value}
        self._fields, self._changed = fields, {_FIELDS: changed} if changed else {}
        plain = Index(msgspec.structs.replace(observed, **{name: fields[name] for name in fields}))
        for name, field in _TABLES.items():
            if field in changed:
                self._replace(name, getattr(plain, name))
        for name in _MAPPINGS:
            if name in changed:
                self._replace(name, fields[name])
        if "tls_policies" in changed:
            self._replace(_OF_TLS, policies_by_target(plain))
        shown = {**fields, **{name: self._tables[name] for name in _MAPPINGS}}
        index = Index(cast("Observed", _NotingObserved(self, shown)))
        for name in _TABLES:
            # In place of what the index would make by itself.
            index.__dict__[name] = self._tables[name]
        index.tls_policies = self._tables[_OF_TLS]
        self._index = index
        return index

    def end(self) -> None:
        """The plan is made. Parts that it did not ask for are forgotten: whether they still hold is not looked after."""
        self._parts, self._used = self._used, {}
        self._statuses, self._told = self._told, {}
        for derived in self._memos.values():
            derived.turn()
        self._noting = None
        self._making = False

    def memo(self, kind: str) -> ObjectMemo:
        """Where things of one kind are kept that are made of an object each."""
        return self._memos.setdefault(kind, ObjectMemo())

    def _forget(self) -> None:
        self._memos = {}
        self._fields, self._parts, self._used, self._statuses, self._told = {}, {}, {}, {}, {}
        self._noting = None

    def _replace(self, name: str, found: Mapping[Any, Any]) -> None:
        before: dict[Any, Any] = self._tables.get(name, _Table(self, name, {}))
        table = self._tables[name] = _Table(self, name, found)
        get = dict[Any, Any].get
        changed = {key for key, value in dict.items(table) if not _same(get(before, key), value)}
        changed |= dict.keys(before) - dict.keys(table)
        if changed:
            # Who went through all of it depends on each of it, and on the order.
            self._changed[name] = changed | {_WHOLE}
        elif list(dict.keys(before)) != list(dict.keys(table)):
            self._changed[name] = {_WHOLE}

    def note(self, table: str, key: Any) -> None:
        """Someone looked this up."""
        if self._noting is not None:
            self._noting.setdefault(table, {})[key] = None

    def remembered(
        self,
        kind: str,
        key: Hashable,
        objects: tuple[Any, ...],
        make: Callable[[], T],
        values: Any = None,
    ) -> T:
        """A part of the plan, as before if it would come out the same.

        kind, key: its name, among those that are asked for while the same part is made. objects: what it is made of, by
        identity. values: the same, by equality. make: must look at nothing else besides the index, change nothing, and its
        result must not be changed by anybody.
        """
        name = (kind, key)
        part = self._parts.get(name)
        if part is None or not self._holds(part, objects, values):
            part = self._make(part, objects, values, make)
        else:
            self._note_all(part.looks)
        self._used[name] = part
        return part.result

    def _note_all(self, looks: _Looks) -> None:
        if self._noting is not None:
            for table, keys in looks.items():
                self._noting.setdefault(table, {}).update(keys)

    def _holds(self, part: _Part, objects: tuple[Any, ...], values: Any) -> bool:
        if len(part.objects) != len(objects):
            return False
        for mine, theirs in zip(part.objects, objects, strict=True):
            if mine is not theirs:
                return False
        for table, keys in self._changed.items():
            looked = part.looks.get(table)
            if looked is not None and not looked.keys().isdisjoint(keys):
                return False
        return part.values is values or part.values == values

    def _make(
        self, before: _Part | None, objects: tuple[Any, ...], values: Any, make: Callable[[], Any]
    ) -> _Part:
        index = self._index
        assert index is not None
        outer, targets, parts, used = self._noting, index.targets, self._parts, self._used
        looks: _Looks = {}
        # What others found out is found out anew, so that it is noted what that depends on.
        self._noting, index.targets = looks, {}
        # Parts of a part that was taken again as a whole hold still: nothing that they depend on has changed since.
        self._parts, self._used = before.parts if before is not None else {}, {}
        try:
            return _Part(objects, values, looks, make(), self._used)
        finally:
            self._noting, index.targets, self._parts, self._used = outer, targets, parts, used
            # Also if it raised: who makes do without it depends on why.
            self._note_all(looks)

    def status(self, update: StatusUpdate) -> StatusUpdate:
        """The same, and the same object as in the plan before if it says the same."""
        name = (update.resource.kind, update.namespace, update.name)
        known = self._statuses.get(name)
        if known is not None and (
            known.generation == update.generation
            and (known.status is update.status or known.status == update.status)
        ):
            update = known
        self._told[name] = update
        return update


def chunks(items: Sequence[T]) -> Iterator[tuple[T, ...]]:
    """Items in their order, some together, so that the plan of those together can be remembered as one part.

    Where one comes or goes, all other chunks stay as they are: a name says whether a chunk begins with it.
    """
    first = 0
    for place, item in enumerate(items):
        metadata: Any = getattr(item, "metadata")  # noqa: B009  every one of these structs has it
        if place > first and (not hash(metadata.name) % CHUNK or place - first >= 4 * CHUNK):
            yield tuple(items[first:place])
            first = place
    if first < len(items):
        yield tuple(items[first:])


def _fields(observed: Observed) -> dict[str, Any]:
    return {name: getattr(observed, name) for name in observed.__struct_fields__}


def _same_field(before: Any, after: Any) -> bool:
    if before is after:
        return True
    if isinstance(before, tuple) and isinstance(after, tuple):
        mine, theirs = cast("tuple[Any, ...]", before), cast("tuple[Any, ...]", after)
        return len(mine) == len(theirs) and all(map(operator.is_, mine, theirs))
    # Settings, names of kinds and controllers. Mappings are looked up by key.
    return not isinstance(after, dict) and bool(before == after)


def _same(before: Any, after: Any) -> bool:
    """Whether nothing is other than it was: the same objects, in lists and by section too."""
    if before is after:
        return True
    if isinstance(before, list) and isinstance(after, list):
        mine, theirs = cast("list[Any]", before), cast("list[Any]", after)
        return len(mine) == len(theirs) and all(map(_same, mine, theirs))
    if isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys():
        members, others = cast("dict[Any, Any]", before), cast("dict[Any, Any]", after)
        return all(_same(members[key], others[key]) for key in members)
    return False
