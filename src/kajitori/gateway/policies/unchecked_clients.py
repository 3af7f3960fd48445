"""Routes behind a listener whose policy, or whose Gateway, asks clients for certificates, where another Gateway's policy holds
for the same port and host instead: Envoy asks for others there, or for none, so these routes are closed. Pure; a `Shaper`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kajitori.gateway.routes.protected_routes import protected_plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kajitori.gateway.policies.subjects import RouteKey
    from kajitori.gateway.routes.attachment import Place
    from kajitori.gateway.routes.protection import Protection
    from kajitori.gateway.routes.tables import Entry

ListenerKey = tuple[tuple[str, str], str]
"""Gateway and name of a listener."""


class UncheckedClients:
    """closed: what such listeners' routes answer."""

    def __init__(self, closed: Mapping[ListenerKey, Protection]) -> None:
        self._closed = closed

    def __bool__(self) -> bool:
        return bool(self._closed)

    def effect(self, route: RouteKey, rule: str, place: Place) -> Protection | None:
        """What holds for requests that come in by a listener."""
        return self._closed.get((place.gateway, place.listener))

    def shape(self, entry: Entry, effect: Protection) -> Entry:
        """A closed copy."""
        if entry.ai:
            return msgspec.structs.replace(entry, protection=effect)
        return protected_plain(entry, effect)

    def keep(self, entry: Entry) -> None:
        """Nothing is gathered of routes that are open."""

    def keeps_clusters(self, effect: Protection) -> bool:
        """Whether a copy may be taken again: others have shaped it before."""
        return False
