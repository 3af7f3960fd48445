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
from kajitori.gateway.routes.answers import (
    JSON_CONTENT,
    Model,
    direct_error,
    hidden_model_message,
    models_body,
    models_by_route,
    unknown_model_message,
)
from kajitori.gateway.routes.hostnames import ANY_HOST, covers

if TYPE_CHECKING:
    from collections.abc import Iterable

# The paths of OPERATIONS in lua/request.lua.
AI_PATHS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/images/generations",
    "/v1/audio/speech",
    "/v1/moderations",
    "/v1/rerank",
    "/rerank",
    "/score",
    "/tokenize",
)
_LONGEST_BODY_BYTES = 4 * 1024 * 1024
_FILTER_OFF = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}
USAGE_FILTER = "envoy.filters.http.ai_protocol_manager"
PLAIN_FILTERS = {LUA_FILTER: _FILTER_OFF, USAGE_FILTER: _FILTER_OFF}


class Entry(msgspec.Struct, frozen=True):
    """A route of Envoy with its rank: smaller sorts first.

    models: what it adds to `/v1/models`. protected: whether it asks for a key. rule: the name of the rule that it was made of, to which policies attach.
    """

    rank: tuple[Any, ...]
    route: dict[str, Any]
    ai: bool = False
    at_root: bool = False
    models: tuple[Model, ...] = ()
    rule: str = ""
    protected: bool = False


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
        self._keyed = keyed
        self._body_limit_bytes = body_limit_bytes
        self._hosts: dict[str, list[tuple[Entry, tuple[str, ...]]]] = {host: [] for host in hosts}
        self._elsewhere = frozenset(elsewhere) - self._hosts.keys()
        self._narrower = [name for name in self._elsewhere if any(covers(host, name) for host in self._hosts)]

    def add(self, hostname: str, entry: Entry, hidden: tuple[str, ...] = ()) -> None:
        """hidden: narrower hostnames at which the route does not serve."""
        self._hosts.setdefault(hostname, []).append((entry, hidden))

    def route_configuration(self) -> dict[str, Any]:
        """The RouteConfiguration of Envoy."""
        return {
            "name": self.name,
            "max_direct_response_body_size_bytes": _LONGEST_BODY_BYTES,
            "virtual_hosts": [
                self._virtual_host(hostname) for hostname in sorted(self._hosts.keys() | self._elsewhere)
            ],
        }

    def _virtual_host(self, hostname: str) -> dict[str, Any]:
        if hostname in self._elsewhere or any(covers(name, hostname) for name in self._narrower):
            return {"name": hostname, "domains": [hostname], "routes": [_misdirected()]}
        # Every pattern that covers this host contributes, the most specific first.
        patterns = sorted(
            (pattern for pattern in self._hosts if covers(pattern, hostname)),
            key=lambda pattern: (pattern.startswith("*"), -len(pattern)),
        )
        entries = [
            entry
            for pattern in patterns
            for entry, hidden in sorted(self._hosts[pattern], key=lambda item: item[0].rank)
            if not any(covers(name, hostname) for name in hidden)
        ]
        by_model = [entry for entry in entries if entry.ai]
        routes = [entry.route for entry in entries if not entry.ai and not entry.at_root]
        if by_model:
            models = [model for entry in by_model for model in entry.models]
            protected = [entry.protected for entry in by_model]
            routes += _entry_routes(all(protected))
            routes.append(
                _models_route(models, keyed=self._keyed or any(protected), protected=all(protected))
            )
            routes += [entry.route for entry in by_model]
            routes.append(_unknown_model(_distinct(models), hidden=any(protected)))
        routes += [entry.route for entry in entries if not entry.ai and entry.at_root]
        if by_model:
            routes += [_wrong_method(path, "POST") for path in AI_PATHS]
            routes.append(_wrong_method("/v1/models", "GET"))
        routes.append(_unknown_path())
        return {
            "name": hostname,
            "domains": [hostname],
            "request_body_buffer_limit": self._body_limit_bytes,
            "routes": _named_apart(routes),
        }


