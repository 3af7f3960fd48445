"""The filter that keeps requests back whose limits are used up, on routes about which nobody is asked. See lua/used_up_limits.lua. Pure.

It stands in every listener, switched off, before admission.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kajitori.gateway.accounting.places import used_up_beside
from kajitori.gateway.envoy.bootstrap import ACCOUNTANT_CLUSTER
from kajitori.gateway.lua.scripts import used_up_script
from kajitori.gateway.resources import TYPE

FILTER = "kajitori.used-up"
_LUA = TYPE + "envoy.extensions.filters.http.lua.v3."
SWITCHED_ON = {FILTER: {"@type": TYPE + "envoy.config.route.v3.FilterConfig", "config": {}}}
SWITCHED_OFF = {"@type": _LUA + "LuaPerRoute", "disabled": True}


def used_up_filter(access_log: str) -> dict[str, Any]:
    """For a listener. access_log: of Envoy; the accountant's file is beside it."""
    script = used_up_script(str(used_up_beside(Path(access_log or "access.log"))), ACCOUNTANT_CLUSTER)
    return {
        "name": FILTER,
        "disabled": True,
        "typed_config": {
            "@type": _LUA + "Lua",
            "default_source_code": {"inline_string": script},
            "shared_vm_id": FILTER,
        },
    }
