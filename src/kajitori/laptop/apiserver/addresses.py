"""Cluster addresses and node ports of Services: handed out here, so that no two Services share one.

What is in use follows the Services in the store. What was handed out to a write that is still on its way is a
claim of that write: it becomes the Service's when the write is committed, and is given back when it is refused, when
it was only a dry run, or when it fails.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from kajitori.api.resource import SERVICES
from kajitori.laptop.apiserver import status

if TYPE_CHECKING:
    from kajitori.laptop.apiserver.history import Event
    from kajitori.laptop.apiserver.status import FieldError
    from kajitori.laptop.apiserver.store import Store

NODE_PORTS = range(30_000, 32_768)
# The first addresses are left to those who ask for a certain one.
FIRST_DYNAMIC_OFFSET = 10


class ServiceAddresses:
    """Allocates from one range, such as `127.31.0.0/16`."""

    def __init__(self, store: Store, cidr: str) -> None:
        self.network = ipaddress.ip_network(cidr)
        self._stored: set[str | int] = set()
        self._claims: dict[str | int, object] = {}
        self._next = FIRST_DYNAMIC_OFFSET
        self._store = store
        store.listeners.append(self._on_event)

    def load(self) -> None:
        """Note what the stored Services use."""
        for entry in self._store.table("services").scan():
            self._stored.update(_held(entry.peek()))

    def in_use(self) -> set[str | int]:
        """Addresses and node ports of stored Services and of writes on their way."""
        return {*self._stored, *self._claims}

    def _on_event(self, resource: str, event: Event) -> None:
        if resource != "services":
            return
        if event.before is not None:
            self._stored.difference_update(_held(event.before.peek()))
        if not event.deleted:
            for held in _held(event.entry.peek()):
                self._stored.add(held)
                self._claims.pop(held, None)

    def give_back(self, write: object) -> None:
        """The write has ended: what it claimed and did not get committed is free again."""
        for held in [held for held, claimer in self._claims.items() if claimer is write]:
            del self._claims[held]

    def allocate(self, service: dict[str, Any], write: object, before: dict[str, Any] | None = None) -> None:
        """Give a Service its addresses and node ports, in place. before: what it was, when it changes.

        write: who claims them until `give_back`. Raises StatusError 422 for what is taken or out of range.
        """
        spec: dict[str, Any] = service.setdefault("spec", {})
        held = before or {}
        kept = set(_held(held))
        if spec.get("type") == "ExternalName":
            for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                spec.pop(field, None)
        else:
            if not spec.get("clusterIP"):
                old = held.get("spec", {}).get("clusterIP")
                spec["clusterIP"] = old or self._next_address()
            spec["ipFamilies"] = spec.get("ipFamilies") or ["IPv4"]
            spec["ipFamilyPolicy"] = spec.get("ipFamilyPolicy") or "SingleStack"
        errors: list[FieldError] = []
        if address := spec.get("clusterIP"):
            spec["clusterIPs"] = [address]
            if address != "None" and address not in kept:
                errors += self._claim_address(address, write)
        errors += self._allocate_ports(spec, held.get("spec") or {}, write)
        if errors:
            raise status.invalid(SERVICES.kind, "", service["metadata"].get("name", ""), errors)

    def _claim(self, wanted: str | int, write: object) -> bool:
        """False if another Service or write has it."""
        if wanted in self._stored or self._claims.get(wanted, write) is not write:
            return False
        self._claims[wanted] = write
        return True

    def _claim_address(self, address: str, write: object) -> list[FieldError]:
        try:
            inside = ipaddress.ip_address(address) in self.network
        except ValueError:
            # Validation says what is wrong with it.
            return []
        if not inside:
            text = f"failed to allocate IP {address}: the provided IP is not in the valid range"
        elif not self._claim(address, write):
            text = f"failed to allocate IP {address}: provided IP is already allocated"
        else:
            return []
        return [status.invalid_value("spec.clusterIPs", [address], text)]

    def _next_address(self) -> str:
        size = self.network.num_addresses
        for _ in range(size):
            offset = self._next
            self._next = offset + 1 if offset + 2 < size else FIRST_DYNAMIC_OFFSET
            address = str(self.network[offset])
            # `.0` and `.255` are ordinary addresses here, and confuse people nevertheless.
            if self._is_free(address) and not address.endswith((".0", ".255")):
                return address
        raise status.internal_error(f"no address is left in {self.network}")

    def _is_free(self, wanted: str | int) -> bool:
        return wanted not in self._stored and wanted not in self._claims

    def _allocate_ports(self, spec: dict[str, Any], held: dict[str, Any], write: object) -> list[FieldError]:
        balanced = spec.get("type") == "LoadBalancer"
        if not balanced and spec.get("type") != "NodePort":
            return []
        wants_ports = not balanced or spec.get("allocateLoadBalancerNodePorts", True)
        old = {(p.get("protocol"), p.get("port")): p.get("nodePort") for p in held.get("ports") or ()}
        kept = {*old.values()}
        errors: list[FieldError] = []
        for index, port in enumerate(spec.get("ports") or ()):
            wanted = port.get("nodePort") or old.get((port.get("protocol"), port.get("port")))
            if not wanted and not wants_ports:
                continue
            port["nodePort"] = wanted = wanted or self._next_port()
            if wanted in kept:
                continue
            if wanted not in NODE_PORTS:
                text = (
                    "provided port is not in the valid range. The range of valid ports is "
                    f"{NODE_PORTS.start}-{NODE_PORTS.stop - 1}"
                )
            elif not self._claim(wanted, write):
                text = "provided port is already allocated"
            else:
                continue
            errors.append(status.invalid_value(f"spec.ports[{index}].nodePort", wanted, text))
        return errors

    def _next_port(self) -> int:
        for port in NODE_PORTS:
            if self._is_free(port):
                return port
        raise status.internal_error(f"no node port is left of {NODE_PORTS.start} to {NODE_PORTS.stop - 1}")


def _held(service: dict[str, Any]) -> list[str | int]:
    """The addresses and node ports of a Service."""
    spec: dict[str, Any] = service.get("spec") or {}
    return [
        *(address for address in spec.get("clusterIPs") or () if address != "None"),
        *(port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")),
    ]
