"""Filters that run only where a policy asks for them.

They stand in every listener, switched off, and a route's own config switches them on. See `endpoints.switched_on` for
AI requests, whose route is not known when Envoy settles which filters run.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kajitori.gateway.resources import TYPE

_FILTERS = "envoy.extensions.filters.http."
CUSTOM_RESPONSE = "envoy.filters.http.custom_response"
FAULT = "envoy.filters.http.fault"
LOCAL_RATE_LIMIT = "envoy.filters.http.local_ratelimit"
BUFFER = "envoy.filters.http.buffer"
_COMPRESSORS = {"Gzip": "gzip", "Brotli": "brotli", "Zstd": "zstd"}


class OptionalFilter(msgspec.Struct, frozen=True):
    """config: in the listener. first: whether it stands before all others, and so sees answers last."""

    name: str
    config: dict[str, Any]
    first: bool = False

    def listed(self) -> dict[str, Any]:
        """As a listener has it."""
        return {"name": self.name, "disabled": True, "typed_config": self.config}


def compressor(kind: str) -> str:
    """The name of the filter for a type of compression, such as Gzip."""
    return f"envoy.filters.http.compressor.{_COMPRESSORS[kind]}"


def _compressor(kind: str) -> OptionalFilter:
    short = _COMPRESSORS[kind]
    library = f"envoy.extensions.compression.{short}.compressor.v3.{kind}"
    return OptionalFilter(
        compressor(kind),
        {
            "@type": TYPE + _FILTERS + "compressor.v3.Compressor",
            "compressor_library": {
                "name": f"envoy.compression.{short}.compressor",
                "typed_config": {"@type": TYPE + library},
            },
            # On AI paths it runs for all routes of a host as soon as one of them asks for it; only that one's own
            # config makes it work.
            "response_direction_config": {
                "common_config": {
                    "enabled": {"default_value": False, "runtime_key": "kajitori.compress_all_answers"}
                }
            },
        },
        first=True,
    )


_CUSTOM_RESPONSE: dict[str, Any] = {"@type": TYPE + _FILTERS + "custom_response.v3.CustomResponse"}
_FAULT: dict[str, Any] = {"@type": TYPE + _FILTERS + "fault.v3.HTTPFault"}
_LOCAL_RATE_LIMIT: dict[str, Any] = {
    "@type": TYPE + _FILTERS + "local_ratelimit.v3.LocalRateLimit",
    "stat_prefix": "local_rate_limit",
}

OPTIONAL_FILTERS: tuple[OptionalFilter, ...] = (
    *(_compressor(kind) for kind in _COMPRESSORS),
    OptionalFilter(CUSTOM_RESPONSE, _CUSTOM_RESPONSE, first=True),
    OptionalFilter(FAULT, _FAULT),
    OptionalFilter(LOCAL_RATE_LIMIT, _LOCAL_RATE_LIMIT),
    OptionalFilter(
        BUFFER,
        {"@type": TYPE + _FILTERS + "buffer.v3.Buffer", "max_request_bytes": 2**31 - 1},
    ),
)


def first_filters() -> list[dict[str, Any]]:
    """Those before all others."""
    return [item.listed() for item in OPTIONAL_FILTERS if item.first]


def later_filters() -> list[dict[str, Any]]:
    """Those that stand behind what finds out about a request."""
    return [item.listed() for item in OPTIONAL_FILTERS if not item.first]
