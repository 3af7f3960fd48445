"""Metrics of requests, under upstream's names, made for batches: an observation is an addition, no more."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client.core import Metric

    from kajitori.gateway.accounting.records import RequestRecord

_TOKEN_BUCKETS = tuple(float(4**power) for power in range(14))
_DURATION_BUCKETS = tuple(0.01 * 2**power for power in range(14))
_FIRST_TOKEN_BUCKETS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0,
)  # fmt: skip
_TOKEN_SECONDS_BUCKETS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
# A route by pattern lets clients choose the model's name, and so the number of series.
_MOST_SERIES = 5_000
_OTHER = "other"
_MODEL_LABELS = ("gen_ai_request_model", "gen_ai_provider_name")


class _Histogram:
    def __init__(self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        self.name, self.text, self.labels, self.bounds = name, text, labels, bounds
        self.series: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}

    def observe(self, labels: tuple[str, ...], value: float) -> None:
        found = self.series.get(labels)
        if found is None:
            if len(self.series) >= _MOST_SERIES:
                labels = (_OTHER,) * len(labels)
            found = self.series.setdefault(labels, ([0] * (len(self.bounds) + 1), [0.0]))
        found[0][bisect_left(self.bounds, value)] += 1
        found[1][0] += value

    def collect(self) -> Metric:
        family = HistogramMetricFamily(self.name, self.text, labels=self.labels)
        for labels, (counts, total) in list(self.series.items()):
            running, buckets = 0, list[tuple[str, float]]()
            for bound, count in zip((*self.bounds, float("inf")), counts, strict=True):
                running += count
                buckets.append(("+Inf" if bound == float("inf") else str(bound), running))
            family.add_metric(labels, buckets, total[0])
        return family


class GatewayMetrics(Collector):
    """Register it with a prometheus registry; `observe` what the ledger books."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, str, str, str], int] = {}
        self._duration = _Histogram(
            "gen_ai_server_request_duration", "Seconds of a request.", _MODEL_LABELS, _DURATION_BUCKETS
        )
        self._first_token = _Histogram(
            "gen_ai_server_time_to_first_token",
            "Seconds to the first byte of a streamed answer.",
            _MODEL_LABELS,
            _FIRST_TOKEN_BUCKETS,
        )
        self._per_token = _Histogram(
            "gen_ai_server_time_per_output_token",
            "Seconds for each output token after the first.",
            _MODEL_LABELS,
            _TOKEN_SECONDS_BUCKETS,
        )
        self._tokens = _Histogram(
            "gen_ai_client_token_usage",
            "Tokens of a request.",
            (*_MODEL_LABELS, "gen_ai_token_type"),
            _TOKEN_BUCKETS,
        )

    def observe(self, records: Iterable[RequestRecord]) -> None:
        """Counts records in."""
        for record in records:
            key = (record.route, record.model if record.backend else "", record.backend, str(record.status))
            if key not in self._requests and len(self._requests) >= _MOST_SERIES:
                key = (_OTHER, _OTHER, _OTHER, _OTHER)
            self._requests[key] = self._requests.get(key, 0) + 1
            if not record.backend:
                continue
            labels = (record.model, record.backend)
            self._duration.observe(labels, record.duration_seconds)
            if record.stream and record.time_to_first_token_seconds is not None:
                self._first_token.observe(labels, record.time_to_first_token_seconds)
                if record.tokens_per_second:
                    self._per_token.observe(labels, 1 / record.tokens_per_second)
            if record.usage is not None:
                self._tokens.observe((*labels, "input"), record.usage.input_tokens)
                self._tokens.observe((*labels, "output"), record.usage.output_tokens)
                if record.usage.cached_input_tokens:
                    self._tokens.observe((*labels, "cached_input"), record.usage.cached_input_tokens)
                if record.usage.reasoning_tokens:
                    self._tokens.observe((*labels, "reasoning"), record.usage.reasoning_tokens)

    def collect(self) -> Iterable[Metric]:
        """What a scrape gets."""
        requests = CounterMetricFamily(
            "kaji_gateway_requests",
            "Requests by what answered.",
            labels=("route", "model", "backend", "code"),
        )
        for labels, count in list(self._requests.items()):
            requests.add_metric(labels, count)
        yield requests
        for histogram in (self._duration, self._first_token, self._per_token, self._tokens):
            yield histogram.collect()
