"""What a policy says of backends, put into a cluster of Envoy. Pure.

A cluster is made for its backend first; a policy's settings then give a changed copy of it. Fields become what Envoy
Gateway makes of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.api.envoygateway.cluster_settings import BackendUtilization
from kajitori.base.duration import parse_duration_seconds, protobuf_duration
from kajitori.base.quantity import parse_quantity
from kajitori.gateway.backends.clusters import HTTP_OPTIONS
from kajitori.gateway.policies.health_checks import active_check, outlier_detection
from kajitori.gateway.resources import TYPE

if TYPE_CHECKING:
    from kajitori.api.envoygateway.cluster_settings import (
        DNS,
        BackendConnection,
        CircuitBreaker,
        ClusterSettings,
        HTTP2Settings,
        HTTPTimeout,
        LoadBalancer,
        TCPKeepalive,
    )
    from kajitori.api.envoygateway.health_check import HealthCheck

_LOOKUP = {
    "IPv4": "V4_ONLY",
    "IPv6": "V6_ONLY",
    "IPv4Preferred": "V4_PREFERRED",
    "IPv6Preferred": "AUTO",
    "IPv4AndIPv6": "ALL",
}
_CLUSTER_FIELDS = (
    "load_balancer",
    "proxy_protocol",
    "tcp_keepalive",
    "health_check",
    "circuit_breaker",
    "connection",
    "dns",
    "http2",
)
# Bodies of this size and longer fit no field of Envoy.
_LARGEST = 2**32 - 1


def size_bytes(text: int | str) -> int:
    """Bytes, at most what Envoy's fields hold."""
    return min(int(parse_quantity(text)), _LARGEST)


def cluster_parts(settings: ClusterSettings, use_client_protocol: bool | None) -> dict[str, Any]:
    """What of the settings goes into clusters, by name; the same parts make the same clusters. Empty: none."""
    parts = {name: getattr(settings, name) for name in _CLUSTER_FIELDS}
    timeout = settings.timeout
    if timeout:
        parts["connect_timeout"] = timeout.tcp
        if timeout.http:
            names = ("connection_idle_timeout", "max_connection_duration", "max_stream_duration")
            parts |= {name: getattr(timeout.http, name) for name in names}
    parts["use_client_protocol"] = use_client_protocol or None
    return {name: part for name, part in parts.items() if part is not None}


def with_settings(
    cluster: dict[str, Any],
    settings: ClusterSettings,
    use_client_protocol: bool | None = None,
    notes: list[str] | None = None,
) -> dict[str, Any]:
    """A copy of a cluster with the settings. What they leave alone is shared with the original.

    notes: gets what does not fit this cluster.
    """
    made = dict(cluster)
    options: dict[str, Any] = dict(made["typed_extension_protocol_options"][HTTP_OPTIONS])
    made["typed_extension_protocol_options"] = {
        **made["typed_extension_protocol_options"],
        HTTP_OPTIONS: options,
    }
    common: dict[str, Any] = dict(options.get("common_http_protocol_options", {}))
    options["common_http_protocol_options"] = common
    if settings.load_balancer:
        _balance(made, settings.load_balancer)
    if settings.circuit_breaker:
        _break(made, common, settings.circuit_breaker)
    if settings.health_check:
        _check_health(made, options, settings.health_check, [] if notes is None else notes)
    if settings.timeout:
        if settings.timeout.tcp and settings.timeout.tcp.connect_timeout:
            made["connect_timeout"] = protobuf_duration(settings.timeout.tcp.connect_timeout)
        if settings.timeout.http:
            _time_out(common, settings.timeout.http)
    if settings.connection:
        _connect(made, settings.connection)
    if settings.tcp_keepalive:
        _keep_alive(made, settings.tcp_keepalive)
    if settings.dns:
        _look_up(made, settings.dns)
    _speak(options, settings, use_client_protocol)
    if settings.proxy_protocol:
        _introduce(made, settings.proxy_protocol.version)
    return made


def _introduce(cluster: dict[str, Any], version: str) -> None:
    inner = cluster.get("transport_socket") or {
        "name": "envoy.transport_sockets.raw_buffer",
        "typed_config": {"@type": TYPE + "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"},
    }
    cluster["transport_socket"] = {
        "name": "envoy.transport_sockets.upstream_proxy_protocol",
        "typed_config": {
            "@type": TYPE
            + "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
            "config": {"version": version},
            "transport_socket": inner,
        },
    }


