"""Live object + what a manager applies = merged object. Whatever the applied one does not name stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from kajitori.base.quantity import parse_quantity
from kajitori.laptop.apiserver.apply.field_sets import element_of_item
from kajitori.laptop.apiserver.json_values import same

if TYPE_CHECKING:
    from kajitori.laptop.apiserver.schema import Schema

MISSING: Final = object()


def same_value(left: Any, right: Any, schema: Schema | None) -> bool:
    """Whether two leaves mean the same; quantities by amount, so that `1000m` is no change to a stored `1`."""
    if same(left, right):
        return True
    if schema is None or not schema.is_quantity or isinstance(left, dict | list | bool | None):
        return False
    try:
        return parse_quantity(left) == parse_quantity(right)
    except (ValueError, TypeError):
        return False


def merge(live: Any, applied: Any, schema: Schema) -> Any:
    """The merged value; `live` itself where nothing changes; MISSING if neither has one.

    live: the present value, or MISSING. applied: it has passed `applied_fields`.
    """
    if applied is None and not schema.nullable:
        return live
    if not schema.is_atomic:
        if isinstance(applied, dict):
            return _merge_map(live, applied, schema)
        if isinstance(applied, list) and not schema.untyped:
            return _merge_list(live, applied, schema)
    return live if live is not MISSING and same_value(live, applied, schema) else applied


def _merge_map(live: Any, applied: dict[str, Any], schema: Schema) -> dict[str, Any]:
    known = isinstance(live, dict)
    base = cast("dict[str, Any]", live) if known else {}
    result = base if known else {}
    for name, value in applied.items():
        field = schema.field(name)
        if field is None:
            continue
        old = base.get(name, MISSING)
        new = merge(old, value, field)
        if new is not old:
            result = dict(base) if result is base else result
            result[name] = new
    return result


def _merge_list(live: Any, applied: list[Any], schema: Schema) -> list[Any]:
    """Items of both lists: those of the live one alone come as early as they can, shared ones in applied order."""
    old = cast("list[Any]", live) if isinstance(live, list) else []
    elements = [element_of_item(item, schema) for item in old]
    position: dict[str | None, int] = {}
    for index, element in enumerate(elements):
        position.setdefault(element, index)
    wanted = {element_of_item(item, schema): item for item in applied}
    shared = [element for element in wanted if element in position]
    coming = list(wanted.items())
    result: list[Any] = []
    left = right = 0
    while left < len(old) or right < len(coming):
        if left < len(old):
            element = elements[left]
            if element not in wanted:
                result.append(old[left])
                left += 1
                continue
            if right < len(coming) and element != coming[right][0] and shared and element != shared[0]:
                left += 1  # it comes where the applied list has it
                continue
        if right == len(coming):
            left += 1
            continue
        element, item = coming[right]
        right += 1
        index = position.get(element)
        result.append(merge(MISSING if index is None else old[index], item, schema.items))
        if index is not None:
            shared.pop(0)
            left += left < len(old) and elements[left] == element
    unchanged = isinstance(live, list) and len(result) == len(old)
    return old if unchanged and all(map(_identical, result, old)) else result


def _identical(left: Any, right: Any) -> bool:
    return left is right
