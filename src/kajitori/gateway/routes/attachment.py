"""Which Gateways are ours, which listeners serve, and which routes attach where.

Listeners of all accepted Gateways that share a port are one listener of Envoy; see
`docs/decisions/0020-merged-gateways.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.api.gateway.shared import GROUP, ParentReference
from kajitori.api.gateway.v1 import Gateway, Listener
from kajitori.gateway.conditions import condition
from kajitori.gateway.observed import age_key
from kajitori.model.selection import matches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kajitori.gateway.observed import Index

ANY_HOST = "*"
_AI_GROUP = "aigateway.envoyproxy.io"
_ROUTE_KINDS = ((GROUP, "HTTPRoute"), (_AI_GROUP, "AIGatewayRoute"))


class Binding(msgspec.Struct):
    """A listener of an accepted Gateway and how many routes it carries. problem: why it serves none, if so."""

    gateway: Gateway
    controller: str
    listener: Listener
    problem: tuple[str, str] | None = None
    attached_routes: int = 0

    @property
    def hostname(self) -> str:
        return self.listener.hostname or ANY_HOST

    def place(self, hostname: str) -> Place:
        metadata = self.gateway.metadata
        gateway = (metadata.namespace or "", metadata.name or "")
        return Place(self.listener.port, hostname, gateway, self.listener.name)


class Place(msgspec.Struct, frozen=True):
    """A host of a port at which a route serves, and the listener that it came by.

    gateway: namespace and name. listener: the listener's name.
    """

    port: int
    hostname: str
    gateway: tuple[str, str]
    listener: str


class ParentOutcome(msgspec.Struct, frozen=True):
    """What became of one parent reference.

    places: (port, hostname) pairs where the route serves. via: the same with the listeners, to which policies attach.
    """

    parent: ParentReference
    controller: str
    accepted: bool
    reason: str
    message: str
    places: tuple[tuple[int, str], ...] = ()
    via: tuple[Place, ...] = ()


class Attachment:
    """The listeners of all Gateways that are ours."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self.controllers = {
            item.metadata.name or "": item.spec.controller_name
            for item in index.observed.gateway_classes
            if item.spec.controller_name in index.observed.controllers
        }
        self.bindings: dict[tuple[str, str], list[Binding]] = {}
        for gateway in sorted(index.observed.gateways, key=age_key):
            controller = self.controllers.get(gateway.spec.gateway_class_name)
            if controller is None or gateway.metadata.deletion_timestamp:
                continue
            key = (gateway.metadata.namespace or "", gateway.metadata.name or "")
            self.bindings[key] = [
                Binding(gateway, controller, listener, _listener_problem(listener))
                for listener in gateway.spec.listeners
            ]

    def ports(self) -> list[int]:
        """Every port on which something listens."""
        return sorted(
            {b.listener.port for group in self.bindings.values() for b in group if b.problem is None}
        )

    def attach(
        self, kind: str, namespace: str, hostnames: Sequence[str], parents: Sequence[ParentReference]
    ) -> list[ParentOutcome]:
        """One outcome a parent reference that is to a Gateway of ours; others are none of our business."""
        outcomes: list[ParentOutcome] = []
        for parent in parents:
            if parent.kind != "Gateway" or parent.group not in (GROUP, ""):
                continue
            bindings = self.bindings.get((parent.namespace or namespace, parent.name))
            if bindings:
                outcomes.append(self._attach_one(kind, namespace, hostnames, parent, bindings))
        return outcomes

    def _attach_one(
        self,
        kind: str,
        namespace: str,
        hostnames: Sequence[str],
        parent: ParentReference,
        bindings: list[Binding],
    ) -> ParentOutcome:
        controller = bindings[0].controller

        def refused(reason: str, message: str) -> ParentOutcome:
            return ParentOutcome(parent, controller, False, reason, message)

        named = [
            binding
            for binding in bindings
            if parent.section_name in (None, binding.listener.name)
            and parent.port in (None, binding.listener.port)
        ]
        if not named:
            return refused("NoMatchingParent", "the Gateway has no listener of that name or port")
        allowed = [binding for binding in named if self._allows(binding, kind, namespace)]
        if not allowed:
            return refused(
                "NotAllowedByListeners", f"no listener allows a {kind} from the namespace {namespace}"
            )
        places: list[tuple[int, str]] = []
        via: list[Place] = []
        for binding in allowed:
            shared = intersect(binding.hostname, hostnames)
            if not shared:
                continue
            binding.attached_routes += 1
            if binding.problem is None:
                places += [(binding.listener.port, hostname) for hostname in shared]
                via += [binding.place(hostname) for hostname in shared]
                continue
        if not places and not any(intersect(binding.hostname, hostnames) for binding in allowed):
            return refused(
                "NoMatchingListenerHostname", "none of the route's hostnames fits a listener's hostname"
            )
        return ParentOutcome(
            parent, controller, True, "Accepted", "the route serves", tuple(dict.fromkeys(places)), tuple(via)
        )

    def _allows(self, binding: Binding, kind: str, namespace: str) -> bool:
        allowed = binding.listener.allowed_routes
        # A list of kinds that was written for HTTPRoutes means the ones made of AIGatewayRoutes too.
        fitting = (kind, "HTTPRoute") if kind == "AIGatewayRoute" else (kind,)
        if allowed.kinds and not any(item.kind in fitting for item in allowed.kinds):
            return False
        match allowed.namespaces.from_:
            case "All":
                return True
            case "Same":
                return namespace == (binding.gateway.metadata.namespace or "")
            case "Selector":
                labels = self._index.namespace_labels.get(namespace, {})
                selector = allowed.namespaces.selector
                return selector is not None and matches(selector, labels)
            case "None":
                return False

    def gateway_status(
        self,
        key: tuple[str, str],
        addresses: Sequence[tuple[str, str]],
        rejected: dict[int, str],
        envoys: int,
    ) -> dict[str, Any]:
        """The status of one Gateway.

        addresses: type and value of each. rejected: by port, why the listener does not serve. envoys: connected ones.
        """
        bindings = self.bindings[key]
        working = [b for b in bindings if b.problem is None and b.listener.port not in rejected]
        accepted = any(binding.problem is None for binding in bindings)
        if not envoys:
            programmed = condition("Programmed", False, "Pending", "no Envoy is connected")
        elif working and not addresses:
            programmed = condition(
                "Programmed", False, "AddressNotAssigned", "the Service in front of Envoy has no address yet"
            )
        elif len(working) == len(bindings):
            programmed = condition("Programmed", True, "Programmed", "every listener serves")
        elif working:
            told = f"some listeners serve, others do not: {_why_not(bindings, rejected)}"
            programmed = condition("Programmed", True, "Programmed", told)
        else:
            reasons = _why_not(bindings, rejected)
            programmed = condition("Programmed", False, "Invalid", reasons)
        whole = all(binding.problem is None for binding in bindings)
        return {
            "addresses": [{"type": kind, "value": value} for kind, value in addresses if working],
            "conditions": [
                condition(
                    "Accepted",
                    accepted,
                    "Accepted" if whole else "ListenersNotValid",
                    "; ".join(
                        [
                            "the Gateway is served by Kajitori" if whole else "some listeners cannot serve",
                            *_unhonoured(bindings[0].gateway),
                        ]
                    ),
                ),
                programmed,
            ],
            "listeners": [_listener_status(binding, rejected) for binding in bindings],
        }


