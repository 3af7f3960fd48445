"""Which listeners of a port get in each other's way.

All Gateways share ports. Inside a Gateway no conflicting listener wins, as the Gateway API demands; between Gateways
the older one keeps what it has, so that a new Gateway cannot take a port from one that serves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kajitori.gateway.routes.hostnames import covering, narrower

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kajitori.gateway.routes.attachment import Binding


def mark_conflicts(bindings: Iterable[Binding]) -> None:
    """Writes `conflict` and `overlap` into bindings; these come oldest Gateway first."""
    by_port: dict[int, list[Binding]] = {}
    for binding in bindings:
        if not binding.unsupported:
            by_port.setdefault(binding.listener.port, []).append(binding)
    for port, sharing in by_port.items():
        _inside_gateways(port, sharing)
        _between_gateways(port, sharing)
        _overlaps(sharing)


def _inside_gateways(port: int, sharing: list[Binding]) -> None:
    by_gateway: dict[int, list[Binding]] = {}
    for binding in sharing:
        by_gateway.setdefault(id(binding.gateway), []).append(binding)
    for binding in sharing:
        others = [other for other in by_gateway[id(binding.gateway)] if other is not binding]
        if foreign := [other for other in others if other.protocol != binding.protocol]:
            told = (
                f"port {port} has {_named(foreign)} of another protocol; give each protocol a port of its own"
            )
            binding.conflict = ("ProtocolConflict", told)
        elif same := [other for other in others if other.hostname == binding.hostname]:
            told = f"port {port} has {_named(same)} with the same hostname; give each listener one of its own"
            binding.conflict = ("HostnameConflict", told)


def _between_gateways(port: int, sharing: list[Binding]) -> None:
    whole = [binding for binding in sharing if binding.conflict is None]
    if not whole:
        return
    protocol = whole[0].protocol
    first: dict[str, Binding] = {}
    for binding in whole:
        if binding.protocol != protocol:
            told = f"the older Gateway {_owner(whole[0])} has port {port} for {protocol}; choose another port"
            binding.conflict = ("ProtocolConflict", told)
        elif binding.tls is not None:
            # Listeners for one host share it, with all of their certificates, unless they differ in whom they let in.
            older = first.setdefault(binding.hostname, binding)
            if older.tls is not None and not binding.tls.goes_with(older.tls):
                told = (
                    f"the older Gateway {_owner(older)} has port {port} for this hostname and asks clients for other "
                    "certificates; choose another port or hostname"
                )
                binding.conflict = ("HostnameConflict", told)


def _owner(binding: Binding) -> str:
    namespace, name = binding.gateway_key
    return f"{namespace}/{name}"


def _overlaps(sharing: list[Binding]) -> None:
    secure = [binding for binding in sharing if binding.protocol == "HTTPS" and binding.conflict is None]
    overlapping = narrower(binding.hostname for binding in secure)
    for binding in secure:
        wider = [name for name in covering(binding.hostname)[1:] if name in overlapping]
        names = [*wider, *overlapping.get(binding.hostname, ())]
        if names:
            binding.overlap = (
                f"the hostname overlaps with {', '.join(sorted(names))} on the same port; a request over a connection "
                "that was made for another listener is answered with 421"
            )


def _named(bindings: list[Binding]) -> str:
    names = ", ".join(binding.listener.name for binding in bindings)
    return f"the listener {names}" if len(bindings) == 1 else f"the listeners {names}"
