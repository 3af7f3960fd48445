"""How Envoy asks the accountant whether a request may pass: `ext_authz` by HTTP/2, for routes that have limits.

The filter stands in every listener twice, switched off: once for limits that let requests pass while the accountant
cannot be asked, once for those that do not. A route switches one of them on. What is told of a request is one header, made by
a format that Envoy has compiled once: a route with a service of its own costs as much again, so only those have one
whose limits select by headers.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

from kajitori.gateway.accounting.accountant_policy import AccountantPolicy
from kajitori.gateway.accounting.route_names import read_route
from kajitori.gateway.envoy.bootstrap import ACCOUNTANT_CLUSTER
from kajitori.gateway.limits.limit import (
    BACKEND_FACTS,
    HEADER_FACT,
    LIMIT_HEADERS,
    QUERY_FACT,
    QUERY_HEADER,
    USD,
)
from kajitori.gateway.object_memo import ObjectMemo
from kajitori.gateway.resources import TYPE
from kajitori.gateway.routes import used_up_limits
from kajitori.gateway.routes.exhausted_backends import leaving_out

OPEN_FILTER, CLOSED_FILTER = "kajitori.admission.open", "kajitori.admission.closed"
FILTERS = (OPEN_FILTER, CLOSED_FILTER)
# Which backends have nothing left for this request; the accountant's answer has it.
EXHAUSTED_HEADER = "x-kajitori-exhausted"
_TYPE = TYPE + "envoy.extensions.filters.http.ext_authz.v3."
# A request may have to wait for others to be booked. One whose accountant is gone learns that at once.
_TIMEOUT = "2s"
_PREFIX = "/admit"
# In the order in which `accounting.admission_server` reads them. A model may have any character, and comes last.
FACTS_HEADER, FACTS_SEPARATOR = "x-kajitori-facts", "|"
_FACTS = FACTS_SEPARATOR.join(
    (
        "%ROUTE_NAME%",
        "%REQ(x-request-id)%",
        "%DYNAMIC_METADATA(io.kajitori:who)%",
        "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
        "%REQ(x-ai-eg-model)%",
    )
)
# See `QUERY_HEADER`.
_TOLD = {QUERY_HEADER: f"%PATH(WQ:PATH)% %REQ({QUERY_HEADER})%"}
# What clients are told of a request that passed, and of one that did not. Envoy holds each header of each answer against
# all of them.
_TOLD_ADMITTED = [{"prefix": "x-ratelimit-"}, {"prefix": "anthropic-ratelimit-"}]
_TOLD_CLIENTS = [*_TOLD_ADMITTED, {"exact": "retry-after"}, {"exact": "x-should-retry"}]


_OFF = {
    **{name: {"@type": _TYPE + "ExtAuthzPerRoute", "disabled": True} for name in FILTERS},
    used_up_limits.FILTER: used_up_limits.SWITCHED_OFF,
}


def admission_filters() -> list[dict[str, Any]]:
    """Both, for a listener."""
    return [_filter(OPEN_FILTER, passes=True), _filter(CLOSED_FILTER, passes=False)]


def admission(headers: Iterable[str] = (), *, fail_closed: bool = False) -> dict[str, Any]:
    """What a route of Envoy has in `typed_per_filter_config` to be asked about.

    headers: that its limits select by, in lower case. fail_closed: while the accountant cannot be asked its requests are
    answered with 503.
    """
    settings = {"http_service": _service(sorted(headers))} if headers else {}
    config = {"@type": _TYPE + "ExtAuthzPerRoute", "check_settings": settings}
    return {CLOSED_FILTER if fail_closed else OPEN_FILTER: config}


class _Way(NamedTuple):
    """How routes are asked about that the same limits hold for.

    configs: of filters. leaves_out: whether backends may have nothing left. hides: what providers say of their limits.
    """

    configs: dict[str, Any]
    leaves_out: bool
    hides: bool


class Asking:
    """Which routes of Envoy the accountant is asked about, by the policy that it has. known: from plan to plan."""

    def __init__(self, policy: AccountantPolicy | None = None, known: ObjectMemo | None = None) -> None:
        policy = policy or AccountantPolicy()
        self._known = known or ObjectMemo()
        self._ways: dict[tuple[frozenset[int], bool], _Way] = {}
        self._limits, self._routes, self._backends = policy.limits, policy.routes, policy.backends
        # What keys are charged to holds on every route that they may use.
        self._of_keys = policy.limits_of_keys()
        self._limited, self._unasked = policy.limited_routes(), policy.unasked_routes()

    def concerns(self, route: str) -> bool:
        """Whether anything may hold for requests of a route, by namespace/name."""
        return route in self._limited

    def asked(self, route: dict[str, Any]) -> dict[str, Any]:
        """A route of Envoy so that it is asked about, or only looked up, if anything may hold for it."""
        found = read_route(str(route.get("name", "")))
        if found is None or not self.concerns(found[0]):
            return route
        way = self._way(found[0])
        if way.leaves_out:
            return self._changed(route, way)
        return self._known.of(route, None, way, lambda: self._changed(route, way))

    def _way(self, name: str) -> _Way:
        numbers = frozenset({*self._routes[name].limits, *self._of_keys})
        key = (numbers, name in self._unasked)
        found = self._ways.get(key)
        if found is None:
            found = self._ways[key] = self._make_way(numbers, asked=not key[1])
        return found

    def _make_way(self, numbers: Iterable[int], *, asked: bool) -> _Way:
        limits = [self._limits[number] for number in sorted(numbers)]
        headers = {
            QUERY_HEADER if selector.fact.startswith(QUERY_FACT) else selector.fact.removeprefix(HEADER_FACT)
            for limit in limits
            for selector in limit.selectors
            if selector.fact.startswith((HEADER_FACT, QUERY_FACT))
        }
        closed = any(limit.deny_without_store and not limit.shadow for limit in limits)
        return _Way(
            admission(headers, fail_closed=closed) if asked else dict(used_up_limits.SWITCHED_ON),
            any(selector.fact in BACKEND_FACTS for limit in limits for selector in limit.selectors),
            any(limit.headers and not limit.shadow and limit.counts != USD for limit in limits),
        )

    def _changed(self, route: dict[str, Any], way: _Way) -> dict[str, Any]:
        config = way.configs
        if way.leaves_out:
            config = {**config, **leaving_out(route, self._backends)}
        changed = {**route, "typed_per_filter_config": {**_configs(route), **config}}
        if way.hides:
            # What a provider says of its own limits must not be mixed with ours.
            gone: list[str] = route.get("response_headers_to_remove", [])
            changed["response_headers_to_remove"] = [*gone, *LIMIT_HEADERS]
        return changed

    def alike(self, routes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Routes of which some are asked about: the others say that they are not.

        Which filters a request passes is settled before its route is known, so the filter is reached on all of them.
        """
        used = [name for name in _OFF if any(name in _configs(route) for route in routes)]
        if not used:
            return routes
        off = {name: _OFF[name] for name in used}
        known, of_all = self._known, tuple(used)
        return [
            known.of(route, _OFF, of_all, functools.partial(_switched_off, route, off)) for route in routes
        ]


