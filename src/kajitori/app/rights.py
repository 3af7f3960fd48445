"""The rights of each process: the union of what the rooms that run in it say they need, and nothing else.

Written to `run/component-roles.json`, from which the embedded API server makes a ClusterRole for each user.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

ROOMS = {
    "system:kajitori:controllers": (
        "kajitori.laptop.controllers.rbac",
        "kajitori.laptop.scheduler.rbac",
        "kajitori.groups.rbac",
        "kajitori.scheduling.rbac",
    ),
    "system:kajitori:gateway": ("kajitori.gateway.rbac", "kajitori.laptop.services_rbac"),
}


def component_rules() -> dict[str, list[dict[str, Any]]]:
    """For each user of ours the policy rules that its rooms list."""
    return {
        user: [rule for room in rooms for rule in _rules(import_module(room))]
        for user, rooms in ROOMS.items()
    }


def _rules(room: Any) -> list[dict[str, Any]]:
    """What the room needs on any cluster, and on our own API server."""
    return [*room.RULES, *getattr(room, "LAPTOP_RULES", ())]


def write_component_rules(home: Path) -> None:
    scratch = home / "run" / "component-roles.json.new"
    scratch.write_text(json.dumps(component_rules(), indent=1))
    scratch.replace(home / "run" / "component-roles.json")
