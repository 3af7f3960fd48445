"""The metrics of a process, from all who know something, as text for Prometheus.

The library that writes it takes 5 MiB: it is loaded when somebody asks for the first time, so those who collect load what they
make metrics of when they are asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric
    from prometheus_client.registry import Collector


class Collecting(Protocol):
    """Who knows something."""

    def collect(self) -> Iterable[Metric]:
        """What a scrape gets."""
        ...


class Scraping:
    """Register all before the first scrape."""

    def __init__(self) -> None:
        self._all: list[Collecting] = []
        self._registry: CollectorRegistry | None = None

    def register(self, collecting: Collecting) -> None:
        self._all.append(collecting)

    @property
    def registry(self) -> CollectorRegistry:
        """As the library has it."""
        from prometheus_client import CollectorRegistry

        if self._registry is None:
            self._registry = CollectorRegistry()
            for each in self._all:
                self._registry.register(cast("Collector", each))
        return self._registry

    def text(self) -> tuple[str, bytes]:
        """The type of the content, and the content."""
        from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

        return CONTENT_TYPE_LATEST, generate_latest(self.registry)