def _switched_off(route: dict[str, Any], off: dict[str, Any]) -> dict[str, Any]:
    return {**route, "typed_per_filter_config": {**off, **_configs(route)}}


def _configs(route: dict[str, Any]) -> dict[str, Any]:
    return route.get("typed_per_filter_config", {})


def _filter(name: str, *, passes: bool) -> dict[str, Any]:
    return {
        "name": name,
        "disabled": True,
        "typed_config": {
            "@type": _TYPE + "ExtAuthz",
            "http_service": _service([]),
            "failure_mode_allow": passes,
            "status_on_error": {"code": "ServiceUnavailable"},
            "disallowed_headers": {"patterns": [{"exact": "authorization"}]},
            "clear_route_cache_headers": [EXHAUSTED_HEADER],
            "stat_prefix": "admission",
        },
    }


def _service(headers: list[str]) -> dict[str, Any]:
    exhausted = {"patterns": [{"exact": EXHAUSTED_HEADER}]}
    return {
        "server_uri": {"uri": "http://accountant", "cluster": ACCOUNTANT_CLUSTER, "timeout": _TIMEOUT},
        "path_prefix": _PREFIX,
        "authorization_request": {
            # Which of a client's headers are sent on is settled for all routes alike; what is added is not.
            "headers_to_add": [
                {"key": FACTS_HEADER, "value": _FACTS},
                *({"key": name, "value": _TOLD.get(name, f"%REQ({name})%")} for name in headers),
            ],
        },
        "authorization_response": {
            "allowed_upstream_headers": exhausted,
            "allowed_client_headers_on_success": {"patterns": _TOLD_ADMITTED},
            "allowed_client_headers": {
                "patterns": [{"exact": "content-type"}, {"exact": "grpc-status"}, *_TOLD_CLIENTS]
            },
        },
    }
