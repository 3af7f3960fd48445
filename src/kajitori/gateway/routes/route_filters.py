"""Filters of rules and of their backends: what each becomes in Envoy.

A filter that cannot be honoured is never left out in silence: its requests are answered with 500, as the Gateway API
demands, and the condition says why.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.base.reason import Reason
from kajitori.gateway.internal_headers import problem_of_changing, problem_of_name
from kajitori.gateway.routes.answers import literal
from kajitori.gateway.routes.cors import cors_policy
from kajitori.gateway.routes.extension_filters import apply_extension
from kajitori.gateway.routes.matches import Match

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kajitori.api.gateway.http_route import (
        HTTPHeaderFilter,
        HTTPPathModifier,
        HTTPRequestRedirectFilter,
        HTTPRouteFilter,
        HTTPUrlRewriteFilter,
    )
    from kajitori.gateway.routes.rule_context import RuleContext
    from kajitori.gateway.routes.tables import Entry

CORS_FILTER = "envoy.filters.http.cors"
_REDIRECT_CODES = {
    301: "MOVED_PERMANENTLY",
    302: "FOUND",
    303: "SEE_OTHER",
    307: "TEMPORARY_REDIRECT",
    308: "PERMANENT_REDIRECT",
}
_MILLION = 1_000_000
_WELL_KNOWN_PORTS = (80, 443)


class Steps(msgspec.Struct):
    """What the filters of one list come to.

    headers: members of a route, or of a weighted cluster. upstream: filters of the cluster. answer: instead of any
    backend. rewrite: members of a route's action, whatever the match. broken: why requests are answered with 500.
    """

    headers: dict[str, Any] = msgspec.field(default_factory=dict)
    redirect: HTTPRequestRedirectFilter | None = None
    url_rewrite: HTTPUrlRewriteFilter | None = None
    rewrite: dict[str, Any] = msgspec.field(default_factory=dict)
    mirrors: list[dict[str, Any]] = msgspec.field(default_factory=list)
    per_filter: dict[str, Any] = msgspec.field(default_factory=dict)
    answer: dict[str, Any] | None = None
    upstream: list[dict[str, Any]] = msgspec.field(default_factory=list)
    cookies: list[dict[str, Any]] = msgspec.field(default_factory=list)
    broken: list[str] = msgspec.field(default_factory=list)

    @property
    def headers_only(self) -> bool:
        """Whether a weighted cluster can carry it."""
        return not (
            self.redirect
            or self.url_rewrite
            or self.rewrite
            or self.mirrors
            or self.per_filter
            or self.answer
            or self.cookies
            or self.broken
        )


def read_filters(context: RuleContext, filters: Sequence[HTTPRouteFilter], where: str) -> Steps:
    """where: the path of the list, for messages."""
    steps = Steps()
    for number, item in enumerate(filters):
        match item.type:
            case "RequestHeaderModifier" if item.request_header_modifier:
                _change_headers(steps, "request", item.request_header_modifier, f"{where}[{number}]")
            case "ResponseHeaderModifier" if item.response_header_modifier:
                _change_headers(steps, "response", item.response_header_modifier, f"{where}[{number}]")
            case "RequestRedirect" if item.request_redirect:
                steps.redirect = item.request_redirect
            case "URLRewrite" if item.url_rewrite:
                steps.url_rewrite = item.url_rewrite
            case "RequestMirror" if item.request_mirror:
                _mirror(context, steps, item)
            case "CORS" if item.cors:
                steps.per_filter[CORS_FILTER] = cors_policy(item.cors)
            case "ExtensionRef" if item.extension_ref:
                told = apply_extension(context, steps, item.extension_ref)
                steps.broken += [f"{where}[{number}]: {text}" for text in told]
            case _:
                steps.broken.append(f"{where}[{number}]: {item.type} is not honoured")
    return steps


def _change_headers(steps: Steps, side: str, change: HTTPHeaderFilter, where: str) -> None:
    added = [(header, "OVERWRITE_IF_EXISTS_OR_ADD") for header in change.set]
    added += [(header, "APPEND_IF_EXISTS_OR_ADD") for header in change.add]
    names = [header.name.lower() for header, _ in added] + [name.lower() for name in change.remove]
    if side == "request" and "host" in names:
        # Envoy refuses the whole table for it.
        steps.broken.append(f"{where}: the host is no header to modify; use URLRewrite with hostname")
        return
    if wrong := [text for name in names if (text := problem_of_name(name))]:
        steps.broken += [f"{where}: {text}" for text in wrong]
        return
    if side == "request" and (told := [text for name in names if (text := problem_of_changing(name))]):
        steps.broken += [f"{where}: {text}" for text in told]
        return
    if added:
        steps.headers[f"{side}_headers_to_add"] = [
            {
                "header": {"key": header.name.lower(), "value": literal(header.value)},
                "append_action": action,
            }
            for header, action in added
        ]
    if change.remove:
        steps.headers[f"{side}_headers_to_remove"] = [name.lower() for name in change.remove]


def _mirror(context: RuleContext, steps: Steps, item: HTTPRouteFilter) -> None:
    mirror = item.request_mirror
    assert mirror is not None
    cluster = context.cluster(mirror.backend_ref, upstream=())
    if isinstance(cluster, Reason):
        # The requests themselves go on: a copy that cannot be sent harms nobody.
        context.missing(cluster)
        return
    policy: dict[str, Any] = {"cluster": cluster, "disable_shadow_host_suffix_append": True}
    share = _share(mirror.percent, mirror.fraction)
    if share is not None:
        if share["numerator"] == 0:
            return
        policy["runtime_fraction"] = {"default_value": share}
    steps.mirrors.append(policy)


def _share(percent: int | None, fraction: Any) -> dict[str, Any] | None:
    if percent is not None:
        return {"numerator": percent, "denominator": "HUNDRED"}
    if fraction is not None:
        return {
            "numerator": round(fraction.numerator * _MILLION / fraction.denominator),
            "denominator": "MILLION",
        }
    return None


def rewriting(rewrite: HTTPUrlRewriteFilter, match: Match) -> dict[str, Any]:
    """Members of a route's action."""
    found: dict[str, Any] = {}
    if rewrite.hostname:
        found["host_rewrite_literal"] = rewrite.hostname
    if rewrite.path:
        found["regex_rewrite"] = path_substitution(rewrite.path, match.prefix)
    return found


