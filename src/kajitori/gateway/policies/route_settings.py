"""What a policy says of requests, put into a route of Envoy. Pure.

What a route says itself wins over the policy: its timeouts, and the retries of an HTTPRoute. Retries that a policy
gives replace those that the gateway would have chosen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.base.duration import protobuf_duration
from kajitori.gateway.policies.cluster_settings import size_bytes
from kajitori.gateway.policies.local_rate_limit import local_rate_limit
from kajitori.gateway.policies.response_overrides import response_overrides
from kajitori.gateway.policies.retries import by_priority, retry_policy
from kajitori.gateway.resilience.actions import with_own_retries
from kajitori.gateway.resilience.retries import leave_time
from kajitori.gateway.resources import TYPE
from kajitori.gateway.routes.optional_filters import (
    BUFFER,
    CUSTOM_RESPONSE,
    FAULT,
    LOCAL_RATE_LIMIT,
    compressor,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kajitori.api.envoygateway.backend_traffic_policy import (
        BackendTelemetry,
        BackendTrafficPolicySpec,
        FaultInjection,
        HTTPUpgrade,
    )
    from kajitori.api.envoygateway.cluster_settings import ConsistentHash, Fraction, HTTPTimeout
    from kajitori.gateway.policies.response_overrides import Bodies
    from kajitori.gateway.resilience.order import Tier

_FILTERS = TYPE + "envoy.extensions.filters.http."
_NO_TIMEOUT = "0s"
# Headers in which endpoints report their load.
_LOAD_REPORTS = ("endpoint-load-metrics", "endpoint-load-metrics-bin")


def filter_configs(
    spec: BackendTrafficPolicySpec, bodies: Bodies, problems: list[str]
) -> dict[str, dict[str, Any]]:
    """The configs of optional filters that a policy asks for, by filter.

    bodies: of answers that stand in ConfigMaps. problems: gets what cannot be served.
    """
    found: dict[str, dict[str, Any]] = {}
    if spec.fault_injection:
        found[FAULT] = _fault(spec.fault_injection)
    limit = spec.rate_limit
    if limit and limit.local and limit.type != "Global":
        found[LOCAL_RATE_LIMIT] = local_rate_limit(limit.local, "spec.rateLimit.local", problems)
    if spec.response_override:
        found[CUSTOM_RESPONSE] = response_overrides(
            spec.response_override, "spec.responseOverride", bodies, problems
        )
    if spec.request_buffer:
        found[BUFFER] = {
            "@type": _FILTERS + "buffer.v3.BufferPerRoute",
            "buffer": {"max_request_bytes": size_bytes(spec.request_buffer.limit)},
        }
    for item in spec.compressor or spec.compression:
        found[compressor(item.type)] = _compression()
    return found


def with_route_settings(
    route: dict[str, Any],
    spec: BackendTrafficPolicySpec,
    configs: dict[str, dict[str, Any]],
    *,
    ai: bool,
    tiers: Sequence[Tier] = (),
) -> dict[str, Any]:
    """A copy of a route with the settings.

    configs: see `filter_configs`. ai: whether an AIGatewayRoute made it. tiers: its backends by priority.
    """
    made = dict(route)
    if configs:
        made["typed_per_filter_config"] = {**route.get("typed_per_filter_config", {}), **configs}
    if spec.telemetry:
        _telemetry(made, spec.telemetry)
    balancer = spec.load_balancer
    if balancer and balancer.backend_utilization and not balancer.backend_utilization.keep_response_headers:
        removed = route.get("response_headers_to_remove", ())
        made["response_headers_to_remove"] = [*removed, *_LOAD_REPORTS]
    if "route" in made:
        made["route"] = _action(dict(made["route"]), spec, tiers, ai=ai)
    return with_own_retries(made) if ai and spec.retry else made


def _action(
    action: dict[str, Any], spec: BackendTrafficPolicySpec, tiers: Sequence[Tier], *, ai: bool
) -> dict[str, Any]:
    own_retries = not ai and "num_retries" in action.get("retry_policy", {})
    if spec.retry and not own_retries:
        action["retry_policy"] = retry_policy(spec.retry, action.get("retry_policy", {}))
        by_priority(action, tiers, spec.retry)
        leave_time(action)
    if spec.timeout and spec.timeout.http:
        _time_out(action, spec.timeout.http)
    balancer = spec.load_balancer
    if balancer and balancer.consistent_hash:
        action["hash_policy"] = _hash_policy(balancer.consistent_hash)
        _choose_by_hash(action)
    if spec.http_upgrade:
        action["upgrade_configs"] = _upgrades(spec.http_upgrade)
    elif spec.request_buffer:
        # A protocol that is changed to has no end that could be waited for.
        action["upgrade_configs"] = [{"upgrade_type": "websocket", "enabled": False}]
    return action


def _time_out(action: dict[str, Any], timeout: HTTPTimeout) -> None:
    if timeout.request_timeout and action.get("timeout", _NO_TIMEOUT) == _NO_TIMEOUT:
        action["timeout"] = protobuf_duration(timeout.request_timeout)
    if timeout.stream_idle_timeout:
        action["idle_timeout"] = protobuf_duration(timeout.stream_idle_timeout)
    if timeout.max_stream_duration:
        action["max_stream_duration"] = {
            "max_stream_duration": protobuf_duration(timeout.max_stream_duration)
        }


def _hash_policy(hashed: ConsistentHash) -> list[dict[str, Any]]:
    match hashed.type:
        case "SourceIP":
            return [{"connection_properties": {"source_ip": True}}]
        case "Header":
            return [{"header": {"header_name": hashed.header.name.lower()}}] if hashed.header else []
        case "Headers":
            return [{"header": {"header_name": header.name.lower()}} for header in hashed.headers]
        case "QueryParams":
            return [{"query_parameter": {"name": parameter.name}} for parameter in hashed.query_params]
        case "Cookie":
            if hashed.cookie is None:
                return []
            cookie: dict[str, Any] = {"name": hashed.cookie.name}
            if hashed.cookie.ttl:
                cookie["ttl"] = protobuf_duration(hashed.cookie.ttl)
            if hashed.cookie.attributes:
                cookie["attributes"] = [
                    {"name": name, "value": value} for name, value in sorted(hashed.cookie.attributes.items())
                ]
            return [{"cookie": cookie}]


def _choose_by_hash(action: dict[str, Any]) -> None:
    """The hash decides among several backends too, not only inside of one."""
    if "weighted_clusters" in action:
        action["weighted_clusters"] = {**action["weighted_clusters"], "use_hash_policy": True}
    plugin = action.get("inline_cluster_specifier_plugin")
    if plugin:
        extension = plugin["extension"]
        config = {**extension["typed_config"], "use_hash_policy": True}
        action["inline_cluster_specifier_plugin"] = {"extension": {**extension, "typed_config": config}}


def _upgrades(upgrades: Sequence[HTTPUpgrade]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for upgrade in upgrades:
        made: dict[str, Any] = {"upgrade_type": upgrade.type}
        if upgrade.connect and upgrade.connect.terminate:
            made["connect_config"] = {}
        found.append(made)
    if not any(upgrade.type.lower() == "websocket" for upgrade in upgrades):
        # The listener offers it to every route; a list of others takes it away.
        found.append({"upgrade_type": "websocket", "enabled": False})
    return found


def _fault(fault: FaultInjection) -> dict[str, Any]:
    made: dict[str, Any] = {"@type": _FILTERS + "fault.v3.HTTPFault"}
    if fault.delay:
        made["delay"] = {
            "fixed_delay": protobuf_duration(fault.delay.fixed_delay),
            "percentage": _percentage(fault.delay.percentage),
        }
    if fault.abort:
        abort: dict[str, Any] = {"percentage": _percentage(fault.abort.percentage)}
        if fault.abort.http_status is not None:
            abort["http_status"] = fault.abort.http_status
        else:
            abort["grpc_status"] = fault.abort.grpc_status
        made["abort"] = abort
    return made


def _percentage(percent: float) -> dict[str, Any]:
    return {"numerator": round(percent * 10_000), "denominator": "MILLION"}


def _compression() -> dict[str, Any]:
    return {
        "@type": _FILTERS + "compressor.v3.CompressorPerRoute",
        # Else a backend might compress too.
        "overrides": {"response_direction_config": {"remove_accept_encoding_header": True}},
    }


def _telemetry(route: dict[str, Any], telemetry: BackendTelemetry) -> None:
    if telemetry.metrics and telemetry.metrics.route_stat_name:
        route["stat_prefix"] = telemetry.metrics.route_stat_name
    tracing = telemetry.tracing
    if tracing is None:
        return
    made: dict[str, Any] = {}
    for name, fraction in (
        ("random_sampling", tracing.sampling_fraction),
        ("client_sampling", tracing.client_sampling_fraction),
        ("overall_sampling", tracing.overall_sampling_fraction),
    ):
        if fraction:
            made[name] = _fraction(fraction)
    if tracing.span_name:
        made["operation"] = tracing.span_name.client
        made["upstream_operation"] = tracing.span_name.server
    if tracing.tags:
        made["custom_tags"] = [
            {"tag": tag, "literal": {"value": value}} for tag, value in sorted(tracing.tags.items())
        ]
    route["tracing"] = made


def _fraction(fraction: Fraction) -> dict[str, Any]:
    return _percentage(100.0 * fraction.numerator / fraction.denominator)
