"""What Envoy writes down of each request and each failed attempt."""

from __future__ import annotations

from typing import Any

from kajitori.gateway.backends.clusters import TYPE

CONTROL_PLANE_CLUSTER = "kajitori-control-plane"
REQUEST_LOG = "request"
ATTEMPT_LOG = "attempt"
FACTS_TAG = "f"
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
