"""Addresses of pods from the node's range, and simulated GPUs: who has which.

Both are handed out and taken back by owner. An address that was given back is used again last, so that a client
which still holds it does not meet a stranger at once.
"""

from __future__ import annotations

import ipaddress

from kajitori.base.errors import Infeasible


class AddressPool:
    """The usable addresses of a range: all but the first and the last."""

    def __init__(self, cidr: str) -> None:
        network = ipaddress.IPv4Network(cidr)
        self._first = int(network.network_address) + 1
        self._count = network.num_addresses - 2
        self._next = 0
        self._owners: dict[int, str] = {}
        self._addresses: dict[str, int] = {}

    def take(self, owner: str, wanted: str = "") -> str:
        """The owner's address, the wanted one if it is free. Raises Infeasible when all are in use."""
        if owner in self._addresses:
            return str(ipaddress.IPv4Address(self._addresses[owner]))
        address = self._parse(wanted)
        if address is None or address in self._owners:
            address = self._find_free()
        self._owners[address] = owner
        self._addresses[owner] = address
        return str(ipaddress.IPv4Address(address))

    def release(self, owner: str) -> None:
        address = self._addresses.pop(owner, None)
        if address is not None:
            del self._owners[address]

    def __len__(self) -> int:
        return len(self._owners)

    def _parse(self, text: str) -> int | None:
        try:
            address = int(ipaddress.IPv4Address(text))
        except ValueError:
            return None
        return address if self._first <= address < self._first + self._count else None

    def _find_free(self) -> int:
        for step in range(self._count):
            address = self._first + (self._next + step) % self._count
            if address not in self._owners:
                self._next = (self._next + step + 1) % self._count
                return address
        raise Infeasible(f"all {self._count} addresses of the node's range are in use")


class DevicePool:
    """Numbered devices of a node, such as its simulated GPUs."""

    def __init__(self, count: int) -> None:
        self._owners: dict[int, str | None] = dict.fromkeys(range(count))

    def take(self, owner: str, count: int, wanted: list[int] | None = None) -> list[int]:
        """The owner's devices, the wanted ones if they are free. Raises Infeasible when too few are free."""
        held = [device for device, holder in self._owners.items() if holder == owner]
        if len(held) == count:
            return held
        free = [device for device, holder in self._owners.items() if holder is None]
        chosen = [device for device in wanted or () if device in free][:count]
        chosen += [device for device in free if device not in chosen][: count - len(chosen)]
        if len(chosen) < count:
            raise Infeasible(f"requested {count} GPUs, {len(free)} of {len(self._owners)} are free")
        for device in chosen:
            self._owners[device] = owner
        return sorted(chosen)

    def release(self, owner: str) -> None:
        for device, holder in self._owners.items():
            if holder == owner:
                self._owners[device] = None
