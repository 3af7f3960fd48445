"""Which of the gateway's kinds another controller of the cluster serves, so that ours leaves them to it."""

from __future__ import annotations

from collections.abc import Callable

from kajitori.gateway.observed import CONTROLLERS, ENVOY_GATEWAY_CONTROLLER

# Of Envoy AI Gateway; its controller writes the status of every one of them, whatever its Gateway's class.
AI_KINDS = frozenset(
    {"GatewayConfig", "AIGatewayRoute", "AIServiceBackend", "BackendSecurityPolicy", "QuotaPolicy"}
)
# Of Envoy Gateway. A Backend is read all the same: our routes may refer to one.
ENVOY_KINDS = frozenset({"EnvoyProxy", "Backend"})


class ForeignKinds:
    """Nothing is foreign until `set` says so."""

    def __init__(self) -> None:
        self.foreign: frozenset[str] = frozenset()
        self.controllers = CONTROLLERS
        self._listeners: list[Callable[[], None]] = []

    def on_change(self, callback: Callable[[], None]) -> None:
        self._listeners.append(callback)

    def set(self, *, ai_gateway: bool, envoy_gateway: bool) -> None:
        """Whether the two upstream controllers run here."""
        foreign = (AI_KINDS if ai_gateway else frozenset[str]()) | (
            ENVOY_KINDS if envoy_gateway else frozenset[str]()
        )
        controllers = tuple(
            name for name in CONTROLLERS if not (envoy_gateway and name == ENVOY_GATEWAY_CONTROLLER)
        )
        if (foreign, controllers) != (self.foreign, self.controllers):
            self.foreign, self.controllers = foreign, controllers
            for callback in self._listeners:
                callback()
