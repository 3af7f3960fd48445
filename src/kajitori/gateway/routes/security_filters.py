"""The filters that SecurityPolicies use: each stands twice in every listener, switched off.

Before the Lua filter it holds for requests whose route is known, and for those of AI routes where all routes of the
host ask for the same, so that nobody's body is read before he has shown who he is. Behind it stands the same filter for
what depends on the model.
"""

from __future__ import annotations

from typing import Any

from kajitori.gateway.internal_headers import OURS_PATTERN
from kajitori.gateway.keys.delivery import discovered
from kajitori.gateway.resources import TYPE

_HTTP = TYPE + "envoy.extensions.filters.http."
JWT_TYPE = "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"
_EARLY, _LATE = "kajitori.", "kajitori.by_model."
CSRF, OAUTH2, JWT, ASK, ASK_TELLING, RULES = (
    "csrf",
    "oauth2",
    "jwt",
    "ext_authz",
    "ext_authz.telling",
    "rbac",
)
"""In the order in which requests pass them. ASK: a filter that a route brings as a whole, since most of ext_authz cannot
be said at a route. ASK_TELLING: ext_authz itself, for the one matter that can only be said there, context extensions."""
STEPS = (CSRF, OAUTH2, JWT, ASK, ASK_TELLING, RULES)
_NEVER = {"default_value": {"numerator": 0}}
_MATCHING = TYPE + "envoy.extensions.common.matching.v3.ExtensionWithMatcher"
# What a service answers must not reach the headers by which requests are booked.
KEEPS_OURS = {
    "allow_all_routing": True,
    "allow_envoy": True,
    "disallow_expression": {"regex": OURS_PATTERN},
}
# Never used: every route that switches the filter on has a service of its own, or switches it off again.
_NOBODY = {"envoy_grpc": {"cluster_name": "no-service"}, "timeout": "1s"}


def early(step: str) -> str:
    """The name of a step's filter before the Lua filter."""
    return _EARLY + step


def late(step: str) -> str:
    """The name of a step's filter behind it."""
    return _LATE + step


def security_filters(name: Any) -> list[dict[str, Any]]:
    """The filters of one place. name: `early` or `late`."""
    return [_filter(name(step), step) for step in STEPS]


def switched_off_late() -> dict[str, Any]:
    """For routes behind the Lua filter that do not ask: the filter that would do something on its own."""
    return {late(ASK_TELLING): {"@type": _HTTP + "ext_authz.v3.ExtAuthzPerRoute", "disabled": True}}


def brought(name: str, config: dict[str, Any]) -> dict[str, Any]:
    """What a route says at ASK: the filter with its whole configuration."""
    action = {
        "name": "bring",
        "typed_config": {
            "@type": _HTTP + "composite.v3.ExecuteFilterAction",
            "typed_config": {"name": name, "typed_config": config},
        },
    }
    return {"@type": _MATCHING + "PerRoute", "xds_matcher": {"on_no_match": {"action": action}}}


def _filter(name: str, step: str) -> dict[str, Any]:
    if step == JWT:
        return {**discovered(name, JWT_TYPE), "disabled": True}
    base: dict[str, Any]
    match step:
        case "csrf":
            base = {"@type": _HTTP + "csrf.v3.CsrfPolicy", "filter_enabled": _NEVER}
        case "oauth2":
            base = {"@type": _HTTP + "oauth2.v3.OAuth2"}
        case "rbac":
            base = {"@type": _HTTP + "rbac.v3.RBAC"}
        case "ext_authz":
            composite = {"@type": _HTTP + "composite.v3.Composite"}
            base = {
                "@type": _MATCHING,
                "extension_config": {"name": "envoy.filters.http.composite", "typed_config": composite},
            }
        case _:
            base = {
                "@type": _HTTP + "ext_authz.v3.ExtAuthz",
                "grpc_service": _NOBODY,
                "transport_api_version": "V3",
                "decoder_header_mutation_rules": KEEPS_OURS,
            }
    return {"name": name, "disabled": True, "typed_config": base}
