"""Matches of HTTPRoutes and GRPCRoutes, as Envoy matches and with their rank among all others.

A regular expression that Envoy would refuse is found here, and its match left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.base.cel.errors import EvaluationError
from kajitori.gateway.patterns import check_pattern

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kajitori.api.envoygateway.http_route_filter import CookieMatch
    from kajitori.api.gateway.grpc_route import GRPCMethodMatch, GRPCRouteMatch
    from kajitori.api.gateway.http_route import HTTPHeaderMatch, HTTPQueryParamMatch, HTTPRouteMatch

_EXACT, _REGULAR, _PREFIX = 0, 1, 2


class Match(msgspec.Struct, frozen=True):
    """A match of Envoy.

    rank: smaller goes first. prefix: the path prefix that it is for, which a rewrite may replace. at_root: it takes
    every path. broken: why it cannot be used.
    """

    envoy: dict[str, Any]
    rank: tuple[int, int, bool, int, int]
    prefix: str = "/"
    at_root: bool = False
    broken: str = ""


def http_match(match: HTTPRouteMatch) -> Match:
    """Exact paths go first, then regular expressions, long prefixes, a method, many headers, many parameters."""
    path = match.path.value
    patterns: list[str] = []
    kind = {"Exact": _EXACT, "RegularExpression": _REGULAR, "PathPrefix": _PREFIX}[match.path.type]
    if kind == _EXACT:
        found: dict[str, Any] = {"path": path}
    elif kind == _REGULAR:
        found = {"safe_regex": {"regex": path}}
        patterns.append(path)
    else:
        found = _prefix(path)
    headers = header_matches(match.headers, patterns)
    if match.method:
        headers.append({"name": ":method", "string_match": {"exact": match.method}})
    if headers:
        found["headers"] = headers
    if match.query_params:
        found["query_parameters"] = _parameters(match.query_params, patterns)
    rank = (kind, -len(path), match.method is None, -len(match.headers), -len(match.query_params))
    at_root = kind == _PREFIX and path == "/"
    return Match(found, rank, path if kind == _PREFIX else "/", at_root, why_refused(patterns))


def _prefix(path: str) -> dict[str, Any]:
    return {"path_separated_prefix": path.rstrip("/")} if path.rstrip("/") else {"prefix": "/"}


def grpc_match(match: GRPCRouteMatch) -> Match:
    """A call is a POST to `/service/method`. Long services go first, then long methods, then many headers."""
    patterns: list[str] = []
    if match.method is None:
        found, kind, length = {"prefix": "/"}, _PREFIX, 1
    elif match.method.type == "RegularExpression":
        service, method = match.method.service or "[^/]+", match.method.method or "[^/]+"
        found = {"safe_regex": {"regex": f"/{service}/{method}"}}
        patterns += [service, method]
        kind, length = _REGULAR, len(service) + len(method)
    else:
        found, kind, length = _grpc_path(match.method)
    headers = header_matches(match.headers, patterns)
    headers.append(
        {"name": "content-type", "string_match": {"prefix": "application/grpc"}},
    )
    rank = (kind, -length, match.method is None, -len(match.headers), 0)
    return Match({**found, "headers": headers}, rank, "/", match.method is None, why_refused(patterns))


def _grpc_path(method: GRPCMethodMatch) -> tuple[dict[str, Any], int, int]:
    if method.service and method.method:
        path = f"/{method.service}/{method.method}"
        return {"path": path}, _EXACT, len(path)
    if method.service:
        return {"prefix": f"/{method.service}/"}, _PREFIX, len(method.service) + 2
    # Any service comes after every service that is named.
    return {"safe_regex": {"regex": f"/[^/]+/{method.method}"}}, _PREFIX, 1


def header_matches(headers: Iterable[HTTPHeaderMatch], patterns: list[str]) -> list[dict[str, Any]]:
    """Of several for one name the first holds, says the Gateway API. patterns: gets regular expressions."""
    found: dict[str, dict[str, Any]] = {}
    for header in headers:
        name = header.name.lower()
        if name not in found:
            found[name] = {"name": name, "string_match": _string(header.type, header.value, patterns)}
    return list(found.values())


def _parameters(parameters: Sequence[HTTPQueryParamMatch], patterns: list[str]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for item in parameters:
        if item.name not in found:
            string = _string(item.type, item.value, patterns)
            found[item.name] = {"name": item.name, "string_match": string}
    return list(found.values())


def cookie_matches(cookies: Iterable[CookieMatch], patterns: list[str]) -> list[dict[str, Any]]:
    """All of them must be there."""
    return [
        {"name": cookie.name, "string_match": _string(cookie.type, cookie.value, patterns)}
        for cookie in cookies
    ]


def _string(kind: str, value: str, patterns: list[str]) -> dict[str, Any]:
    if kind == "Exact":
        return {"exact": value}
    patterns.append(value)
    return {"safe_regex": {"regex": value}}


def why_refused(patterns: Iterable[str]) -> str:
    """What is wrong with regular expressions; empty if nothing."""
    told: list[str] = []
    for pattern in patterns:
        try:
            check_pattern(pattern)
        except EvaluationError as error:
            told.append(str(error))
    return "; ".join(told)
