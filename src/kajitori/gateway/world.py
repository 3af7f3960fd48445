"""What translating routes leaves behind besides routes: clusters, their endpoints and secrets, and which backend each stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.gateway.backends.targets import load_assignment
from kajitori.gateway.resilience.spare import is_spare, spare_name, with_spare

if TYPE_CHECKING:
    from collections.abc import Callable

    from kajitori.gateway.backends.targets import Target
    from kajitori.gateway.observed import Index


class World:
    """Filled by the translators of routes.

    backends: cluster -> (namespace/name of the AIServiceBackend, model override).
    """

    def __init__(self, index: Index) -> None:
        self._index: Index | None = index
        self.clusters: dict[str, dict[str, Any]] = {}
        self.endpoints: dict[str, dict[str, Any]] = {}
        self.secrets: dict[str, dict[str, Any]] = {}
        self.backends: dict[str, tuple[str, str]] = {}

    def is_lost(self, target: Target) -> bool:
        """Whether a target that was added is a Service without a ready endpoint."""
        if target.discovery != "EDS":
            return False
        names = (target.eds_name, spare_name(target.eds_name))
        found = [self.endpoints[name] for name in names if name in self.endpoints]
        return bool(found) and not found[0]["endpoints"][0]["lb_endpoints"]

    def add_cluster(self, name: str, make: Callable[[], dict[str, Any]], target: Target) -> None:
        """Adds a cluster once, with the endpoints that it looks up."""
        if name in self.clusters:
            return
        self.clusters[name] = make()
        self.secrets |= {item.name: item.secret for item in target.secrets}
        if target.discovery == "EDS":
            wanted = self.clusters[name]["eds_cluster_config"]["service_name"]
            if wanted not in self.endpoints:
                assert self._index is not None
                found = {**load_assignment(self._index, target), "cluster_name": wanted}
                self.endpoints[wanted] = with_spare(found) if is_spare(wanted) else found

    def finish(self) -> World:
        """Takes in no more, so that what is kept of it does not keep all objects of its time."""
        self._index = None
        return self

    def add(self, other: World) -> None:
        """Adds what another one has. What has the same name is the same."""
        self.clusters |= other.clusters
        self.endpoints |= other.endpoints
        self.secrets |= other.secrets
        self.backends |= other.backends
