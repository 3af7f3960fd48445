"""Metrics of requests under the names of OpenTelemetry's conventions for generative AI, as Envoy AI Gateway has them.

Made for batches: an observation is an addition, no more. Names and labels have dots as in OTLP; Prometheus gets underscores.
Besides upstream's attributes every series has the backend's name, since several backends may be of one provider.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from kajitori.gateway.operations import TELEMETRY_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from prometheus_client.core import Metric

    from kajitori.gateway.accounting.records import RequestRecord

_TOKEN_BUCKETS = tuple(float(4**power) for power in range(14))
_DURATION_BUCKETS = tuple(0.01 * 2**power for power in range(14))
_FIRST_TOKEN_BUCKETS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 20.0,
    30.0, 45.0, 60.0,
)  # fmt: skip
_TOKEN_SECONDS_BUCKETS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
# A route by pattern lets clients choose the model's name, and so the number of series.
_MOST_SERIES = 5_000
_OTHER = "other"
_LABELS = (
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.original.model",
    "gen_ai.request.model",
    "gen_ai.response.model",
    "kajitori.backend",
)
_ERROR = "_OTHER"
_UNPLAIN = re.compile("[^A-Za-z0-9_]")


def prometheus_name(name: str) -> str:
    """A name or label as Prometheus takes it."""
    return _UNPLAIN.sub("_", name)


class Histogram:
    """One metric. unit: as OTLP names it. series: by labels, counts of each bucket (not added up) and the sum."""

    def __init__(
        self, name: str, text: str, unit: str, bounds: Sequence[float], more: Sequence[str] = ()
    ) -> None:
        self.name, self.text, self.unit, self.bounds = name, text, unit, tuple(bounds)
        self.labels = (*_LABELS, *more)
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
        names = [prometheus_name(label) for label in self.labels]
        family = HistogramMetricFamily(prometheus_name(self.name), self.text, labels=names)
        for labels, (counts, total) in list(self.series.items()):
            running, buckets = 0, list[tuple[str, float]]()
            for bound, count in zip((*self.bounds, float("inf")), counts, strict=True):
                running += count
                buckets.append(("+Inf" if bound == float("inf") else str(bound), running))
            family.add_metric(labels, buckets, total[0])
        return family


class GatewayMetrics(Collector):
    """Register it with a prometheus registry; `observe` what the ledger books. headers: of clients, by name, with the label in
    which the `gen_ai` ones have them.
    """

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        self._headers = tuple(headers or ())
        more = tuple((headers or {}).values())
        self._requests: dict[tuple[str, str, str, str], int] = {}
        self._duration = Histogram(
            "gen_ai.server.request.duration",
            "Seconds of a request.",
            "s",
            _DURATION_BUCKETS,
            (*more, "error.type"),
        )
        self._first_token = Histogram(
            "gen_ai.server.time_to_first_token",
            "Seconds to the first byte of a streamed answer.",
            "s",
            _FIRST_TOKEN_BUCKETS,
            more,
        )
        self._per_token = Histogram(
            "gen_ai.server.time_per_output_token",
            "Seconds for each output token after the first.",
            "s",
            _TOKEN_SECONDS_BUCKETS,
            more,
        )
        self._tokens = Histogram(
            "gen_ai.client.token.usage",
            "Tokens of a request.",
            "token",
            _TOKEN_BUCKETS,
            (*more, "gen_ai.token.type"),
        )
        self.histograms = (self._duration, self._first_token, self._per_token, self._tokens)

    def observe(self, records: Iterable[RequestRecord]) -> None:
        """Counts records in."""
        for record in records:
            key = (record.route, record.model if record.backend else "", record.backend, str(record.status))
            if key not in self._requests and len(self._requests) >= _MOST_SERIES:
                key = (_OTHER, _OTHER, _OTHER, _OTHER)
            self._requests[key] = self._requests.get(key, 0) + 1
            if record.backend:
                self._observe_model(record)

    def _observe_model(self, record: RequestRecord) -> None:
        operation = record.operation
        labels = (
            TELEMETRY_NAMES.get(operation, operation),
            record.provider,
            record.model,
            record.effective_model,
            record.response_model or record.effective_model,
            record.backend,
        )
        if self._headers:
            labels = (*labels, *(record.headers.get(name, "") for name in self._headers))
        failed = record.status >= 400 or record.outcome != "answered"
        self._duration.observe((*labels, _ERROR if failed else ""), record.duration_seconds)
        if record.stream and record.time_to_first_token_seconds is not None:
            self._first_token.observe(labels, record.time_to_first_token_seconds)
            if record.tokens_per_second:
                self._per_token.observe(labels, 1 / record.tokens_per_second)
        usage = record.usage
        if usage is None:
            return
        observe = self._tokens.observe
        observe((*labels, "input"), usage.input_tokens)
        observe((*labels, "output"), usage.output_tokens)
        if usage.cached_input_tokens:
            observe((*labels, "cached_input"), usage.cached_input_tokens)
        if usage.cache_creation_input_tokens:
            observe((*labels, "cache_creation_input"), usage.cache_creation_input_tokens)
        if usage.reasoning_tokens:
            observe((*labels, "reasoning"), usage.reasoning_tokens)

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
        for histogram in self.histograms:
            yield histogram.collect()
