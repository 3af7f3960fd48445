"""Which routes ask for a key, by an annotation of the Gateway or of the route. Pure.

The stricter of the two holds: who owns a Gateway can ask for keys on all of its routes, and no route can take that
back. A value that is neither of the two asks for keys, and is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.gateway.keys.delivery import LUA_FILTER
from kajitori.gateway.routes.tables import Entry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kajitori.api.gateway.v1 import Gateway
    from kajitori.api.kubernetes.meta_v1 import ObjectMeta
    from kajitori.gateway.routes.attachment import ParentOutcome

ANNOTATION = "gateway.kajitori.dev/api-keys"
REQUIRED, OPTIONAL = "Required", "Optional"
# What the Lua filter tells of the client must not go to a backend; those of AI routes are cleaned by each attempt.
_TOLD_HEADERS = ["x-kajitori-key", "x-kajitori-tenant"]


def asks_for_keys(metadata: ObjectMeta) -> bool:
    """Whether an object's annotation asks for keys."""
    return metadata.annotations.get(ANNOTATION, OPTIONAL) != OPTIONAL


def asking_places(
    route: ObjectMeta, outcomes: Sequence[ParentOutcome], gateways: Mapping[tuple[str, str], Gateway]
) -> set[tuple[int, str]]:
    """Port and host of each place where a route asks for keys, of its own accord or by a Gateway that it came by."""
    by_itself = asks_for_keys(route)
    return {
        (place.port, place.hostname)
        for outcome in outcomes
        for place in outcome.via
        if by_itself or asks_for_keys(gateways[place.gateway].metadata)
    }


def what_is_wrong(metadata: ObjectMeta) -> list[str]:
    """A sentence about an annotation that cannot be understood."""
    value = metadata.annotations.get(ANNOTATION, OPTIONAL)
    if value in (REQUIRED, OPTIONAL):
        return []
    return [f"annotation {ANNOTATION} is {value!r}, not Required or Optional; keys are asked for"]


def marked(entries: Sequence[Entry], route: str, required: bool) -> list[Entry]:
    """Entries with what the Lua filter must know of their route. route: namespace/name."""
    return [_marked(entry, route, required) for entry in entries if entry.ai or required] + [
        entry for entry in entries if not entry.ai and not required
    ]


def _marked(entry: Entry, route: str, required: bool) -> Entry:
    told: dict[str, Any] = {"route": route}
    if required:
        told["keys"] = REQUIRED
    metadata = entry.route.get("metadata", {}).get("filter_metadata", {})
    changed = {
        **entry.route,
        "metadata": {"filter_metadata": {**metadata, LUA_FILTER: {**metadata.get(LUA_FILTER, {}), **told}}},
    }
    if not entry.ai:
        filters = entry.route.get("typed_per_filter_config", {})
        changed["typed_per_filter_config"] = {
            name: value for name, value in filters.items() if name != LUA_FILTER
        }
        removed = entry.route.get("request_headers_to_remove", [])
        changed["request_headers_to_remove"] = [*removed, *_TOLD_HEADERS]
    models = tuple(msgspec.structs.replace(model, route=route, protected=required) for model in entry.models)
    return msgspec.structs.replace(entry, route=changed, models=models, protected=required)
