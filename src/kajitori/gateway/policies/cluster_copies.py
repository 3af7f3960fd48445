"""Clusters as policies want them: copies under names of their own, and routes that lead to the copies. Pure.

The same settings give the same copy, so a thousand routes under one policy share the clusters of their backends.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from kajitori.gateway.world import World


class ClusterCopies:
    """The copies that were made so far."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._copied: set[str] = set()
        self._kept: list[dict[str, Any]] = []

    def redirect(
        self, route: dict[str, Any], mark: str, change: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> dict[str, Any]:
        """A route to copies of its clusters. mark: stands for what `change` does, and ends the copies' names."""
        names = {name: f"{name}~{mark}" for name in self._named(route)}
        clusters = self._world.clusters
        for name, copy in names.items():
            self._copied.add(name)
            if copy not in clusters:
                clusters[copy] = _renamed(change(clusters[name]), names)
                if name in self._world.backends:
                    self._world.backends[copy] = self._world.backends[name]
        renamed: dict[str, Any] = _renamed(route, names)
        return renamed

    def keep(self, route: dict[str, Any]) -> None:
        """Tells that a route leads to clusters as they are."""
        self._kept.append(route)

    def drop_originals(self) -> None:
        """Takes the clusters away to which no route leads any more."""
        if not self._copied:
            return
        # Looked through only now, since most plans copy nothing.
        kept: set[str] = set()
        for route in self._kept:
            kept |= self._named(route)
        for name in self._copied - kept:
            self._world.clusters.pop(name, None)
            self._world.backends.pop(name, None)

    def _named(self, route: dict[str, Any]) -> set[str]:
        found: set[str] = set()
        _strings(route.get("route", {}), found)
        return found & self._world.clusters.keys()


def _strings(value: Any, found: set[str]) -> None:
    if isinstance(value, str):
        found.add(value)
    elif isinstance(value, dict):
        members: dict[str, Any] = value
        for member in members.values():
            _strings(member, found)
    elif isinstance(value, list):
        items: list[Any] = value
        for item in items:
            _strings(item, found)


def _renamed(value: Any, names: dict[str, str]) -> Any:
    """Everything that is exactly one of the names is exchanged."""
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, dict):
        members: dict[str, Any] = value
        made = {key: _renamed(member, names) for key, member in members.items()}
        if "order_table" in made and made != members:
            # The script keeps tables by this mark, and this one is another now. See resilience/order.py.
            made["order"] = hash_of(made["order_table"])
        return made
    if isinstance(value, list):
        items: list[Any] = value
        return [_renamed(item, names) for item in items]
    return value


def hash_of(value: Any) -> str:
    """A short mark of a value in JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
