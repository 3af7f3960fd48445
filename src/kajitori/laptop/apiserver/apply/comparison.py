"""What changed between two objects, as field sets. Subtrees that both share by identity cost nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from kajitori.laptop.apiserver.apply.field_sets import LEAF, Node, element_of_item
from kajitori.laptop.apiserver.apply.merging import same_value
from kajitori.laptop.apiserver.apply.owned import appeared_fields

if TYPE_CHECKING:
    from kajitori.laptop.apiserver.schema import Schema

NEVER_OWNED_METADATA: Final = frozenset(
    {
        "name",
        "namespace",
        "uid",
        "selfLink",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "managedFields",
    }
)
NEVER_OWNED: Final = frozenset({"apiVersion", "kind"})
_NONE: Final[frozenset[str]] = frozenset()


class Difference(NamedTuple):
    """changed: what was added or got another value. removed: what is gone, each with all below it."""

    changed: Node | None
    removed: Node | None


SAME: Final = Difference(None, None)


def compare_objects(old: dict[str, Any], new: dict[str, Any], schema: Schema) -> Difference:
    """The difference of two whole objects, without the fields that nobody can own."""
    if old is new:
        return SAME
    found = _compare_maps(old, new, schema, NEVER_OWNED | {"metadata"})
    metadata = schema.field("metadata")
    before, after = old.get("metadata") or {}, new.get("metadata") or {}
    if before is after or metadata is None:
        return found
    inner = _compare_maps(before, after, metadata, NEVER_OWNED_METADATA)
    return Difference(
        _with_child(found.changed, "f:metadata", inner.changed),
        _with_child(found.removed, "f:metadata", inner.removed),
    )


def _with_child(node: Node | None, element: str, child: Node | None) -> Node | None:
    return node if child is None else {**(node or {}), element: child}


def _compare(old: Any, new: Any, schema: Schema | None) -> Difference:
    if old is new:
        return SAME
    if schema is not None and not schema.is_atomic:
        if isinstance(old, dict) and isinstance(new, dict):
            return _compare_maps(cast("dict[str, Any]", old), cast("dict[str, Any]", new), schema)
        if isinstance(old, list) and isinstance(new, list) and not schema.untyped:
            return _compare_lists(cast("list[Any]", old), cast("list[Any]", new), schema)
    if same_value(old, new, schema):
        return SAME
    holds = isinstance(old, dict | list) and schema is not None and not schema.is_atomic
    return Difference(
        appeared_fields(new, schema, with_self=True) or LEAF,
        LEAF if holds else None,
    )


def _absent(value: Any, schema: Schema | None) -> bool:
    return value is None and (schema is None or not schema.nullable)


def _compare_maps(
    old: dict[str, Any], new: dict[str, Any], schema: Schema, skipped: frozenset[str] = _NONE
) -> Difference:
    changed: Node = {}
    removed: Node = {}
    for name, value in new.items():
        before = old.get(name)
        if before is value and name in old:
            continue
        if name in skipped:
            continue
        field = schema.field(name)
        if _absent(value, field):
            if before is not None:
                removed[f"f:{name}"] = LEAF
        elif name not in old or _absent(before, field):
            node = appeared_fields(value, field, with_self=name not in old)
            if node is not None:
                changed[f"f:{name}"] = node
        else:
            difference = _compare(before, value, field)
            if difference.changed is not None:
                changed[f"f:{name}"] = difference.changed
            if difference.removed is not None:
                removed[f"f:{name}"] = difference.removed
    for name, value in old.items():
        if name not in new and name not in skipped and not _absent(value, schema.field(name)):
            removed[f"f:{name}"] = LEAF
    return Difference(changed or None, removed or None)


def _by_element(items: list[Any], schema: Schema) -> dict[str, Any] | None:
    """Items by path element; None if some item has no key or two share one."""
    found: dict[str, Any] = {}
    for item in items:
        element = element_of_item(item, schema)
        if element is None or element in found:
            return None
        found[element] = item
    return found


def _compare_lists(old: list[Any], new: list[Any], schema: Schema) -> Difference:
    before, after = _by_element(old, schema), _by_element(new, schema)
    if before is None or after is None:
        return SAME if same_value(old, new, schema) else Difference(LEAF, LEAF)
    changed: Node = {}
    removed: Node = {}
    items = schema.items
    for element, item in after.items():
        if element not in before:
            changed[element] = appeared_fields(item, items, with_self=True) or LEAF
            continue
        difference = _compare(before[element], item, items)
        if difference.changed is not None:
            changed[element] = difference.changed
        if difference.removed is not None:
            removed[element] = difference.removed
    for element in before:
        if element not in after:
            removed[element] = LEAF
    return Difference(changed or None, removed or None)
