"""Health checks of a policy as Envoy has them: asked for, and seen in traffic. Pure."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from kajitori.base.duration import protobuf_duration

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kajitori.api.envoygateway.health_check import (
        ActiveHealthCheck,
        HTTPHealthCheck,
        PassiveHealthCheck,
        Payload,
    )


def active_check(
    cluster: dict[str, Any], options: dict[str, Any], check: ActiveHealthCheck
) -> dict[str, Any]:
    """Envoy's `HealthCheck` for a cluster. options: its `HttpProtocolOptions`."""
    made: dict[str, Any] = {
        "timeout": protobuf_duration(check.timeout),
        "interval": protobuf_duration(check.interval),
        # Without traffic too: a backend that nobody asks shall be known to be dead before somebody does.
        "no_traffic_interval": protobuf_duration(check.interval),
        "unhealthy_threshold": check.unhealthy_threshold,
        "healthy_threshold": check.healthy_threshold,
    }
    if check.initial_jitter:
        made["initial_jitter"] = protobuf_duration(check.initial_jitter)
    if check.overrides and check.overrides.port:
        made["alt_port"] = check.overrides.port
    if check.type == "HTTP" and check.http:
        made["http_health_check"] = _http(cluster, options, check.http)
    elif check.type == "GRPC":
        made["grpc_health_check"] = {"service_name": (check.grpc.service or "") if check.grpc else ""}
    else:
        tcp: dict[str, Any] = {}
        if check.tcp and check.tcp.send:
            tcp["send"] = _payload(check.tcp.send)
        if check.tcp and check.tcp.receive:
            tcp["receive"] = [_payload(check.tcp.receive)]
        made["tcp_health_check"] = tcp
    return made


def _http(cluster: dict[str, Any], options: dict[str, Any], check: HTTPHealthCheck) -> dict[str, Any]:
    made: dict[str, Any] = {
        "host": check.hostname or _hostname(cluster),
        "path": check.path,
        "expected_statuses": _ranges(check.expected_statuses or [200]),
    }
    if check.method:
        made["method"] = check.method.upper()
    if check.retriable_statuses:
        made["retriable_statuses"] = _ranges(check.retriable_statuses)
    if check.expected_response:
        made["receive"] = [_payload(check.expected_response)]
    if check.request_body:
        made["send"] = _payload(check.request_body)
    if "http2_protocol_options" in options.get("explicit_http_config", {}):
        made["codec_client_type"] = "HTTP2"
    return made


def _hostname(cluster: dict[str, Any]) -> str:
    """The name that requests to a cluster carry: of its first endpoint, or of its Service."""
    service = cluster.get("eds_cluster_config", {}).get("service_name", "").split("/")
    if len(service) == 4:
        return f"{service[2]}.{service[1]}.svc"
    for locality in cluster.get("load_assignment", {}).get("endpoints", []):
        for host in locality["lb_endpoints"]:
            endpoint = host["endpoint"]
            address = endpoint["address"].get("socket_address", {}).get("address", "localhost")
            return str(endpoint.get("hostname") or address)
    return "localhost"


def _payload(payload: Payload) -> dict[str, Any]:
    if payload.type == "Text":
        return {"text": (payload.text or "").encode().hex()}
    # A field of bytes is base64 in protobuf's JSON, as it is here.
    return {"text": base64.b64decode(payload.binary or "").hex()}


def _ranges(statuses: Iterable[int]) -> list[dict[str, int]]:
    """Statuses as half-open ranges, neighbours in one."""
    found: list[dict[str, int]] = []
    for status in sorted(set(statuses)):
        if found and found[-1]["end"] == status:
            found[-1]["end"] = status + 1
        else:
            found.append({"start": status, "end": status + 1})
    return found


def outlier_detection(check: PassiveHealthCheck) -> dict[str, Any]:
    """Envoy's `OutlierDetection`."""
    made: dict[str, Any] = {
        "interval": protobuf_duration(check.interval),
        "base_ejection_time": protobuf_duration(check.base_ejection_time),
        "consecutive_5xx": check.consecutive_5xx_errors,
        "consecutive_local_origin_failure": check.consecutive_local_origin_failures,
        "split_external_local_origin_errors": check.split_external_local_origin_errors,
        "always_eject_one_host": check.always_eject_one_endpoint,
    }
    if check.max_ejection_percent:
        made["max_ejection_percent"] = check.max_ejection_percent
    if check.consecutive_gateway_errors is not None:
        made["consecutive_gateway_failure"] = check.consecutive_gateway_errors
        made["enforcing_consecutive_gateway_failure"] = 100
    if check.failure_percentage_threshold is not None:
        made["failure_percentage_threshold"] = check.failure_percentage_threshold
        made["enforcing_failure_percentage"] = 100
    return made
