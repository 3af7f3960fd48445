"""`cors` and `csrf`: which pages may ask."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kajitori.base.duration import parse_duration_seconds
from kajitori.gateway.resources import TYPE
from kajitori.gateway.routes.security_filters import CSRF as CSRF_STEP

if TYPE_CHECKING:
    from kajitori.api.envoygateway.security_policy import CORS, CSRF
    from kajitori.gateway.policies.security.making import Making

_MILLION = 1_000_000


def make_cors(making: Making, cors: CORS) -> None:
    """The configuration of the CORS filter."""
    policy: dict[str, Any] = {
        "@type": TYPE + "envoy.extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": [_origin(origin) for origin in cors.allow_origins],
        "allow_methods": ",".join(cors.allow_methods),
        "allow_headers": ",".join(cors.allow_headers),
        "expose_headers": ",".join(cors.expose_headers),
        "forward_not_matching_preflights": False,
    }
    if cors.allow_credentials is not None:
        policy["allow_credentials"] = cors.allow_credentials
    if cors.max_age is not None:
        policy["max_age"] = str(int(parse_duration_seconds(cors.max_age)))
    making.cors = policy


def make_csrf(making: Making, csrf: CSRF) -> None:
    """The configuration of the CSRF filter. What is not counted only is enforced."""
    shadow = 0
    if csrf.shadow_fraction is not None:
        shadow = round(_MILLION * csrf.shadow_fraction.numerator / csrf.shadow_fraction.denominator)
    making.steps[CSRF_STEP] = {
        "@type": TYPE + "envoy.extensions.filters.http.csrf.v3.CsrfPolicy",
        "filter_enabled": _share(_MILLION - shadow),
        "shadow_enabled": _share(shadow),
        # The filter compares host and port alone.
        "additional_origins": [
            _origin(re.sub(r"^[a-z][a-z0-9+.-]*://", "", each)) for each in csrf.additional_origins
        ],
    }


def _share(numerator: int) -> dict[str, Any]:
    return {"default_value": {"numerator": numerator, "denominator": "MILLION"}}


def _origin(origin: str) -> dict[str, Any]:
    if "*" not in origin:
        return {"exact": origin}
    return {"safe_regex": {"regex": ".*".join(re.escape(part) for part in origin.split("*"))}}
