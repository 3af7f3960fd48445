"""The HTTP filters of every listener, from first to last on the way up.

A filter that a policy may ask for stands here always, switched off, and routes switch it on: a listener that changes
drains its connections, and a policy must cut nobody's stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.gateway.accounting.log_format import failed_attempts_log
from kajitori.gateway.backends.clusters import TYPE
from kajitori.gateway.credentials.filters import capture_filter
from kajitori.gateway.keys.delivery import LUA_FILTER, LUA_TYPE, discovered
from kajitori.gateway.routes.tables import USAGE_FILTER

if TYPE_CHECKING:
    from kajitori.gateway.observed import Settings


def http_filters(settings: Settings) -> list[dict[str, Any]]:
    """On the way up from first to last, on the way down from last to first: usage is read before it is stripped."""
    return [
        discovered(LUA_FILTER, LUA_TYPE),
        capture_filter(),
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
                "upstream_log": failed_attempts_log(settings.access_log),
            },
        },
    ]
