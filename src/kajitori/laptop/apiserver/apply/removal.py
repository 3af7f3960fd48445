"""What a manager owned before and no longer applies goes, unless somebody else owns it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from kajitori.laptop.apiserver.apply.field_sets import SELF, Node, element_of_item, is_member

if TYPE_CHECKING:
    from kajitori.laptop.apiserver.schema import Schema


def remove_given_up(value: Any, before: Node, kept: Node | None, schema: Schema | None) -> Any:
    """`value` without the fields that are in `before` and not in `kept`; `value` itself if none goes.

    before: what the manager owned until now. kept: what it owns from now on, and what all others own.
    A declared field goes with all that it holds once nobody owns anything of it, defaults included, so that
    defaults are filled in afresh. A list item goes with its key, even if others wrote into it in passing.
    """
    if isinstance(value, dict):
        return _remove_from_map(cast("dict[str, Any]", value), before, kept or {}, schema)
    if isinstance(value, list) and schema is not None and schema.list_type != "atomic":
        return _remove_from_list(cast("list[Any]", value), before, kept or {}, schema)
    return value


def _remove_from_map(
    value: dict[str, Any], before: Node, kept: Node, schema: Schema | None
) -> dict[str, Any]:
    result = value
    for element, owned in before.items():
        name = element[2:]
        if element == SELF or name not in value:
            continue
        field = schema.field(name) if schema is not None else None
        others = kept.get(element)
        old = value[name]
        gone = others is None and (is_member(owned) or (schema is not None and schema.declares(name)))
        new = None if gone else remove_given_up(old, owned, others, field)
        if not gone and new is old:
            continue
        result = dict(value) if result is value else result
        if gone or (others is None and not new):
            del result[name]
        else:
            result[name] = new
    return result


def _remove_from_list(value: list[Any], before: Node, kept: Node, schema: Schema) -> list[Any]:
    result: list[Any] = []
    changed = False
    for item in value:
        element = element_of_item(item, schema)
        owned = before.get(element) if element is not None else None
        if element is None or owned is None:
            result.append(item)
            continue
        others = kept.get(element)
        if is_member(owned) and (others is None or not is_member(others)):
            changed = True
            continue
        new = remove_given_up(item, owned, others, schema.items)
        changed = changed or new is not item
        result.append(new)
    return result if changed else value
