"""Cluster addresses and node ports of Services: handed out here, so that no two Services share one.

What is in use follows the Services in the store; what was handed out to a write that is still on its way is kept
aside until the write is committed or fails.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from kajitori.api.resource import SERVICES
from kajitori.laptop.apiserver import status

if TYPE_CHECKING:
    from kajitori.laptop.apiserver.history import Event
    from kajitori.laptop.apiserver.store import Store

NODE_PORTS = range(30_000, 32_768)
# The first addresses are left to those who ask for a certain one.
FIRST_DYNAMIC_OFFSET = 10


class ServiceAddresses:
    """Allocates from one range, such as `127.31.0.0/16`."""

    def __init__(self, store: Store, cidr: str) -> None:
        self.network = ipaddress.ip_network(cidr)
        self._used: set[str] = set()
        self._ports: set[int] = set()
        self._next = FIRST_DYNAMIC_OFFSET
        self._store = store
        store.listeners.append(self._on_event)

    def load(self) -> None:
        """Note what the stored Services use."""
        for entry in self._store.table("services").scan():
            self._take(entry.peek())

    def _on_event(self, resource: str, event: Event) -> None:
        if resource != "services":
            return
        if event.before is not None:
            self.release(event.before.peek())
        if not event.deleted:
            self._take(event.entry.peek())

    def _take(self, service: dict[str, Any]) -> None:
        self._used.update(_addresses(service))
        self._ports.update(_ports(service))

    def release(self, service: dict[str, Any]) -> None:
        """Give back what a Service holds: it goes, or its creation failed."""
        self._used.difference_update(_addresses(service))
        self._ports.difference_update(_ports(service))

    def keep(self, service: dict[str, Any], *, instead_of: dict[str, Any]) -> None:
        """A change was refused: what it would have held beyond the stored Service is given back."""
        self.release(instead_of)
        self._take(service)

    def allocate(self, service: dict[str, Any], before: dict[str, Any] | None = None) -> None:
        """Give a Service its addresses and node ports, in place. before: what it was, when it changes.

        Raises StatusError 422 for an address that is taken or out of range.
        """
        spec: dict[str, Any] = service.setdefault("spec", {})
        name = service["metadata"].get("name", "")
        held = before or {}
        kept = set(_addresses(held))
        if spec.get("type") == "ExternalName":
            spec.pop("clusterIP", None)
            spec.pop("clusterIPs", None)
        elif not spec.get("clusterIP"):
            old = held.get("spec", {}).get("clusterIP")
            spec["clusterIP"] = old or self._next_address()
        if address := spec.get("clusterIP"):
            spec["clusterIPs"] = [address]
            if address != "None" and address not in kept:
                self._claim(name, address)
        self._allocate_ports(spec, held.get("spec") or {})

    def _claim(self, name: str, address: str) -> None:
        try:
            inside = ipaddress.ip_address(address) in self.network
        except ValueError:
            return
        if inside and address not in self._used:
            self._used.add(address)
            return
        text = (
            "failed to allocate IP {}: provided IP is already allocated"
            if inside
            else "failed to allocate IP {}: the provided IP is not in the valid range"
        )
        raise status.invalid(
            SERVICES.kind,
            "",
            name,
            [status.invalid_value("spec.clusterIPs", [address], text.format(address))],
        )

    def _next_address(self) -> str:
        size = self.network.num_addresses
        for _ in range(size):
            offset = self._next
            self._next = offset + 1 if offset + 2 < size else FIRST_DYNAMIC_OFFSET
            address = str(self.network[offset])
            # `.0` and `.255` are ordinary addresses here, and confuse people nevertheless.
            if address not in self._used and not address.endswith((".0", ".255")):
                return address
        raise status.internal_error(f"no address is left in {self.network}")

    def _allocate_ports(self, spec: dict[str, Any], held: dict[str, Any]) -> None:
        if spec.get("type") not in ("NodePort", "LoadBalancer"):
            return
        old = {(p.get("protocol"), p.get("port")): p.get("nodePort") for p in held.get("ports") or ()}
        for port in spec.get("ports") or ():
            if not port.get("nodePort"):
                known = old.get((port.get("protocol"), port.get("port")))
                port["nodePort"] = known or next(p for p in NODE_PORTS if p not in self._ports)
            self._ports.add(port["nodePort"])


def _addresses(service: dict[str, Any]) -> list[str]:
    return [a for a in service.get("spec", {}).get("clusterIPs") or () if a != "None"]


def _ports(service: dict[str, Any]) -> list[int]:
    return [p["nodePort"] for p in service.get("spec", {}).get("ports") or () if p.get("nodePort")]
