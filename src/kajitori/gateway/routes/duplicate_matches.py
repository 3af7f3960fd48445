"""Routes that match the same requests as an older one: the younger one says so in its condition. Pure.

Only what is wholly the same is looked for, the same headers at the same host and port; what merely overlaps may be meant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kajitori.gateway.routes.endpoints import MODEL_HEADER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kajitori.api.aigateway.v1beta1 import AIGatewayRoute
    from kajitori.gateway.routes.attachment import Place

COMES_FIRST = "comes first for"


# Name, type and value of each header, in one order, so that equal ones are found.
Wanted = tuple[tuple[str, str, str], ...]


def wanted(route: AIGatewayRoute) -> tuple[Wanted, ...]:
    """What a route asks for, each once."""
    found = {
        tuple(sorted((each.name.lower(), each.type or "Exact", each.value) for each in match.headers))
        for rule in route.spec.rules
        for match in rule.matches
    }
    return tuple(sorted(each for each in found if each))


def _told(asked: Wanted) -> str:
    model = next((value for name, _, value in asked if name == MODEL_HEADER), "")
    if not model:
        return "requests with the same headers"
    return f"model {model}{' with the same headers' if len(asked) > 1 else ''}"


class DuplicateMatches:
    """Who asked first, from route to route, older ones first."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, str, Wanted], str] = {}

    def told(self, route: str, places: Iterable[Place], asked: Iterable[Wanted]) -> list[str]:
        """Notes about what older routes take. route: namespace/name."""
        asked, found = tuple(asked), dict[str, None]()
        for place in places:
            for each in asked:
                first = self._first.setdefault((place.table, place.hostname, each), route)
                if first != route:
                    found[f"AIGatewayRoute {first} is older and {COMES_FIRST} {_told(each)}"] = None
        return list(found)
