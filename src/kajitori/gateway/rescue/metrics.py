"""What the relay has done, for a scrape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.core import Metric

    from kajitori.gateway.rescue.relay import Counts


class RescueMetrics(Collector):
    """Register it with a prometheus registry."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def collect(self) -> Iterable[Metric]:
        """What a scrape gets."""
        for name, text, value in (
            ("streams", "Streams that were relayed.", self._counts.streams),
            ("interrupted", "Relayed streams that died half-way.", self._counts.interrupted),
            ("continued", "Times that another backend went on.", self._counts.continued),
        ):
            yield CounterMetricFamily(f"kaji_gateway_rescue_{name}", text, value)
