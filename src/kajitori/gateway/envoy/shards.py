"""Large route tables in shards, so that the change of one route costs Envoy the work of a thirty-second of them. No I/O.

Envoy makes a route table anew as a whole: 1,000 routes are 115 ms of its main thread, whatever changed. But which table a
request is looked up in may depend on a header (scoped routes), and is found out again when the script has read the model. So each
listener puts the name of its table into that header, and where a host has many routes by model, these stand in shards by
a number made of the model: the script changes the header to the shard's name.

Every request takes the route that it would take in the whole table. A shard has, of each host that is cut, what a
request for one of its models could take, in the same order; the table itself all that a request without a model could.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from kajitori.gateway.envoy.route_tree import required, takes_all
from kajitori.gateway.resources import EXTENSION, ROUTES, SCOPES, Resources

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence, Set

SHARDS = 32
# By model, in a host that is worth cutting.
_FEWEST_ROUTES = 8 * SHARDS
TABLE_HEADER = "x-kajitori-table"
# Where routes say to the script that their host is cut, and what comes before the number of a shard.
FACT, _FACTS_OF = "shards", "envoy.filters.http.lua"
# Routes that the script runs on, before the model is known. See routes/endpoints.py.
_ENTRY = "ai-entry"
_MARK = "/shard-"
_SHARD = re.compile(rf"{_MARK}\d\d(?=#|$)")
Resource = dict[str, Any]
# Filters of users that may write another model and have the route looked for anew say so.
_LOOKS_ANEW = "clear_route_cache"


class _Nature(NamedTuple):
    """Of a route: the header's value that it wants, if one; whether a request with the header cannot take it; whether every
    one takes it; and whether one of its filters may choose another route.
    """

    model: str | None
    excluded: bool
    takes_all: bool
    looks_anew: bool


def shard_name(table: str, number: int) -> str:
    """Of a table's shard."""
    return f"{table}{_MARK}{number:02}"


def table_of(name: str) -> str:
    """The same of the table that a shard belongs to. name: of a resource, or of a part of one behind it."""
    return _SHARD.sub("", name)


@functools.lru_cache(maxsize=65_536)
def shard_of(model: str) -> int:
    """The number of the shard where a model's routes are; lua/shards.lua computes the same."""
    number = 0
    for byte in model.encode():
        number = (number * 33 + byte) % 65_521
    return number % SHARDS


def scope(table: str) -> Resource:
    """That requests whose header has a table's name are looked up in it."""
    return {
        "name": table,
        "route_configuration_name": table,
        "key": {"fragments": [{"string_key": table}]},
    }


def scope_of_former(shard: str) -> Resource:
    """That requests which name a shard that is no more are looked up in its table: some were on their way when it went."""
    return {**scope(shard), "route_configuration_name": table_of(shard)}


