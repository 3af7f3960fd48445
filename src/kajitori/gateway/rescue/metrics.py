"""What the relay has done, for a scrape."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.core import Metric


class RescueCounts(msgspec.Struct):
    """Since the process began. interrupted: streams that died; of these, continued ones went on."""

    streams: int = 0
    interrupted: int = 0
    continued: int = 0


class RescueMetrics:
    """Register it with a prometheus registry."""

    def __init__(self, counts: RescueCounts) -> None:
        self._counts = counts

    def collect(self) -> Iterable[Metric]:
        """What a scrape gets."""
        from prometheus_client.core import CounterMetricFamily  # loaded only where somebody asks

        for name, text, value in (
            ("streams", "Streams that were relayed.", self._counts.streams),
            ("interrupted", "Relayed streams that died half-way.", self._counts.interrupted),
            ("continued", "Times that another backend went on.", self._counts.continued),
        ):
            yield CounterMetricFamily(f"kaji_gateway_rescue_{name}", text, value)
