"""Metrics of the reading itself: what could not be read, what was not written, how far behind it is."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.core import Metric

    from kajitori.gateway.accounting.ledger import Ledger
    from kajitori.gateway.accounting.log_reader import LogReader
    from kajitori.gateway.accounting.record_store import RecordStore

_log = logging.getLogger(__name__)


class ReadingMetrics:
    """Collects from those who know."""

    def __init__(self, ledger: Ledger, store: RecordStore, reader: LogReader) -> None:
        self._ledger = ledger
        self._store = store
        self._reader = reader
        self._failed_writes = 0
        self._told = 0

    def note_failed_writes(self, count: int) -> None:
        """How often Envoy could not write, since it began. A restarted one begins at 0."""
        if count > self._told:
            _log.error(
                "Envoy could not write its access log %d times: the requests of those lines are in no record; free space "
                "on the disk of %s",
                count - self._told,
                self._reader.path,
            )
            self._failed_writes += count - self._told
        self._told = count

    def collect(self) -> Iterable[Metric]:
        """What a scrape gets."""
        from prometheus_client.core import (  # loaded only where somebody asks
            CounterMetricFamily,
            GaugeMetricFamily,
        )

        yield CounterMetricFamily(
            "kaji_gateway_log_lines_unreadable",
            "Lines of the access log that were skipped.",
            self._ledger.unreadable_lines,
        )
        yield CounterMetricFamily(
            "kaji_gateway_log_writes_failed",
            "Times that Envoy could not write its access log, as on a full disk.",
            self._failed_writes,
        )
        yield GaugeMetricFamily(
            "kaji_gateway_log_behind_bytes",
            "What Envoy has written and nobody has read.",
            self._reader.behind_bytes,
        )
        yield GaugeMetricFamily(
            "kaji_gateway_records_unwritten",
            "Requests that have ended and whose records are not on disk: in memory, or in the log alone.",
            self._store.backlog + self._reader.later_records,
        )
