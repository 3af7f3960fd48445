"""What an attempt that failed teaches. Pure.

A backend that asks to be left alone is, and an endpoint that fails again and again is left out.
"""

from __future__ import annotations

from typing import Any, Literal

from kajitori.gateway.lua.scripts import COOLING_SCRIPT
from kajitori.gateway.resources import TYPE

Key = Literal["gateway", "request", "client"]
LUA_FILTER = "envoy.filters.http.lua"
"""Of a request and of an attempt alike: a script finds what a route tells it by the name of its filter."""
BACKEND_METADATA = "kajitori.backend"
"""Under which a cluster's metadata names its AIServiceBackend."""


def cooling_filter(backend: str, model: str, key: Key) -> dict[str, Any]:
    """The filter of a backend's cluster that runs where an attempt was answered other than 200, and only there: it also has the
    next one asked after what is no answer.

    backend: AIServiceBackend as namespace/name. model: override, or empty. key: whose the credential is: the gateway's
    own, the request's that overrides it, or whatever the client sent. Only what a provider says to the gateway concerns
    all requests.
    """
    status = {
        "name": "status",
        "typed_config": {
            "@type": TYPE + "envoy.type.matcher.v3.HttpResponseHeaderMatchInput",
            "header_name": ":status",
        },
    }
    skip = {"@type": TYPE + "envoy.extensions.filters.common.matcher.action.v3.SkipFilter"}
    fine = {"action": {"name": "skip", "typed_config": skip}}
    lua = {
        "@type": TYPE + "envoy.extensions.filters.http.lua.v3.Lua",
        "default_source_code": {"inline_string": COOLING_SCRIPT},
        "filter_context": {"target": backend, "key": key, **({"model": model} if model else {})},
        "shared_vm_id": "kajitori-cooling",
    }
    return {
        "name": LUA_FILTER,
        "typed_config": {
            "@type": TYPE + "envoy.extensions.common.matching.v3.ExtensionWithMatcher",
            "extension_config": {"name": LUA_FILTER, "typed_config": lua},
            "xds_matcher": {
                "matcher_tree": {"input": status, "exact_match_map": {"map": {"200": fine}}},
            },
        },
    }


def outlier_detection(*, spare: bool, lost_whole: bool) -> dict[str, Any]:
    """When an endpoint is left out for a while: five gateway errors, timeouts or failed connections in a row.

    spare: there is one more place behind the endpoints, see `kajitori.gateway.resilience.spare`. lost_whole: all may
    be left out, since a backend of another priority follows; otherwise half of several. 4xx never count, and 500
    does not either: a request that breaks one endpoint would break them all, one by one.
    """
    return {
        "consecutive_gateway_failure": 5,
        "enforcing_consecutive_gateway_failure": 100,
        "consecutive_5xx": 5,
        "enforcing_consecutive_5xx": 0,
        "enforcing_success_rate": 0,
        # Each cluster has a clock of its own; they are all that an idle Envoy has to do.
        "interval": "10s",
        "base_ejection_time": "10s",
        "max_ejection_time": "60s",
        # A spare place counts as an endpoint: it is never the one that is left out, and half of one is none.
        "max_ejection_percent": 99 if lost_whole else 49 if spare else 50,
    }
