"""Which endpoints a Service has, and how they are spread over EndpointSlices. Pure.

Endpoints stay in the slice where they are; a slice that nothing changed in is not written. The legacy Endpoints
object says the same in its older form. Source: Kubernetes' documentation of EndpointSlices and of Services
(named target ports, publishNotReadyAddresses, hostnames of headless Services).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

import msgspec

from kajitori.api.kubernetes.core_v1 import ServicePort
from kajitori.kube.objects import Object
from kajitori.laptop.controllers.views import EndpointSliceView, PodView, ServiceView

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
SLICE_MANAGER = "endpointslice-controller.k8s.io"
HEADLESS = "service.kubernetes.io/headless"
MOST_IN_SLICE = 100
MOST_IN_LEGACY = 1000
_NO_PORT = "0"


class Group(msgspec.Struct, frozen=True):
    """Endpoints that share an address family and their ports."""

    address_type: str
    ports: list[Object]
    endpoints: list[Object]


class SliceChanges(msgspec.Struct, frozen=True):
    """Slices as they should be, whole; unchanged ones are not named."""

    create: list[Object]
    update: list[tuple[EndpointSliceView, Object]]
    delete: list[EndpointSliceView]


def selected(service: ServiceView, pod: PodView) -> bool:
    """Whether the pod is one of the Service's."""
    return bool(service.spec.selector) and service.spec.selector.items() <= pod.metadata.labels.items()


def groups(
    service: ServiceView, pods: Iterable[PodView], zone_of: Callable[[str], str | None]
) -> list[Group]:
    """The Service's endpoints by family and ports, in a stable order. zone_of: a node's zone."""
    found: dict[tuple[str, bytes], Group] = {}
    families = service.spec.ip_families or ["IPv4"]
    for pod in sorted(pods, key=lambda one: one.metadata.name):
        if pod.has_ended:
            continue
        ports = _ports(service, pod)
        for family in families:
            address = _address(pod, family)
            if not address:
                continue
            key = (family, msgspec.json.encode(ports))
            group = found.setdefault(key, Group(family, ports, []))
            group.endpoints.append(_endpoint(service, pod, address, zone_of))
    return [found[key] for key in sorted(found)]


def _address(pod: PodView, family: str) -> str:
    addresses = [entry.ip for entry in pod.status.pod_ips if entry.ip] or [pod.status.pod_ip]
    return next((one for one in addresses if one and (":" in one) == (family == "IPv6")), "")


def _ports(service: ServiceView, pod: PodView) -> list[Object]:
    """Ports as this pod has them; a named port that it lacks is left out."""
    ports: list[Object] = []
    for port in service.spec.ports:
        number = target_port(port, pod)
        if number is None:
            continue
        entry: Object = {"name": port.name or "", "port": number, "protocol": port.protocol or "TCP"}
        if port.app_protocol:
            entry["appProtocol"] = port.app_protocol
        ports.append(entry)
    return ports


def target_port(port: ServicePort, pod: PodView) -> int | None:
    """The number that the Service's port leads to in this pod."""
    target = port.target_port if port.target_port not in (None, "", _NO_PORT, 0) else port.port
    if isinstance(target, int):
        return target
    for container in (*pod.spec.containers, *pod.spec.init_containers):
        for declared in container.ports:
            if declared.name == target and (declared.protocol or "TCP") == (port.protocol or "TCP"):
                return declared.container_port
    return None


def _endpoint(
    service: ServiceView, pod: PodView, address: str, zone_of: Callable[[str], str | None]
) -> Object:
    published = service.spec.publish_not_ready_addresses
    endpoint: Object = {
        "addresses": [address],
        "conditions": {
            "ready": published or (pod.is_ready and not pod.is_deleting),
            "serving": published or pod.is_ready,
            "terminating": pod.is_deleting,
        },
        "targetRef": {
            "kind": "Pod",
            "namespace": pod.metadata.namespace,
            "name": pod.metadata.name,
            "uid": pod.metadata.uid,
        },
    }
    if pod.spec.node_name:
        endpoint["nodeName"] = pod.spec.node_name
        zone = zone_of(pod.spec.node_name)
        if zone:
            endpoint["zone"] = zone
    hostname = _hostname(service, pod)
    if hostname:
        endpoint["hostname"] = hostname
    return endpoint


def _hostname(service: ServiceView, pod: PodView) -> str:
    """A pod has a name of its own under the Service that its subdomain names."""
    return pod.spec.hostname if pod.spec.subdomain == service.metadata.name else ""


def plan_slices(
    service: ServiceView, wanted: Sequence[Group], existing: Sequence[EndpointSliceView]
) -> SliceChanges:
    """Few writes: endpoints are changed in place, new ones fill slices up, then new slices are made."""
    changes = SliceChanges([], [], [])
    left = sorted(existing, key=lambda one: one.metadata.name)
    for group in wanted:
        mine = [
            one
            for one in left
            if one.address_type == group.address_type and _same_ports(one.ports, group.ports)
        ]
        left = [one for one in left if one not in mine]
        _plan_group(service, group, mine, changes)
    changes.delete.extend(left)
    return changes


