"""The filter after admission that keeps a request from backends whose quota is used up. See lua/exhausted_backends.lua. Pure.

It stands in every listener, switched off; routes with quotas of backends switch it on and say what they may go to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.gateway.lua.scripts import EXHAUSTED_SCRIPT
from kajitori.gateway.resources import TYPE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kajitori.gateway.accounting.accountant_policy import BackendFacts

FILTER = "kajitori.exhausted"
_LUA = TYPE + "envoy.extensions.filters.http.lua.v3."


def exhausted_filter() -> dict[str, Any]:
    """For a listener."""
    return {
        "name": FILTER,
        "disabled": True,
        "typed_config": {
            "@type": _LUA + "Lua",
            "default_source_code": {"inline_string": EXHAUSTED_SCRIPT},
            "shared_vm_id": FILTER,
        },
    }


def leaving_out(route: dict[str, Any], backends: Mapping[str, BackendFacts]) -> dict[str, Any]:
    """What a route has in `typed_per_filter_config`, if it chooses among backends. backends: by cluster."""
    plugin = route.get("route", {}).get("inline_cluster_specifier_plugin", {})
    groups = plugin.get("extension", {}).get("typed_config", {}).get("priority_groups", [])
    told = [
        [
            {
                "cluster": choice["cluster_name"],
                "name": backends[choice["cluster_name"]].name,
                "weight": choice["weight"],
            }
            for choice in group["clusters"]
            if choice["cluster_name"] in backends
        ]
        for group in groups
    ]
    if not told:
        return {}
    return {FILTER: {"@type": _LUA + "LuaPerRoute", "filter_context": {"groups": told}}}
