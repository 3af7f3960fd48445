"""How the table of keys comes to Envoy: with the script that reads it, as one resource that no listener contains.

A change of a key sends this resource alone and drains nothing. Route tables neither grow with keys nor are sent again.

Whenever a script asks Envoy for its context, Envoy copies all of it, so it must be asked once only: the script keeps
what it got. Another table comes with another text of the script, which makes Envoy begin with a fresh state.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from kajitori.gateway.lua.scripts import REQUEST_SCRIPT
from kajitori.gateway.resources import TYPE

if TYPE_CHECKING:
    from collections.abc import Mapping

# Envoy asks for the configuration of a filter by the filter's name.
LUA_FILTER = "envoy.filters.http.lua"
LUA_TYPE = "envoy.extensions.filters.http.lua.v3.Lua"
# A record of the index: the id, where its line begins, how long it is. lua/keys.lua has the same numbers.
_ID_WIDTH, _PLACE_WIDTH = 16, 10


def discovered(name: str, kind: str) -> dict[str, Any]:
    """A filter in a listener, whose configuration comes apart from it. kind: of its message."""
    source = {"ads": {}, "resource_api_version": "V3"}
    return {"name": name, "config_discovery": {"config_source": source, "type_urls": [TYPE + kind]}}


def key_index(lines: Mapping[str, str]) -> tuple[str, str]:
    """An index of fixed records in the order of ids, and all lines as one text. lines: by id."""
    records: list[str] = []
    place = 1
    ids = sorted(lines)
    for name in ids:
        size = len(lines[name].encode())
        records.append(f"{name:<{_ID_WIDTH}}{place:0{_PLACE_WIDTH}}{size:0{_PLACE_WIDTH}}")
        place += size
    return "".join(records), "".join(lines[name] for name in ids)


def request_lua(lines: Mapping[str, str], logins: Mapping[str, str]) -> dict[str, Any]:
    """The filter that reads keys and models, a TypedExtensionConfig.

    lines: as `KeyTable` has them. logins: what SecurityPolicies have the script check, by name.
    """
    index, text = key_index(lines)
    context = {"index": index, "lines": text, "logins": dict(logins)}
    version = hashlib.sha256(repr((index, text, sorted(logins.items()))).encode()).hexdigest()[:16]
    return {
        "name": LUA_FILTER,
        "typed_config": {
            "@type": TYPE + LUA_TYPE,
            "default_source_code": {"inline_string": f"-- Of the keys {version}.\n{REQUEST_SCRIPT}"},
            "filter_context": context,
            "shared_vm_id": "kajitori-request",
        },
    }