def _check_health(
    cluster: dict[str, Any], options: dict[str, Any], health: HealthCheck, notes: list[str]
) -> None:
    if health.panic_threshold is not None:
        cluster["common_lb_config"] = {"healthy_panic_threshold": {"value": health.panic_threshold}}
    http2 = "http2_protocol_options" in options.get("explicit_http_config", {})
    if health.active and health.active.type == "GRPC" and not http2:
        notes.append(
            f"spec.healthCheck.active: the backend of {cluster['name']} does not speak HTTP/2, which type GRPC needs"
        )
    elif health.active:
        cluster["health_checks"] = [active_check(cluster, options, health.active)]
        cluster["ignore_health_on_host_removal"] = True
    if health.passive:
        cluster["outlier_detection"] = outlier_detection(health.passive)


def _speak(options: dict[str, Any], settings: ClusterSettings, use_client_protocol: bool | None) -> None:
    http2 = http2_options(settings.http2) if settings.http2 else {}
    explicit: dict[str, Any] = options.get("explicit_http_config", {})
    if http2 and "http2_protocol_options" in explicit:
        options["explicit_http_config"] = {**explicit, "http2_protocol_options": http2}
    if use_client_protocol:
        options.pop("explicit_http_config", None)
        options["use_downstream_protocol_config"] = {
            "http_protocol_options": {},
            "http2_protocol_options": http2,
        }


def _balance(cluster: dict[str, Any], balancer: LoadBalancer) -> None:
    slow = (
        {"slow_start_config": {"slow_start_window": protobuf_duration(balancer.slow_start.window)}}
        if balancer.slow_start
        else {}
    )
    match balancer.type:
        case "RoundRobin":
            cluster["lb_policy"] = "ROUND_ROBIN"
            if slow:
                cluster["round_robin_lb_config"] = slow
        case "LeastRequest":
            cluster["lb_policy"] = "LEAST_REQUEST"
            if slow:
                cluster["least_request_lb_config"] = slow
        case "Random":
            cluster["lb_policy"] = "RANDOM"
        case "ConsistentHash":
            cluster["lb_policy"] = "MAGLEV"
            if balancer.consistent_hash:
                cluster["maglev_lb_config"] = {"table_size": balancer.consistent_hash.table_size}
        case "BackendUtilization":
            del cluster["lb_policy"]
            policy = _by_reports(balancer.backend_utilization or BackendUtilization(), slow)
            cluster["load_balancing_policy"] = {"policies": [{"typed_extension_config": policy}]}
        case "DynamicModule":
            # Named as not honoured; the balancing stays what it was.
            pass


def _by_reports(reports: BackendUtilization, slow: dict[str, Any]) -> dict[str, Any]:
    """Envoy's policy, a TypedExtensionConfig."""
    name = "client_side_weighted_round_robin"
    config: dict[str, Any] = {
        "@type": f"{TYPE}envoy.extensions.load_balancing_policies.{name}.v3.ClientSideWeightedRoundRobin",
        **slow,
    }
    for field, duration in (
        ("blackout_period", reports.blackout_period),
        ("weight_expiration_period", reports.weight_expiration_period),
        ("weight_update_period", reports.weight_update_period),
    ):
        if duration is not None:
            config[field] = protobuf_duration(duration)
    if reports.error_utilization_penalty_percent is not None:
        config["error_utilization_penalty"] = reports.error_utilization_penalty_percent / 100
    if reports.metric_names_for_computing_utilization:
        config["metric_names_for_computing_utilization"] = reports.metric_names_for_computing_utilization
    asked = reports.out_of_band
    if asked is not None:
        config["enable_oob_load_report"] = True
        if asked.reporting_period is not None:
            config["oob_reporting_period"] = protobuf_duration(asked.reporting_period)
        place = {"port_value": asked.port, "authority": asked.authority}
        config["oob_reporting_config"] = {key: value for key, value in place.items() if value is not None}
    return {"name": f"envoy.load_balancing_policies.{name}", "typed_config": config}


