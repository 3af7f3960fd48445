"""A cluster that comes back in another slot of loopback addresses, since another one took its own meanwhile.

Cluster addresses of Services and the pods' ranges of nodes are addresses of the slot. Before the server answers
anybody, those outside the present slot are replaced; controllers, nodes and Envoy follow as with any other change.
Pods get their new addresses when their nodes start them again.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from kajitori.api.resource import NODES, SERVICES
from kajitori.laptop.apiserver.store import Decision, Entry, Key

if TYPE_CHECKING:
    from kajitori.laptop.apiserver.state import ServerState
    from kajitori.laptop.settings import ClusterSettings


async def renumber(state: ServerState, settings: ClusterSettings) -> int:
    """Replace addresses of another slot; returns how many objects changed."""
    network = ipaddress.ip_network(settings.service_cidr)
    changed = 0
    for entry in list(state.store.table(SERVICES.qualified_name).scan()):
        address = entry.decode().get("spec", {}).get("clusterIP")
        if address and address != "None" and ipaddress.ip_address(address) not in network:
            own = settings.kubernetes_service_address if _is_kubernetes(entry) else ""
            await state.store.mutate(
                Key(SERVICES.qualified_name, entry.namespace, entry.name), _moved(state, own)
            )
            changed += 1
    for entry in list(state.store.table(NODES.qualified_name).scan()):
        if entry.name in settings.node_names:
            cidr = settings.pod_cidr(entry.name)
            if entry.decode().get("spec", {}).get("podCIDR") not in (None, cidr):
                await state.store.mutate(Key(NODES.qualified_name, "", entry.name), _with_range(cidr))
                changed += 1
    return changed


def _is_kubernetes(entry: Entry) -> bool:
    return (entry.namespace, entry.name) == ("default", "kubernetes")


def _moved(state: ServerState, address: str) -> Any:
    def decide(before: Entry | None) -> Decision:
        if before is None:
            return None
        service = before.decode()
        spec: dict[str, Any] = {
            key: value for key, value in service["spec"].items() if key not in ("clusterIP", "clusterIPs")
        }
        if address:
            spec["clusterIP"] = address
        moved = {**service, "metadata": dict(service["metadata"]), "spec": spec}
        state.addresses.allocate(moved, write=state, before={"spec": {**service["spec"], "clusterIP": ""}})
        return moved

    return decide


def _with_range(cidr: str) -> Any:
    def decide(before: Entry | None) -> Decision:
        if before is None:
            return None
        node = before.decode()
        return {
            **node,
            "metadata": dict(node["metadata"]),
            "spec": {**node["spec"], "podCIDR": cidr, "podCIDRs": [cidr]},
        }

    return decide
