"""Equality of JSON values, which Python's `==` gets wrong for booleans: JSON's `true` is not `1`."""

from __future__ import annotations

from typing import Any, Final, cast


def same(left: Any, right: Any) -> bool:
    """Whether two values are the same JSON: 1 equals 1.0, but true does not equal 1."""
    if left is right:
        return True
    if isinstance(left, dict):
        if not isinstance(right, dict) or len(cast("dict[str, Any]", left)) != len(
            cast("dict[str, Any]", right)
        ):
            return False
        return all(key in right and same(value, right[key]) for key, value in left.items())
    if isinstance(left, list):
        ours, theirs = cast("list[Any]", left), cast("list[Any]", right)
        return isinstance(right, list) and len(ours) == len(theirs) and all(map(same, ours, theirs))
    return left == right and isinstance(left, bool) == isinstance(right, bool)


def json_type(value: Any) -> str:
    """`string`, `boolean`, `integer`, `number`, `object`, `array` or `null`."""
    return _JSON_TYPES.get(type(value), "object")


_JSON_TYPES: Final = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    dict: "object",
    list: "array",
    type(None): "null",
}
