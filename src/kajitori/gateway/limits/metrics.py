"""What became of requests at their limits, as Prometheus metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.core import Metric

    from kajitori.gateway.limits.engine import Engine


class LimitMetrics:
    """Register it beside an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterable[Metric]:
        """What a scrape gets."""
        from prometheus_client.core import (  # loaded only where somebody asks
            CounterMetricFamily,
            GaugeMetricFamily,
        )

        counts = self._engine.counts
        yield CounterMetricFamily(
            "kaji_limits_admitted", "Requests that their limits let pass.", value=counts.admitted
        )
        for name, text, found in (
            ("kaji_limits_refused", "Requests that a limit refused.", counts.refused),
            ("kaji_limits_shadowed", "Requests that a shadow limit would have refused.", counts.shadowed),
            (
                "kaji_limits_estimated",
                "Requests whose usage a limit counted by an estimate, since it was not reported.",
                counts.estimated,
            ),
        ):
            family = CounterMetricFamily(name, text, labels=("limit",))
            for limit, count in list(found.items()):
                family.add_metric((limit,), count)
            yield family
        without = CounterMetricFamily(
            "kaji_limits_without_store", "Requests while the store was lost.", labels=("verdict",)
        )
        without.add_metric(("passed",), counts.passed_without_store)
        without.add_metric(("refused",), counts.refused_without_store)
        yield without
        yield CounterMetricFamily(
            "kaji_limits_store_failures",
            "Questions that the store did not answer.",
            value=counts.store_failures,
        )
        yield CounterMetricFamily(
            "kaji_limits_unsettled", "Endings that were given up, the store being away.",
            value=counts.unsettled_dropped,
        )  # fmt: skip
        yield GaugeMetricFamily(
            "kaji_limits_pending", "Endings that wait for the store.", value=self._engine.pending
        )
