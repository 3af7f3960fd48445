"""What differs between two specs, field by field, for people: `workerTemplate.containers[c].image: a:1 → a:2`. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

_LONGEST_VALUE = 60
_SHORTER = (("spec.leaderWorkerTemplate.", ""), ("spec.networkConfig.", ""), ("Template.spec.", "Template."))


class Change(msgspec.Struct, frozen=True):
    """One field. path: from the object's root, items of lists by their name where they have one. None: not there."""

    path: str
    before: Any = None
    after: Any = None

    @property
    def short_path(self) -> str:
        """Without what all templates have in common: `workerTemplate.containers[engine].image`."""
        path = self.path
        for part, shorter in _SHORTER:
            path = path.replace(part, shorter, 1)
        return path

    def __str__(self) -> str:
        return f"{self.short_path}: {_written(self.before)} → {_written(self.after)}"


def changes(before: Any, after: Any, path: str = "") -> list[Change]:
    """Every field that differs, but for those that are there with nothing in them."""
    return list(_changes(before, after, path))


def summary(found: Sequence[Change], most: int = 3) -> str:
    """A line of them; the first few in full, the rest as a number."""
    shown = [str(change) for change in found[:most]]
    if len(found) > most:
        shown.append(f"{len(found) - most} more")
    return "; ".join(shown)


def _changes(before: Any, after: Any, path: str) -> Iterator[Change]:
    if before == after or (_empty(before) and _empty(after)):
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            yield from _changes(before.get(key), after.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(before, list) and isinstance(after, list):
        yield from _list_changes(before, after, path)
    else:
        yield Change(path, before, after)


def _list_changes(before: list[Any], after: list[Any], path: str) -> Iterator[Change]:
    old, new = _by_name(before), _by_name(after)
    if old is None or new is None:
        if all(isinstance(item, str) for item in (*before, *after)) or len(before) != len(after):
            yield Change(path, before, after)
            return
        for index, pair in enumerate(zip(before, after, strict=True)):
            yield from _changes(*pair, f"{path}[{index}]")
        return
    for name in [*old, *(name for name in new if name not in old)]:
        yield from _changes(old.get(name), new.get(name), f"{path}[{name}]")
    if old.keys() == new.keys() and list(old) != list(new):
        yield Change(path, list(old), list(new))


def _by_name(items: list[Any]) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    for item in items:
        if not isinstance(item, dict) or not isinstance(item.get("name"), str) or item["name"] in found:
            return None
        found[item["name"]] = item
    return found


def _empty(value: Any) -> bool:
    return value in (None, {}, [])


def _written(value: Any) -> str:
    if value is None:
        return "(nothing)"
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"
