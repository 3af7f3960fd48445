"""Envoy listeners: one a port. What changes often (routes) comes by RDS and what is secret by SDS, so that a listener
hardly ever changes and no connection is drained for a new route or a renewed certificate.

With HTTPS each listener of a Gateway is a filter chain of its own, found by the name that the client asks for (SNI);
a chain that comes or goes drains no other one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.gateway.accounting.log_format import request_log
from kajitori.gateway.envoy.shards import TABLE_HEADER
from kajitori.gateway.resources import TYPE
from kajitori.gateway.routes.answers import literal
from kajitori.gateway.routes.filters import http_filters
from kajitori.gateway.routes.hostnames import ANY_HOST
from kajitori.gateway.routes.local_replies import local_reply_config

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kajitori.gateway.observed import Settings
    from kajitori.gateway.routes.attachment import Binding
    from kajitori.gateway.routes.tls import ListenerTls

# Headers of clients that would steer the gateway from outside.
_MODEL_PREFIX = "x-ai-eg-"
ASKED_MODEL_HEADER = "x-kajitori-asked-model"
_INTERNAL_PREFIXES = ("x-ai-eg-", "x-envoy-", "x-gateway-destination-", "x-kajitori-")

_HTTP2 = {
    # Of many requests on one connection one that is malformed ends alone.
    "override_stream_error_on_invalid_http_message": True,
    "max_concurrent_streams": 100,
    # So much is also kept of an answer that its client does not take. Envoy's own 16 MiB for each of 1,024 streams are
    # more than a client may be trusted with.
    "initial_stream_window_size": 1024 * 1024,
    "initial_connection_window_size": 8 * 1024 * 1024,
}


def listener_name(port: int) -> str:
    return f"http/{port}"


def why_refused(port: int, message: str) -> str:
    """What Envoy said of a listener that it did not take, in words that tell the cure."""
    if "Address already in use" in message:
        return (
            f"port {port} is taken by another process of this machine; free it or choose another port in the listener "
            f"(`ss -ltnp 'sport = :{port}'` shows who has this one)"
        )
    if "Permission denied" in message:
        return f"port {port} may not be opened without privileges; choose a port above 1023 in the listener"
    return (
        f"Envoy refuses the listener of port {port}; what it had of it stays, and where it had nothing requests are "
        f"answered with 500, or by nobody with TLS: {' '.join(message.split())}"
    )


def listener(port: int, settings: Settings, bindings: Iterable[Binding]) -> dict[str, Any]:
    """The listener of a port for the bindings that serve there, which are all of one protocol."""
    secure: dict[str, tuple[Binding, ListenerTls]] = {}
    for binding in bindings:
        if binding.tls is not None:
            first, tls = secure.get(binding.hostname, (binding, binding.tls))
            secure[binding.hostname] = first, tls.with_certificates_of(binding.tls)
    chains = [_filter_chain(port, settings, *secure[hostname]) for hostname in sorted(secure)]
    found = {
        "name": listener_name(port),
        "address": {
            "socket_address": {"address": settings.bind_address, "port_value": settings.bound_port(port)}
        },
        # With it, a port that another Envoy listens on would be shared in silence instead of refused.
        "enable_reuse_port": False,
        # Bodies that are read whole have a limit of their own, in the route table.
        "per_connection_buffer_limit_bytes": 256 * 1024,
        "filter_chains": chains or [{"filters": [_http(port, settings, listener_name(port))]}],
    }
    if chains:
        inspector = {"@type": TYPE + "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"}
        found["listener_filters"] = [
            {"name": "envoy.filters.listener.tls_inspector", "typed_config": inspector}
        ]
    return found


def _filter_chain(port: int, settings: Settings, binding: Binding, tls: ListenerTls) -> dict[str, Any]:
    chain: dict[str, Any] = {
        "name": binding.table,
        "filters": [_http(port, settings, binding.table)],
        "transport_socket": tls.transport_socket(),
    }
    if binding.hostname != ANY_HOST:
        chain["filter_chain_match"] = {"server_names": [binding.hostname]}
    return chain


def _http(port: int, settings: Settings, table: str) -> dict[str, Any]:
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": connection_manager(f"http-{port}", settings, table),
    }


def connection_manager(name: str, settings: Settings, table: str) -> dict[str, Any]:
    """What reads requests from a connection. name: of its statistics. table: where its routes are."""
    return {
        "@type": TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "scoped_routes": _scoped_routes(),
        "http_filters": http_filters(settings),
        "use_remote_address": True,
        "skip_xff_append": True,
        # No client counts as internal, since internal ones may steer retries and keep their request ids.
        "internal_address_config": {"cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]},
        "early_header_mutation_extensions": [_strip_internal_headers(table)],
        "generate_request_id": True,
        "always_set_request_id_in_response": True,
        "request_id_extension": {
            "typed_config": {
                "@type": TYPE + "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig",
                "pack_trace_reason": False,
            }
        },
        "server_header_transformation": "PASS_THROUGH",
        "normalize_path": True,
        "request_headers_timeout": "30s",
        # For the whole request, its body included: a file of 512 MB in this time is 7 Mbit/s.
        "request_timeout": "600s",
        "stream_idle_timeout": "300s",
        # For what is whole and not taken, whatever a route says of answers that stand still.
        "stream_flush_timeout": "300s",
        "local_reply_config": local_reply_config(),
        "http2_protocol_options": _HTTP2,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "access_log": request_log(settings.access_log, settings.logged_headers),
    }


_ADS = {"ads": {}, "resource_api_version": "V3"}


def _scoped_routes() -> dict[str, Any]:
    """That the table is the one which a header names; the same for all, so Envoy keeps one map of tables."""
    by_header = {"header_value_extractor": {"name": TABLE_HEADER, "index": 0}}
    return {
        "name": "tables",
        "scope_key_builder": {"fragments": [by_header]},
        "rds_config_source": _ADS,
        "scoped_rds": {"scoped_rds_config_source": _ADS},
    }


def routes_by_name(table: str) -> dict[str, Any]:
    """What a connection manager has in place of `scoped_routes` to look requests up in one table always."""
    return {"rds": {"route_config_name": table, "config_source": _ADS}}


def _removed(prefix: str) -> dict[str, Any]:
    return {"remove_on_match": {"key_matcher": {"prefix": prefix}}}


def _strip_internal_headers(table: str) -> dict[str, Any]:
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": {
            "@type": TYPE + "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            "mutations": [
                *(_removed(prefix) for prefix in _INTERNAL_PREFIXES if prefix != _MODEL_PREFIX),
                # Operations without a model may name the backend's by this header; only the script looks at the copy.
                {"append": {"header": {"key": ASKED_MODEL_HEADER, "value": "%REQ(x-ai-eg-model)%"}}},
                _removed(_MODEL_PREFIX),
                {"append": {"header": {"key": TABLE_HEADER, "value": literal(table)}}},
            ],
        },
    }
