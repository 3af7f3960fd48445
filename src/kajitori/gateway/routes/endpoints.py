"""What every host with AI routes has besides them: the entry of requests whose model is not read yet, the list of
models, the way of requests that name no model, and what is answered to those that nobody serves.

All of it is made of `OPERATIONS`, so that the table of routes and the request script cannot differ.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kajitori.gateway.keys.delivery import LUA_FILTER
from kajitori.gateway.operations import OPERATIONS, SERVED_SCHEMAS, path_pattern, quoted
from kajitori.gateway.routes.answers import (
    Model,
    ai_error,
    hidden_model_message,
    models_listing,
    unknown_model_message,
)
from kajitori.gateway.routes.hostnames import ANY_HOST

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kajitori.gateway.routes.tables import Entry

MODEL_HEADER = "x-ai-eg-model"
SCHEMAS_HEADER = "x-kajitori-schemas"
_FILTER_ON = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {}}
# By far the most requests; a comparison is cheaper than an expression.
_COMMONEST = "/v1/chat/completions"
_MODELS = r"/v1/models(/.+)?|/anthropic/v1/models(/.+)?"
# Never reached: the Lua filter answers by itself, or the request is matched anew. But only an action of this kind
# carries the limit for bodies, and the headers of CORS.
_UNREAD = {"cluster": "model-not-read", "cluster_not_found_response_code": "NOT_FOUND", "timeout": "0s"}
_UNNAMED = {"name": MODEL_HEADER, "present_match": True, "invert_match": True}


def for_lua(**told: Any) -> dict[str, Any]:
    """What lua/keys.lua reads of a route.

    It goes by the route's metadata, never by a context of its own: that would hide the filter's, in which keys are.
    """
    return {"metadata": {"filter_metadata": {LUA_FILTER: told}}}


def _paths_by_methods() -> dict[tuple[str, ...], list[str]]:
    found: dict[tuple[str, ...], list[str]] = {}
    for operation in OPERATIONS:
        found.setdefault(operation.methods, []).extend(operation.paths)
    return found


def _regex(pattern: str) -> dict[str, Any]:
    return {"safe_regex": {"regex": pattern}}


def _method(methods: tuple[str, ...]) -> dict[str, Any]:
    if len(methods) == 1:
        return {"name": ":method", "string_match": {"exact": methods[0]}}
    return {"name": ":method", "string_match": _regex("|".join(methods))}


def switched_on(by_model: Sequence[Entry]) -> dict[str, Any]:
    """Every filter that one of these routes switches on, without a configuration.

    Which filters a request passes is settled by the route that it matches first; the configuration of each comes
    from the route that holds when the filter is reached.
    """
    names = {
        name
        for entry in by_model
        for name, config in entry.route.get("typed_per_filter_config", {}).items()
        if not config.get("disabled")
    }
    return dict.fromkeys(sorted(names), _FILTER_ON)


def entry_routes(protected: bool, filters: dict[str, Any]) -> list[dict[str, Any]]:
    """Match before the Lua filter has read the request; after that it is matched anew. protected: who has no key is
    refused before the body is read. filters: what is to be switched on already.
    """
    unread = {"name": SCHEMAS_HEADER, "present_match": True, "invert_match": True}
    told = for_lua(keys="Required") if protected else {}
    matches: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
        (_COMMONEST, {"path": _COMMONEST}, ("POST",))
    ]
    for methods, paths in _paths_by_methods().items():
        matches.append(("/" + "-".join(methods).lower(), _regex(path_pattern(paths)), methods))
    return [
        {
            "name": f"ai-entry{name}",
            "match": {**path, "headers": [unread, _method(methods)]},
            "route": _UNREAD,
            **told,
            **({"typed_per_filter_config": filters} if filters else {}),
        }
        for name, path, methods in matches
    ]


def preflight_route() -> dict[str, Any]:
    """Where browsers ask whether a page of another origin may use an AI path. Never reached: the CORS filter answers,
    which it does only where an action of this kind would follow.
    """
    paths = [path for paths in _paths_by_methods().values() for path in paths]
    method = {"name": ":method", "string_match": {"exact": "OPTIONS"}}
    asked = {"name": "access-control-request-method", "present_match": True}
    return {
        "name": "ai-preflight",
        "match": {**_regex(f"{path_pattern(paths)}|{_MODELS}"), "headers": [method, asked]},
        "route": _UNREAD,
    }


def shown_at(pattern: str, hostname: str) -> bool:
    """Whether the models of routes for `pattern` are listed at `hostname`: `*.` stands for one label there."""
    if pattern in (ANY_HOST, hostname):
        return True
    return pattern.startswith("*.") and hostname.partition(".")[2] == pattern[2:]


def models_routes(
    hostname: str, models: Sequence[tuple[str, Model]], *, protected: bool
) -> list[dict[str, Any]]:
    """`GET /v1/models`, which the Lua filter answers. models: each with the pattern of hosts that it was found by.
    protected: only who has a key is told.
    """
    mode = "Required" if protected else "Optional"

    def route(name: str, listed: Iterable[Model], **match: Any) -> dict[str, Any]:
        get = {"name": ":method", "string_match": {"exact": "GET"}}
        return {
            "name": name,
            "match": {**_regex(_MODELS), "headers": [get, _UNNAMED, *match.get("headers", [])]},
            "route": _UNREAD,
            **for_lua(keys=mode, listing=models_listing(list(listed))),
        }

    if not hostname.startswith("*."):
        return [route("ai-models", [model for pattern, model in models if shown_at(pattern, hostname)])]
    one_label = {
        "name": ":authority",
        "string_match": _regex(r"[^.]+" + re.escape(hostname[1:]).replace("\\-", "-") + "(:[0-9]+)?"),
    }
    return [
        route(
            "ai-models-one-label",
            [model for pattern, model in models if pattern in (ANY_HOST, hostname)],
            headers=[one_label],
        ),
        route("ai-models", [model for pattern, model in models if pattern == ANY_HOST]),
    ]


def unnamed_routes(by_model: Sequence[Entry]) -> list[dict[str, Any]]:
    """Requests that name no model go where the first route of the host goes whose backends speak their dialect."""
    routes: list[dict[str, Any]] = []
    for schema in sorted(SERVED_SCHEMAS, key=lambda schema: (schema != "OpenAI", schema)):
        first = next((entry.route for entry in by_model if schema in entry.serves), None)
        if first is not None:
            fits = {"name": SCHEMAS_HEADER, "string_match": {"contains": quoted(schema)}}
            match = {"prefix": "/", "headers": [fits, _UNNAMED]}
            routes.append({**first, "name": f"{first['name']}.unnamed-{schema}", "match": match})
    nobody = {
        "name": "ai-unnamed",
        "match": {"prefix": "/", "headers": [{"name": SCHEMAS_HEADER, "present_match": True}, _UNNAMED]},
        "direct_response": ai_error(
            404, "no backend of this host serves %PATH(NQ)% without a model; name one by x-ai-eg-model"
        ),
    }
    return [*routes, nobody]


def unknown_model(models: list[Model], *, hidden: bool) -> dict[str, Any]:
    """Behind all routes by model. hidden: not everybody may see each model."""
    message = hidden_model_message() if hidden else unknown_model_message([model.id for model in models])
    return {
        "name": "ai-unknown-model",
        "match": {"prefix": "/", "headers": [{"name": MODEL_HEADER, "present_match": True}]},
        "direct_response": ai_error(404, message),
    }


def wrong_methods(plain_filters: dict[str, Any]) -> list[dict[str, Any]]:
    """Paths of operations that were asked for with a method which they do not take."""
    taken = [(methods, path_pattern(paths)) for methods, paths in _paths_by_methods().items()]
    return [
        {
            "name": f"ai-method/{'-'.join(methods).lower()}{number}",
            "match": {**_regex(pattern), "headers": [{**_method(methods), "invert_match": True}]},
            "direct_response": ai_error(405, f"%PATH(NQ)% takes {' and '.join(methods)}, not %REQ(:METHOD)%"),
            "response_headers_to_add": [{"header": {"key": "allow", "value": ", ".join(methods)}}],
            "typed_per_filter_config": plain_filters,
        }
        for number, (methods, pattern) in enumerate([*taken, (("GET",), _MODELS)])
    ]


def unknown_paths(plain_filters: dict[str, Any], *, models: bool = False) -> list[dict[str, Any]]:
    """The end of every host. An answer to HEAD has no body, and one that claims to be JSON confuses who reads it. models:
    whether the host serves any.
    """
    told = "unsupported path: %REQ(:METHOD)% %PATH(NQ)%"
    if models:
        told += f"; models are asked at paths such as POST {_COMMONEST}, and GET /v1/models lists them"
    return [
        {
            "name": "unknown-path-of-head",
            "match": {"prefix": "/", "headers": [{"name": ":method", "string_match": {"exact": "HEAD"}}]},
            "direct_response": {"status": 404},
            "typed_per_filter_config": plain_filters,
        },
        {
            "name": "unknown-path",
            "match": {"prefix": "/"},
            "direct_response": ai_error(404, told),
            "typed_per_filter_config": plain_filters,
        },
    ]
