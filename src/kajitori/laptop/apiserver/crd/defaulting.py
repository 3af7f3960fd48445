"""Defaulting: what is left open is filled in from the schema, on writes and on reads.

A null counts as left open unless the schema says `nullable`: the default takes its place, or it is dropped.
Nothing is changed in place, and defaults are copied, since others may change them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

Default = Callable[[Any], Any]


def compile_defaulter(schema: dict[str, Any]) -> Default | None:
    """The walk that completes a value of this schema; None: there is nothing to fill in below it."""
    if isinstance(schema.get("items"), dict):
        return _list_defaulter(compile_defaulter(schema["items"]))
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict) and additional:
        return _map_defaulter(compile_defaulter(additional), additional)
    properties: dict[str, Any] = schema.get("properties") or {}
    if not properties:
        return None
    walks = {
        name: walk for name, child in properties.items() if (walk := compile_defaulter(child)) is not None
    }
    defaults = {
        name: child["default"] for name, child in properties.items() if child.get("default") is not None
    }
    refuses_null = frozenset(name for name, child in properties.items() if not _takes_null(child))
    if not walks and not defaults and not refuses_null:
        return None
    return _struct_defaulter(walks, defaults, refuses_null)


def _takes_null(schema: dict[str, Any]) -> bool:
    """Whether null may stay: said so, or nothing is said at all."""
    return bool(
        schema.get("nullable")
        or (not schema.get("type") and schema.get("x-kubernetes-preserve-unknown-fields"))
    )


def _list_defaulter(item: Default | None) -> Default | None:
    if item is None:
        return None

    def complete(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        result = value
        for index, old in enumerate(value):
            new = item(old)
            if new is not old:
                result = list(value) if result is value else result
                result[index] = new
        return result

    return complete


def _map_defaulter(entry: Default | None, schema: dict[str, Any]) -> Default | None:
    default = schema.get("default")
    refuses_null = not _takes_null(schema)

    def complete(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        result = value
        for key, old in value.items():
            new = old
            if old is None and refuses_null:
                result = dict(value) if result is value else result
                if default is None:
                    del result[key]
                    continue
                new = copy.deepcopy(default)
            if entry is not None:
                new = entry(new)
            if new is not old:
                result = dict(value) if result is value else result
                result[key] = new
        return result

    return complete


def _struct_defaulter(
    walks: dict[str, Default], defaults: dict[str, Any], refuses_null: frozenset[str]
) -> Default:
    def complete(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        result = value
        for key, old in value.items():
            if old is None and key in refuses_null:
                result = dict(value) if result is value else result
                del result[key]
        for key, default in defaults.items():
            if key not in result:
                result = dict(value) if result is value else result
                result[key] = copy.deepcopy(default)
        for key, walk in walks.items():
            if key in result:
                old = result[key]
                new = walk(old)
                if new is not old:
                    result = dict(value) if result is value else result
                    result[key] = new
        return result

    return complete
