"""Where a backend is on the network: addresses, names to resolve, or the endpoints of a Service."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.base.reason import Reason

if TYPE_CHECKING:
    from kajitori.api.envoygateway.v1alpha1 import Backend, BackendEndpoint
    from kajitori.api.kubernetes.core_v1 import Service, ServicePort
    from kajitori.api.kubernetes.discovery_v1 import EndpointSlice
    from kajitori.gateway.observed import Index

_SERVICE_NAME = re.compile(r"([a-z0-9-]+)\.([a-z0-9-]+)\.svc(?:\.cluster\.local)?\.?")
_SYSTEM_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


class Target(msgspec.Struct, frozen=True):
    """How a cluster of Envoy finds its hosts.

    discovery: STATIC, STRICT_DNS or EDS. endpoints: (address or path, port, hostname) each, none for EDS.
    service: namespace, name and port of the Service behind an EDS target. tls: transport socket, if any.
    """

    discovery: str
    endpoints: tuple[tuple[str, int, str], ...] = ()
    service: tuple[str, str, int] | None = None
    tls: dict[str, Any] | None = None
    http2: bool = False
    notes: tuple[str, ...] = ()

    @property
    def eds_name(self) -> str:
        return endpoints_name(*self.service) if self.service else ""


def endpoints_name(namespace: str, service: str, port: int) -> str:
    """The name under which EDS delivers the endpoints of a Service's port."""
    return f"service/{namespace}/{service}/{port}"


def find_backend(index: Index, namespace: str, name: str) -> Target | Reason:
    """The target of a Backend object."""
    found: Target | Reason | None = index.targets.get((namespace, name))
    if found is None:
        found = index.targets[namespace, name] = _find_backend(index, namespace, name)
    return found


def _find_backend(index: Index, namespace: str, name: str) -> Target | Reason:
    subject = f"Backend {namespace}/{name}"
    backend = index.backends.get((namespace, name))
    if backend is None:
        return Reason(
            "BackendNotFound", f"{subject} does not exist", "create it, or correct the reference", subject
        )
    spec = backend.spec
    if spec.type == "DynamicResolver":
        return Reason(
            "UnsupportedValue", f"{subject}: type DynamicResolver is not honoured", "list endpoints", subject
        )
    if not spec.endpoints:
        return Reason("NoEndpoints", f"{subject} lists no endpoints", "add one", subject)
    notes = _notes(subject, backend)
    http2 = any("h2c" in protocol or "h2" in protocol for protocol in spec.app_protocols)
    tls = _tls(subject, spec.tls, notes) if spec.tls is not None else None
    names = [endpoint.fqdn for endpoint in spec.endpoints if endpoint.fqdn]
    services = [_SERVICE_NAME.fullmatch(fqdn.hostname) for fqdn in names]
    if names and all(services):
        if len(names) > 1:
            return Reason(
                "UnsupportedValue", f"{subject} names several Services", "make one Backend for each", subject
            )
        match = services[0]
        assert match is not None
        found = find_service(index, match.group(2), match.group(1), names[0].port)
        if isinstance(found, Reason):
            return found
        return msgspec.structs.replace(found, tls=tls, http2=http2 or found.http2, notes=tuple(notes))
    return Target(
        "STRICT_DNS" if names else "STATIC",
        tuple(_place(endpoint) for endpoint in spec.endpoints),
        tls=tls,
        http2=http2,
        notes=tuple(notes),
    )


def _place(endpoint: BackendEndpoint) -> tuple[str, int, str]:
    if endpoint.fqdn:
        return endpoint.fqdn.hostname, endpoint.fqdn.port, endpoint.fqdn.hostname
    if endpoint.ip:
        return endpoint.ip.address, endpoint.ip.port, endpoint.hostname or ""
    return (endpoint.unix.path if endpoint.unix else ""), 0, endpoint.hostname or ""


