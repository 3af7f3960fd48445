"""The laptop's service proxy: cluster addresses of Services as TCP listeners of Envoy, over ready endpoints.

It is a second source of resources for the Envoy that carries the gateway. On a real cluster this is the work of
kube-proxy. What cannot be done here is said with a warning on the Service: UDP and SCTP, ports that this user may
not bind, node ports.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.api.kubernetes.core_v1 import Service, ServicePort
from kajitori.api.kubernetes.discovery_v1 import EndpointSlice
from kajitori.api.resource import ENDPOINT_SLICES, SERVICES
from kajitori.base.reason import Reason
from kajitori.control.controller import Key
from kajitori.gateway.backends.targets import host, ready_addresses
from kajitori.gateway.observed import SERVICE_NAME_LABEL
from kajitori.gateway.resources import CLUSTER, ENDPOINTS, LISTENER, TYPE, Resources

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kajitori.control.runtime import Runtime
    from kajitori.gateway.envoy.ads import AdsServer

_log = logging.getLogger(__name__)

SOURCE = "services"
COMPONENT = "kajitori.dev/service-proxy"
_EVERYTHING = Key("", "services")
_LOWEST_PORT_FILE = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


class ServicePlan(msgspec.Struct, frozen=True):
    """resources: for Envoy. warnings: (namespace, name) of a Service -> what is not honoured."""

    resources: Resources
    warnings: dict[tuple[str, str], list[Reason]]


def plan_services(
    services: Iterable[Service],
    slices: Iterable[EndpointSlice],
    *,
    lowest_port: int = 1,
    rejected: dict[str, str] | None = None,
) -> ServicePlan:
    """The plan. lowest_port: that this user may bind. rejected: resources that Envoy refused, and why."""
    by_service: dict[tuple[str, str], list[EndpointSlice]] = {}
    for slice_ in slices:
        owner = slice_.metadata.labels.get(SERVICE_NAME_LABEL)
        if owner:
            by_service.setdefault((slice_.metadata.namespace or "", owner), []).append(slice_)
    clusters: dict[str, dict[str, Any]] = {}
    endpoints: dict[str, dict[str, Any]] = {}
    listeners: dict[str, dict[str, Any]] = {}
    warnings: dict[tuple[str, str], list[Reason]] = {}
    for service in services:
        address = service.spec.cluster_ip
        if not address or address == "None" or service.metadata.deletion_timestamp:
            continue
        key = (service.metadata.namespace or "", service.metadata.name or "")
        problems = _unhonoured(service)
        for port in service.spec.ports:
            problem = _port_problem(port, lowest_port)
            if problem:
                problems.append(problem)
                continue
            name = f"proxy/{key[0]}/{key[1]}/{port.port}"
            refused = (rejected or {}).get(f"{LISTENER}/{name}")
            if refused:
                problems.append(Reason("ListenerRefused", f"port {port.port} is not served: {refused}"))
            sticky = service.spec.session_affinity == "ClientIP"
            clusters[name] = _cluster(name, sticky)
            endpoints[name] = _load_assignment(name, by_service.get(key, []), port)
            listeners[name] = _listener(name, address, port.port, sticky)
        if problems:
            warnings[key] = problems
    return ServicePlan(Resources({CLUSTER: clusters, ENDPOINTS: endpoints, LISTENER: listeners}), warnings)


def _unhonoured(service: Service) -> list[Reason]:
    spec = service.spec
    found: list[Reason] = []
    if spec.type in ("NodePort", "LoadBalancer"):
        found.append(
            Reason(
                "TypeNotHonoured",
                f"type {spec.type} is served at the cluster address only; no node port is opened",
                "connect to the cluster address, or use a Gateway",
            )
        )
    if spec.external_ips:
        found.append(Reason("ExternalIPsNotHonoured", "externalIPs are not served on a laptop"))
    return found


def _port_problem(port: ServicePort, lowest_port: int) -> Reason | None:
    if port.protocol not in ("TCP", ""):
        return Reason(
            "ProtocolNotHonoured",
            f"port {port.port}: protocol {port.protocol} is not served on a laptop",
            "use TCP, or connect to the pods directly",
        )
    if port.port < lowest_port:
        return Reason(
            "PrivilegedPort",
            f"port {port.port} is not served: this user may bind ports from {lowest_port} on",
            f"use a port from {lowest_port} on, or `sysctl net.ipv4.ip_unprivileged_port_start={port.port}`",
        )
    return None


def _cluster(name: str, sticky: bool) -> dict[str, Any]:
    return {
        "name": name,
        "type": "EDS",
        "eds_cluster_config": {
            "service_name": name,
            "eds_config": {"ads": {}, "resource_api_version": "V3"},
        },
        "connect_timeout": "3s",
        "lb_policy": "MAGLEV" if sticky else "RANDOM",
        "circuit_breakers": {"thresholds": [{"max_connections": 100_000, "max_pending_requests": 100_000}]},
    }


def _load_assignment(name: str, slices: list[EndpointSlice], port: ServicePort) -> dict[str, Any]:
    addresses = ready_addresses(slices, port)
    return {
        "cluster_name": name,
        "endpoints": [{"lb_endpoints": [host(address, number) for address, number in addresses]}],
    }


def _listener(name: str, address: str, port: int, sticky: bool) -> dict[str, Any]:
    proxy: dict[str, Any] = {
        "@type": TYPE + "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "service-proxy",
        "cluster": name,
        "idle_timeout": "0s",
    }
    if sticky:
        proxy["hash_policy"] = [{"source_ip": {}}]
    return {
        "name": name,
        "address": {"socket_address": {"address": address, "port_value": port}},
        "enable_reuse_port": False,
        "filter_chains": [{"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]}],
    }


def lowest_bindable_port() -> int:
    """The lowest port that this user may bind."""
    if os.geteuid() == 0:
        return 1
    try:
        return max(1, int(_LOWEST_PORT_FILE.read_text()))
    except (OSError, ValueError):
        return 1024


class ServiceProxy:
    """Keeps Envoy's service listeners in step with Services and EndpointSlices."""

    def __init__(self, runtime: Runtime, ads: AdsServer) -> None:
        self._ads = ads
        self._recorder = runtime.recorder(COMPONENT)
        self._services = runtime.informer(SERVICES, Service)
        self._slices = runtime.informer(ENDPOINT_SLICES, EndpointSlice)
        self._lowest_port = lowest_bindable_port()
        self._warned: dict[tuple[str, str], list[Reason]] = {}
        controller = runtime.controller("service-proxy", self._plan)
        controller.watch(self._services, lambda _: (_EVERYTHING,))
        controller.watch(self._slices, lambda _: (_EVERYTHING,))
        ads.on_change(lambda: controller.enqueue(_EVERYTHING))
        controller.enqueue(_EVERYTHING)

    async def _plan(self, key: Key) -> None:
        plan = plan_services(
            self._services.list(),
            self._slices.list(),
            lowest_port=self._lowest_port,
            rejected=self._ads.rejected,
        )
        self._ads.set_resources(SOURCE, plan.resources)
        for (namespace, name), reasons in plan.warnings.items():
            service = self._services.get(namespace, name)
            for reason in reasons:
                if service is not None and reason not in self._warned.get((namespace, name), ()):
                    await self._recorder.record(
                        service, reason.code, str(reason), type="Warning", resource=SERVICES
                    )
        self._warned = plan.warnings


def register(runtime: Runtime, ads: AdsServer) -> ServiceProxy:
    """Adds the service proxy to a process."""
    return ServiceProxy(runtime, ads)
