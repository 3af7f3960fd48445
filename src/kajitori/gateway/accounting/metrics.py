"""Metrics of requests under the names of OpenTelemetry's conventions for generative AI, as Envoy AI Gateway has them.

Made for batches: an observation is an addition, no more. Names and labels have dots as in OTLP; Prometheus gets underscores.
Besides upstream's attributes every series has the backend's name, since several backends may be of one provider.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import TYPE_CHECKING

from kajitori.gateway.accounting.flags import CLIENT_LEFT, WAS_OVERTAKEN
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


class Series:
    """Observations under the same labels. counts: of each bucket, not added up. total: the sum of the values."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Histogram:
    """One metric. unit: as OTLP names it. series: by labels."""

    def __init__(
        self, name: str, text: str, unit: str, bounds: Sequence[float], more: Sequence[str] = ()
    ) -> None:
        self.name, self.text, self.unit, self.bounds = name, text, unit, tuple(bounds)
        self.labels = (*_LABELS, *more)
        self.series: dict[tuple[str, ...], Series] = {}

    def find(self, labels: tuple[str, ...]) -> Series:
        """The series of these labels, or where there are too many that of all others."""
        found = self.series.get(labels)
        if found is None:
            if len(self.series) >= _MOST_SERIES:
                labels = (_OTHER,) * len(labels)
            found = self.series.setdefault(labels, Series(self.bounds))
        return found

    def collect(self) -> Metric:
        from prometheus_client.core import HistogramMetricFamily

        names = [prometheus_name(label) for label in self.labels]
        family = HistogramMetricFamily(prometheus_name(self.name), self.text, labels=names)
        for labels, series in list(self.series.items()):
            running, buckets = 0, list[tuple[str, float]]()
            for bound, count in zip((*self.bounds, float("inf")), series.counts, strict=True):
                running += count
                buckets.append(("+Inf" if bound == float("inf") else str(bound), running))
            family.add_metric(labels, buckets, series.total)
        return family


class _Count:
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class _Kind:
    """Where requests are counted that are alike in all labels; what they have to be looked up for is looked up once.

    labels: None of a request that no backend answered, which is counted and no more. cut: where streams are counted that were
    not whole, if these are such.
    """

    __slots__ = (
        "_cut",
        "_duration",
        "_first_token",
        "_input",
        "_labels",
        "_metrics",
        "_output",
        "_per_token",
        "requests",
    )

    def __init__(
        self,
        metrics: GatewayMetrics,
        requests: _Count,
        labels: tuple[str, ...] | None,
        error: str,
        cut: _Count | None = None,
    ) -> None:
        self.requests = requests
        self._cut = cut
        self._metrics = metrics
        self._labels = labels
        self._duration = metrics.duration.find((*labels, error)) if labels is not None else None
        self._first_token = self._per_token = self._input = self._output = None

    def observe(self, record: RequestRecord) -> None:
        self.requests.value += 1
        if self._duration is None:
            return
        if self._cut is not None:
            self._cut.value += 1
        self._duration.observe(record.duration_seconds)
        if record.stream and record.time_to_first_token_seconds is not None:
            self._observe_stream(record.time_to_first_token_seconds, record.tokens_per_second)
        usage = record.usage
        if usage is None:
            return
        if self._input is None or self._output is None:
            self._input, self._output = self._tokens("input"), self._tokens("output")
        self._input.observe(usage.input_tokens)
        self._output.observe(usage.output_tokens)
        if usage.cached_input_tokens:
            self._tokens("cached_input").observe(usage.cached_input_tokens)
        if usage.cache_creation_input_tokens:
            self._tokens("cache_creation_input").observe(usage.cache_creation_input_tokens)
        if usage.reasoning_tokens:
            self._tokens("reasoning").observe(usage.reasoning_tokens)

    def _observe_stream(self, first_token: float, per_second: float | None) -> None:
        if self._first_token is None:
            self._first_token = self._metrics.first_token.find(self._labels or ())
        self._first_token.observe(first_token)
        if per_second:
            if self._per_token is None:
                self._per_token = self._metrics.per_token.find(self._labels or ())
            self._per_token.observe(1 / per_second)

    def _tokens(self, kind: str) -> Series:
        return self._metrics.tokens.find((*(self._labels or ()), kind))


