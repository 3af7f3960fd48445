"""What a plan gathers while it goes: clusters, endpoints, secrets, and which backend a cluster stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.gateway.backends.targets import load_assignment

if TYPE_CHECKING:
    from collections.abc import Callable

    from kajitori.gateway.backends.targets import Target
    from kajitori.gateway.observed import Index


class World:
    """Filled by the translators of routes.

    backends: cluster -> (namespace/name of the AIServiceBackend, model override).
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self.clusters: dict[str, dict[str, Any]] = {}
        self.endpoints: dict[str, dict[str, Any]] = {}
        self.secrets: dict[str, dict[str, Any]] = {}
        self.backends: dict[str, tuple[str, str]] = {}

    def add_cluster(self, name: str, make: Callable[[], dict[str, Any]], target: Target) -> None:
        """Adds a cluster once, with the endpoints that it looks up."""
        if name in self.clusters:
            return
        self.clusters[name] = make()
        self.secrets |= {item.name: item.secret for item in target.secrets}
        if target.discovery == "EDS" and target.eds_name not in self.endpoints:
            self.endpoints[target.eds_name] = load_assignment(self._index, target)
