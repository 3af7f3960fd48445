"""Spans and metrics as messages of OTLP. Loaded only where they are exported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2

from kajitori import __version__
from kajitori.gateway.accounting.metrics import GatewayMetrics, prometheus_name
from kajitori.gateway.telemetry.conventions import Value
from kajitori.gateway.telemetry.spans import Span

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_KINDS = {"INTERNAL": trace_pb2.Span.SPAN_KIND_INTERNAL, "CLIENT": trace_pb2.Span.SPAN_KIND_CLIENT}
_SAMPLED, _KNOWS_REMOTE, _IS_REMOTE = 0x1, 0x100, 0x200
_NANOSECONDS = 1_000_000_000
_CUMULATIVE = metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE
# Prometheus' name -> what it is called in OTLP, and its unit.
_HISTOGRAMS = {prometheus_name(each.name): each for each in GatewayMetrics().histograms}
_LABELS = {prometheus_name(label): label for each in _HISTOGRAMS.values() for label in each.labels}


def resource_of(attributes: Iterable[tuple[str, str]]) -> Resource:
    """Who tells it all."""
    own = {
        "telemetry.sdk.name": "kajitori",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": __version__,
    }
    return Resource(attributes=_key_values({**own, **dict(attributes)}))


def traces_message(resource: Resource) -> tuple[ExportTraceServiceRequest, trace_pb2.ScopeSpans]:
    """A request to export, and where its spans go."""
    message = ExportTraceServiceRequest()
    within = message.resource_spans.add()
    within.resource.CopyFrom(resource)
    scope = within.scope_spans.add()
    scope.scope.CopyFrom(_scope())
    return message, scope


def add_span(scope: trace_pb2.ScopeSpans, span: Span) -> None:
    """Adds one."""
    flags = _SAMPLED | (_KNOWS_REMOTE if span.parent else 0) | (_IS_REMOTE if span.remote else 0)
    code = trace_pb2.Status.STATUS_CODE_ERROR if span.error else trace_pb2.Status.STATUS_CODE_OK
    scope.spans.append(
        trace_pb2.Span(
            trace_id=span.trace_id,
            span_id=span.span_id,
            parent_span_id=span.parent,
            flags=flags,
            name=span.name,
            kind=_KINDS[span.kind],
            start_time_unix_nano=_nanoseconds(span.start),
            end_time_unix_nano=_nanoseconds(span.end),
            attributes=_key_values(span.attributes),
            events=[
                trace_pb2.Span.Event(
                    name=moment.name,
                    time_unix_nano=_nanoseconds(moment.time),
                    attributes=_key_values(moment.attributes),
                )
                for moment in span.moments
            ],
            status=trace_pb2.Status(code=code, message=span.error),
        )
    )


def refused_spans(answer: bytes) -> tuple[int, str] | None:
    """How many of a request's spans a collector did not take, and why; None if it took all."""
    try:
        told = ExportTraceServiceResponse.FromString(answer).partial_success
    except DecodeError:
        return None
    return (told.rejected_spans, told.error_message) if told.rejected_spans else None


def metrics_message(
    resource: Resource, families: Sequence[Metric], start: float, now: float, attributes: Iterable[str] = ()
) -> ExportMetricsServiceRequest:
    """All families of a registry. start: since when they count, in seconds since 1970. attributes: labels of ours besides."""
    names = _LABELS | {prometheus_name(each): each for each in attributes}
    message = ExportMetricsServiceRequest()
    within = message.resource_metrics.add()
    within.resource.CopyFrom(resource)
    scope = within.scope_metrics.add()
    scope.scope.CopyFrom(_scope())
    times = _nanoseconds(start), _nanoseconds(now)
    for family in families:
        known = _HISTOGRAMS.get(family.name)
        metric = metrics_pb2.Metric(
            name=known.name if known else family.name,
            description=family.documentation,
            unit=known.unit if known else family.unit,
        )
        if family.type == "histogram":
            _add_histograms(metric, family, times, names)
        elif family.type == "counter":
            metric.sum.aggregation_temporality = _CUMULATIVE
            metric.sum.is_monotonic = True
            metric.sum.data_points.extend(_numbers(family, times, "_total", names))
        else:
            metric.gauge.data_points.extend(_numbers(family, times, "", names))
        scope.metrics.append(metric)
    return message


def _scope() -> InstrumentationScope:
    return InstrumentationScope(name="kajitori.gateway", version=__version__)


def _numbers(
    family: Metric, times: tuple[int, int], suffix: str, names: Mapping[str, str]
) -> Iterable[metrics_pb2.NumberDataPoint]:
    for sample in family.samples:
        if sample.name == family.name + suffix:
            yield metrics_pb2.NumberDataPoint(
                attributes=_labels(sample.labels, names),
                start_time_unix_nano=times[0],
                time_unix_nano=times[1],
                as_double=float(sample.value),
            )


def _add_histograms(
    metric: metrics_pb2.Metric, family: Metric, times: tuple[int, int], names: Mapping[str, str]
) -> None:
    metric.histogram.aggregation_temporality = _CUMULATIVE
    series: dict[tuple[tuple[str, str], ...], metrics_pb2.HistogramDataPoint] = {}
    reached: dict[int, int] = {}
    for sample in family.samples:
        labels = {name: value for name, value in sample.labels.items() if name != "le"}
        key = tuple(labels.items())
        point = series.get(key)
        if point is None:
            point = series[key] = metric.histogram.data_points.add()
            point.start_time_unix_nano, point.time_unix_nano = times
            point.attributes.extend(_labels(labels, names))
        if sample.name.endswith("_bucket"):
            so_far = reached.get(id(point), 0)
            point.bucket_counts.append(int(sample.value) - so_far)
            reached[id(point)] = int(sample.value)
            if sample.labels["le"] != "+Inf":
                point.explicit_bounds.append(float(sample.labels["le"]))
        elif sample.name.endswith("_sum"):
            point.sum = sample.value
        elif sample.name.endswith("_count"):
            point.count = int(sample.value)


def _labels(labels: Mapping[str, str], names: Mapping[str, str]) -> list[KeyValue]:
    return _key_values({names.get(name, name): value for name, value in labels.items() if value})


def _key_values(attributes: Mapping[str, Value]) -> list[KeyValue]:
    return [KeyValue(key=name, value=_any(value)) for name, value in attributes.items()]


def _any(value: Value) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value) if -(2**63) <= value < 2**63 else AnyValue(double_value=float(value))
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(string_value=value)


def _nanoseconds(seconds: float) -> int:
    return max(0, round(seconds * _NANOSECONDS))
