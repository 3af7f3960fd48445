"""Routes whose requests have legs: streams that are rescued, and requests that are hedged; and the listener where legs come in.

A streamed request of such a route goes to the relay (`kajitori.gateway.rescue`), which asks Envoy's inner listener; there its
own route, found by the name that the relay was told, leads to the backends as it would have done at once. Where the
relay is away the request goes there directly: a stream that nobody rescues is better than none. Legs of a hedged request
come to that listener at once (`hedging.py`). A stream that is rescued is not hedged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.base.duration import parse_duration_seconds, protobuf_duration
from kajitori.gateway.accounting.log_format import request_log
from kajitori.gateway.backends.clusters import plain_cluster
from kajitori.gateway.backends.targets import Target
from kajitori.gateway.credentials.filters import CAPTURE_FILTER
from kajitori.gateway.keys.delivery import LUA_FILTER
from kajitori.gateway.rescue import legs
from kajitori.gateway.rescue.legs import HEDGE_CLUSTER, RESCUE_CLUSTER
from kajitori.gateway.resources import CLUSTER, LISTENER, ROUTES
from kajitori.gateway.routes.answers import ai_error
from kajitori.gateway.routes.hedging import ONCE_HEADER, hedge_cluster, hedged_action, telling_filter
from kajitori.gateway.routes.listeners import connection_manager, routes_by_name
from kajitori.gateway.routes.tables import DECOMPRESSOR_FILTER

if TYPE_CHECKING:
    from kajitori.gateway.observed import Settings
    from kajitori.gateway.routes.tables import Entry

INNER = "inner"
STREAM_HEADER = "x-kajitori-stream"
ENDINGS = ("Error", "Continue", "ContinueFinalMessage")
_OWNER_ONLY = 0o600
# Of the filters that a route configures, those that belong to the way to a backend; who the client is, and whether it may
# pass, is settled before.
_INNER_FILTERS = (CAPTURE_FILTER, DECOMPRESSOR_FILTER)
# Of what the script reads of a route: what only a leg's route tells, and what it tells besides.
_ORDER_FACTS = ("order", "order_table")
_INNER_FACTS = (*_ORDER_FACTS, "cooldown", "own_retries")
# Headers by which an answer says what leg it is of.
_OF_LEGS = (legs.CLUSTER, legs.HEDGE)
Resource = dict[str, Any]


class Rescues:
    """The routes of a plan that have legs. settings: without sockets there are none."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._inner: dict[str, Resource] = {}
        self._are_rescued = self._are_hedged = False

    def __bool__(self) -> bool:
        """Whether the relay has anything to do."""
        return self._are_rescued

    def split(self, entry: Entry, table: str, hostname: str) -> list[Entry]:
        """The entry as it leads to its legs, with another one for its streams in front where they are rescued."""
        is_rescued = entry.ending in ENDINGS
        if (
            not (is_rescued or entry.hedge)
            or self._settings.rescue_sockets is None
            or "route" not in entry.route
        ):
            return [entry]
        name = f"{table}/{hostname}/{entry.route['name']}"
        self._inner[name] = _inner_route(entry, name)
        parts: list[Entry] = []
        if is_rescued:
            self._are_rescued = True
            parts.append(
                msgspec.structs.replace(
                    entry, rank=(*entry.rank, 0), route=_relayed_route(entry, name), models=()
                )
            )
        route = entry.route
        if entry.hedge:
            self._are_hedged = True
            parts.append(
                msgspec.structs.replace(
                    entry, rank=(*entry.rank, 1), route=_only_with(route, ONCE_HEADER, "once"), models=()
                )
            )
            route = _hedged_route(entry, entry.hedge, name)
        return [*parts, msgspec.structs.replace(entry, rank=(*entry.rank, 2), route=route)]

    def resources(self) -> dict[str, dict[str, Resource]]:
        """What Envoy needs besides, by type and name; empty where nothing is rescued."""
        sockets = self._settings.rescue_sockets
        if not self._inner or sockets is None:
            return {}
        relay, inner = sockets
        manager = connection_manager(INNER, self._settings, INNER)
        # The relay is one of us: what it tells by headers is to be believed.
        del manager["early_header_mutation_extensions"], manager["scoped_routes"]
        manager |= {
            **routes_by_name(INNER),
            "http_filters": [telling_filter(), *manager["http_filters"]],
            "use_remote_address": False,
            "access_log": request_log(self._settings.access_log, self._settings.logged_headers, of_legs=True),
            "preserve_external_request_id": True,
        }
        filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
        listener = {
            "name": INNER,
            "address": {"pipe": {"path": inner, "mode": _OWNER_ONLY}},
            "per_connection_buffer_limit_bytes": 256 * 1024,
            "filter_chains": [{"filters": filters}],
        }
        host = {
            "name": INNER,
            "domains": ["*"],
            "request_body_buffer_limit": self._settings.body_limit_bytes,
            "routes": [*(self._inner[name] for name in sorted(self._inner)), _gone()],
        }
        clusters: dict[str, Resource] = {}
        if self._are_rescued:
            clusters[RESCUE_CLUSTER] = plain_cluster(RESCUE_CLUSTER, Target("STATIC", ((relay, 0, ""),)))
        if self._are_hedged:
            clusters[HEDGE_CLUSTER] = hedge_cluster(inner)
        return {
            CLUSTER: clusters,
            LISTENER: {INNER: listener},
            ROUTES: {INNER: {"name": INNER, "virtual_hosts": [host]}},
        }


