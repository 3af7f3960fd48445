"""What SecurityPolicies come to on a route."""

from __future__ import annotations

from typing import Any

import msgspec

ROUTE_NAMESPACE = "envoy-gateway"
"""Of the metadata in which services that are asked find the route, as Envoy Gateway names it."""


class Protection(msgspec.Struct, frozen=True):
    """name: of the policies, for people and for what is named after them. broken: why nobody can be let in, if so.

    steps: name of a step of `security_filters` -> its configuration on a route. behind: steps that stand behind the script on every
    route, because they look at what it finds out: the model, or who the client is. login: name of what the script
    checks, or empty. cors: the CORS filter's configuration, if any. told: what a service is told of the one route that this is for.
    """

    name: str
    broken: str = ""
    steps: dict[str, dict[str, Any]] = {}
    behind: frozenset[str] = frozenset()
    login: str = ""
    cors: dict[str, Any] | None = None
    told: dict[str, Any] | None = None

    @property
    def guard(self) -> str:
        """What the script is told of a route."""
        return f"!{self.broken}" if self.broken else self.login
