"""What a ClientTrafficPolicy says, put into a listener of Envoy and into what reads its requests. Pure.

Some settings are of a port as a whole (its sockets), the others of one filter chain: all HTTP of a port is one chain,
and each HTTPS listener has its own. Fields become what Envoy Gateway makes of them.
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

from kajitori.base.duration import protobuf_duration
from kajitori.gateway.policies.client_headers import change_headers, late_response_headers
from kajitori.gateway.policies.cluster_settings import http2_options, size_bytes
from kajitori.gateway.resources import TYPE

if TYPE_CHECKING:
    from kajitori.api.envoygateway.client_traffic_policy import (
        ClientConnection,
        ClientIPDetection,
        ClientTimeout,
        ClientTrafficPolicySpec,
        HTTP1Settings,
        XForwardedFor,
    )
    from kajitori.api.envoygateway.response_override import StringMatch

__all__ = ["change_chain", "change_manager", "change_port", "late_response_headers"]

_MANAGER = "envoy.filters.network.http_connection_manager"
_DETECTION = TYPE + "envoy.extensions.http.original_ip_detection."
_SLASHES = {
    "KeepUnchanged": "KEEP_UNCHANGED",
    "RejectRequest": "REJECT_REQUEST",
    "UnescapeAndForward": "UNESCAPE_AND_FORWARD",
    "UnescapeAndRedirect": "UNESCAPE_AND_REDIRECT",
}


def change_port(listener: dict[str, Any], spec: ClientTrafficPolicySpec) -> None:
    """The settings of a port as a whole, save for options of its sockets: those would have to be opened anew."""
    if spec.connection:
        if spec.connection.buffer_limit is not None:
            listener["per_connection_buffer_limit_bytes"] = size_bytes(spec.connection.buffer_limit)
        if spec.connection.max_accept_per_socket_event:
            listener["max_connections_to_accept_per_socket_event"] = (
                spec.connection.max_accept_per_socket_event
            )
    if spec.timeout and spec.timeout.tcp and spec.timeout.tcp.connection_inspection_timeout:
        listener["listener_filters_timeout"] = protobuf_duration(
            spec.timeout.tcp.connection_inspection_timeout
        )
    if spec.proxy_protocol or spec.enable_proxy_protocol:
        optional = bool(spec.proxy_protocol and spec.proxy_protocol.optional)
        introduced: dict[str, Any] = {
            "name": "envoy.filters.listener.proxy_protocol",
            "typed_config": {
                "@type": TYPE + "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
                **({"allow_requests_without_proxy_protocol": True} if optional else {}),
            },
        }
        # Before the inspector of TLS, since this header comes first of all.
        listener["listener_filters"] = [introduced, *listener.get("listener_filters", [])]


def change_chain(chain: dict[str, Any], spec: ClientTrafficPolicySpec, hostname: str) -> None:
    """The settings of a filter chain. hostname: of its listener, `*` if it has none."""
    if spec.timeout and spec.timeout.tcp and spec.timeout.tcp.tls_handshake_timeout:
        chain["transport_socket_connect_timeout"] = protobuf_duration(spec.timeout.tcp.tls_handshake_timeout)
    filters: list[dict[str, Any]] = chain["filters"]
    limit = spec.connection.connection_limit if spec.connection else None
    if limit and limit.value is not None:
        counting: dict[str, Any] = {
            "@type": TYPE + "envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit",
            "stat_prefix": "clients",
            "max_connections": limit.value,
        }
        if limit.close_delay:
            counting["delay"] = protobuf_duration(limit.close_delay)
        filters.insert(0, {"name": "envoy.filters.network.connection_limit", "typed_config": counting})
    for item in filters:
        if item["name"] == _MANAGER:
            change_manager(item["typed_config"], spec, hostname)


def change_manager(manager: dict[str, Any], spec: ClientTrafficPolicySpec, hostname: str) -> None:
    """The settings of what reads requests."""
    common: dict[str, Any] = manager.setdefault("common_http_protocol_options", {})
    if spec.client_ip_detection:
        _find_client(manager, spec.client_ip_detection)
    if spec.path:
        manager["merge_slashes"] = not spec.path.disable_merge_slashes
        if spec.path.escaped_slashes_action:
            manager["path_with_escaped_slashes_action"] = _SLASHES[spec.path.escaped_slashes_action]
    if spec.headers:
        change_headers(manager, common, spec.headers)
    if spec.timeout:
        _time_out(manager, common, spec.timeout)
    if spec.connection:
        safe = not (spec.http1 and spec.http1.disable_safe_max_connection_duration)
        _limit(manager, common, spec.connection, safe=safe)
    if spec.http1:
        _http1(manager, spec.http1, hostname)
    if spec.http2:
        manager["http2_protocol_options"] = {
            **manager["http2_protocol_options"],
            **http2_options(spec.http2),
        }
    if spec.scheme == "MatchBackend":
        manager["scheme_header_transformation"] = {"match_upstream": True}
    if spec.health_check:
        checked = {"name": ":path", "string_match": {"exact": spec.health_check.path}}
        manager["http_filters"] = [
            {
                "name": "envoy.filters.http.health_check",
                "typed_config": {
                    "@type": TYPE + "envoy.extensions.filters.http.health_check.v3.HealthCheck",
                    "pass_through_mode": False,
                    "headers": [checked],
                },
            },
            *manager["http_filters"],
        ]
    if not common:
        del manager["common_http_protocol_options"]


def _find_client(manager: dict[str, Any], detection: ClientIPDetection) -> None:
    if detection.custom_header:
        config: dict[str, Any] = {
            "@type": _DETECTION + "custom_header.v3.CustomHeaderConfig",
            "header_name": detection.custom_header.name,
            "allow_extension_to_set_address_as_trusted": True,
        }
        if detection.custom_header.fail_closed:
            config["reject_with_status"] = {"code": "Forbidden"}
        name = "envoy.extensions.http.original_ip_detection.custom_header"
    elif detection.x_forwarded_for:
        config = {"@type": _DETECTION + "xff.v3.XffConfig", **_forwarded(detection.x_forwarded_for)}
        name = "envoy.extensions.http.original_ip_detection.xff"
    else:
        return
    manager["use_remote_address"] = False
    manager["original_ip_detection_extensions"] = [{"name": name, "typed_config": config}]


def _forwarded(forwarded: XForwardedFor) -> dict[str, Any]:
    found: dict[str, Any] = {"skip_xff_append": forwarded.disable_x_forwarded_for_append}
    if forwarded.trusted_cidrs:
        networks = [ip_network(cidr, strict=False) for cidr in forwarded.trusted_cidrs]
        found["xff_trusted_cidrs"] = {
            "cidrs": [
                {"address_prefix": str(network.network_address), "prefix_len": network.prefixlen}
                for network in networks
            ]
        }
    elif forwarded.num_trusted_hops:
        # Envoy does not count the hop that the connection itself is.
        found["xff_num_trusted_hops"] = forwarded.num_trusted_hops - 1
    return found


def _time_out(manager: dict[str, Any], common: dict[str, Any], timeout: ClientTimeout) -> None:
    http = timeout.http
    if http is None:
        return
    for place, name, value in (
        (manager, "request_timeout", http.request_received_timeout),
        (manager, "request_headers_timeout", http.request_headers_received_timeout),
        (manager, "stream_idle_timeout", http.stream_idle_timeout),
        (manager, "stream_flush_timeout", http.stream_idle_timeout),
        (common, "idle_timeout", http.idle_timeout),
    ):
        if value:
            place[name] = protobuf_duration(value)


def _limit(
    manager: dict[str, Any], common: dict[str, Any], connection: ClientConnection, *, safe: bool
) -> None:
    limit = connection.connection_limit
    if limit is None:
        return
    if limit.max_connection_duration:
        common["max_connection_duration"] = protobuf_duration(limit.max_connection_duration)
        manager["http1_safe_max_connection_duration"] = safe
    if limit.max_requests_per_connection is not None:
        common["max_requests_per_connection"] = limit.max_requests_per_connection
    if limit.max_stream_duration:
        common["max_stream_duration"] = protobuf_duration(limit.max_stream_duration)


def _http1(manager: dict[str, Any], http1: HTTP1Settings, hostname: str) -> None:
    options: dict[str, Any] = {}
    if http1.enable_trailers:
        options["enable_trailers"] = True
    if http1.preserve_header_case:
        formatter = (
            TYPE + "envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig"
        )
        options["header_key_format"] = {
            "stateful_formatter": {"name": "preserve_case", "typed_config": {"@type": formatter}}
        }
    if http1.http10:
        options["accept_http_10"] = True
        if http1.http10.use_default_host and not hostname.startswith("*"):
            options["default_host_for_http_10"] = hostname
    if http1.ignored_upgrade_types:
        options["ignore_http_11_upgrade"] = [text_matcher(item) for item in http1.ignored_upgrade_types]
    if options:
        manager["http_protocol_options"] = options


def text_matcher(match: StringMatch) -> dict[str, Any]:
    """Envoy's `StringMatcher`."""
    kinds = {"Exact": "exact", "Prefix": "prefix", "Suffix": "suffix"}
    if match.type == "RegularExpression":
        return {"safe_regex": {"regex": match.value}}
    return {kinds[match.type]: match.value}
