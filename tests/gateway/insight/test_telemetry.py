"""Spans and metrics as a collector gets them: stand-ins decode what is sent, by HTTP and by gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncGenerator
from typing import Any

import grpc.aio
import msgspec
import pytest
from aiohttp import web
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from prometheus_client import CollectorRegistry

from kajitori.base.errors import UsageError
from kajitori.gateway.accounting.header_attributes import read_header_attributes
from kajitori.gateway.accounting.metrics import GatewayMetrics
from kajitori.gateway.accounting.records import Attempt, RequestRecord
from kajitori.gateway.telemetry.exporter import Exporter, open_exporter
from kajitori.gateway.telemetry.settings import read_settings
from kajitori.gateway.telemetry.spans import context_of, is_sampled, spans_of
from tests.gateway.insight.test_usage import record
from tests.gateway.workbench import free_port
from tests.waiting import eventually

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADERS = {"OTEL_AIGW_METRICS_REQUEST_HEADER_ATTRIBUTES": "x-team:team.name"}
QUICK = {"OTEL_BSP_SCHEDULE_DELAY": "10", "OTEL_METRIC_EXPORT_INTERVAL": "100"}


def asked(number: int = 1, **fields: object) -> RequestRecord:
    known: dict[str, object] = {
        "operation": "chat", "dialect": "openai", "provider": "azure.openai", "effective_model": "gpt-5",
        "response_model": "gpt-5-2026-01-01", "duration_seconds": 1.0, "headers": {"agent-session-id": "s1", "x-team": "red"},
        "attempts": [Attempt(1, "default/one", "one", "10.0.0.1:443", 200, "answered")],
    }  # fmt: skip
    return msgspec.structs.replace(record(number), **(known | fields))


class Collector:
    """Answers as a collector does, and decodes what it got."""

    def __init__(self) -> None:
        self.status = 200
        self.refuses = ""
        self.headers: dict[str, str] = {}
        self.spans: list[Any] = []
        self.resource: dict[str, Any] = {}
        self.metrics: dict[str, Any] = {}
        self.requests = 0

    async def traces(self, request: web.Request) -> web.Response:
        self.requests += 1
        if self.status != 200:
            return web.Response(status=self.status, headers={"retry-after": "0"})
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        body = await request.read()
        assert request.content_type == "application/x-protobuf"
        self.take(ExportTraceServiceRequest.FromString(body))
        answer = ExportTraceServiceResponse()
        if self.refuses:
            answer.partial_success.rejected_spans, answer.partial_success.error_message = 1, self.refuses
        return web.Response(body=answer.SerializeToString())

    async def take_metrics(self, request: web.Request) -> web.Response:
        message = MessageToDict(ExportMetricsServiceRequest.FromString(await request.read()))
        for metric in message["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]:
            self.metrics[metric["name"]] = metric
        return web.Response()

    def take(self, message: ExportTraceServiceRequest) -> None:
        (within,) = message.resource_spans
        self.resource = attributes_of(within.resource)
        self.spans += within.scope_spans[0].spans


def attributes_of(holder: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in holder.attributes}


@contextlib.asynccontextmanager
async def running_collector() -> AsyncGenerator[tuple[Collector, str]]:
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.traces)
    app.router.add_post("/v1/metrics", collector.take_metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield collector, f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def exporting(
    environment: dict[str, str], registry: CollectorRegistry | None = None
) -> AsyncGenerator[Exporter]:
    exporter = open_exporter({**QUICK, **environment}, "pod-1", read_header_attributes(HEADERS))
    assert exporter is not None
    task = asyncio.create_task(exporter.run(registry or CollectorRegistry()))
    try:
        yield exporter
    finally:
        task.cancel()
        await asyncio.wait([task])
        await exporter.close()


async def test_a_collector_gets_spans_and_metrics_by_http() -> None:
    metrics, registry = GatewayMetrics(read_header_attributes(HEADERS).metrics), CollectorRegistry()
    registry.register(metrics)
    metrics.observe([asked()])
    async with running_collector() as (collector, url):
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20x",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test",
        }
        async with exporting(environment, registry) as exporter:
            exporter.take(asked(traceparent=f"00-{TRACE}-{PARENT}-01"))
            exporter.take(record(2))  # of no operation
            await eventually(lambda: collector.spans and collector.metrics)
            await eventually(lambda: exporter.exported == 1)
    assert (collector.headers["authorization"], collector.headers["content-encoding"]) == ("Bearer x", "gzip")
    assert collector.resource["service.name"] == "ai-gateway"
    assert collector.resource["deployment.environment"] == "test"
    assert collector.resource["service.instance.id"] == "pod-1"
    (span,) = collector.spans
    assert (span.trace_id.hex(), span.parent_span_id.hex(), span.flags) == (TRACE, PARENT, 0x301)
    assert (span.name, span.kind) == ("ChatCompletion", 1)
    assert span.end_time_unix_nano - span.start_time_unix_nano == 1_000_000_000
    found = attributes_of(span)
    wanted = {
        "openinference.span.kind": "LLM", "llm.system": "openai", "llm.model_name": "gpt-5-2026-01-01",
        "llm.token_count.prompt": 10, "llm.token_count.completion": 5, "llm.token_count.total": 15,
        "llm.token_count.prompt_details.cache_read": 2, "llm.token_count.completion_details.reasoning": 1,
        "llm.cost.total": 0.000_001_5, "kajitori.backend": "default/one", "kajitori.tenant": "default/team",
        "kajitori.cost.sum": 15, "session.id": "s1", "http.response.status_code": 200,
    }  # fmt: skip
    assert wanted.items() <= found.items()
    usage = collector.metrics["gen_ai.client.token.usage"]
    assert usage["unit"] == "token" and len(usage["histogram"]["dataPoints"]) == 4
    point = usage["histogram"]["dataPoints"][0]
    labels = {each["key"]: each["value"]["stringValue"] for each in point["attributes"]}
    assert (labels["gen_ai.token.type"], labels["gen_ai.provider.name"]) == ("input", "azure.openai")
    assert labels["team.name"] == "red" and "session.id" not in labels
    assert (point["count"], point["sum"], point["explicitBounds"][:3]) == ("1", 10.0, [1.0, 4.0, 16.0])
    assert point["bucketCounts"] == ["0", "0", "1", *["0"] * 12]
    (requests,) = collector.metrics["kaji_gateway_requests"]["sum"]["dataPoints"]
    assert requests["asDouble"] == 1.0


async def test_a_collector_gets_spans_by_grpc() -> None:
    collector = Collector()
    metadata: dict[str, str] = {}

    async def export(request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:
        metadata.update(context.invocation_metadata())
        collector.take(request)
        return ExportTraceServiceResponse()

    handler = grpc.unary_unary_rpc_method_handler(
        export, ExportTraceServiceRequest.FromString, ExportTraceServiceResponse.SerializeToString
    )
    server = grpc.aio.server()
    name = "opentelemetry.proto.collector.trace.v1.TraceService"
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, {"Export": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_HEADERS": "X-Tenant=a",
        "OTEL_METRICS_EXPORTER": "none",
        "AI_GATEWAY_TRACING_SEMCONV": "gen_ai",
    }
    try:
        async with exporting(environment) as exporter:
            exporter.take(asked())
            await eventually(lambda: collector.spans)
    finally:
        await server.stop(None)
    (span,) = collector.spans
    assert (span.name, span.kind, metadata["x-tenant"]) == ("chat gpt-5", 3, "a")
    wanted = {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "azure.openai", "gen_ai.request.model": "gpt-5",
        "gen_ai.response.model": "gpt-5-2026-01-01", "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 5, "server.address": "10.0.0.1", "server.port": 443,
    }  # fmt: skip
    assert wanted.items() <= attributes_of(span).items()
    assert span.trace_id.hex() == asked().id.replace("-", "")


async def test_what_waits_is_bounded_and_what_is_dropped_is_counted() -> None:
    async with running_collector() as (collector, url):
        collector.status = 503
        environment = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{url}/v1/traces",
            "OTEL_BSP_MAX_QUEUE_SIZE": "20",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "5",
            "OTEL_BSP_EXPORT_TIMEOUT": "60000",
        }
        async with exporting(environment) as exporter:
            for number in range(100):
                exporter.take(asked(number))
            assert exporter.dropped == 80
            await eventually(lambda: collector.requests >= 3)  # it tries the same ones again
            collector.status = 200
            await eventually(lambda: exporter.exported == 20)
            assert len(collector.spans) == 20
            collector.status = 400  # which no second attempt mends
            exporter.take(asked())
            await eventually(lambda: exporter.dropped == 81)
            samples = {family.name: family.samples[0].value for family in exporter.collect()}
            assert samples["kaji_gateway_spans_dropped"] == 81
            collector.status = 200
            exporter.take(asked(500))
        assert len(collector.spans) == 21  # what waits at the end is sent


async def test_what_a_collector_refuses_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async with running_collector() as (collector, url):
        collector.refuses = "too many attributes"
        environment = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{url}/v1/traces"}
        async with exporting(environment) as exporter:
            exporter.take(asked())
            await eventually(lambda: "refused 1 spans: too many attributes" in caplog.text)


async def test_a_collector_that_is_away_holds_up_nothing() -> None:
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "OTEL_BSP_EXPORT_TIMEOUT": "0",
    }
    async with exporting(environment) as exporter:
        exporter.take(asked())
        await eventually(lambda: exporter.dropped == 1 and exporter.failed_metrics >= 1)


def test_attempts_are_spans_of_their_own_and_a_failure_is_one() -> None:
    attempts = [
        Attempt(1, "default/one", "one", "10.0.0.1:443", 429, "answered 429", "", 0.25, "7"),
        Attempt(2, "default/two", "two", "10.0.0.2:443", 503, "answered"),
    ]
    one = asked(attempts=attempts, status=503, sent_seconds=0.5, stream=True, time_to_first_token_seconds=0.6)
    whole, first, second = spans_of(one, context_of(one), "openinference")
    assert whole.error == "Error code: 503"
    assert [(moment.name, moment.time - one.time) for moment in whole.moments] == [
        ("First Token Stream Event", pytest.approx(0.6)),
        ("exception", pytest.approx(1.0)),
    ]
    assert whole.moments[1].attributes["exception.type"] == "InternalServerError"
    assert (first.name, first.parent, first.remote) == ("attempt 1 default/one", whole.span_id, False)
    times = [(each.start - one.time, each.end - one.time) for each in (first, second)]
    assert times == [pytest.approx((0.25, 0.5)), pytest.approx((0.5, 1.0))]
    assert first.attributes["http.response.header.retry-after"] == "7" and first.error == "answered 429"
    assert len({whole.span_id, first.span_id, second.span_id}) == 3


def test_a_leg_hangs_under_the_beginning_of_its_stream() -> None:
    first = asked(traceparent=f"00-{TRACE}-{PARENT}-01")
    second = msgspec.structs.replace(first, id=f"{first.id}~2")
    (begun,), (goes_on,) = (spans_of(leg, context_of(leg), "gen_ai") for leg in (first, second))
    assert (begun.trace_id, begun.parent.hex(), begun.remote) == (bytes.fromhex(TRACE), PARENT, True)
    assert (goes_on.trace_id, goes_on.parent, goes_on.remote) == (begun.trace_id, begun.span_id, False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        "\x1f",
    ],
)
def test_a_malformed_traceparent_begins_a_trace_of_its_own(text: str) -> None:
    assert context_of(asked(traceparent=text)).parent == b""


@pytest.mark.parametrize(
    ("sampler", "argument", "flag", "kept"),
    [
        ("", "", "00", False), ("", "", "01", True), ("", "", "", True),
        ("always_on", "", "00", True), ("always_off", "", "01", False), ("traceidratio", "0", "01", False),
        ("traceidratio", "1", "", True), ("parentbased_always_off", "", "", False),
        ("parentbased_traceidratio", "0", "01", True), ("parentbased_traceidratio", "0", "", False),
    ],
)  # fmt: skip
def test_the_sampler_decides_which_traces_are_kept(
    sampler: str, argument: str, flag: str, kept: bool
) -> None:
    settings = read_settings(
        {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument}
    )
    assert settings is not None
    parent = f"00-{TRACE}-{PARENT}-{flag}" if flag else ""
    assert is_sampled(settings, context_of(asked(traceparent=parent))) is kept


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AI_GATEWAY_TRACING_SEMCONV", "zipkin"),
        ("OTEL_TRACES_EXPORTER", "jaeger"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "br"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta"),
    ],
)
def test_a_variable_that_makes_no_sense_is_refused_at_the_start(variable: str, value: str) -> None:
    with pytest.raises(UsageError, match=variable) as refused:
        open_exporter({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", variable: value})
    assert "secret" not in str(refused.value)


def test_nothing_is_loaded_where_nothing_is_exported() -> None:
    program = (
        "import sys, kajitori.app.accountant\n"
        "from kajitori.gateway.telemetry.exporter import open_exporter\n"
        "assert open_exporter({}) is None\n"
        "assert open_exporter({'OTEL_SDK_DISABLED': 'true', 'OTEL_TRACES_EXPORTER': 'otlp'}) is None\n"
        "assert open_exporter({'OTEL_METRICS_EXPORTER': 'prometheus', 'OTEL_TRACES_EXPORTER': 'none'}) is None\n"
        "assert not any(name.startswith('opentelemetry') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


async def test_the_console_gets_json(capsys: pytest.CaptureFixture[str]) -> None:
    async with exporting({"OTEL_TRACES_EXPORTER": "console"}) as exporter:
        exporter.take(asked())
        await eventually(lambda: exporter.exported == 1)
    message = json.loads(capsys.readouterr().out)
    assert message["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["name"] == "ChatCompletion"


def test_headers_become_attributes_as_the_variables_of_aigw_say() -> None:
    plain = read_header_attributes({})
    assert (plain.spans, plain.metrics, plain.headers) == (
        {"agent-session-id": "session.id"},
        {},
        ("agent-session-id",),
    )
    base = "OTEL_AIGW_REQUEST_HEADER_ATTRIBUTES"
    told = read_header_attributes(
        {base: "X-Team:team.name, x-app:app", "OTEL_AIGW_SPAN_REQUEST_HEADER_ATTRIBUTES": ""}
    )
    assert told.spans == told.metrics == {"x-team": "team.name", "x-app": "app"}
    for wrong in (
        "x-team",
        "x-team:",
        ":a",
        "x team:a",
        "x-team:a,,",
        "x%:a",
        "x-team:a b",
        "authorization:a",
        "x-api-key:a",
    ):
        with pytest.raises(UsageError, match=base):
            read_header_attributes({base: wrong})
