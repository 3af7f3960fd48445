"""BackendTrafficPolicy v1alpha1: how traffic goes on from the gateway to backends.

The struct has what is honoured. Objects may have more (their schema keeps unknown fields); what that is stands in
their status.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, field

from kajitori.api.crd import Int32, Quantity, rule
from kajitori.api.envoygateway.cluster_settings import ClusterSettings, Fraction
from kajitori.api.envoygateway.policy import (
    ROUTE_KINDS,
    MergeType,
    PolicyStatus,
    PolicyTargetRef,
    TargetSelector,
    merge_rule,
    policy_definition,
    target_rules,
)
from kajitori.api.envoygateway.rate_limit import RateLimitSpec
from kajitori.api.envoygateway.response_override import ResponseOverride
from kajitori.api.gateway.shared import Duration
from kajitori.api.kubernetes.meta_v1 import ObjectMeta

_Percentage = Annotated[float, Meta(ge=0, le=100)]


class FaultDelay(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Requests wait."""

    fixed_delay: Duration
    percentage: _Percentage = 100.0


class FaultAbort(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Requests fail."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "has(self.httpStatus) != has(self.grpcStatus)",
                "give exactly one of httpStatus and grpcStatus",
            )
        ]
    }
    http_status: Annotated[Int32, Meta(ge=200, le=600)] | None = None
    grpc_status: Annotated[Int32, Meta(ge=0, le=16)] | None = None
    percentage: _Percentage = 100.0


class FaultInjection(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Faults made on purpose."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [rule("has(self.delay) || has(self.abort)", "give delay or abort")]
    }
    delay: FaultDelay | None = None
    abort: FaultAbort | None = None


class Compression(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A way to compress answers for clients that take it."""

    type: Literal["Gzip", "Brotli", "Zstd"]
    brotli: dict[str, Any] | None = None
    gzip: dict[str, Any] | None = None
    zstd: dict[str, Any] | None = None


class Connect(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How CONNECT is served."""

    terminate: bool | None = None


class HTTPUpgrade(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A protocol that clients may change to, such as websocket."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule("!has(self.connect) || self.type == 'CONNECT'", "connect goes with type CONNECT only")
        ]
    }
    type: str
    connect: Connect | None = None


class RequestBuffer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Bodies are read whole before they go on; a larger one is answered with 413."""

    limit: Quantity


class SpanName(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Names of the spans on both sides."""

    client: str
    server: str


class RouteTracing(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Which requests are traced, and with which tags."""

    sampling_fraction: Fraction | None = None
    client_sampling_fraction: Fraction | None = None
    overall_sampling_fraction: Fraction | None = None
    tags: dict[str, str] = field(default_factory=dict)
    span_name: SpanName | None = None


class RouteMetrics(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Under which name a route is counted."""

    route_stat_name: str | None = None


class BackendTelemetry(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is told of requests."""

    tracing: RouteTracing | None = None
    metrics: RouteMetrics | None = None


class BackendTrafficPolicySpec(ClusterSettings, frozen=True, kw_only=True, rename="camel"):
    """Whom it is for, and what holds for their traffic."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            *target_rules("Gateway", "ListenerSet", *ROUTE_KINDS),
            merge_rule(*ROUTE_KINDS),
            rule(
                "!has(self.compression) || !has(self.compressor)", "give compressor or compression, not both"
            ),
            rule(
                "!has(self.requestBuffer) || !has(self.httpUpgrade) || self.httpUpgrade.size() == 0",
                "requestBuffer and httpUpgrade exclude each other",
            ),
        ]
    }
    # As in PolicyTargets: a struct has one base with fields.
    target_ref: PolicyTargetRef | None = None
    target_refs: list[PolicyTargetRef] = field(default_factory=list)
    target_selectors: list[TargetSelector] = field(default_factory=list)
    merge_type: MergeType | None = None
    rate_limit: RateLimitSpec | None = None
    fault_injection: FaultInjection | None = None
    use_client_protocol: bool | None = None
    compression: list[Compression] = field(default_factory=list)
    compressor: list[Compression] = field(default_factory=list)
    response_override: list[ResponseOverride] = field(default_factory=list)
    http_upgrade: list[HTTPUpgrade] = field(default_factory=list)
    request_buffer: RequestBuffer | None = None
    telemetry: BackendTelemetry | None = None
    routing_type: Literal["Service", "Endpoint"] | None = None


class BackendTrafficPolicy(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How traffic goes to backends."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: BackendTrafficPolicySpec
    status: PolicyStatus | None = None


DEFINITIONS = (policy_definition(BackendTrafficPolicy, "backendtrafficpolicies", "btp"),)
