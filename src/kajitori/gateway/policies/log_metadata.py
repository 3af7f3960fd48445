"""Access logs with formats made for Envoy AI Gateway: what they find in its metadata, `io.envoy.ai_gateway`. Pure.

Costs are computed after a request, by the accountant; those that are plain counts of tokens are known before its log line is
written. A filter tells them, in listeners with such a log alone, so that nobody else pays for it. The backend is read
from where it is known anyway. What is not told is named in the EnvoyProxy's condition.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kajitori.gateway.accounting.costs import COST_FIELDS, Usage
from kajitori.gateway.keys.delivery import LUA_TYPE, discovered
from kajitori.gateway.lua.scripts import told_costs_script
from kajitori.gateway.resilience.cooling import BACKEND_METADATA
from kajitori.gateway.resources import TYPE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kajitori.api.envoygateway.envoy_proxy import AccessLogSetting
    from kajitori.gateway.accounting.accountant_policy import RouteFacts

NAMESPACE = "io.envoy.ai_gateway"
FILTER = "kajitori.told-costs"
_ASKED = re.compile(rf"%DYNAMIC_METADATA\({re.escape(NAMESPACE)}:([^:)]+)\)")
_BACKEND = re.compile(
    rf"%DYNAMIC_METADATA\({re.escape(NAMESPACE)}:(?:backend_name|ai_service_backend_name)\)"
)
_TOLD = frozenset(("backend_name", "ai_service_backend_name", "response_model", "route_name"))
_COUNTS = Usage.__struct_fields__


def asks_for_metadata(setting: AccessLogSetting) -> bool:
    """Whether a log has any of it."""
    return NAMESPACE in f"{setting.format} {setting.matches}"


def with_known_backend(text: str) -> str:
    """A format that reads the backend from its cluster, which says it as namespace/name."""
    return _BACKEND.sub(f"%CLUSTER_METADATA({BACKEND_METADATA}:backend)", text)


def told_costs_filter() -> dict[str, Any]:
    """For a listener; its configuration comes apart from it."""
    return discovered(FILTER, LUA_TYPE)


def told_costs(routes: Mapping[str, RouteFacts]) -> dict[str, Any]:
    """The filter's configuration, a TypedExtensionConfig."""
    table = {
        name: {
            cost.key: _COUNTS.index(COST_FIELDS[cost.type]) + 1
            for cost in facts.costs
            if cost.type in COST_FIELDS
        }
        for name, facts in routes.items()
    }
    return {
        "name": FILTER,
        "typed_config": {
            "@type": TYPE + LUA_TYPE,
            "default_source_code": {
                "inline_string": told_costs_script({name: costs for name, costs in table.items() if costs})
            },
            "shared_vm_id": FILTER,
        },
    }


def untold(setting: AccessLogSetting, routes: Mapping[str, RouteFacts]) -> Iterator[str]:
    """What a log asks for and does not find, and why."""
    costs = [cost for facts in routes.values() for cost in facts.costs]
    counts = {cost.key for cost in costs if cost.type in COST_FIELDS}
    computed = {cost.key for cost in costs} - counts
    asked = sorted(set(_ASKED.findall(str(setting.format))) - _TOLD - counts)
    if late := [name for name in asked if name in computed]:
        yield f"{', '.join(late)}: computed by CEL after the request; `kaji usage --records` has that"
    if unknown := [name for name in asked if name not in computed]:
        known = "`%DYNAMIC_METADATA(io.kajitori)%` has what is known"
        yield f"{', '.join(unknown)}: not among llmRequestCosts, and not told besides; {known}"
