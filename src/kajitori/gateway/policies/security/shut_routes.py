"""Which routes by model let nobody in because a SecurityPolicy cannot be honoured: their conditions must not say that they serve. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kajitori.gateway.policies.subjects import RouteKey
    from kajitori.gateway.routes.tables import Entry


class ShutRoutes:
    """Filled with entries as they serve, wherever they do."""

    def __init__(self) -> None:
        self._why: dict[RouteKey, dict[str, None]] = {}
        self._open: set[RouteKey] = set()

    def note(self, route: RouteKey, entry: Entry) -> None:
        """entry: of the route, as policies have shaped it."""
        if entry.protection is not None and entry.protection.broken:
            self._why.setdefault(route, {})[entry.protection.broken] = None
        else:
            self._open.add(route)

    def told(self, route: RouteKey) -> list[str]:
        """Why nobody gets in, everywhere or at some rules or listeners; empty where everything is open."""
        part = "some of its rules or listeners: " if route in self._open else ""
        return [f"{part}{why}" for why in self._why.get(route, ())]
