"""Which Gateways are ours, which listeners serve, and which routes attach where.

Listeners of all accepted Gateways that share a port are one listener of Envoy; see
`docs/decisions/0020-merged-gateways.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from kajitori.api.gateway.shared import GROUP, ParentReference
from kajitori.api.gateway.v1 import Gateway, Listener
from kajitori.gateway.observed import age_key
from kajitori.gateway.routes.conflicts import mark_conflicts
from kajitori.gateway.routes.hostnames import ANY_HOST, intersect, narrower
from kajitori.gateway.routes.tls import Fault, ListenerTls, resolve_tls
from kajitori.model.selection import matches

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kajitori.gateway.observed import Index

AI_GROUP = "aigateway.envoyproxy.io"
ROUTE_KINDS = ((GROUP, "HTTPRoute"), (GROUP, "GRPCRoute"), (AI_GROUP, "AIGatewayRoute"))
_PROTOCOLS = ("HTTP", "HTTPS")
# Of these two kinds a listener serves one for a host, says the Gateway API.
_RIVALS = {"HTTPRoute": "GRPCRoute", "GRPCRoute": "HTTPRoute"}


class Binding(msgspec.Struct):
    """A listener of an accepted Gateway, what it serves with, and how many routes it carries.

    unsupported, conflict: reason and message of what keeps it from serving. faults: of its TLS. overlap: with which
    hostnames, in words. hidden: narrower hostnames that belong to other listeners. hosts: kind of route -> served.
    """

    gateway: Gateway
    controller: str
    listener: Listener
    unsupported: tuple[str, str] | None = None
    conflict: tuple[str, str] | None = None
    tls: ListenerTls | None = None
    faults: list[Fault] = msgspec.field(default_factory=list)
    overlap: str = ""
    hidden: tuple[str, ...] = ()
    attached_routes: int = 0
    hosts: dict[str, list[str]] = msgspec.field(default_factory=dict)

    @property
    def hostname(self) -> str:
        return self.listener.hostname or ANY_HOST

    @property
    def protocol(self) -> str:
        return self.listener.protocol

    @property
    def gateway_key(self) -> tuple[str, str]:
        return self.gateway.metadata.namespace or "", self.gateway.metadata.name or ""

    @property
    def problem(self) -> tuple[str, str] | None:
        """Reason and message of what keeps the listener from serving."""
        if self.unsupported or self.conflict:
            return self.unsupported or self.conflict
        if self.protocol == "HTTPS" and self.tls is None:
            return "Invalid", "; ".join(fault.message for fault in self.faults)
        return None

    @property
    def table(self) -> str:
        """The name of the route table that serves it: one for the HTTP of a port, one for each HTTPS listener."""
        port = self.listener.port
        return f"https/{port}/{self.hostname}" if self.protocol == "HTTPS" else f"http/{port}"

    def place(self, hostname: str) -> Place:
        return Place(
            self.listener.port, hostname, self.gateway_key, self.listener.name, self.table, self.hidden
        )


class Place(msgspec.Struct, frozen=True):
    """A host of a port at which a route serves, and the listener that it came by.

    gateway: namespace and name. listener: the listener's name. table: of routes. hidden: narrower hostnames at which
    the route does not serve, since other listeners have them.
    """

    port: int
    hostname: str
    gateway: tuple[str, str]
    listener: str
    table: str = ""
    hidden: tuple[str, ...] = ()


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


class _Refusal(NamedTuple):
    """Why a parent takes a route nowhere."""

    reason: str
    message: str


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
            self.bindings[key] = [_bind(index, gateway, controller, item) for item in gateway.spec.listeners]
        everything = [binding for group in self.bindings.values() for binding in group]
        mark_conflicts(everything)
        by_port: dict[int, list[Binding]] = {}
        for binding in self.serving():
            by_port.setdefault(binding.listener.port, []).append(binding)
        for sharing in by_port.values():
            by_hostname: dict[str, list[Binding]] = {}
            for binding in sharing:
                by_hostname.setdefault(binding.hostname, []).append(binding)
            below = narrower(by_hostname)
            for binding in sharing:
                names = below.get(binding.hostname, ())
                binding.hidden = _had_by_others(binding, {name: by_hostname[name] for name in names})

    def begin(self, index: Index) -> None:
        """No route is attached. index: equal as far as listeners go, and it may be another one as to the rest."""
        self._index = index
        for group in self.bindings.values():
            for binding in group:
                binding.attached_routes, binding.hosts = 0, {}

    def serving(self) -> list[Binding]:
        """Every listener that serves, those of the oldest Gateway first."""
        return [b for group in self.bindings.values() for b in group if b.problem is None]

    def ports(self) -> list[int]:
        """Every port on which something listens."""
        return sorted({binding.listener.port for binding in self.serving()})

    def attach(
        self,
        kind: str,
        namespace: str,
        hostnames: Sequence[str],
        parents: Sequence[ParentReference],
        *,
        stands_in: bool = False,
    ) -> list[ParentOutcome]:
        """One outcome a parent reference that is to a Gateway of ours; others are none of our business.

        stands_in: the route stands for one that attaches by itself, so it takes no place and does not count.
        """
        outcomes: list[ParentOutcome] = []
        counted: set[int] | None = None if stands_in else set()
        for parent in parents:
            if parent.kind != "Gateway" or parent.group not in (GROUP, ""):
                continue
            bindings = self.bindings.get((parent.namespace or namespace, parent.name))
            if bindings:
                outcomes.append(self._attach_one(kind, namespace, hostnames, parent, bindings, counted))
        return outcomes

    def attach_apart(
        self,
        kind: str,
        namespace: str,
        hostnames: Sequence[str],
        parents: Sequence[ParentReference],
        *,
        stands_in: bool = False,
    ) -> tuple[list[ParentOutcome], list[Binding]]:
        """As `attach`, for a kind that has no rivals; besides, the listeners that count the route. It is not counted."""
        everything = [binding for group in self.bindings.values() for binding in group]
        before = [binding.attached_routes for binding in everything]
        outcomes = self.attach(kind, namespace, hostnames, parents, stands_in=stands_in)
        counted = [
            binding
            for binding, number in zip(everything, before, strict=True)
            if binding.attached_routes != number
        ]
        for binding in counted:
            binding.attached_routes -= 1
        return outcomes, counted

    def _attach_one(
        self,
        kind: str,
        namespace: str,
        hostnames: Sequence[str],
        parent: ParentReference,
        bindings: list[Binding],
        counted: set[int] | None,
    ) -> ParentOutcome:
        controller = bindings[0].controller
        rival = _RIVALS.get(kind, "") if counted is not None else ""
        chosen = self._choose(kind, namespace, hostnames, parent, bindings, rival)
        if isinstance(chosen, _Refusal):
            return ParentOutcome(parent, controller, False, chosen.reason, chosen.message)
        via: list[Place] = []
        for binding in chosen:
            shared = intersect(binding.hostname, hostnames)
            if counted is not None:
                binding.hosts.setdefault(kind, []).extend(shared)
                binding.attached_routes += id(binding) not in counted
                counted.add(id(binding))
            if binding.problem is None:
                via += [binding.place(hostname) for hostname in shared]
        places = tuple(dict.fromkeys((place.port, place.hostname) for place in via))
        return ParentOutcome(parent, controller, True, "Accepted", "the route serves", places, tuple(via))

    def _choose(
        self,
        kind: str,
        namespace: str,
        hostnames: Sequence[str],
        parent: ParentReference,
        bindings: list[Binding],
        rival: str,
    ) -> list[Binding] | _Refusal:
        """The listeners of a parent that take the route. rival: a kind of which an older route keeps a host to itself."""
        named = [
            binding
            for binding in bindings
            if parent.section_name in (None, binding.listener.name)
            and parent.port in (None, binding.listener.port)
        ]
        if not named:
            return _Refusal("NoMatchingParent", "the Gateway has no listener of that name or port")
        allowed = [binding for binding in named if self._allows(binding, kind, namespace)]
        if not allowed:
            told = f"no listener allows a {kind} from the namespace {namespace}"
            return _Refusal("NotAllowedByListeners", told)
        fitting = [binding for binding in allowed if intersect(binding.hostname, hostnames)]
        if not fitting:
            told = "none of the route's hostnames fits a listener's hostname"
            return _Refusal("NoMatchingListenerHostname", told)
        free = [binding for binding in fitting if not _taken(binding, rival, hostnames)]
        return free or _Refusal("Conflicted", f"an older {rival} has these hostnames at the listener")

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


def _bind(index: Index, gateway: Gateway, controller: str, listener: Listener) -> Binding:
    binding = Binding(gateway, controller, listener)
    if listener.protocol not in _PROTOCOLS:
        binding.unsupported = (
            "UnsupportedProtocol",
            f"protocol {listener.protocol} is not honoured; listeners serve HTTP and HTTPS",
        )
    elif listener.protocol == "HTTPS":
        if listener.tls and listener.tls.mode != "Terminate":
            told = f"tls mode {listener.tls.mode} is not honoured; a listener of protocol HTTPS ends TLS"
            binding.unsupported = ("UnsupportedValue", told)
        else:
            binding.tls, binding.faults = resolve_tls(index, gateway, listener)
    return binding


def _had_by_others(binding: Binding, narrower: Mapping[str, Sequence[Binding]]) -> tuple[str, ...]:
    """Those of narrower hostnames that other listeners of a port have for themselves: of the same Gateway, with HTTPS of any."""
    return tuple(
        sorted(
            hostname
            for hostname, others in narrower.items()
            if any(other.protocol == "HTTPS" or other.gateway is binding.gateway for other in others)
        )
    )


def _taken(binding: Binding, rival: str, hostnames: Sequence[str]) -> bool:
    shared = intersect(binding.hostname, hostnames)
    return any(intersect(host, shared) for host in binding.hosts.get(rival, ()))
