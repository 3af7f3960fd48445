"""How traffic goes to backends: balancing, retries, breakers, timeouts, connections.

Fields, defaults and rules follow envoyproxy/gateway, where several kinds have these in common.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, field

from kajitori.api.crd import Int32, Int64, exactly_when_type, extra, map_list, rule, rules
from kajitori.api.envoygateway.health_check import HealthCheck, HTTPStatus
from kajitori.api.gateway.shared import Duration

# A size such as `32Ki`; the pattern is upstream's.
Size = Annotated[
    int | str,
    extra(
        anyOf=[{"type": "integer"}, {"type": "string"}],
        x_kubernetes_int_or_string=True,
        pattern="^[1-9]+[0-9]*([EPTGMK]i|[EPTGMk])?$",
    ),
]
Count = Annotated[Int64, Meta(ge=0, le=4294967295)]
Trigger = Literal[
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
]


class Fraction(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A part of the whole."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule("self.numerator <= self.denominator", "numerator is not above denominator")
        ]
    }
    numerator: Annotated[Int32, Meta(ge=0)]
    denominator: Annotated[Int32, Meta(ge=1)] = 100


class Named(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A header, or a parameter of the query."""

    name: str


class Cookie(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A cookie; with a lifetime it is made for clients that have none."""

    name: str
    ttl: Duration | None = None
    attributes: dict[str, str] = field(default_factory=dict)


class ConsistentHash(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What of a request decides where it goes. tableSize: a prime number."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            exactly_when_type("Header", "header"),
            exactly_when_type("Headers", "headers"),
            exactly_when_type("Cookie", "cookie"),
            exactly_when_type("QueryParams", "queryParams"),
        ]
    }
    type: Literal["SourceIP", "Header", "Headers", "Cookie", "QueryParams"]
    header: Named | None = None
    headers: list[Named] = field(default_factory=list)
    cookie: Cookie | None = None
    query_params: list[Named] = field(default_factory=list)
    table_size: Annotated[Int64, Meta(ge=2, le=5000011)] = 65537


class SlowStart(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """For how long a new endpoint gets less than its share."""

    window: Duration


class OutOfBandReporting(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Each endpoint is asked for reports by gRPC (`xds.service.orca.v3.OpenRcaService`). port, authority: of who answers."""

    reporting_period: (
        Annotated[Duration, rules(rule("duration(self) > duration('0s')", "reportingPeriod must be above 0"))]
        | None
    ) = None
    port: Annotated[Int32, Meta(ge=1, le=65535)] | None = None
    authority: Annotated[str, Meta(min_length=1, max_length=259, pattern=r"^[^\x00\n\r]*$")] | None = None


class BackendUtilization(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Endpoints get traffic by the load that they report (ORCA), in headers of answers if not outOfBand.

    metricNamesForComputingUtilization: where a report has no application_utilization. keepResponseHeaders: clients get the
    reports, too.
    """

    blackout_period: Duration | None = None
    weight_expiration_period: Duration | None = None
    weight_update_period: Duration | None = None
    error_utilization_penalty_percent: Annotated[Int32, Meta(ge=0)] | None = None
    metric_names_for_computing_utilization: list[str] = field(default_factory=list)
    keep_response_headers: bool = False
    out_of_band: OutOfBandReporting | None = None


class ForceLocalZone(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """From how many endpoints on the zone of Envoy takes all of its traffic."""

    min_endpoints_in_zone_threshold: Count | None = None


class PreferLocalZone(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Traffic stays in the zone of Envoy where that holds enough endpoints."""

    force: ForceLocalZone | None = None
    min_endpoints_threshold: Annotated[Int64, Meta(ge=0)] | None = None
    percentage_enabled: Annotated[Int32, Meta(ge=0, le=100)] | None = None


class WeightedZone(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The share of a zone."""

    zone: str
    weight: Count


class ZoneAware(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How zones count."""

    prefer_local: PreferLocalZone | None = None
    weighted_zones: Annotated[list[WeightedZone], map_list("zone")] = field(default_factory=list)


class LoadBalancer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How an endpoint is chosen."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            exactly_when_type("ConsistentHash", "consistentHash"),
            exactly_when_type("BackendUtilization", "backendUtilization"),
            exactly_when_type("DynamicModule", "dynamicModule"),
            rule(
                "self.type in ['Random', 'ConsistentHash', 'DynamicModule'] ? !has(self.slowStart) : true",
                "slowStart goes with RoundRobin, LeastRequest and BackendUtilization only",
            ),
            rule(
                "self.type in ['ConsistentHash', 'BackendUtilization'] && has(self.zoneAware)"
                " ? !has(self.zoneAware.preferLocal) : true",
                "zoneAware.preferLocal does not go with ConsistentHash and BackendUtilization",
            ),
            rule(
                "has(self.zoneAware) ? !(has(self.zoneAware.preferLocal)"
                " && has(self.zoneAware.weightedZones)) : true",
                "give preferLocal or weightedZones, not both",
            ),
        ]
    }
    type: Literal[
        "ConsistentHash", "LeastRequest", "Random", "RoundRobin", "BackendUtilization", "DynamicModule"
    ]
    consistent_hash: ConsistentHash | None = None
    backend_utilization: BackendUtilization | None = None
    # Named as not honoured where it stands; the schema asks for it by type.
    dynamic_module: dict[str, Any] | None = None
    slow_start: SlowStart | None = None
    zone_aware: ZoneAware | None = None


class RetryOn(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What counts as failed."""

    triggers: list[Trigger] = field(default_factory=list)
    http_status_codes: list[HTTPStatus] = field(default_factory=list)


class BackOff(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How long to wait before another attempt, growing with each."""

    base_interval: Duration | None = None
    max_interval: Duration | None = None


class PerRetry(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What holds for each attempt."""

    timeout: Duration | None = None
    back_off: BackOff | None = None


class Retry(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Further attempts. numAttemptsPerPriority: after so many the next priority has its turn."""

    num_retries: Annotated[Int32, Meta(ge=0)] = 2
    num_attempts_per_priority: Int32 | None = None
    retry_on: RetryOn | None = None
    per_retry: PerRetry | None = None


class RetryBudget(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How much of the traffic retries may be."""

    percent: Fraction
    min_retry_concurrency: Count | None = None


class PerEndpointBreaker(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What holds for each endpoint."""

    max_connections: Count = 1024


class CircuitBreaker(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is beyond these is refused at once."""

    max_connections: Count = 1024
    max_pending_requests: Count = 1024
    max_parallel_requests: Count = 1024
    max_parallel_retries: Count = 1024
    max_requests_per_connection: Count | None = None
    per_endpoint: PerEndpointBreaker | None = None
    retry_budget: RetryBudget | None = None


class TCPTimeout(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Of connections to backends."""

    connect_timeout: Duration | None = None


class HTTPTimeout(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Of requests to backends and of the connections that carry them."""

    connection_idle_timeout: Duration | None = None
    max_connection_duration: Duration | None = None
    request_timeout: Duration | None = None
    max_stream_duration: Duration | None = None
    stream_idle_timeout: Duration | None = None


class Timeout(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """By layer."""

    tcp: TCPTimeout | None = None
    http: HTTPTimeout | None = None


class TCPKeepalive(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Probes on idle connections."""

    probes: Count | None = None
    idle_time: Duration | None = None
    interval: Duration | None = None


class Preconnect(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Connections that are made before they are needed, in percent of what is."""

    per_endpoint_percent: Annotated[Int32, Meta(ge=100, le=300)] | None = None
    predictive_percent: Annotated[Int32, Meta(ge=100)] | None = None


class BackendConnection(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Of connections to backends."""

    buffer_limit: Size | None = None
    preconnect: Preconnect | None = None


class DNS(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How names of backends are looked up."""

    dns_refresh_rate: Duration | None = None
    respect_dns_ttl: bool | None = None
    lookup_family: Literal["IPv4", "IPv6", "IPv4Preferred", "IPv6Preferred", "IPv4AndIPv6"] | None = None


class HTTP2Keepalive(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Pings."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "!has(self.timeout) || !has(self.interval) || duration(self.timeout) < duration(self.interval)",
                "timeout is less than interval",
            )
        ]
    }
    interval: Duration | None = None
    timeout: Duration | None = None
    interval_jitter: Annotated[Int32, Meta(ge=0, le=100)] | None = None
    idle_interval: Duration | None = None


class HTTP2Settings(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Windows, streams and keepalive of HTTP/2."""

    initial_stream_window_size: Size | None = None
    initial_connection_window_size: Size | None = None
    max_concurrent_streams: Annotated[Int64, Meta(ge=1, le=2147483647)] | None = None
    on_invalid_message: Literal["TerminateConnection", "TerminateStream"] | None = None
    connection_keepalive: HTTP2Keepalive | None = None


class ProxyProtocol(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The header with the client's address that connections begin with."""

    version: Literal["V1", "V2"]


class ClusterSettings(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The part of a policy that concerns backends."""

    load_balancer: LoadBalancer | None = None
    retry: Retry | None = None
    proxy_protocol: ProxyProtocol | None = None
    tcp_keepalive: TCPKeepalive | None = None
    health_check: HealthCheck | None = None
    circuit_breaker: CircuitBreaker | None = None
    timeout: Timeout | None = None
    connection: BackendConnection | None = None
    dns: DNS | None = None
    http2: HTTP2Settings | None = None