def path_substitution(path: HTTPPathModifier, matched: str) -> dict[str, Any]:
    """A regular expression and its replacement for the path without the query."""
    if path.type == "ReplaceFullPath":
        replacement = path.replace_full_path or "/"
        return {"pattern": {"regex": "^.*$"}, "substitution": replacement.replace("\\", "\\\\")}
    prefix = re.escape(matched.rstrip("/"))
    replacement = (path.replace_prefix_match or "/").rstrip("/").replace("\\", "\\\\")
    if not replacement:
        return {"pattern": {"regex": f"^{prefix}/*(.*)$"}, "substitution": "/\\1"}
    return {"pattern": {"regex": f"^{prefix}(.*)$"}, "substitution": replacement + "\\1"}


def at_listener(entry: Entry, port: int) -> Entry:
    """The entry at a listener: a redirect to another host that names neither scheme nor port stays on its port."""
    redirect = entry.route.get("redirect")
    if (
        redirect is None
        or port in _WELL_KNOWN_PORTS
        or "host_redirect" not in redirect
        or redirect.keys() & {"scheme_redirect", "port_redirect"}
    ):
        return entry
    route = {**entry.route, "redirect": {**redirect, "port_redirect": port}}
    return msgspec.structs.replace(entry, route=route)


def redirection(redirect: HTTPRequestRedirectFilter, match: Match) -> dict[str, Any]:
    """The redirect of a route. A port that is not named is that of the scheme, or of the listener."""
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
            found["regex_rewrite"] = path_substitution(redirect.path, match.prefix)
    return found
