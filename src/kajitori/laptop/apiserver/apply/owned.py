"""From a value to the set of its fields, for what a manager applies and for what a write made appear.

The walk judges as well: server-side apply refuses fields that the schema does not declare, values of the wrong
type and lists with the same key twice, since none of them can be owned.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.laptop.apiserver.apply.field_sets import (
    LEAF,
    SELF,
    Node,
    element_of_item,
    element_text,
    node_of,
)

if TYPE_CHECKING:
    from kajitori.laptop.apiserver.schema import Schema


# A large body may be wrong in a million places.
PROBLEMS_TOLD = 50


class Unfit(Exception):
    """Values that cannot be applied: of each its path, which grows on the way up (`.spec.replicas`), and why."""

    def __init__(self, *problems: tuple[str, str]) -> None:
        super().__init__()
        self.problems = problems

    def below(self, element: str) -> list[tuple[str, str]]:
        return [(element + path, message) for path, message in self.problems]


def applied_fields(value: Any, schema: Schema) -> Node | None:
    """The fields that `value` sets: its leaves, and each item of the lists that have keys.

    None: it sets nothing, being null where null has no meaning, or a list with keys and without items. Raises Unfit.
    """
    if value is None:
        return LEAF if schema.nullable else None
    if isinstance(value, dict):
        return _applied_map(value, schema)
    if isinstance(value, list):
        return _applied_list(value, schema)
    if not _scalar_fits(value, schema):
        raise _wrong_type(value, schema)
    return LEAF


def _applied_map(value: dict[str, Any], schema: Schema) -> Node | None:
    if not (schema.is_object or schema.untyped):
        raise _wrong_type(value, schema)
    children: Node = {}
    problems: list[tuple[str, str]] = []
    for name, child in value.items():
        if len(problems) >= PROBLEMS_TOLD:
            break
        field = schema.field(name)
        if field is None:
            problems.append((f".{name}", "field not declared in schema"))
            continue
        try:
            node = applied_fields(child, field)
        except Unfit as unfit:
            problems += unfit.below(f".{name}")
            continue
        if node is not None:
            children[f"f:{name}"] = node
    if problems:
        raise Unfit(*problems)
    if schema.is_atomic or not value:
        return LEAF
    if children and schema.untyped:
        children[SELF] = LEAF  # beyond what is declared, maps are items like any other
    return children or None


def _applied_list(value: list[Any], schema: Schema) -> Node | None:
    if not (schema.is_array or schema.untyped):
        raise _wrong_type(value, schema)
    items = schema.items
    problems: list[tuple[str, str]] = []
    if schema.list_type == "atomic" or schema.untyped:
        for index, item in enumerate(value):
            if len(problems) >= PROBLEMS_TOLD:
                break
            try:
                applied_fields(item, items)
            except Unfit as unfit:
                problems += unfit.below(f"[{index}]")
        if problems:
            raise Unfit(*problems)
        return LEAF
    children: Node = {}
    for index, item in enumerate(value):
        if len(problems) >= PROBLEMS_TOLD:
            break
        element = element_of_item(item, schema)
        if element is None:
            missing = ", ".join(schema.list_map_keys)
            problems.append((f"[{index}]", f"an item without its key ({missing})"))
            continue
        if element in children:
            shown = element_text(element).replace("[=", "[")
            problems.append(("", f"duplicate entries for key {shown}"))
            continue
        children[element] = LEAF
        try:
            node = applied_fields(item, items) or {}
        except Unfit as unfit:
            problems += unfit.below(element_text(element))
            continue
        if node:
            children[element] = {SELF: LEAF, **node}
    if problems:
        raise Unfit(*problems)
    return children or None


def _scalar_fits(value: Any, schema: Schema) -> bool:
    kind = schema.type
    if kind == "string":
        return isinstance(value, str)
    if kind == "boolean":
        return isinstance(value, bool)
    if kind in ("integer", "number"):
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        # As YAML has them, numbers may be infinite or none at all.
        return isinstance(value, int) or (math.isfinite(value) and (kind == "number" or value.is_integer()))
    if schema.int_or_string or schema.is_quantity:
        return isinstance(value, str | int | float) and not isinstance(value, bool)
    return not (schema.is_array or schema.is_object)


def _wrong_type(value: Any, schema: Schema) -> Unfit:
    expected = {"object": "map", "array": "list"}.get(schema.type, schema.type) or "integer or string"
    shown = msgspec.json.encode(value).decode()
    return Unfit(("", f"expected {expected}, got {shown if len(shown) <= 100 else shown[:97] + '...'}"))


def appeared_fields(value: Any, schema: Schema | None, *, with_self: bool) -> Node | None:
    """The fields of a value that a write made appear: its leaves and the maps and lists that came to be with it.

    with_self: whether the value itself counts where it holds others; false for a list that was null before.
    A field beyond the schema counts as a whole.
    """
    if value is None:
        return LEAF if schema is not None and schema.nullable else None
    if schema is None or schema.is_atomic:
        return LEAF
    children: Node = {}
    if isinstance(value, dict):
        for name, child in value.items():
            field = schema.field(name)
            node = appeared_fields(child, field, with_self=True)
            if node is not None:
                children[f"f:{name}"] = node
    elif isinstance(value, list) and not schema.untyped:
        for item in value:
            element = element_of_item(item, schema)
            if element is None or element in children:
                return LEAF  # no keys to go by: the list is owned as a whole
            children[element] = appeared_fields(item, schema.items, with_self=True) or LEAF
    else:
        return LEAF
    return node_of(children, member=with_self or not children)
