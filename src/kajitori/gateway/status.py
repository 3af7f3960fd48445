"""Writes statuses: only what differs, with the times that conditions need, leaving other controllers' parts."""

from __future__ import annotations

from typing import Any

import msgspec

from kajitori.gateway.conditions import StatusUpdate
from kajitori.gateway.observed import CONTROLLERS


def complete_status(
    wanted: StatusUpdate, current: Any, now: str, controllers: tuple[str, ...] = CONTROLLERS
) -> dict[str, Any] | None:
    """The status to write, or None if the object already says so.

    current: the status struct of the object as observed, or None. now: RFC 3339, for conditions that change.
    controllers: whose entries in `parents` are ours to write.
    """
    before: dict[str, Any] = _given(msgspec.to_builtins(current)) if current is not None else {}
    after = _complete(wanted.status, before, wanted.generation, now)
    if "parents" in after:
        foreign = [
            parent for parent in before.get("parents", ()) if parent["controllerName"] not in controllers
        ]
        after["parents"] = foreign + after["parents"]
    changed = {key: value for key, value in after.items() if value != before.get(key, [])}
    return changed or None


def _given(value: Any) -> Any:
    """Without the members that structs have and objects lack."""
    if isinstance(value, dict):
        members: dict[str, Any] = value
        return {key: _given(item) for key, item in members.items() if item is not None}
    if isinstance(value, list):
        items: list[Any] = value
        return [_given(item) for item in items]
    return value


def _complete(wanted: dict[str, Any], before: dict[str, Any], generation: int, now: str) -> dict[str, Any]:
    after: dict[str, Any] = {}
    for key, value in wanted.items():
        if key == "conditions":
            after[key] = _conditions(value, before.get(key) or [], generation, now)
        elif key == "listeners":
            known = {item["name"]: item for item in before.get(key, ())}
            after[key] = [_complete(item, known.get(item["name"], {}), generation, now) for item in value]
        elif key == "parents":
            old = before.get(key, ())
            after[key] = [_complete(item, _same_parent(item, old), generation, now) for item in value]
        else:
            after[key] = value
    return after


def _same_parent(parent: dict[str, Any], known: Any) -> dict[str, Any]:
    for item in known:
        if item["controllerName"] != parent["controllerName"]:
            continue
        if item["parentRef"] == parent["parentRef"]:
            return item
    return {}


def _conditions(
    wanted: list[dict[str, Any]], before: list[dict[str, Any]], generation: int, now: str
) -> list[dict[str, Any]]:
    known = {item.get("type"): item for item in before}
    completed: list[dict[str, Any]] = []
    for item in wanted:
        old = known.get(item["type"])
        same = old is not None and old.get("status") == item["status"]
        time = old.get("lastTransitionTime") if old is not None and same else now
        completed.append({**item, "observedGeneration": generation, "lastTransitionTime": time or now})
    return completed
