"""Strategic merge patches: merge patches that know which lists merge, and by which key.

Lists whose schema has the strategy `merge` merge item by item; others are replaced. Directives inside a patch
steer it: `$patch: delete | replace | merge`, `$retainKeys`, `$deleteFromPrimitiveList/NAME`,
`$setElementOrder/NAME`. Items that only the patch has come before those that only the object has, unless an
order is given; the interleaving follows kubectl's documented rules (API machinery, "strategic merge patch").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from kajitori.laptop.apiserver.json_values import same
from kajitori.laptop.apiserver.status import bad_request, failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kajitori.laptop.apiserver.schema import Schema
    from kajitori.laptop.apiserver.status import StatusError

_DIRECTIVE: Final = "$patch"
_RETAIN_KEYS: Final = "$retainKeys"
_DELETE_PRIMITIVES: Final = "$deleteFromPrimitiveList/"
_ELEMENT_ORDER: Final = "$setElementOrder/"


def apply_strategic_merge_patch(obj: dict[str, Any], patch: object, schema: Schema) -> dict[str, Any]:
    """`obj`, whose kind `schema` describes, with `patch` merged into it; `obj` itself where nothing changes.

    Raises a 400 for a patch that is not a map, and a 422 for directives or items that cannot be followed.
    """
    if not isinstance(patch, dict):
        raise bad_request("error decoding patch: a strategic merge patch must be a JSON object")
    return _merge_map(obj, cast("dict[str, Any]", patch), schema)


def _unprocessable(message: str) -> StatusError:
    return failure(422, "Invalid", message)


def _merge_map(original: dict[str, Any], patch: dict[str, Any], schema: Schema | None) -> dict[str, Any]:
    directive = patch.get(_DIRECTIVE)
    if directive is not None:
        rest = {key: value for key, value in patch.items() if key != _DIRECTIVE}
        if directive == "replace":
            return rest
        if directive == "delete":
            return {}
        if directive != "merge":
            raise _unprocessable(f"Unknown patch type found: {directive}")
        patch = rest
    result = original
    if _RETAIN_KEYS in patch:
        result = _retain(original, patch)
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        new = _merge_field(result, key, value, patch, schema)
        if new is _GONE:
            if key in result:
                result = {name: kept for name, kept in result.items() if name != key}
        elif key not in result or new is not result[key]:
            result = {**result, key: new} if result is original else _put(result, key, new)
    return _apply_list_directives(original, result, patch, schema)


def _put(fresh: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    fresh[key] = value
    return fresh


_GONE: Final = object()


def _merge_field(
    target: dict[str, Any], key: str, value: Any, patch: dict[str, Any], schema: Schema | None
) -> Any:
    """The new value under `key`, or `_GONE`."""
    if value is None:
        return _GONE
    field = schema.field(key) if schema is not None else None
    old = target.get(key)
    if isinstance(value, dict):
        merges = field is None or "replace" not in field.patch_strategies
        return _merge_map(old if isinstance(old, dict) and merges else {}, value, field)
    if isinstance(value, list):
        items = cast("list[Any]", value)
        merged = _merge_list(
            cast("list[Any]", old) if isinstance(old, list) else [],
            items,
            field,
            patch.get(_ELEMENT_ORDER + key),
        )
        return old if isinstance(old, list) and _identical(old, merged) else merged
    if key in target and same(old, value):
        return old
    return value


def _identical(old: list[Any], new: list[Any]) -> bool:
    return len(old) == len(new) and all(
        left is right or (type(left) is type(right) and not isinstance(left, dict | list) and left == right)
        for left, right in zip(old, new, strict=True)
    )


def _retain(original: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """`original` without the keys that `$retainKeys` does not name (a union's other members)."""
    retained = patch[_RETAIN_KEYS]
    if not isinstance(retained, list):
        raise _unprocessable(f"{_RETAIN_KEYS} must be a list of field names")
    names = cast("list[Any]", retained)
    missing = [
        key
        for key, value in patch.items()
        if not key.startswith("$") and value is not None and key not in names
    ]
    if missing:
        raise _unprocessable(f"{_RETAIN_KEYS} does not name {missing[0]}, which the patch sets")
    if all(key in names for key in original):
        return original
    return {key: value for key, value in original.items() if key in names}


def _merge_list(original: list[Any], patch: list[Any], schema: Schema | None, order: Any) -> list[Any]:
    if schema is None or "merge" not in schema.patch_strategies:
        return patch
    if not schema.merge_key:
        merged = list(dict.fromkeys(map(_primitive, [*original, *patch])))
        return _order(merged, original, patch, order, _primitive)
    return _merge_keyed(original, patch, schema, order)


def _primitive(item: Any) -> Any:
    if isinstance(item, dict | list):
        raise _unprocessable("a list of primitives has an item that is none")
    return item


def _key_getter(key: str) -> Callable[[Any], Any]:
    return lambda item: item[key] if _has_key(item, key) else None


def _merge_keyed(original: list[Any], patch: list[Any], schema: Schema, order: Any) -> list[Any]:
    key = schema.merge_key
    additions, original = _follow_item_directives(original, patch, key)
    positions = {item[key]: index for index, item in enumerate(original) if _has_key(item, key)}
    merged = list(original)
    for item in additions:
        identity = _identity(item, key)
        index = positions.get(identity)
        if index is None:
            positions[identity] = len(merged)
            merged.append(_merge_map({}, item, schema.items))
        else:
            merged[index] = _merge_map(merged[index], item, schema.items)
    return _order(merged, original, additions, order, _key_getter(key))


def _follow_item_directives(
    original: list[Any], patch: list[Any], key: str
) -> tuple[list[dict[str, Any]], list[Any]]:
    """The patch's items without directives, and the original's items that the directives leave."""
    additions: list[dict[str, Any]] = []
    deleted: set[Any] = set()
    replaces = False
    for item in patch:
        if not isinstance(item, dict):
            raise _unprocessable(f"list with merge key {key} has an item that is not an object")
        fields = cast("dict[str, Any]", item)
        directive = fields.get(_DIRECTIVE)
        if directive is None or directive == "merge":
            additions.append({name: value for name, value in fields.items() if name != _DIRECTIVE})
        elif directive == "replace":
            replaces = True
            rest = {name: value for name, value in fields.items() if name != _DIRECTIVE}
            if rest:
                additions.append(rest)
        elif directive == "delete":
            deleted.add(_identity(fields, key))
        else:
            raise _unprocessable(f"Unknown patch type found: {directive}")
    if replaces:
        return additions, []
    if deleted:
        original = [item for item in original if not _has_key(item, key) or item[key] not in deleted]
    return additions, original


def _has_key(item: Any, key: str) -> bool:
    return isinstance(item, dict) and isinstance(item.get(key), str | int | float)


def _identity(item: dict[str, Any], key: str) -> Any:
    if not _has_key(item, key):
        shown = msgspec.json.encode(item).decode()
        raise _unprocessable(f"map: {shown} does not contain declared merge key: {key}")
    return item[key]


def _order(
    merged: list[Any],
    original: list[Any],
    patch: list[Any],
    order: Any,
    key_of: Callable[[Any], Any],
) -> list[Any]:
    """`merged` in the order that the patch wants, with the object's own items let in where they stood.

    order: the value of `$setElementOrder`, or None: the order of the patch's items.
    """
    if order is None:
        wanted = [key_of(item) for item in patch]
    elif isinstance(order, list):
        wanted = [key_of(item) for item in cast("list[Any]", order) if item is not None]
        _check_order(wanted, patch, key_of)
    else:
        raise _unprocessable(f"{_ELEMENT_ORDER[:-1]} must be a list")
    rank = _first_positions(wanted)
    place = _first_positions(key_of(item) for item in original)
    listed = sorted((item for item in merged if key_of(item) in rank), key=lambda item: rank[key_of(item)])
    others = [item for item in merged if key_of(item) not in rank]
    result: list[Any] = []
    position = 0
    for item in others:
        own = place.get(key_of(item))
        while position < len(listed):
            theirs = place.get(key_of(listed[position]))
            if own is not None and theirs is not None and own < theirs:
                break
            result.append(listed[position])
            position += 1
        result.append(item)
    return result + listed[position:]


def _first_positions(keys: Iterable[Any]) -> dict[Any, int]:
    positions: dict[Any, int] = {}
    for index, key in enumerate(keys):
        positions.setdefault(key, index)
    return positions


def _check_order(wanted: list[Any], patch: list[Any], key_of: Callable[[Any], Any]) -> None:
    rank = _first_positions(wanted)
    last = -1
    for item in patch:
        position = rank.get(key_of(item))
        if position is None or position < last:
            raise _unprocessable(
                f"The order in patch list does not match the {_ELEMENT_ORDER[:-1]} list at {key_of(item)!r}"
            )
        last = position


def _apply_list_directives(
    original: dict[str, Any], result: dict[str, Any], patch: dict[str, Any], schema: Schema | None
) -> dict[str, Any]:
    """Directives about lists that stand beside them: deletions from primitive lists, and orders on their own."""
    for key, value in patch.items():
        if key.startswith(_DELETE_PRIMITIVES):
            name = key.removeprefix(_DELETE_PRIMITIVES)
            old = result.get(name)
            if not isinstance(value, list):
                raise _unprocessable(f"{key} must be a list")
            if isinstance(old, list):
                kept = [item for item in cast("list[Any]", old) if item not in value]
                if len(kept) < len(cast("list[Any]", old)):
                    result = {**result, name: kept}
        elif key.startswith(_ELEMENT_ORDER):
            name = key.removeprefix(_ELEMENT_ORDER)
            old = result.get(name)
            field = schema.field(name) if schema is not None else None
            if name in patch or not isinstance(old, list) or field is None:
                continue
            merge_key = field.merge_key
            items = cast("list[Any]", old)
            ordered = _order(
                items,
                cast("list[Any]", original.get(name) or []),
                [],
                value,
                _key_getter(merge_key) if merge_key else _primitive,
            )
            if not _identical(items, ordered):
                result = {**result, name: ordered}
    return result