class GatewayMetrics:
    """Register it with a prometheus registry; `observe` what the ledger books. headers: of clients, by name, with the label in
    which the `gen_ai` ones have them.
    """

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        self._headers = tuple(headers or ())
        more = tuple((headers or {}).values())
        self._requests: dict[tuple[str, str, str, str], _Count] = {}
        self._cut: dict[tuple[str, ...], _Count] = {}
        self._kinds: dict[tuple[str | int | bool, ...], _Kind] = {}
        self.duration = Histogram(
            "gen_ai.server.request.duration",
            "Seconds of a request.",
            "s",
            _DURATION_BUCKETS,
            (*more, "error.type"),
        )
        self.first_token = Histogram(
            "gen_ai.server.time_to_first_token",
            "Seconds to the first byte of a streamed answer.",
            "s",
            _FIRST_TOKEN_BUCKETS,
            more,
        )
        self.per_token = Histogram(
            "gen_ai.server.time_per_output_token",
            "Seconds for each output token after the first.",
            "s",
            _TOKEN_SECONDS_BUCKETS,
            more,
        )
        self.tokens = Histogram(
            "gen_ai.client.token.usage",
            "Tokens of a request.",
            "token",
            _TOKEN_BUCKETS,
            (*more, "gen_ai.token.type"),
        )
        self.histograms = (self.duration, self.first_token, self.per_token, self.tokens)

    def observe(self, records: Iterable[RequestRecord]) -> None:
        """Counts records in."""
        kinds, headers = self._kinds, self._headers
        for record in records:
            key = (
                record.route, record.model, record.backend, record.status, record.outcome, record.stream,
                record.operation, record.provider, record.effective_model, record.response_model,
            )  # fmt: skip
            if headers:
                key = (*key, *(record.headers.get(name, "") for name in headers))
            kind = kinds.get(key)
            if kind is None:
                if len(kinds) >= _MOST_SERIES:
                    kinds.clear()
                kind = kinds[key] = self._kind(record)
            kind.observe(record)

    def _kind(self, record: RequestRecord) -> _Kind:
        key = (record.route, record.model if record.backend else "", record.backend, str(record.status))
        if key not in self._requests and len(self._requests) >= _MOST_SERIES:
            key = (_OTHER, _OTHER, _OTHER, _OTHER)
        requests = self._requests.setdefault(key, _Count())
        if not record.backend:
            return _Kind(self, requests, None, "")
        operation = record.operation
        labels = (
            TELEMETRY_NAMES.get(operation, operation),
            record.provider,
            record.model,
            record.effective_model,
            record.response_model or record.effective_model,
            record.backend,
            *(record.headers.get(name, "") for name in self._headers),
        )
        failed = record.status >= 400 or record.outcome not in ("answered", WAS_OVERTAKEN)
        return _Kind(self, requests, labels, _ERROR if failed else "", self._cut_count(record))

    def _cut_count(self, record: RequestRecord) -> _Count | None:
        """Where a stream is counted that began and was not whole, unless its client did not want more of it."""
        if (
            not record.stream
            or record.status != 200
            or record.outcome in ("answered", CLIENT_LEFT, WAS_OVERTAKEN)
        ):
            return None
        key = (record.route, record.model, record.backend, record.outcome)
        if key not in self._cut and len(self._cut) >= _MOST_SERIES:
            key = (_OTHER,) * 4
        return self._cut.setdefault(key, _Count())

    def collect(self) -> Iterable[Metric]:
        """What a scrape gets."""
        from prometheus_client.core import CounterMetricFamily  # loaded only where somebody asks

        requests = CounterMetricFamily(
            "kaji_gateway_requests",
            "Requests by what answered.",
            labels=("route", "model", "backend", "code"),
        )
        for labels, count in list(self._requests.items()):
            requests.add_metric(labels, count.value)
        yield requests
        cut = CounterMetricFamily(
            "kaji_gateway_streams_cut",
            "Streams of backends that began and were not whole, by how they ended.",
            labels=("route", "model", "backend", "outcome"),
        )
        for labels, count in list(self._cut.items()):
            cut.add_metric(labels, count.value)
        yield cut
        for histogram in self.histograms:
            yield histogram.collect()
