"""How the table of keys comes to Envoy: with the script that reads it, as one resource that no listener contains.

A change of a key sends this resource alone and drains nothing. Route tables neither grow with keys nor are sent again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.gateway.backends.clusters import TYPE
from kajitori.gateway.lua.scripts import REQUEST_SCRIPT

if TYPE_CHECKING:
    from collections.abc import Mapping

# Envoy asks for the configuration of a filter by the filter's name.
LUA_FILTER = "envoy.filters.http.lua"
LUA_TYPE = "envoy.extensions.filters.http.lua.v3.Lua"


def discovered(name: str, kind: str) -> dict[str, Any]:
    """A filter in a listener, whose configuration comes apart from it. kind: of its message."""
    source = {"ads": {}, "resource_api_version": "V3"}
    return {"name": name, "config_discovery": {"config_source": source, "type_urls": [TYPE + kind]}}


def request_lua(lines: Mapping[str, str]) -> dict[str, Any]:
    """The filter that reads keys and models, a TypedExtensionConfig. lines: as `KeyTable` has them."""
    return {
        "name": LUA_FILTER,
        "typed_config": {
            "@type": TYPE + LUA_TYPE,
            "default_source_code": {"inline_string": REQUEST_SCRIPT},
            "filter_context": lines,
            "shared_vm_id": "kajitori-request",
        },
    }
