"""Two specs of one kind into one, by `mergeType`. Pure.

What the more specific policy gives wins; what it leaves out comes from the other. A list replaces a list, save for
those that a strategic merge joins item by item because each item has a key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

MergeType = Literal["StrategicMerge", "JSONMerge"]


def merge(
    base: dict[str, Any],
    over: dict[str, Any],
    merge_type: MergeType,
    keyed_lists: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A new spec. keyed_lists: name of a list -> the member by which a strategic merge joins its items."""
    keys = keyed_lists if keyed_lists and merge_type == "StrategicMerge" else {}
    merged = dict(base)
    for name, value in over.items():
        known = merged.get(name)
        if value is None:
            # As in a JSON merge patch (RFC 7396): null takes away.
            merged.pop(name, None)
        elif isinstance(value, dict):
            inner: dict[str, Any] = value
            merged[name] = merge(known if isinstance(known, dict) else {}, inner, merge_type, keys)
        elif isinstance(value, list) and isinstance(known, list) and name in keys:
            merged[name] = _joined(known, value, keys[name], merge_type, keys)
        else:
            merged[name] = value
    return merged


def _joined(
    base: list[Any], over: list[Any], key: str, merge_type: MergeType, keys: Mapping[str, str]
) -> list[Any]:
    found: dict[Any, Any] = {item.get(key): item for item in base}
    for item in over:
        known = found.get(item.get(key))
        found[item.get(key)] = merge(known, item, merge_type, keys) if known else item
    return list(found.values())
