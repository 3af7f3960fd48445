"""Writes statuses: only what differs, with the times that conditions need, leaving other controllers' parts."""

from __future__ import annotations

from typing import Any

import msgspec

from kajitori.gateway.conditions import StatusUpdate
from kajitori.gateway.observed import CONTROLLERS

# Lists with an entry for each controller, and the member that says of whom the entry speaks.
_BY_CONTROLLER = {"parents": "parentRef", "ancestors": "ancestorRef"}
# An API server takes no longer one of a condition, and with it nothing of the status.
_LONGEST_MESSAGE = 32_768


def complete_status(
    wanted: StatusUpdate, current: Any, now: str, controllers: tuple[str, ...] = CONTROLLERS
) -> dict[str, Any] | None:
    """The status to write, or None if the object already says so.

    current: the status struct of the object as observed, or None. now: RFC 3339, for conditions that change.
    controllers: whose entries in `parents` and `ancestors` are ours to write.
    """
    before: dict[str, Any] = _given(msgspec.to_builtins(current)) if current is not None else {}
    after = _complete(wanted.status, before, wanted.generation, now)
    for part in _BY_CONTROLLER.keys() & after.keys():
        # The settings of Envoys are said to hold without saying who says so.
        foreign = [
            entry
            for entry in before.get(part, ())
            if "controllerName" in entry and entry["controllerName"] not in controllers
        ]
        after[part] = foreign + after[part]
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
        elif key in _BY_CONTROLLER:
            old, member = before.get(key, ()), _BY_CONTROLLER[key]
            after[key] = [_complete(item, _same_entry(item, old, member), generation, now) for item in value]
        else:
            after[key] = value
    return after


def _same_entry(entry: dict[str, Any], known: Any, member: str) -> dict[str, Any]:
    for item in known:
        if item.get("controllerName") == entry.get("controllerName") and item[member] == entry[member]:
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
        message = item["message"]
        if len(message) > _LONGEST_MESSAGE:
            message = f"{message[: _LONGEST_MESSAGE - 3]}..."
        completed.append(
            {**item, "message": message, "observedGeneration": generation, "lastTransitionTime": time or now}
        )
    return completed
