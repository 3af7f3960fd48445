"""Pruning: fields that the schema does not specify are dropped and named.

Not below `x-kubernetes-preserve-unknown-fields`, where they are kept while specified ones are still pruned
inside. Nothing is changed in place: what is dropped leaves a copy of the maps on the way to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kajitori.laptop.apiserver.crd.paths import Path, spelled
from kajitori.laptop.apiserver.kinds.kind import UnknownField

_RESOURCE_FIELDS: Final = ("apiVersion", "kind", "metadata")
Prune = Callable[[Any, Path, list[UnknownField]], Any]


def compile_pruner(schema: dict[str, Any], *, root: bool = False) -> Prune | None:
    """The walk that prunes a value of this schema; None: nothing below it can be unknown."""
    if isinstance(schema.get("items"), dict):
        return _list_pruner(compile_pruner(schema["items"]))
    properties: dict[str, Any] = schema.get("properties") or {}
    additional = schema.get("additionalProperties")
    is_map = schema.get("type") == "object" or bool(properties)
    if additional is not None and additional is not False:
        return (
            _map_pruner(compile_pruner(additional)) if isinstance(additional, dict) and additional else None
        )
    if not is_map:
        return None
    known: dict[str, Prune | None] = {name: compile_pruner(child) for name, child in properties.items()}
    if root or schema.get("x-kubernetes-embedded-resource"):
        known |= dict.fromkeys(_RESOURCE_FIELDS)  # metadata has a walk of its own
    preserve = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    if preserve and not any(known.values()):
        return None
    return _struct_pruner(known, preserve=preserve)


def _list_pruner(item: Prune | None) -> Prune | None:
    if item is None:
        return None

    def prune(value: Any, path: Path, problems: list[UnknownField]) -> Any:
        if not isinstance(value, list):
            return value
        result = value
        for index, old in enumerate(value):
            new = item(old, (path, index), problems)
            if new is not old:
                result = list(value) if result is value else result
                result[index] = new
        return result

    return prune


def _map_pruner(entry: Prune | None) -> Prune | None:
    if entry is None:
        return None

    def prune(value: Any, path: Path, problems: list[UnknownField]) -> Any:
        if not isinstance(value, dict):
            return value
        result = value
        for key, old in value.items():
            new = entry(old, (path, key), problems)
            if new is not old:
                result = dict(value) if result is value else result
                result[key] = new
        return result

    return prune


def _struct_pruner(known: dict[str, Prune | None], *, preserve: bool) -> Prune:
    names = tuple(known)

    def prune(value: Any, path: Path, problems: list[UnknownField]) -> Any:
        if not isinstance(value, dict):
            return value
        result = value
        for key, old in value.items():
            if key not in known:
                if preserve:
                    continue
                problems.append(UnknownField(spelled((path, key)), names))
                result = dict(value) if result is value else result
                del result[key]
                continue
            child = known[key]
            if child is None:
                continue
            new = child(old, (path, key), problems)
            if new is not old:
                result = dict(value) if result is value else result
                result[key] = new
        return result

    return prune
