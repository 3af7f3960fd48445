"""Compiled getters for dotted paths, as field selectors need them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def text_of(value: Any) -> str:
    """As a field selector compares it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def field_getter(path: str) -> Callable[[dict[str, Any]], str]:
    """For a path such as `spec.nodeName`; `spec.hostNetwork|false` names the text of an absent field."""
    dotted, _, absent = path.partition("|")
    steps = dotted.removeprefix(".").split(".")

    if len(steps) == 2:
        first, second = steps

        def get_two(obj: dict[str, Any]) -> str:
            inner = obj.get(first)
            value = inner.get(second) if isinstance(inner, dict) else None
            return absent if value is None else text_of(value)

        return get_two

    def get(obj: dict[str, Any]) -> str:
        value: Any = obj
        for step in steps:
            value = value.get(step) if isinstance(value, dict) else None
            if value is None:
                return absent
        return text_of(value)

    return get
