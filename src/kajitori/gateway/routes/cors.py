"""The CORS filter of HTTPRoutes, as Envoy's CORS policy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kajitori.gateway.resources import TYPE

if TYPE_CHECKING:
    from kajitori.api.gateway.http_route import HTTPCORSFilter


def cors_policy(cors: HTTPCORSFilter) -> dict[str, Any]:
    """The policy of a route. An origin that is not named gets an answer without the headers that browsers ask for."""
    policy: dict[str, Any] = {
        "@type": TYPE + "envoy.extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": [_origin(origin) for origin in cors.allow_origins],
        "max_age": str(cors.max_age),
        "forward_not_matching_preflights": False,
    }
    if cors.allow_methods:
        policy["allow_methods"] = ", ".join(cors.allow_methods)
    if cors.allow_headers:
        policy["allow_headers"] = ", ".join(cors.allow_headers)
    if cors.expose_headers:
        policy["expose_headers"] = ", ".join(cors.expose_headers)
    if cors.allow_credentials:
        policy["allow_credentials"] = True
    return policy


def _origin(origin: str) -> dict[str, Any]:
    if "*" not in origin:
        return {"exact": origin}
    return {"safe_regex": {"regex": ".*".join(re.escape(part) for part in origin.split("*"))}}
