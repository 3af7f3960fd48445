"""What is exported, whereto and how: the standard `OTEL_*` variables, and the one of Envoy AI Gateway. Pure.

Sources: the OpenTelemetry specification (SDK environment variables, OTLP exporter); Envoy AI Gateway's documentation of tracing
for its default service name, for when exporting is on, and for `AI_GATEWAY_TRACING_SEMCONV`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal
from urllib.parse import unquote, urlsplit

import msgspec

from kajitori.base.errors import UsageError

Exporter = Literal["none", "otlp", "console"]
Protocol = Literal["http/protobuf", "grpc"]
Convention = Literal["openinference", "gen_ai"]
CONVENTION_VARIABLE = "AI_GATEWAY_TRACING_SEMCONV"
_SERVICE_NAME = "ai-gateway"
_PROTOCOLS = ("http/protobuf", "grpc")
_SAMPLERS = (
    "always_on", "always_off", "traceidratio",
    "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio",
)  # fmt: skip
_DEFAULT_ENDPOINTS = {"http/protobuf": "http://localhost:4318", "grpc": "http://localhost:4317"}
_PATHS = {"TRACES": "v1/traces", "METRICS": "v1/metrics"}


class Target(msgspec.Struct, frozen=True):
    """Where a signal goes. endpoint: the whole URL for HTTP, scheme and host for gRPC. certificate and the two others: files."""

    exporter: Exporter = "none"
    protocol: Protocol = "http/protobuf"
    endpoint: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    timeout_seconds: float = 10.0
    gzip: bool = False
    certificate: str = ""
    client_certificate: str = ""
    client_key: str = ""


class TelemetrySettings(msgspec.Struct, frozen=True):
    """resource: attributes of the process. ratio: of traces that are kept, where the sampler has one.

    delay_seconds, most_waiting, batch, give_up_seconds: of spans. interval_seconds: of metrics.
    """

    traces: Target
    metrics: Target
    resource: tuple[tuple[str, str], ...]
    convention: Convention = "openinference"
    sampler: str = "parentbased_always_on"
    ratio: float = 1.0
    delay_seconds: float = 5.0
    most_waiting: int = 2048
    batch: int = 512
    give_up_seconds: float = 30.0
    interval_seconds: float = 60.0


def read_settings(environment: Mapping[str, str]) -> TelemetrySettings | None:
    """None where nothing is to be exported. Raises UsageError that names the variable."""
    convention = environment.get(CONVENTION_VARIABLE) or "openinference"
    if convention not in ("openinference", "gen_ai"):
        raise UsageError(f"{CONVENTION_VARIABLE} is {convention!r}", hint="write openinference or gen_ai")
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    traces = _target(environment, "TRACES", ())
    metrics = _target(environment, "METRICS", ("prometheus",))
    if traces.exporter == metrics.exporter == "none":
        return None
    preference = environment.get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE") or "cumulative"
    if preference.lower() != "cumulative":
        raise UsageError(
            f"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE is {preference!r}",
            hint="metrics are exported as cumulative ones",
        )
    sampler = environment.get("OTEL_TRACES_SAMPLER") or "parentbased_always_on"
    if sampler not in _SAMPLERS:
        raise UsageError(f"OTEL_TRACES_SAMPLER is {sampler!r}", hint=f"there are {', '.join(_SAMPLERS)}")
    ratio = _number(environment, "OTEL_TRACES_SAMPLER_ARG", 1.0) if sampler.endswith("ratio") else 1.0
    if ratio > 1:
        raise UsageError(f"OTEL_TRACES_SAMPLER_ARG is {ratio}", hint="write a share from 0 to 1")
    return TelemetrySettings(
        traces,
        metrics,
        _resource(environment),
        convention,
        sampler,
        ratio,
        _number(environment, "OTEL_BSP_SCHEDULE_DELAY", 5000) / 1000,
        max(1, int(_number(environment, "OTEL_BSP_MAX_QUEUE_SIZE", 2048))),
        max(1, int(_number(environment, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512))),
        _number(environment, "OTEL_BSP_EXPORT_TIMEOUT", 30_000) / 1000,
        max(0.1, _number(environment, "OTEL_METRIC_EXPORT_INTERVAL", 60_000) / 1000),
    )


def _target(environment: Mapping[str, str], signal: str, idle: tuple[str, ...]) -> Target:
    """idle: exporters that mean that nothing is sent."""

    def told(name: str) -> str:
        own = environment.get(f"OTEL_EXPORTER_OTLP_{signal}_{name}", "")
        return own or environment.get(f"OTEL_EXPORTER_OTLP_{name}", "")

    variable = f"OTEL_{signal}_EXPORTER"
    exporter = environment.get(variable) or ("otlp" if told("ENDPOINT") else "none")
    if exporter in ("none", *idle):
        return Target()
    if exporter == "console":
        return Target("console")
    if exporter != "otlp":
        raise UsageError(
            f"{variable} is {exporter!r}", hint=f"there are {', '.join(('otlp', 'console', 'none', *idle))}"
        )
    protocol = told("PROTOCOL") or "http/protobuf"
    if protocol not in _PROTOCOLS:
        raise UsageError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r}", hint=f"there are {', '.join(_PROTOCOLS)}"
        )
    endpoint = _endpoint(environment, signal, protocol, insecure=told("INSECURE").lower() == "true")
    compression = told("COMPRESSION") or "none"
    if compression not in ("none", "gzip"):
        raise UsageError(f"OTEL_EXPORTER_OTLP_COMPRESSION is {compression!r}", hint="there are gzip and none")
    timeout = told("TIMEOUT") or "10000"
    return Target(
        "otlp",
        protocol,
        endpoint,
        tuple(_pairs(told("HEADERS"), "OTEL_EXPORTER_OTLP_HEADERS")),
        _number({"OTEL_EXPORTER_OTLP_TIMEOUT": timeout}, "OTEL_EXPORTER_OTLP_TIMEOUT", 0) / 1000,
        compression == "gzip",
        told("CERTIFICATE"),
        told("CLIENT_CERTIFICATE"),
        told("CLIENT_KEY"),
    )


def _endpoint(environment: Mapping[str, str], signal: str, protocol: str, *, insecure: bool) -> str:
    own = environment.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT", "")
    endpoint = own or environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", "") or _DEFAULT_ENDPOINTS[protocol]
    if protocol == "grpc":
        if "://" not in endpoint:
            endpoint = f"{'http' if insecure else 'https'}://{endpoint}"
    elif not own:
        endpoint = f"{endpoint.rstrip('/')}/{_PATHS[signal]}"
    if urlsplit(endpoint).scheme not in ("http", "https") or not urlsplit(endpoint).hostname:
        raise UsageError(
            f"OTEL_EXPORTER_OTLP_ENDPOINT: {endpoint!r} is no URL", hint="write http://HOST:4318"
        )
    return endpoint


def _resource(environment: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    found = {"service.name": _SERVICE_NAME}
    found |= dict(_pairs(environment.get("OTEL_RESOURCE_ATTRIBUTES", ""), "OTEL_RESOURCE_ATTRIBUTES"))
    if name := environment.get("OTEL_SERVICE_NAME"):
        found["service.name"] = name
    return tuple(found.items())


def _pairs(text: str, variable: str) -> list[tuple[str, str]]:
    """`key=value,key=value`, both percent-encoded. What is wrong is told without its value, which may be a secret."""
    found: list[tuple[str, str]] = []
    for part in filter(None, (item.strip() for item in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"{variable} has an item without a `=`", hint="write key=value,key=value")
        found.append((unquote(key.strip()), unquote(value.strip())))
    return found


def _number(environment: Mapping[str, str], variable: str, default: float) -> float:
    text = environment.get(variable) or str(default)
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e12:
        raise UsageError(f"{variable} is {text!r}", hint="write a number that is not negative")
    return number