def _break(cluster: dict[str, Any], common: dict[str, Any], breaker: CircuitBreaker) -> None:
    threshold: dict[str, Any] = {
        "max_connections": breaker.max_connections,
        "max_pending_requests": breaker.max_pending_requests,
        "max_requests": breaker.max_parallel_requests,
        "max_retries": breaker.max_parallel_retries,
    }
    if breaker.retry_budget:
        percent = breaker.retry_budget.percent
        least = breaker.retry_budget.min_retry_concurrency
        threshold["retry_budget"] = {
            "budget_percent": {"value": 100.0 * percent.numerator / percent.denominator},
            "min_retry_concurrency": 3 if least is None else least,
        }
    cluster["circuit_breakers"] = {"thresholds": [threshold]}
    if breaker.per_endpoint:
        cluster["circuit_breakers"]["per_host_thresholds"] = [
            {"max_connections": breaker.per_endpoint.max_connections}
        ]
    if breaker.max_requests_per_connection is not None:
        common["max_requests_per_connection"] = breaker.max_requests_per_connection


def _time_out(common: dict[str, Any], timeout: HTTPTimeout) -> None:
    for name, value in (
        ("idle_timeout", timeout.connection_idle_timeout),
        ("max_connection_duration", timeout.max_connection_duration),
        ("max_stream_duration", timeout.max_stream_duration),
    ):
        if value:
            common[name] = protobuf_duration(value)


def _connect(cluster: dict[str, Any], connection: BackendConnection) -> None:
    if connection.buffer_limit is not None:
        cluster["per_connection_buffer_limit_bytes"] = size_bytes(connection.buffer_limit)
    if connection.preconnect:
        ratios = {
            "per_upstream_preconnect_ratio": connection.preconnect.per_endpoint_percent,
            "predictive_preconnect_ratio": connection.preconnect.predictive_percent,
        }
        cluster["preconnect_policy"] = {
            name: percent / 100 for name, percent in ratios.items() if percent is not None
        }


def _keep_alive(cluster: dict[str, Any], keepalive: TCPKeepalive) -> None:
    cluster["upstream_connection_options"] = {"tcp_keepalive": keepalive_options(keepalive)}


def keepalive_options(keepalive: TCPKeepalive) -> dict[str, Any]:
    """Envoy's `TcpKeepalive`, in whole seconds."""
    found: dict[str, Any] = {}
    if keepalive.probes is not None:
        found["keepalive_probes"] = keepalive.probes
    if keepalive.idle_time:
        found["keepalive_time"] = int(parse_duration_seconds(keepalive.idle_time))
    if keepalive.interval:
        found["keepalive_interval"] = int(parse_duration_seconds(keepalive.interval))
    return found


def _look_up(cluster: dict[str, Any], dns: DNS) -> None:
    if cluster["type"] != "STRICT_DNS":
        return
    if dns.lookup_family:
        cluster["dns_lookup_family"] = _LOOKUP[dns.lookup_family]
    if dns.respect_dns_ttl is not None:
        cluster["respect_dns_ttl"] = dns.respect_dns_ttl
    if dns.dns_refresh_rate:
        cluster["dns_refresh_rate"] = protobuf_duration(dns.dns_refresh_rate)


def http2_options(settings: HTTP2Settings) -> dict[str, Any]:
    """Envoy's `Http2ProtocolOptions`."""
    found: dict[str, Any] = {}
    if settings.initial_stream_window_size is not None:
        found["initial_stream_window_size"] = size_bytes(settings.initial_stream_window_size)
    if settings.initial_connection_window_size is not None:
        found["initial_connection_window_size"] = size_bytes(settings.initial_connection_window_size)
    if settings.max_concurrent_streams is not None:
        found["max_concurrent_streams"] = settings.max_concurrent_streams
    if settings.on_invalid_message:
        found["override_stream_error_on_invalid_http_message"] = (
            settings.on_invalid_message == "TerminateStream"
        )
    keepalive = settings.connection_keepalive
    if keepalive:
        pings: dict[str, Any] = {
            "timeout": protobuf_duration(keepalive.timeout) if keepalive.timeout else "20s"
        }
        if keepalive.interval:
            pings["interval"] = protobuf_duration(keepalive.interval)
        if keepalive.interval_jitter is not None:
            pings["interval_jitter"] = {"value": keepalive.interval_jitter}
        if keepalive.idle_interval:
            pings["connection_idle_interval"] = protobuf_duration(keepalive.idle_interval)
        found["connection_keepalive"] = pings
    return found