def _why_not(bindings: Sequence[Binding], rejected: dict[int, str]) -> str:
    """Of each listener that does not serve its name and the reason."""
    reasons = (
        (
            binding.listener.name,
            binding.problem[1] if binding.problem else rejected.get(binding.listener.port),
        )
        for binding in bindings
    )
    return "; ".join(f"listener {name}: {reason}" for name, reason in reasons if reason)


def _unhonoured(gateway: Gateway) -> list[str]:
    """The fields of a Gateway that change nothing here."""
    found: list[str] = []
    if gateway.spec.addresses:
        found.append("spec.addresses is not honoured: listeners bind the address that this process was given")
    if gateway.spec.infrastructure is not None:
        found.append("spec.infrastructure is not honoured")
    return found


def _listener_problem(listener: Listener) -> tuple[str, str] | None:
    """Reason and message of what keeps a listener from serving."""
    if listener.protocol != "HTTP":
        return (
            "UnsupportedProtocol",
            f"protocol {listener.protocol} is not honoured; listeners serve HTTP",
        )
    return None


def _listener_status(binding: Binding, rejected: dict[int, str]) -> dict[str, Any]:
    listener = binding.listener
    refused = rejected.get(listener.port)
    if binding.problem:
        reason, message = binding.problem
        states = [
            condition("Accepted", False, reason, message),
            condition("Programmed", False, "Invalid", message),
        ]
    else:
        states = [
            condition("Accepted", True, "Accepted", "the listener is served"),
            condition("Programmed", False, "Invalid", refused)
            if refused
            else condition("Programmed", True, "Programmed", "Envoy listens"),
        ]
    kinds = listener.allowed_routes.kinds
    supported = [item for item in _ROUTE_KINDS if not kinds or any(item[1] == kind.kind for kind in kinds)]
    unknown = [kind.kind for kind in kinds if (kind.group, kind.kind) not in _ROUTE_KINDS]
    states.append(
        condition("ResolvedRefs", False, "InvalidRouteKinds", f"kinds not served: {', '.join(unknown)}")
        if unknown
        else condition("ResolvedRefs", True, "ResolvedRefs", "all references are resolved")
    )
    states.append(
        condition("Conflicted", False, "NoConflicts", "the listener shares its port with others well")
    )
    return {
        "name": listener.name,
        "supportedKinds": [{"group": group, "kind": kind} for group, kind in supported],
        "attachedRoutes": binding.attached_routes,
        "conditions": states,
    }


def intersect(listener: str, hostnames: Sequence[str]) -> list[str]:
    """The hostnames that a route with `hostnames` serves at a listener for `listener`."""
    if not hostnames:
        return [listener]
    return [shared for hostname in hostnames if (shared := _narrower(listener, hostname))]


def _narrower(one: str, other: str) -> str | None:
    if one in (ANY_HOST, other):
        return other
    if other == ANY_HOST:
        return one
    if covers(one, other):
        return other
    if covers(other, one):
        return one
    return None


def covers(pattern: str, hostname: str) -> bool:
    """Whether every host of `hostname` (itself perhaps a wildcard) fits `pattern`."""
    if pattern in (ANY_HOST, hostname):
        return True
    return (
        pattern.startswith("*.") and hostname.removeprefix("*").endswith(pattern[1:]) and hostname != pattern
    )