def _plan_group(
    service: ServiceView, group: Group, mine: Sequence[EndpointSliceView], changes: SliceChanges
) -> None:
    pending = {_identity(endpoint): endpoint for endpoint in group.endpoints}
    filled: list[tuple[EndpointSliceView, list[Object]]] = []
    for one in mine:
        kept = [
            pending.pop(_identity(endpoint)) for endpoint in one.endpoints if _identity(endpoint) in pending
        ]
        filled.append((one, kept))
    rest = list(pending.values())
    # Fill where something changes anyway first, then the fullest, so that as few slices as can be are written.
    for _, kept in sorted(
        filled, key=lambda pair: (pair[1] == pair[0].endpoints, -len(pair[1]), pair[0].metadata.name)
    ):
        room = MOST_IN_SLICE - len(kept)
        kept.extend(rest[:room])
        rest = rest[room:]
    names = {one.metadata.name for one, _ in filled}
    for one, kept in filled:
        if not kept:
            changes.delete.append(one)
            continue
        body = _slice(service, group, kept, one.metadata.name)
        labels = body["metadata"]["labels"]
        if kept != one.endpoints or group.ports != one.ports or labels != one.metadata.labels:
            changes.update.append((one, body))
    for start in range(0, len(rest), MOST_IN_SLICE):
        name = _free_name(service, group, names)
        names.add(name)
        changes.create.append(_slice(service, group, rest[start : start + MOST_IN_SLICE], name))


def _same_ports(one: Sequence[Object], other: Sequence[Object]) -> bool:
    return sorted(map(msgspec.json.encode, one)) == sorted(map(msgspec.json.encode, other))


def _identity(endpoint: Object) -> tuple[str, ...]:
    return (*endpoint["addresses"], (endpoint.get("targetRef") or {}).get("uid", ""))


def _free_name(service: ServiceView, group: Group, taken: set[str]) -> str:
    """A name that follows from what the slice is for, so that a repeated attempt meets its own work."""
    seed = msgspec.json.encode([service.metadata.uid, group.address_type, group.ports])
    for number in range(1_000_000):
        suffix = hashlib.sha256(seed + str(number).encode()).hexdigest()[:5]
        name = f"{service.metadata.name}-{suffix}"
        if name not in taken:
            return name
    raise AssertionError("a million slices of one Service")


def _slice(service: ServiceView, group: Group, endpoints: list[Object], name: str) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": service.metadata.namespace,
            "labels": slice_labels(service),
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "name": service.metadata.name,
                    "uid": service.metadata.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "addressType": group.address_type,
        "ports": group.ports,
        "endpoints": endpoints,
    }


def slice_labels(service: ServiceView) -> dict[str, str]:
    """The Service's own labels and those by which slices are found."""
    labels = {key: value for key, value in service.metadata.labels.items() if key != HEADLESS}
    labels |= {SERVICE_NAME: service.metadata.name, MANAGED_BY: SLICE_MANAGER}
    if service.spec.cluster_ip == "None":
        labels[HEADLESS] = ""
    return labels


def plan_subsets(wanted: Sequence[Group], *, publish_not_ready: bool) -> tuple[list[Object], bool]:
    """The `subsets` of the legacy Endpoints object: addresses by ports, ready and not ready apart.

    At most 1,000 addresses, as the API allows; also tells whether some had to be left out.
    """
    subsets: list[Object] = []
    room, truncated = MOST_IN_LEGACY, False
    for group in wanted:
        if group.address_type != "IPv4":
            continue
        ready: list[Object] = []
        not_ready: list[Object] = []
        for endpoint in group.endpoints:
            conditions = endpoint["conditions"]
            if conditions["terminating"] and not publish_not_ready:
                continue
            address: Object = {"ip": endpoint["addresses"][0], "targetRef": endpoint["targetRef"]}
            for key in ("hostname", "nodeName"):
                if key in endpoint:
                    address[key] = endpoint[key]
            (ready if conditions["ready"] else not_ready).append(address)
        truncated = truncated or len(ready) + len(not_ready) > room
        ready, not_ready = ready[:room], not_ready[: max(0, room - len(ready))]
        room -= len(ready) + len(not_ready)
        subset: Object = {}
        if ready:
            subset["addresses"] = ready
        if not_ready:
            subset["notReadyAddresses"] = not_ready
        if subset:
            if group.ports:
                subset["ports"] = [_legacy_port(port) for port in group.ports]
            subsets.append(subset)
    return subsets, truncated


def _legacy_port(port: Object) -> Object:
    return {key: value for key, value in port.items() if value != ""}
