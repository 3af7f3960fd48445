"""`healthCheck` of backends: asked for by Envoy, and seen in traffic.

Fields, defaults and rules follow envoyproxy/gateway.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, field

from kajitori.api.crd import Int32, Int64, exactly_when_type, rule
from kajitori.api.gateway.shared import Duration

HTTPStatus = Annotated[int, Meta(ge=100, le=599)]
_Count = Annotated[Int64, Meta(ge=0, le=4294967295)]
_Percent = Annotated[Int32, Meta(ge=0, le=100)]
_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"


class Payload(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Text, or bytes in base64."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [exactly_when_type("Text", "text"), exactly_when_type("Binary", "binary")]
    }
    type: Literal["Text", "Binary"]
    text: str | None = None
    binary: str | None = None


class HTTPHealthCheck(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A request and the answers that are well. expectedStatuses: 200 if none is given."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "!has(self.requestBody) || (has(self.method) && self.method.upperAscii() in ['POST','PUT'])",
                "requestBody goes with method POST or PUT only",
            )
        ]
    }
    hostname: (
        Annotated[str, Meta(min_length=1, max_length=253, pattern=rf"^{_LABEL}(\.{_LABEL})*$")] | None
    ) = None
    path: Annotated[str, Meta(min_length=1, max_length=1024)]
    method: Annotated[str, Meta(max_length=16)] | None = None
    expected_statuses: list[HTTPStatus] = field(default_factory=list)
    retriable_statuses: list[HTTPStatus] = field(default_factory=list)
    expected_response: Payload | None = None
    request_body: Payload | None = None


class TCPHealthCheck(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is sent, and what must come back."""

    send: Payload | None = None
    receive: Payload | None = None


class GRPCHealthCheck(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The service that is asked for; the whole server if none is named."""

    service: str | None = None


class HealthCheckOverrides(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where to ask, if not where traffic goes."""

    port: Annotated[Int32, Meta(ge=1, le=65535)] | None = None


class ActiveHealthCheck(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Asks each endpoint again and again."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            exactly_when_type("HTTP", "http"),
            exactly_when_type("TCP", "tcp"),
            rule("has(self.grpc) ? self.type == 'GRPC' : true", "grpc goes with type GRPC only"),
        ]
    }
    timeout: Duration = "1s"
    interval: Duration = "3s"
    initial_jitter: Duration | None = None
    unhealthy_threshold: Annotated[Int64, Meta(ge=1, le=4294967295)] = 3
    healthy_threshold: Annotated[Int64, Meta(ge=1, le=4294967295)] = 1
    type: Literal["HTTP", "TCP", "GRPC"]
    http: HTTPHealthCheck | None = None
    tcp: TCPHealthCheck | None = None
    grpc: GRPCHealthCheck | None = None
    overrides: HealthCheckOverrides | None = None


class PassiveHealthCheck(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Takes endpoints out for a while after errors in traffic."""

    split_external_local_origin_errors: bool = False
    interval: Duration = "3s"
    consecutive_local_origin_failures: _Count = 5
    consecutive_gateway_errors: _Count | None = None
    consecutive_5xx_errors: _Count = field(default=5, name="consecutive5XxErrors")
    base_ejection_time: Duration = "30s"
    max_ejection_percent: _Percent = 10
    failure_percentage_threshold: _Percent | None = None
    always_eject_one_endpoint: bool = False


class HealthCheck(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """panicThreshold: with fewer percent of endpoints in health, all are used again."""

    active: ActiveHealthCheck | None = None
    passive: PassiveHealthCheck | None = None
    panic_threshold: _Percent | None = None