class Sharding:
    """Cuts tables, and remembers which hosts it has cut: these stay so, lest requests get lost on the way back.

    While a host is cut for the first time its shards are to come first, then the table.
    """

    def __init__(self) -> None:
        self._cut: set[tuple[str, str]] = set()
        self._looks_anew = False
        self._natures: dict[str, dict[int, tuple[Resource, _Nature]]] = {}
        self._marked: dict[str, dict[int, tuple[Resource, Resource]]] = {}

    def cut(self, resources: Resources) -> Resources:
        """The same with shards. Tables without a scope stay whole."""
        tables = resources.by_type.get(ROUTES, {})
        self._looks_anew = _says(resources.by_type.get(EXTENSION), _LOOKS_ANEW)
        scopes = dict(resources.by_type.get(SCOPES, {}))
        if scopes:
            self._forget_all_but(tables.keys())
        found: dict[str, Resource] = {}
        for name, value in tables.items():
            if name not in scopes:
                found[name] = value
                continue
            table, shards = self._divided(name, value)
            found[name] = table
            for number, shard in enumerate(shards):
                found[shard_name(name, number)] = shard
                scopes[shard_name(name, number)] = scope(shard_name(name, number))
        return Resources({**resources.by_type, ROUTES: found, SCOPES: scopes})

    def _forget_all_but(self, tables: Set[str]) -> None:
        """Of tables that are gone, nothing."""
        self._cut = {place for place in self._cut if place[0] in tables}
        for known in (self._natures, self._marked):
            for name in known.keys() - tables:
                del known[name]

    def _divided(self, name: str, value: Resource) -> tuple[Resource, list[Resource]]:
        """A table without what is in its shards, and these; none where no host is cut."""
        hosts: list[Resource] = []
        of_shards: list[list[Resource]] = [[] for _ in range(SHARDS)]
        natures = _Remembered(self._natures, name)
        marked = _Remembered(self._marked, name)
        for host in value["virtual_hosts"]:
            parts = self._parts(name, host, natures)
            if parts is None:
                hosts.append(host)
                continue
            kept, by_shard = parts
            hosts.append({**host, "routes": [_entry(name, route, marked) for route in kept]})
            for shard, routes in zip(of_shards, by_shard, strict=True):
                shard.append({**host, "routes": routes})
        natures.finish()
        marked.finish()
        rest = {key: item for key, item in value.items() if key != "virtual_hosts"}
        # Which table it was is none of a backend's business.
        rest["request_headers_to_remove"] = [*rest.get("request_headers_to_remove", ()), TABLE_HEADER]
        table = {**rest, "virtual_hosts": hosts}
        if not of_shards[0]:
            return table, []
        return table, [
            {**rest, "name": shard_name(name, number), "virtual_hosts": of_shard}
            for number, of_shard in enumerate(of_shards)
        ]

    def _parts(
        self, table: str, host: Resource, natures: _Remembered
    ) -> tuple[list[Resource], list[list[Resource]]] | None:
        """The routes of a host for requests without a model, and those of each shard; None for a host that stays whole."""
        routes: Sequence[Resource] = host["routes"]
        place = (table, str(host["name"]))
        if len(routes) < _FEWEST_ROUTES and place not in self._cut:
            return None
        known: list[_Nature] = [natures.of(route, _nature) for route in routes]
        if self._looks_anew or any(nature.looks_anew for nature in known):
            # The script names the shard of the model that was asked for, and no filter behind it could.
            self._cut.discard(place)
            return None
        common, by_model = _sorted_out(known)
        fewest = max(_FEWEST_ROUTES, SHARDS * len(common))
        if place not in self._cut and sum(map(len, by_model)) < fewest:
            return None
        self._cut.add(place)
        kept = [route for route, nature in zip(routes, known, strict=True) if nature.model is None]
        return kept, [[routes[at] for at in sorted([*own, *common])] for own in by_model]


class _Remembered:
    """What was made of routes the last time, by identity."""

    def __init__(self, known: dict[str, dict[int, tuple[Resource, Any]]], table: str) -> None:
        self._all, self._table = known, table
        self._before = known.get(table, {})
        self._now: dict[int, tuple[Resource, Any]] = {}

    def of(self, route: Resource, make: Any) -> Any:
        key = id(route)
        known = self._before.get(key)
        if known is None or known[0] is not route:
            known = (route, make(route))
        self._now[key] = known
        return known[1]

    def finish(self) -> None:
        self._all[self._table] = self._now


def _entry(table: str, route: Resource, marked: _Remembered) -> Resource:
    """The route, which says to the script that its host is cut if the script runs there first."""
    if not str(route.get("name", "")).startswith(_ENTRY):
        return route
    return marked.of(route, functools.partial(_marked, table))


def _nature(route: Resource) -> _Nature:
    looks_anew = _says(route.get("typed_per_filter_config"), _LOOKS_ANEW)
    return _Nature(*required(route), takes_all(route), looks_anew)


def _says(value: Any, name: str) -> bool:
    """Whether a member of this name is true anywhere in it."""
    if isinstance(value, dict):
        members: dict[str, Any] = value
        return members.get(name) is True or any(_says(item, name) for item in members.values())
    if isinstance(value, list):
        items: list[Any] = value
        return any(_says(item, name) for item in items)
    return False


def _sorted_out(natures: Sequence[_Nature]) -> tuple[list[int], list[list[int]]]:
    """Places of routes that requests for any model could take, and of those for the models of each shard."""
    common: list[int] = []
    by_model: list[list[int]] = [[] for _ in range(SHARDS)]
    for place, (model, excluded, all_, _) in enumerate(natures):
        if model is not None:
            by_model[shard_of(model)].append(place)
        elif not excluded:
            common.append(place)
            if all_:
                break
    return common, by_model


def _marked(table: str, route: Resource) -> Resource:
    """An entry that tells the script of the shards."""
    metadata: Resource = route.get("metadata", {})
    by_filter: Mapping[str, Any] = metadata.get("filter_metadata", {})
    facts = {**by_filter.get(_FACTS_OF, {}), FACT: f"{table}{_MARK}"}
    return {**route, "metadata": {**metadata, "filter_metadata": {**by_filter, _FACTS_OF: facts}}}
