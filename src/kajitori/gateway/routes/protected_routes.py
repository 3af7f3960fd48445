"""Protections put on routes of Envoy.

A plain route is known when a request comes in, so its steps stand before the Lua filter, but for those that look at
what that finds out. The routes by model of one host share their entry: where all of them ask for the same, it is asked there,
before a body is read; else each route asks for itself once the model is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.gateway.keys.delivery import LUA_FILTER
from kajitori.gateway.routes.answers import error_of, literal
from kajitori.gateway.routes.protection import ROUTE_NAMESPACE
from kajitori.gateway.routes.route_filters import CORS_FILTER
from kajitori.gateway.routes.security_filters import ASK_TELLING, early, late, switched_off_late

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kajitori.gateway.routes.protection import Protection
    from kajitori.gateway.routes.tables import Entry

_ACTIONS = ("route", "redirect", "direct_response")
# Keys of ours are none of a plain route's business, unless it asks for them.
_NO_KEYS = "Off"


def protected_plain(entry: Entry, protection: Protection) -> Entry:
    """A route whose filters are settled when a request comes in."""
    if protection.broken:
        return msgspec.structs.replace(entry, route=_closed(entry.route, protection))
    route = _described(entry.route, protection)
    configs = dict(route.get("typed_per_filter_config", {}))
    configs |= {
        (late if step in protection.behind else early)(step): config
        for step, config in protection.steps.items()
    }
    if protection.cors is not None:
        configs.setdefault(CORS_FILTER, protection.cors)
    if protection.login:
        configs.pop(LUA_FILTER, None)
        told = route.get("metadata", {}).get("filter_metadata", {}).get(LUA_FILTER, {})
        own = {"keys": told.get("keys", _NO_KEYS), "route": told.get("route", entry.route["name"])}
        route = _told(route, {**own, "guard": protection.guard})
    return msgspec.structs.replace(entry, route={**route, "typed_per_filter_config": configs})


class HostSecurity:
    """What the routes by model of one host ask for. by_model: these, as they shall be."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        found = {id(entry.protection): entry.protection for entry in entries}
        only = next(iter(found.values())) if len(found) == 1 else None
        self._common: Protection | None = only
        self._any = any(found.values())
        self._asks_late = False
        self._cors = next((each.cors for each in found.values() if each and each.cors), None)
        self.by_model = [self._by_model(entry) for entry in entries] if self._any else list(entries)
        if self._asks_late:
            # What one route switches on is on for all of them, and would do something by itself.
            self.by_model = [
                msgspec.structs.replace(entry, route=self._without_questions(entry.route))
                for entry in self.by_model
            ]

    @property
    def answers_preflights(self) -> bool:
        """Whether pages of other origins may ask."""
        return self._cors is not None

    @property
    def hides_models(self) -> bool:
        """Whether an error must not tell which models there are."""
        return self._any

    def _by_model(self, entry: Entry) -> Entry:
        protection = entry.protection
        if protection is None:
            return entry
        if protection.broken:
            return msgspec.structs.replace(entry, route=_closed(entry.route, protection), models=())
        steps = protection.behind if self._common is not None else protection.steps.keys()
        self._asks_late = self._asks_late or ASK_TELLING in steps
        configs = dict(entry.route.get("typed_per_filter_config", {}))
        configs |= {late(step): protection.steps[step] for step in steps if step in protection.steps}
        route = _described(entry.route, protection)
        route = {**route, "typed_per_filter_config": configs} if configs else route
        if protection.guard:
            route = _told(route, {"guard": protection.guard})
        # Who may see a model can only be asked where all models ask the same.
        models = entry.models if self._common is not None or not _restricts(protection) else ()
        return msgspec.structs.replace(entry, route=route, models=models)

    def _without_questions(self, route: dict[str, Any]) -> dict[str, Any]:
        if not self._asks_late:
            return route
        configs = {**switched_off_late(), **route.get("typed_per_filter_config", {})}
        return {**route, "typed_per_filter_config": configs}

    def generated(self, routes: Sequence[dict[str, Any]], *, guarded: bool = False) -> list[dict[str, Any]]:
        """Routes that the host has besides those by model. guarded: the script asks on them, too."""
        if not self._any:
            return list(routes)
        configs: dict[str, Any] = {}
        if self._cors is not None:
            configs[CORS_FILTER] = self._cors
        common = self._common
        if common is not None and not common.broken:
            configs |= {
                early(step): config for step, config in common.steps.items() if step not in common.behind
            }
        guard = common.guard if common is not None and guarded else ""
        made: list[dict[str, Any]] = []
        for route in routes:
            own = route.get("typed_per_filter_config", {})
            changed = {**route, "typed_per_filter_config": {**own, **configs}} if configs else route
            changed = self._without_questions(changed) if "direct_response" in route else changed
            made.append(_told(changed, {"guard": guard}) if guard else changed)
        return made


def _restricts(protection: Protection) -> bool:
    return bool(protection.steps or protection.login or protection.broken)


def _closed(route: dict[str, Any], protection: Protection) -> dict[str, Any]:
    kept = {name: value for name, value in route.items() if name not in _ACTIONS}
    return {**kept, "direct_response": error_of(route, 500, literal(protection.broken))}


def _described(route: dict[str, Any], protection: Protection) -> dict[str, Any]:
    """With what a service is told of it."""
    return _noted(route, ROUTE_NAMESPACE, protection.told) if protection.told else route


def _told(route: dict[str, Any], told: dict[str, str]) -> dict[str, Any]:
    return _noted(route, LUA_FILTER, told)


def _noted(route: dict[str, Any], namespace: str, told: dict[str, Any]) -> dict[str, Any]:
    """With more metadata in a namespace."""
    metadata = route.get("metadata", {})
    by_filter = metadata.get("filter_metadata", {})
    known = {**by_filter.get(namespace, {}), **told}
    return {**route, "metadata": {**metadata, "filter_metadata": {**by_filter, namespace: known}}}
