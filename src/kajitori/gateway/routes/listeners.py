"""Envoy listeners: one a port. What changes often (routes) comes by RDS, so that a listener hardly ever changes
and no connection is drained for a new route.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.gateway.backends.clusters import TYPE
from kajitori.gateway.lua.scripts import REQUEST_SCRIPT
from kajitori.gateway.routes.answers import local_reply_config
from kajitori.gateway.routes.tables import LUA_FILTER, USAGE_FILTER

if TYPE_CHECKING:
    from kajitori.gateway.observed import Settings

CONTROL_PLANE_CLUSTER = "kajitori-control-plane"
REQUEST_LOG = "request"
ATTEMPT_LOG = "attempt"
FACTS_TAG = "f"
# Headers of clients that would steer the gateway from outside.
_INTERNAL_PREFIXES = ("x-ai-eg-", "x-envoy-", "x-gateway-destination-", "x-kajitori-")
_USAGE = "metadata.typed_filter_metadata['envoy.ai.token_usage']"
_INPUT = f"{_USAGE}.input_token_details"
_OUTPUT = f"{_USAGE}.output_token_details"
# Two counts in one number, 32 bits each: every expression costs, and CEL here cannot make text of a number.
_SHIFT = "4294967296u"
# Input and output tokens, cached and reasoning tokens, tokens put into a cache and the total (empty: no usage
# was reported), microseconds to the first byte of the answer's body, what the request script kept: whether it is
# a stream, the path, then the model, which may have any character.
FACTS_FORMAT = (
    f"%CEL({_USAGE}.input_tokens*{_SHIFT}+{_USAGE}.output_tokens)%"
    f"|%CEL({_INPUT}.cached_tokens*{_SHIFT}+{_OUTPUT}.reasoning_tokens)%"
    f"|%CEL({_INPUT}.cache_creation_tokens*{_SHIFT}+{_USAGE}.total_tokens)%"
    "|%COMMON_DURATION(DS_RX_BEG:US_RX_BODY_BEG:us)%"
    "|%DYNAMIC_METADATA(io.kajitori:request:stream)%"
    "|%DYNAMIC_METADATA(io.kajitori:request:path)%"
    "|%DYNAMIC_METADATA(io.kajitori:request:model)%"
)


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
    return f"Envoy refused port {port}: {' '.join(message.split())}"


def listener(port: int, settings: Settings) -> dict[str, Any]:
    """The listener of a port; its routes come under the same name."""
    return {
        "name": listener_name(port),
        "address": {
            "socket_address": {"address": settings.bind_address, "port_value": settings.bound_port(port)}
        },
        # With it, a port that another Envoy listens on would be shared in silence instead of refused.
        "enable_reuse_port": False,
        # Bodies that are read whole have a limit of their own, in the route table.
        "per_connection_buffer_limit_bytes": 256 * 1024,
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": _connection_manager(port),
                    }
                ]
            }
        ],
    }


def _connection_manager(port: int) -> dict[str, Any]:
    return {
        "@type": TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": f"http-{port}",
        "rds": {
            "route_config_name": listener_name(port),
            "config_source": {"ads": {}, "resource_api_version": "V3"},
        },
        "http_filters": _filters(),
        "use_remote_address": True,
        "skip_xff_append": True,
        # No client counts as internal, since internal ones may steer retries and keep their request ids.
        "internal_address_config": {"cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]},
        "early_header_mutation_extensions": [_strip_internal_headers()],
        "generate_request_id": True,
        "always_set_request_id_in_response": True,
        "request_id_extension": {
            "typed_config": {
                "@type": TYPE + "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig",
                "pack_trace_reason": False,
            }
        },
        "server_header_transformation": "PASS_THROUGH",
        "strip_any_host_port": True,
        "normalize_path": True,
        "request_headers_timeout": "30s",
        "stream_idle_timeout": "300s",
        "local_reply_config": local_reply_config(),
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "access_log": [access_log(REQUEST_LOG, tagged=True)],
    }


def _strip_internal_headers() -> dict[str, Any]:
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": {
            "@type": TYPE + "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            "mutations": [
                {"remove_on_match": {"key_matcher": {"prefix": prefix}}} for prefix in _INTERNAL_PREFIXES
            ],
        },
    }


def _filters() -> list[dict[str, Any]]:
    """On the way up from first to last, on the way down from last to first: usage is read before it is stripped."""
    return [
        {
            "name": LUA_FILTER,
            "typed_config": {
                "@type": TYPE + "envoy.extensions.filters.http.lua.v3.Lua",
                "default_source_code": {"inline_string": REQUEST_SCRIPT},
                "shared_vm_id": "kajitori-request",
            },
        },
        {
            "name": USAGE_FILTER,
            "typed_config": {
                "@type": TYPE + "envoy.extensions.filters.http.ai_protocol_manager.v3.AiProtocolManager",
                "response_handling": {
                    "token_usage": {
                        "include_unconfigured_routes": True,
                        "default_llm_protocol": "OPENAI_CHAT_COMPLETIONS",
                    }
                },
            },
        },
        {
            "name": "envoy.filters.http.router",
            "typed_config": {
                "@type": TYPE + "envoy.extensions.filters.http.router.v3.Router",
                "suppress_envoy_headers": True,
                "upstream_log": [failed_attempts_log()],
            },
        },
    ]


def access_log(name: str, *, tagged: bool) -> dict[str, Any]:
    """An access log that goes to the ledger in batches."""
    common: dict[str, Any] = {
        "log_name": name,
        "grpc_service": {"envoy_grpc": {"cluster_name": CONTROL_PLANE_CLUSTER}},
        "transport_api_version": "V3",
        "buffer_flush_interval": "0.2s",
        "buffer_size_bytes": 256 * 1024,
    }
    if tagged:
        common["custom_tags"] = [{"tag": FACTS_TAG, "value": FACTS_FORMAT}]
    return {
        "name": "envoy.access_loggers.http_grpc",
        "typed_config": {
            "@type": TYPE + "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
            "common_config": common,
        },
    }


def failed_attempts_log() -> dict[str, Any]:
    """Attempts that failed; a successful one is told by the request's own entry, so most requests log once."""
    failed = {
        "or_filter": {
            "filters": [
                {
                    "status_code_filter": {
                        "comparison": {
                            "op": "GE",
                            "value": {"default_value": 400, "runtime_key": "kajitori.failed_attempt"},
                        }
                    }
                },
                {"response_flag_filter": {}},
            ]
        }
    }
    return {**access_log(ATTEMPT_LOG, tagged=False), "filter": failed}