def _relayed_route(entry: Entry, inner_name: str) -> Resource:
    """To the relay first, then wherever the route leads; attempts count alike."""
    route = entry.route
    action: Resource = dict(route["route"])
    plugin: Resource = action["inline_cluster_specifier_plugin"]["extension"]
    specifier: Resource = plugin["typed_config"]
    relay = {"name": "rescue", "clusters": [{"cluster_name": RESCUE_CLUSTER, "weight": 1}]}
    groups = [relay, *specifier["priority_groups"]]
    action["inline_cluster_specifier_plugin"] = {
        "extension": {**plugin, "typed_config": {**specifier, "priority_groups": groups}}
    }
    # Only that the relay is not there is mended here; what a backend answers was mended on the other side.
    action["retry_policy"] = {
        "retry_on": "connect-failure,reset-before-request",
        "num_retries": 1,
        "refresh_cluster_on_retry": True,
    }
    action.pop("hedge_policy", None)
    # How long it takes for somebody to go on is known on the other side, and to the relay.
    action["idle_timeout"] = "0s"
    told = [
        *_told(inner_name),
        {"header": {"key": legs.MODE, "value": entry.ending}},
        {"header": {"key": legs.SILENCE, "value": f"{entry.silence_seconds:g}"}},
    ]
    filters: Resource = dict(route.get("typed_per_filter_config", {}))
    filters.pop(CAPTURE_FILTER, None)
    return {
        **_only_with(route, STREAM_HEADER, "stream"),
        "route": action,
        "request_headers_to_add": [*route.get("request_headers_to_add", ()), *told],
        "typed_per_filter_config": filters,
        "metadata": _metadata(route, lambda name: name not in _ORDER_FACTS),
    }


def _only_with(route: Resource, header: str, kind: str) -> Resource:
    """The route, for requests that have a header. kind: goes into its name."""
    match: Resource = route["match"]
    headers = [*match.get("headers", ()), {"name": header, "present_match": True}]
    return {**route, "name": f"{route['name']}~{kind}", "match": {**match, "headers": headers}}


def _told(inner_name: str) -> list[Resource]:
    """What each leg has to know."""
    told = {legs.ROUTE: inner_name, legs.CLIENT: "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"}
    return [{"header": {"key": key, "value": value}} for key, value in told.items()]


def _hedged_route(entry: Entry, hedge: tuple[float, int], inner_name: str) -> Resource:
    """To the inner listener, and again when that takes too long."""
    route = entry.route
    filters: Resource = dict(route.get("typed_per_filter_config", {}))
    filters.pop(CAPTURE_FILTER, None)
    return {
        **route,
        "route": hedged_action(route["route"], *hedge),
        "request_headers_to_add": [*route.get("request_headers_to_add", ()), *_told(inner_name)],
        "response_headers_to_remove": [*route.get("response_headers_to_remove", ()), *_OF_LEGS],
        "typed_per_filter_config": filters,
        "metadata": _metadata(route, lambda name: name not in _ORDER_FACTS),
    }


def _inner_route(entry: Entry, name: str) -> Resource:
    """The same way to the same backends, for whoever names it."""
    route = entry.route
    filters: Resource = route.get("typed_per_filter_config", {})
    answered = {"header": {"key": legs.CLUSTER, "value": "%UPSTREAM_CLUSTER_RAW%"}}
    inner = {
        "name": route["name"],
        "match": {"prefix": "/", "headers": [{"name": legs.ROUTE, "string_match": {"exact": name}}]},
        "route": _cut_when_silent(route["route"], entry.silence_seconds)
        if entry.ending in ENDINGS
        else route["route"],
        "response_headers_to_add": [*route.get("response_headers_to_add", ()), answered],
        "typed_per_filter_config": {key: filters[key] for key in _INNER_FILTERS if key in filters},
        "metadata": _metadata(route, lambda key: key in _INNER_FACTS),
    }
    for key in ("request_headers_to_add", "request_headers_to_remove", "response_headers_to_remove"):
        if key in route:
            inner[key] = route[key]
    return inner


def _cut_when_silent(action: Resource, seconds: float) -> Resource:
    """The action with the bound of a backend's silence in force also after an answer has begun.

    Elsewhere a client that takes nothing would make its backend look silent; the relay takes all in time.
    """
    retry = dict(action["retry_policy"])
    begins = parse_duration_seconds(retry.get("per_try_timeout", "0s"))
    if not seconds or "hedge_policy" in action:
        return action
    if begins and begins < seconds:
        # Envoy looks at no silence any more once the time for the first byte has passed.
        attempts = retry["num_retries"] + 1
        return {**action, "idle_timeout": protobuf_duration(max(seconds, attempts * begins + 1))}
    retry.pop("per_try_timeout", None)
    retry["per_try_idle_timeout"] = protobuf_duration(seconds)
    return {**action, "idle_timeout": "0s", "retry_policy": retry}


def _metadata(route: Resource, kept: Any) -> Resource:
    """The route's metadata with a part of what the script reads."""
    by_filter: Resource = dict(route.get("metadata", {}).get("filter_metadata", {}))
    facts: Resource = by_filter.get(LUA_FILTER, {})
    by_filter[LUA_FILTER] = {key: value for key, value in facts.items() if kept(key)}
    return {"filter_metadata": by_filter}


def _gone() -> Resource:
    """A route that was taken away between the two listeners."""
    return {
        "name": "inner-gone",
        "match": {"prefix": "/"},
        "direct_response": ai_error(503, "the route of this request is not there any more; ask again"),
    }
