"""Routes of a host by the value of one header, so that a thousand models cost a look-up and not a thousand comparisons.

Envoy tries the routes of a list one after the other, which costs 50 ns each. Where many ask for a value of one header,
the list becomes a tree: for each value the routes that a request with it could take, in their order, and a list for
all other requests. Every request takes the route that it would have taken before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

HEADER = "x-ai-eg-model"
# A header that is there whenever HEADER is: the request script sets both.
_COMPANION = "x-kajitori-schemas"
_FEWEST_ROUTES = 12
_MOST_GROWTH = 4


def by_header_value(routes: Sequence[dict[str, Any]]) -> tuple[dict[str, list[int]], list[int]] | None:
    """The places in `routes` for each value of HEADER, and those for all other requests; None where a list is as good."""
    natures = [required(route) for route in routes]
    values = sorted({value for value, _ in natures if value is not None})
    if sum(value is not None for value, _ in natures) < _FEWEST_ROUTES:
        return None
    common = [place for place, (value, excluded) in enumerate(natures) if value is None and not excluded]
    ends = next((place for place in common if takes_all(routes[place])), len(routes))
    common = [place for place in common if place <= ends]
    own: dict[str, list[int]] = {value: [] for value in values}
    for place, (value, _) in enumerate(natures):
        if value is not None and place < ends:
            own[value].append(place)
    if len(values) * (len(common) + 1) > _MOST_GROWTH * len(routes):
        return None
    others = [place for place, (value, _) in enumerate(natures) if value is None]
    return {value: sorted([*own[value], *common]) for value in values}, others


def required(route: dict[str, Any]) -> tuple[str | None, bool]:
    """The value that a route wants of HEADER, if one; and whether no request with the header can take it."""
    value, excluded = None, False
    for header in route.get("match", {}).get("headers", ()):
        inverted = bool(header.get("invert_match"))
        exact = header.get("string_match", {}).get("exact")
        if header["name"] == HEADER and exact is not None and not inverted:
            if header["string_match"].get("ignore_case"):
                continue
            value = exact
        elif header["name"] in (HEADER, _COMPANION) and header.get("present_match") and inverted:
            excluded = True
    return value, excluded


def takes_all(route: dict[str, Any]) -> bool:
    """Whether no request that has HEADER goes on to the next route."""
    match = route.get("match", {})
    if {name for name, item in match.items() if item} - {"headers"} != {"prefix"} or match["prefix"] != "/":
        return False
    return all(header == {"name": HEADER, "present_match": True} for header in match.get("headers", ()))
