"""The state while one SecurityPolicy, or two merged ones, become a Protection of the routes that they hold for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.base.reason import Reason
from kajitori.gateway.credentials.secrets import SecretReader
from kajitori.gateway.routes.protection import Protection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kajitori.gateway.observed import Index
    from kajitori.gateway.world import World

GROUP, KIND = "gateway.envoyproxy.io", "SecurityPolicy"


class Making:
    """The state while a policy becomes a Protection.

    problems: what cannot be honoured, so that nobody is let in. notes: what is honoured less than fully. tokens: a
    provider of `jwt` by its name in Envoy, with its configuration. tells_route: whether a service is told the route.
    """

    def __init__(self, index: Index, world: World, namespace: str, name: str) -> None:
        self.index = index
        self.world = world
        self.namespace = namespace
        self.name = name
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.steps: dict[str, dict[str, Any]] = {}
        self.behind: set[str] = set()
        self.login_line = ""
        self.cors: dict[str, Any] | None = None
        self.tells_route = False
        self.jwt_providers: dict[str, dict[str, Any]] = {}
        self.jwt_requirement: dict[str, Any] | None = None
        self.secrets = PolicySecrets(index, namespace, name)

    def take(self, value: Any | Reason) -> Any | None:
        """The value, or None with its reason among the problems."""
        if isinstance(value, Reason):
            self.problems.append(value.message)
            return None
        return value

    def protection(self) -> Protection:
        """What it has come to."""
        if self.problems:
            told = f"SecurityPolicy {self.name} cannot be honoured, so nobody is let in; its status says why"
            return Protection(self.name, broken=told, cors=self.cors)
        return Protection(
            self.name,
            steps=self.steps,
            behind=frozenset(self.behind),
            login=f"login/{self.name}" if self.login_line else "",
            cors=self.cors,
        )


class PolicySecrets(SecretReader):
    """Secrets that a SecurityPolicy refers to. name: namespace/name of the policy."""

    group, kind = GROUP, KIND

    def __init__(self, index: Index, namespace: str, name: str) -> None:
        self._index = index
        self._namespace = namespace
        self.subject = f"{KIND} {name}"


def listed(texts: Sequence[str]) -> str:
    """Lines of one field of what the script reads."""
    return "\n".join(texts)
