"""Where a backend is on the network: addresses, names to resolve, or the endpoints of a Service."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.base.reason import Reason
from kajitori.gateway.backends.certificates import Delivered
from kajitori.gateway.backends.tls import UpstreamTls, upstream_tls
from kajitori.gateway.backends.tls_policies import BackendKey, holding_policy

if TYPE_CHECKING:
    from kajitori.api.envoygateway.v1alpha1 import Backend, BackendEndpoint, BackendSpec
    from kajitori.api.kubernetes.core_v1 import Service, ServicePort
    from kajitori.api.kubernetes.discovery_v1 import EndpointSlice
    from kajitori.gateway.observed import Index

_SERVICE_NAME = re.compile(r"([a-z0-9-]+)\.([a-z0-9-]+)\.svc(?:\.cluster\.local)?\.?")
# Of an Envoy and of what serves it, on a laptop and on a cluster.
OWN_SOCKETS = frozenset(
    f"{name}.sock"
    for name in (
        "accountant", "admin", "ads", "controllers", "envoy-admin", "gateway", "inner", "rescue", "services", "supervisor"
    )
)  # fmt: skip
_WEB_SOCKET_OVER_TLS = "gateway.envoyproxy.io/wss"


class Target(msgspec.Struct, frozen=True):
    """How a cluster of Envoy finds its hosts.

    discovery: STATIC, STRICT_DNS or EDS. endpoints: (address or path, port, hostname) each, none for EDS.
    service: namespace, name and port of the Service behind an EDS target. tls: transport socket, if any.
    secrets: what SDS delivers for it. fallback: is asked only where the others fail.
    """

    discovery: str
    endpoints: tuple[tuple[str, int, str], ...] = ()
    service: tuple[str, str, int] | None = None
    tls: dict[str, Any] | None = None
    http2: bool = False
    secrets: tuple[Delivered, ...] = ()
    fallback: bool = False
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
    wrong = _what_is_wrong(subject, spec)
    if wrong is not None:
        return wrong
    notes = _notes(subject, backend)
    tls = _tls(index, subject, (namespace, name), spec, notes)
    if isinstance(tls, Reason):
        return tls
    hosts = _hosts(index, subject, spec)
    if isinstance(hosts, Reason):
        return hosts
    http2 = any("h2c" in protocol or "h2" in protocol for protocol in spec.app_protocols)
    target = msgspec.structs.replace(
        hosts, http2=http2 or hosts.http2, fallback=bool(spec.fallback), notes=(*hosts.notes, *notes)
    )
    return _with_tls(target, tls) if tls else target


def _what_is_wrong(subject: str, spec: BackendSpec) -> Reason | None:
    """Why a Backend cannot be used, as far as it says so itself."""
    if spec.type == "DynamicResolver":
        return Reason(
            "UnsupportedValue", f"{subject}: type DynamicResolver is not honoured", "list endpoints", subject
        )
    if not spec.endpoints:
        return Reason("NoEndpoints", f"{subject} lists no endpoints", "add one", subject)
    own = [endpoint.unix.path for endpoint in spec.endpoints if endpoint.unix and _is_own(endpoint.unix.path)]
    if own:
        return Reason(
            "Invalid", f"{subject}: {own[0]} is a socket of the gateway itself", "name another", subject
        )
    return None


def _tls(
    index: Index, subject: str, key: tuple[str, str], spec: BackendSpec, notes: list[str]
) -> UpstreamTls | Reason | None:
    """How to connect to a Backend; None: in plain text. notes: gets what is not honoured."""
    policy = holding_policy(index, BackendKey("gateway.envoyproxy.io", "Backend", *key))
    raw = spec.tls
    if raw is None and policy is None and _WEB_SOCKET_OVER_TLS in spec.app_protocols:
        raw = {}
    return upstream_tls(index, subject, key[0], raw, policy, notes)


def _hosts(index: Index, subject: str, spec: BackendSpec) -> Target | Reason:
    """Where a Backend is. One whose only endpoint is the name of a Service has that Service's endpoints."""
    names = [endpoint.fqdn for endpoint in spec.endpoints if endpoint.fqdn]
    services = [_SERVICE_NAME.fullmatch(fqdn.hostname) for fqdn in names]
    if not names or not all(services):
        return Target("STRICT_DNS" if names else "STATIC", tuple(map(_place, spec.endpoints)))
    if len(names) > 1:
        return Reason(
            "UnsupportedValue", f"{subject} names several Services", "make one Backend for each", subject
        )
    match = services[0]
    assert match is not None
    return find_service(index, match.group(2), match.group(1), names[0].port)


def _is_own(path: str) -> bool:
    """Whether it leads to a socket of the gateway, in whatever way its folder is spelled: one of them stops Envoy."""
    return path.rstrip("/.").rpartition("/")[2] in OWN_SOCKETS


def _with_tls(target: Target, tls: UpstreamTls) -> Target:
    target = msgspec.structs.replace(target, tls=tls.socket, secrets=tls.secrets)
    return over_http2(target) if target.http2 else target


def over_http2(target: Target) -> Target:
    """The same target, spoken to by HTTP/2, which servers behind TLS want to be asked for (ALPN)."""
    tls = target.tls
    if tls is not None:
        context = tls["typed_config"]
        common = {"alpn_protocols": ["h2"], **context["common_tls_context"]}
        tls = {**tls, "typed_config": {**context, "common_tls_context": common}}
    return msgspec.structs.replace(target, http2=True, tls=tls)


def _place(endpoint: BackendEndpoint) -> tuple[str, int, str]:
    if endpoint.fqdn:
        return endpoint.fqdn.hostname, endpoint.fqdn.port, endpoint.hostname or endpoint.fqdn.hostname
    if endpoint.ip:
        return endpoint.ip.address, endpoint.ip.port, endpoint.hostname or ""
    return (endpoint.unix.path if endpoint.unix else ""), 0, endpoint.hostname or ""


def _notes(subject: str, backend: Backend) -> list[str]:
    """The fields of a Backend that are not honoured."""
    notes: list[str] = []
    if any(endpoint.zone for endpoint in backend.spec.endpoints):
        notes.append(f"{subject}: endpoints[].zone is not honoured")
    return notes


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
    target = Target("EDS", service=(namespace, name, port), http2=http2)
    policy = holding_policy(index, BackendKey("", "Service", namespace, name), found.name or "")
    raw = {} if found.app_protocol == "kubernetes.io/wss" and policy is None else None
    notes: list[str] = []
    tls = upstream_tls(index, subject, namespace, raw, policy, notes)
    if isinstance(tls, Reason):
        return tls
    return _with_tls(target, tls) if tls else target


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
