"""Selectors of Envoy Gateway's rate limits (`clientSelectors`) to ours. Pure.

What cannot be honoured would let a limit hold for too many or too few, so the rule is left out and told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kajitori.base.errors import UserError
from kajitori.gateway.limits.limit import HEADER_FACT, QUERY_FACT, Selector
from kajitori.gateway.limits.selectors import compile_selector

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kajitori.api.envoygateway.rate_limit import (
        HeaderMatch,
        MethodMatch,
        PathMatch,
        QueryParamMatch,
        RateLimitSelectCondition,
        SourceMatch,
    )

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")


def client_selectors(
    conditions: Sequence[RateLimitSelectCondition], where: str, problems: list[str]
) -> tuple[Selector, ...] | None:
    """All conditions must hold. None: one of them cannot be honoured, see problems. where: the path of the list."""
    found: list[Selector] = []
    good = True
    for number, condition in enumerate(conditions):
        place = f"{where}[{number}]"
        selectors = [_named(f"{HEADER_FACT}{header.name.lower()}", header) for header in condition.headers]
        selectors += [_named(f"{QUERY_FACT}{each.name}", each) for each in condition.query_params]
        if condition.methods:
            selectors.append(_methods(condition.methods))
        if condition.path is not None:
            selectors += _path(condition.path)
        if condition.source_cidr is not None:
            selectors += _source(condition.source_cidr)
        for selector in selectors:
            try:
                compile_selector(selector)
            except UserError as error:
                problems.append(f"{place}: {error.message}")
                good = False
        found += selectors
    return tuple(found) if good else None


def _named(fact: str, match: HeaderMatch | QueryParamMatch) -> Selector:
    """What selects by a header or a parameter."""
    if match.type == "Distinct":
        return Selector(fact, "Distinct")
    kind = "Regex" if match.type == "RegularExpression" else "Exact"
    if match.value is None and kind == "Exact":
        return Selector(fact, "Present", invert=match.invert)
    return Selector(fact, kind, match.value or "", match.invert)


def _methods(methods: Sequence[MethodMatch]) -> Selector:
    """One of them is enough, so those that are inverted let every other method in."""
    allowed: set[str] = set()
    for method in methods:
        allowed |= {each for each in _METHODS if (each == method.value) is not method.invert}
    return Selector("method", "OneOf", ",".join(sorted(allowed)))


def _path(path: PathMatch) -> list[Selector]:
    if path.type == "PathPrefix" and path.value in ("", "/") and not path.invert:
        return []
    kind = "Exact" if path.type == "Exact" else "Prefix" if path.type == "PathPrefix" else "Regex"
    return [Selector("path", kind, path.value, path.invert)]


def _source(source: SourceMatch) -> list[Selector]:
    within = Selector("client", "Cidr", source.value, source.invert)
    return [within, Selector("client", "Distinct")] if source.type == "Distinct" else [within]