def _notes(subject: str, backend: Backend) -> list[str]:
    """The fields of a Backend that are not honoured."""
    notes: list[str] = []
    if any(endpoint.zone for endpoint in backend.spec.endpoints):
        notes.append(f"{subject}: endpoints[].zone is not honoured")
    if backend.spec.fallback:
        notes.append(f"{subject}: fallback is not honoured; give priority in the route")
    return notes


def _tls(subject: str, tls: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    common: dict[str, Any] = {}
    if not tls.get("insecureSkipVerify"):
        common["validation_context"] = {"trusted_ca": {"filename": _SYSTEM_CERTIFICATES}}
    foreign = sorted(set(tls) - {"insecureSkipVerify", "wellKnownCACertificates", "sni"})
    notes += [f"{subject}: tls.{field} is not honoured" for field in foreign]
    context: dict[str, Any] = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": common,
    }
    if tls.get("sni"):
        context["sni"] = tls["sni"]
    else:
        context["auto_host_sni"] = True
        context["auto_sni_san_validation"] = "validation_context" in common
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def find_service(index: Index, namespace: str, name: str, port: int) -> Target | Reason:
    """The target of a Service's port: its ready endpoints, or the name of an ExternalName Service."""
    subject = f"Service {namespace}/{name}"
    service = index.services.get((namespace, name))
    if service is None:
        return Reason(
            "BackendNotFound", f"{subject} does not exist", "create it, or correct the reference", subject
        )
    if service.spec.type == "ExternalName" and service.spec.external_name:
        return Target("STRICT_DNS", ((service.spec.external_name, port, service.spec.external_name),))
    found = service_port(service, port)
    if found is None:
        ports = ", ".join(str(item.port) for item in service.spec.ports) or "none"
        return Reason(
            "PortNotFound", f"{subject} has no port {port}; it has {ports}", "correct the port", subject
        )
    http2 = found.app_protocol in ("kubernetes.io/h2c", "grpc")
    return Target("EDS", service=(namespace, name, port), http2=http2)


def service_port(service: Service, port: int) -> ServicePort | None:
    """The TCP port of a Service with this number."""
    return next(
        (item for item in service.spec.ports if item.port == port and item.protocol in ("TCP", "")), None
    )


def ready_addresses(slices: list[EndpointSlice], port: ServicePort) -> list[tuple[str, int]]:
    """Addresses and ports that are ready for one port of a Service, each once, in a stable order."""
    found: set[tuple[str, int]] = set()
    for slice_ in slices:
        if slice_.address_type == "FQDN":
            continue
        number = next(
            (
                item.port
                for item in slice_.ports
                if (item.name or "") == (port.name or "") and item.protocol in (None, "TCP")
            ),
            None,
        )
        if number is None:
            continue
        for endpoint in slice_.endpoints:
            ready = endpoint.conditions is None or endpoint.conditions.ready is not False
            if ready and endpoint.addresses:
                found.add((endpoint.addresses[0], number))
    return sorted(found)


def load_assignment(index: Index, target: Target) -> dict[str, Any]:
    """The ClusterLoadAssignment of an EDS target."""
    assert target.service is not None
    namespace, name, number = target.service
    service = index.services.get((namespace, name))
    port = service_port(service, number) if service else None
    addresses = ready_addresses(index.slices.get((namespace, name), []), port) if port else []
    return {
        "cluster_name": target.eds_name,
        "endpoints": [{"lb_endpoints": [host(address, number) for address, number in addresses]}],
    }


def host(address: str, port: int, hostname: str = "") -> dict[str, Any]:
    """An `LbEndpoint`; port 0 means that `address` is the path of a Unix socket."""
    place: dict[str, Any] = (
        {"socket_address": {"address": address, "port_value": port}} if port else {"pipe": {"path": address}}
    )
    return {"endpoint": {"address": place, **({"hostname": hostname} if hostname else {})}}