def _named_apart(routes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drops a route that stands twice, because two patterns of one host carry it."""
    found: dict[str, dict[str, Any]] = {}
    for route in routes:
        found.setdefault(route["name"], route)
    return list(found.values())


def _distinct(models: list[Model]) -> list[Model]:
    """The first of each name."""
    return list({model.id: model for model in reversed(models)}.values())[::-1]


def _for_lua(**told: Any) -> dict[str, Any]:
    """What lua/keys.lua reads of a route.

    It goes by the route's metadata, never by a context of its own: that would hide the filter's, in which keys are.
    """
    return {"metadata": {"filter_metadata": {LUA_FILTER: told}}}


def _entry_routes(protected: bool) -> list[dict[str, Any]]:
    # Where every route asks for a key, who has none is refused before the body is read.
    # Matched before the Lua filter has read the model; after that the request is matched anew.
    unread = [
        {"name": ":method", "string_match": {"exact": "POST"}},
        {"name": "x-ai-eg-model", "present_match": True, "invert_match": True},
    ]
    return [
        {
            "name": f"ai-entry{path}",
            "match": {"path": path, "headers": unread},
            # Never reached: the Lua filter answers by itself, or the request is matched anew. But only an
            # action of this kind carries the limit for bodies.
            "route": {"cluster": "model-not-read", "cluster_not_found_response_code": "NOT_FOUND"},
            **(_for_lua(keys="Required") if protected else {}),
        }
        for path in AI_PATHS
    ]


def _models_route(models: list[Model], *, keyed: bool, protected: bool) -> dict[str, Any]:
    """`GET /v1/models`. keyed: the list depends on who asks. protected: only who has a key is told one."""
    route = {
        "name": "ai-models",
        "match": {
            "path": "/v1/models",
            "headers": [{"name": ":method", "string_match": {"exact": "GET"}}],
        },
        "direct_response": {"status": 200, "body": {"inline_string": models_body(_distinct(models))}},
        "response_headers_to_add": JSON_CONTENT,
        "typed_per_filter_config": PLAIN_FILTERS,
    }
    if not keyed:
        return route
    mode = "Required" if protected else "Optional"
    return {
        **route,
        # The Lua filter answers.
        "direct_response": direct_error(500, "the list of models was not made"),
        "typed_per_filter_config": {USAGE_FILTER: _FILTER_OFF},
        **_for_lua(keys=mode, listing=models_by_route(models)),
    }


def _unknown_model(models: list[Model], *, hidden: bool) -> dict[str, Any]:
    message = hidden_model_message() if hidden else unknown_model_message([model.id for model in models])
    return {
        "name": "ai-unknown-model",
        "match": {"prefix": "/", "headers": [{"name": "x-ai-eg-model", "present_match": True}]},
        "direct_response": direct_error(404, message),
    }


def _wrong_method(path: str, allowed: str) -> dict[str, Any]:
    return {
        "name": f"ai-method{path}",
        "match": {
            "path": path,
            "headers": [{"name": ":method", "string_match": {"exact": allowed}, "invert_match": True}],
        },
        "direct_response": direct_error(405, f"{path} takes {allowed}, not %REQ(:METHOD)%"),
        "response_headers_to_add": [{"header": {"key": "allow", "value": allowed}}],
        "typed_per_filter_config": PLAIN_FILTERS,
    }


def _misdirected() -> dict[str, Any]:
    told = "this connection was made for another host than %REQ(:AUTHORITY)%; open one of its own"
    return {
        "name": "misdirected",
        "match": {"prefix": "/"},
        "direct_response": direct_error(421, told),
        "typed_per_filter_config": PLAIN_FILTERS,
    }


def _unknown_path() -> dict[str, Any]:
    return {
        "name": "unknown-path",
        "match": {"prefix": "/"},
        "direct_response": direct_error(404, "unsupported path: %REQ(:METHOD)% %PATH(NQ)%"),
        "typed_per_filter_config": PLAIN_FILTERS,
    }
