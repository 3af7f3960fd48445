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
    """Items in the applied order; items that only the live list has stay behind those they stood behind."""
    old = cast("list[Any]", live) if isinstance(live, list) else []
    elements = [element_of_item(item, schema) for item in old]
    position: dict[str | None, int] = {}
    for index, element in enumerate(elements):
        position.setdefault(element, index)
    wanted = {element_of_item(item, schema): item for item in applied}
    result: list[Any] = []
    done = 0
    for element, item in wanted.items():
        index = position.get(element)
        if index is None:
            result.append(merge(MISSING, item, schema.items))
            continue
        if index >= done:
            result += [old[i] for i in range(done, index) if elements[i] not in wanted]
            done = index + 1
        result.append(merge(old[index], item, schema.items))
    result += [old[i] for i in range(done, len(old)) if elements[i] not in wanted]
    unchanged = isinstance(live, list) and len(result) == len(old)
    return old if unchanged and all(map(_identical, result, old)) else result


def _identical(left: Any, right: Any) -> bool:
    return left is right
