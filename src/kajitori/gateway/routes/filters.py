"""The HTTP filters of every listener, from first to last on the way up.

A filter that a policy may ask for stands here always, switched off, and routes switch it on: a listener that changes
drains its connections, and a policy must cut nobody's stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.gateway.accounting.log_format import failed_attempts_log
from kajitori.gateway.credentials.filters import capture_filter
from kajitori.gateway.keys.delivery import LUA_FILTER, LUA_TYPE, discovered
from kajitori.gateway.resources import TYPE
from kajitori.gateway.routes.admission import admission_filters
from kajitori.gateway.routes.exhausted_backends import exhausted_filter
from kajitori.gateway.routes.optional_filters import first_filters, later_filters
from kajitori.gateway.routes.route_filters import CORS_FILTER
from kajitori.gateway.routes.rule_settings import SESSION_FILTER
from kajitori.gateway.routes.security_filters import early, late, security_filters
from kajitori.gateway.routes.tables import DECOMPRESSOR_FILTER
from kajitori.gateway.routes.used_up_limits import used_up_filter

if TYPE_CHECKING:
    from kajitori.gateway.observed import Settings

# Text in JSON rarely shrinks to a twentieth; what shrinks to less than a hundredth is a bomb.
_MOST_INFLATED = 100


def decompressor_filter() -> dict[str, Any]:
    """Inflates answers of providers that compress though they were not asked to, so that their usage can be read."""
    gzip = {
        "@type": TYPE + "envoy.extensions.compression.gzip.decompressor.v3.Gzip",
        "window_bits": 15,
        "max_inflate_ratio": _MOST_INFLATED,
    }
    runtime = {"runtime_key": "kajitori.inflate_requests", "default_value": False}
    return {
        "name": DECOMPRESSOR_FILTER,
        "typed_config": {
            "@type": TYPE + "envoy.extensions.filters.http.decompressor.v3.Decompressor",
            "decompressor_library": {"name": "gzip", "typed_config": gzip},
            "request_direction_config": {
                "common_config": {"enabled": runtime},
                "advertise_accept_encoding": False,
            },
            "response_direction_config": {"common_config": {"ignore_no_transform_header": True}},
        },
    }


def http_filters(settings: Settings) -> list[dict[str, Any]]:
    """On the way up from first to last, on the way down from last to first."""
    return [
        *first_filters(),
        {
            "name": CORS_FILTER,
            "disabled": True,
            "typed_config": {"@type": TYPE + "envoy.extensions.filters.http.cors.v3.Cors"},
        },
        *security_filters(early),
        discovered(LUA_FILTER, LUA_TYPE),
        capture_filter(),
        *security_filters(late),
        *later_filters(),
        used_up_filter(settings.access_log),
        *admission_filters(),
        exhausted_filter(),
        decompressor_filter(),
        {
            "name": SESSION_FILTER,
            "disabled": True,
            "typed_config": {
                "@type": TYPE + "envoy.extensions.filters.http.stateful_session.v3.StatefulSession"
            },
        },
        {
            "name": "envoy.filters.http.router",
            "typed_config": {
                "@type": TYPE + "envoy.extensions.filters.http.router.v3.Router",
                "suppress_envoy_headers": True,
                "upstream_log": failed_attempts_log(settings.access_log),
            },
        },
    ]
