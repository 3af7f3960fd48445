"""Route tables: one a port, made of virtual hosts, in which the order of routes decides.

Within a host, from first to last: plain routes whose path says more than `/`; the entry of AI requests, whose
model is not read yet; routes by model; "no such model"; plain routes at `/`; "no such method" of the AI paths;
"no such path". Routes of a less
specific hostname follow those of a more specific one, unless a listener has the specific one for itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.gateway.keys.delivery import LUA_FILTER
from kajitori.gateway.resilience.order import Tier
from kajitori.gateway.routes.admission import Asking
from kajitori.gateway.routes.answers import Model, direct_error
from kajitori.gateway.routes.endpoints import (
    entry_routes,
    models_routes,
    preflight_route,
    switched_on,
    unknown_model,
    unknown_paths,
    unnamed_routes,
    wrong_methods,
)
from kajitori.gateway.routes.hostnames import ANY_HOST, covering, covers
from kajitori.gateway.routes.protected_routes import HostSecurity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kajitori.gateway.routes.protection import Protection

_LONGEST_BODY_BYTES = 4 * 1024 * 1024
_FILTER_OFF = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}
DECOMPRESSOR_FILTER = "envoy.filters.http.decompressor"
PLAIN_FILTERS = {LUA_FILTER: _FILTER_OFF, DECOMPRESSOR_FILTER: _FILTER_OFF}


class Entry(msgspec.Struct, frozen=True):
    """A route of Envoy with its rank: smaller sorts first.

    models: what it adds to `/v1/models`. serves: schemas of its backends, if nothing but the model leads to it. protected: whether it asks for a key. protection: what a SecurityPolicy asks, of a route by model. rule: the name of the rule that it was made of, to which policies attach. tiers: its backends by priority. ending: what becomes of a stream that dies.
    silence_seconds: how long a backend of it may be silent, 0 for no bound. hedge: after how many seconds a further leg is sent, and how many at most.
    """

    rank: tuple[Any, ...]
    route: dict[str, Any]
    ai: bool = False
    at_root: bool = False
    models: tuple[Model, ...] = ()
    serves: frozenset[str] = frozenset()
    rule: str = ""
    tiers: tuple[Tier, ...] = ()
    protected: bool = False
    protection: Protection | None = None
    ending: str = "Cut"
    silence_seconds: float = 0.0
    hedge: tuple[float, int] | None = None


class Table:
    """The routes of one port, or of one HTTPS listener, by hostname.

    keyed: whether clients may have keys. hosts: that exist without routes, too. elsewhere: hostnames that other HTTPS
    listeners of the port have; requests for them came over the wrong connection.
    """

    def __init__(
        self,
        name: str,
        body_limit_bytes: int,
        *,
        keyed: bool = False,
        hosts: Iterable[str] = (ANY_HOST,),
        elsewhere: Iterable[str] = (),
    ) -> None:
        self.name = name
        self._asking = Asking()
        self._keyed = keyed
        self._body_limit_bytes = body_limit_bytes
        self._hosts: dict[str, list[tuple[Entry, tuple[str, ...]]]] = {host: [] for host in hosts}
        self._elsewhere = frozenset(elsewhere) - self._hosts.keys()
        wildcards = [host for host in self._hosts if host.startswith("*")]
        self._narrower = {name for name in self._elsewhere if any(covers(host, name) for host in wildcards)}

    def add(self, hostname: str, entry: Entry, hidden: tuple[str, ...] = ()) -> None:
        """hidden: narrower hostnames at which the route does not serve."""
        self._hosts.setdefault(hostname, []).append((entry, hidden))

    def route_configuration(self, asking: Asking | None = None) -> dict[str, Any]:
        """The RouteConfiguration of Envoy. asking: about which routes the accountant is asked."""
        self._asking = asking or self._asking
        misdirected = {name for name in self._hosts.keys() | self._elsewhere if self._is_elsewhere(name)}
        hosts = [self._virtual_host(name) for name in sorted(self._hosts.keys() - misdirected)]
        if misdirected:
            hosts.append(_misdirected(sorted(misdirected)))
        return {
            "name": self.name,
            "max_direct_response_body_size_bytes": _LONGEST_BODY_BYTES,
            # What a backend of a rule says of a header beats what the rule says.
            "most_specific_header_mutations_wins": True,
            # Backends see the host as the client wrote it, with its port.
            "ignore_port_in_host_matching": True,
            "virtual_hosts": hosts,
        }

    def _is_elsewhere(self, hostname: str) -> bool:
        return hostname in self._elsewhere or not self._narrower.isdisjoint(covering(hostname))

    def _virtual_host(self, hostname: str) -> dict[str, Any]:
        # Every pattern that covers this host contributes, the most specific first.
        found = [
            (pattern, entry)
            for pattern in covering(hostname)
            if pattern in self._hosts
            for entry, hidden in sorted(self._hosts[pattern], key=lambda item: item[0].rank)
            if not any(covers(name, hostname) for name in hidden)
        ]
        found = [(pattern, _asked(self._asking, entry)) for pattern, entry in found]
        entries = [entry for _, entry in found]
        security = HostSecurity([entry for entry in entries if entry.ai])
        by_model = security.by_model
        shown = {id(entry): secured for entry, secured in zip(filter(_is_ai, entries), by_model, strict=True)}
        routes = [entry.route for entry in entries if not entry.ai and not entry.at_root]
        if by_model:
            models = [
                (pattern, model) for pattern, entry in found for model in shown.get(id(entry), entry).models
            ]
            protected = [entry.protected for entry in by_model]
            hidden = any(protected) or security.hides_models
            named = _distinct([model for _, model in models])
            first = [
                *entry_routes(all(protected), switched_on(by_model)),
                *models_routes(hostname, models, protected=all(protected)),
            ]
            routes += security.generated(first, guarded=True)
            if security.answers_preflights:
                routes += security.generated([preflight_route()])
            routes += [entry.route for entry in by_model]
            routes += unnamed_routes(by_model)
            routes += security.generated([unknown_model(named, hidden=hidden)])
        routes += [entry.route for entry in entries if not entry.ai and entry.at_root]
        if by_model:
            routes += security.generated(wrong_methods(PLAIN_FILTERS))
        routes += security.generated(unknown_paths(PLAIN_FILTERS, models=bool(by_model)))
        return {
            "name": hostname,
            "domains": [hostname],
            "request_body_buffer_limit": self._body_limit_bytes,
            "routes": self._asking.alike(_named_apart(routes)),
        }


def _is_ai(entry: Entry) -> bool:
    return entry.ai


def _asked(asking: Asking, entry: Entry) -> Entry:
    route = asking.asked(entry.route)
    return entry if route is entry.route else msgspec.structs.replace(entry, route=route)


def _named_apart(routes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drops a route that stands twice, because two patterns of one host carry it."""
    found: dict[str, dict[str, Any]] = {}
    for route in routes:
        found.setdefault(route["name"], route)
    return list(found.values())


def _distinct(models: list[Model]) -> list[Model]:
    """The first of each name."""
    return list({model.id: model for model in reversed(models)}.values())[::-1]


def _misdirected(hostnames: list[str]) -> dict[str, Any]:
    """The hosts of other listeners together: each listener of a port has all the others'."""
    told = "this connection was made for another host than %REQ(:AUTHORITY)%; open one of its own"
    route = {
        "name": "misdirected",
        "match": {"prefix": "/"},
        "direct_response": direct_error(421, told),
        "typed_per_filter_config": PLAIN_FILTERS,
    }
    # No hostname has a stroke.
    return {"name": "other/listeners", "domains": hostnames, "routes": [route]}
