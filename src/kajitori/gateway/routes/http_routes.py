"""HTTPRoutes of the Gateway API to routes of Envoy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kajitori.api.gateway.http_route import (
    HTTPBackendRef,
    HTTPRoute,
    HTTPRouteFilter,
    HTTPRouteMatch,
    HTTPRouteRule,
)
from kajitori.base.duration import parse_duration_seconds
from kajitori.base.reason import Reason
from kajitori.gateway.backends.clusters import plain_cluster
from kajitori.gateway.backends.targets import Target, find_backend, find_service
from kajitori.gateway.observed import age_key
from kajitori.gateway.routes.answers import direct_error, literal, named_for_answers
from kajitori.gateway.routes.tables import PLAIN_FILTERS, Entry

if TYPE_CHECKING:
    from kajitori.api.gateway.http_route import HTTPHeaderFilter, HTTPPathModifier
    from kajitori.gateway.observed import Index
    from kajitori.gateway.world import World

_GROUP = "gateway.networking.k8s.io"
_REDIRECT_CODES = {
    301: "MOVED_PERMANENTLY",
    302: "FOUND",
    303: "SEE_OTHER",
    307: "TEMPORARY_REDIRECT",
    308: "PERMANENT_REDIRECT",
}
NO_BACKEND_CLUSTER = "no-backend"


def translate_http_route(
    index: Index, world: World, route: HTTPRoute, problems: list[Reason], notes: list[str]
) -> list[Entry]:
    """The routes of Envoy for one HTTPRoute; clusters go to `world`.

    problems: gets references that do not resolve. notes: gets the fields that are not honoured.
    """
    entries: list[Entry] = []
    for number, rule in enumerate(route.spec.rules):
        filters = _filters(rule.filters, f"rules[{number}].filters", notes)
        for match_number, match in enumerate(rule.matches or [HTTPRouteMatch()]):
            action = _action(index, world, route, rule, match, filters, problems, notes)
            name = f"http/{route.metadata.namespace}/{route.metadata.name}/rule/{number}/match/{match_number}"
            entries.append(
                Entry(
                    (*_precedence(match), *age_key(route), number, match_number),
                    {
                        "name": name,
                        "match": _match(match),
                        **action,
                        "metadata": named_for_answers(
                            "HTTPRoute", f"{route.metadata.namespace}/{route.metadata.name}"
                        ),
                        "typed_per_filter_config": PLAIN_FILTERS,
                    },
                    at_root=match.path.type == "PathPrefix" and match.path.value == "/",
                    rule=rule.name or "",
                )
            )
        if rule.session_persistence is not None:
            notes.append(f"rules[{number}].sessionPersistence is not honoured")
    return entries


def _precedence(match: HTTPRouteMatch) -> tuple[int, int, bool, int, int]:
    """Exact paths, then long prefixes, then a method, then many headers, then many parameters."""
    order = {"Exact": 0, "RegularExpression": 1, "PathPrefix": 2}[match.path.type]
    return (
        order,
        -len(match.path.value),
        match.method is None,
        -len(match.headers),
        -len(match.query_params),
    )


def _match(match: HTTPRouteMatch) -> dict[str, Any]:
    path = match.path.value
    if match.path.type == "Exact":
        found: dict[str, Any] = {"path": path}
    elif match.path.type == "RegularExpression":
        found = {"safe_regex": {"regex": path}}
    elif path == "/":
        found = {"prefix": "/"}
    else:
        found = {"path_separated_prefix": path.rstrip("/")}
    headers = [
        {"name": header.name.lower(), "string_match": _string(header.type, header.value)}
        for header in match.headers
    ]
    if match.method:
        headers.append({"name": ":method", "string_match": {"exact": match.method}})
    if headers:
        found["headers"] = headers
    if match.query_params:
        found["query_parameters"] = [
            {"name": item.name, "string_match": _string(item.type, item.value)} for item in match.query_params
        ]
    return found


def _string(kind: str, value: str) -> dict[str, Any]:
    return {"exact": value} if kind == "Exact" else {"safe_regex": {"regex": value}}


class _Filters:
    """What the filters of a rule come to."""

    def __init__(self) -> None:
        self.headers: dict[str, Any] = {}
        self.redirect: HTTPRouteFilter | None = None
        self.rewrite: HTTPRouteFilter | None = None


def _filters(filters: list[HTTPRouteFilter], where: str, notes: list[str]) -> _Filters:
    found = _Filters()
    for number, item in enumerate(filters):
        match item.type:
            case "RequestHeaderModifier" if item.request_header_modifier:
                found.headers |= _header_changes("request", item.request_header_modifier)
            case "ResponseHeaderModifier" if item.response_header_modifier:
                found.headers |= _header_changes("response", item.response_header_modifier)
            case "RequestRedirect" if item.request_redirect:
                found.redirect = item
            case "URLRewrite" if item.url_rewrite:
                found.rewrite = item
            case _:
                notes.append(f"{where}[{number}]: {item.type} is not honoured")
    return found


def _header_changes(side: str, change: HTTPHeaderFilter) -> dict[str, Any]:
    added = [(header, "OVERWRITE_IF_EXISTS_OR_ADD") for header in change.set]
    added += [(header, "APPEND_IF_EXISTS_OR_ADD") for header in change.add]
    found: dict[str, Any] = {}
    if added:
        found[f"{side}_headers_to_add"] = [
            {
                "header": {"key": header.name.lower(), "value": literal(header.value)},
                "append_action": action,
            }
            for header, action in added
        ]
    if change.remove:
        found[f"{side}_headers_to_remove"] = [name.lower() for name in change.remove]
    return found


def _action(
    index: Index,
    world: World,
    route: HTTPRoute,
    rule: HTTPRouteRule,
    match: HTTPRouteMatch,
    filters: _Filters,
    problems: list[Reason],
    notes: list[str],
) -> dict[str, Any]:
    if filters.redirect:
        return {**_redirect(filters.redirect, match), **filters.headers}
    weighted: list[dict[str, Any]] = []
    missing: list[Reason] = []
    for ref in rule.backend_refs:
        target = _find(index, route, ref)
        if isinstance(target, Reason):
            missing.append(target)
        if ref.weight == 0:
            continue
        name = NO_BACKEND_CLUSTER
        if isinstance(target, Target):
            name = (
                f"{ref.kind.lower()}/{ref.namespace or route.metadata.namespace}/{ref.name}/{ref.port or 0}"
            )
            world.add_cluster(name, lambda t=target, n=name: plain_cluster(n, t), target)
            notes += [note for note in target.notes if note not in notes]
        else:
            _add_empty_cluster(world)
        changes = _filters(ref.filters, "backendRefs.filters", notes).headers
        weighted.append({"name": name, "weight": ref.weight, **changes})
    problems += [reason for reason in missing if reason not in problems]
    if not weighted or all(item["name"] == NO_BACKEND_CLUSTER for item in weighted):
        why = "; ".join(str(reason.message) for reason in missing) or "no backend with a weight above 0"
        key = f"{route.metadata.namespace}/{route.metadata.name}"
        return {"direct_response": direct_error(500, literal(f"HTTPRoute {key} has no backend: {why}"))}
    action: dict[str, Any] = {"weighted_clusters": {"clusters": weighted}, "auto_host_rewrite": False}
    if len(weighted) == 1 and len(weighted[0]) == 2:
        action = {"cluster": weighted[0]["name"]}
    action |= _timeouts(rule)
    if filters.rewrite:
        action |= _rewrite(filters.rewrite, match)
    return {"route": action, **filters.headers}


def _add_empty_cluster(world: World) -> None:
    """A cluster without hosts takes the share of a reference that does not resolve."""
    target = Target("STATIC")
    world.add_cluster(NO_BACKEND_CLUSTER, lambda: plain_cluster(NO_BACKEND_CLUSTER, target), target)


def _find(index: Index, route: HTTPRoute, ref: HTTPBackendRef) -> Target | Reason:
    namespace = route.metadata.namespace or ""
    key = (ref.namespace or namespace, ref.name)
    if not index.granted(_GROUP, "HTTPRoute", namespace, ref.group, ref.kind, key):
        return Reason(
            "RefNotPermitted", f"no ReferenceGrant lets the route refer to {ref.kind} {key[0]}/{key[1]}"
        )
    if (ref.group, ref.kind) == ("", "Service"):
        if ref.port is None:
            return Reason("InvalidKind", f"the reference to Service {key[0]}/{key[1]} names no port")
        return find_service(index, *key, ref.port)
    if (ref.group, ref.kind) == ("gateway.envoyproxy.io", "Backend"):
        return find_backend(index, *key)
    return Reason("InvalidKind", f"backends of kind {ref.kind} (group {ref.group!r}) are not served")


def _timeouts(rule: HTTPRouteRule) -> dict[str, Any]:
    timeouts, retry = rule.timeouts, rule.retry
    found: dict[str, Any] = {"timeout": "0s"}
    if timeouts and timeouts.request:
        found["timeout"] = f"{parse_duration_seconds(timeouts.request):g}s"
    policy: dict[str, Any] = {}
    if retry:
        policy = {"retry_on": "connect-failure,retriable-status-codes", "num_retries": retry.attempts or 1}
        if retry.codes:
            policy["retriable_status_codes"] = list(retry.codes)
        if retry.backoff:
            policy["retry_back_off"] = {"base_interval": f"{parse_duration_seconds(retry.backoff):g}s"}
    if timeouts and timeouts.backend_request:
        policy["per_try_timeout"] = f"{parse_duration_seconds(timeouts.backend_request):g}s"
    if policy:
        found["retry_policy"] = policy
    return found


def _rewrite(item: HTTPRouteFilter, match: HTTPRouteMatch) -> dict[str, Any]:
    rewrite = item.url_rewrite
    assert rewrite is not None
    found: dict[str, Any] = {}
    if rewrite.hostname:
        found["host_rewrite_literal"] = rewrite.hostname
    if rewrite.path:
        found["regex_rewrite"] = _path_substitution(rewrite.path, match)
    return found


def _path_substitution(path: HTTPPathModifier, match: HTTPRouteMatch) -> dict[str, Any]:
    """A regular expression and its replacement for the path without the query."""
    if path.type == "ReplaceFullPath":
        replacement = path.replace_full_path or "/"
        return {"pattern": {"regex": "^.*$"}, "substitution": replacement.replace("\\", "\\\\")}
    prefix = re.escape(match.path.value.rstrip("/"))
    replacement = (path.replace_prefix_match or "/").rstrip("/").replace("\\", "\\\\")
    return (
        {"pattern": {"regex": f"^{prefix}/*(.*)$"}, "substitution": replacement + "/\\1"}
        if (not replacement)
        else {"pattern": {"regex": f"^{prefix}(.*)$"}, "substitution": replacement + "\\1"}
    )


def _redirect(item: HTTPRouteFilter, match: HTTPRouteMatch) -> dict[str, Any]:
    redirect = item.request_redirect
    assert redirect is not None
    found: dict[str, Any] = {"response_code": _REDIRECT_CODES[redirect.status_code]}
    if redirect.scheme:
        found["scheme_redirect"] = redirect.scheme
    if redirect.hostname:
        found["host_redirect"] = redirect.hostname
    if redirect.port:
        found["port_redirect"] = redirect.port
    if redirect.path:
        if redirect.path.type == "ReplaceFullPath":
            found["path_redirect"] = redirect.path.replace_full_path or "/"
        else:
            found["regex_rewrite"] = _path_substitution(redirect.path, match)
    return {"redirect": found}
