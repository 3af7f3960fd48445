"""Tables of services, endpoints, ingresses and network policies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.laptop.apiserver.tables.cells import (
    NONE,
    UNKNOWN,
    age,
    cut_short,
    is_default_class,
    labels_text,
    name_of,
    selector_text,
)
from kajitori.laptop.apiserver.tables.columns import columns_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from kajitori.laptop.apiserver.tables.columns import Column

Object = dict[str, Any]


def _balancer_addresses(status: Object) -> list[str]:
    ingress: list[Object] = (status.get("loadBalancer") or {}).get("ingress") or []
    return sorted({address for i in ingress if (address := i.get("ip") or i.get("hostname"))})


def _external_address(spec: Object, status: Object) -> str:
    kind = spec.get("type")
    own: list[str] = spec.get("externalIPs") or []
    if kind in ("ClusterIP", "NodePort"):
        return ",".join(own) or NONE
    if kind == "LoadBalancer":
        return ",".join(_balancer_addresses(status) + own) or "<pending>"
    return spec.get("externalName", "") if kind == "ExternalName" else UNKNOWN


def _port(port: Object) -> str:
    node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port.get('port', 0)}{node_port}/{port.get('protocol', 'TCP')}"


def _service(obj: Object, now_seconds: float) -> list[Any]:
    spec: Object = obj.get("spec", {})
    addresses: list[str] = spec.get("clusterIPs") or []
    return [
        name_of(obj),
        spec.get("type", ""),
        (addresses[0] if addresses else spec.get("clusterIP")) or NONE,
        _external_address(spec, obj.get("status", {})),
        ",".join(map(_port, spec.get("ports") or ())) or NONE,
        age(obj, now_seconds),
        labels_text(spec.get("selector")),
    ]


def _host_port(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _endpoints(obj: Object, now_seconds: float) -> list[Any]:
    shown: list[str] = []
    for subset in obj.get("subsets") or ():
        addresses = [address.get("ip", "") for address in subset.get("addresses") or ()]
        ports: list[Object] = subset.get("ports") or []
        if not ports:
            shown += addresses
        shown += [_host_port(address, port.get("port", 0)) for port in ports for address in addresses]
    text = cut_short(shown, empty="") if obj.get("subsets") else NONE
    return [name_of(obj), text, age(obj, now_seconds)]


def _slice_port(port: Object) -> str:
    number = port.get("port")
    return (
        "*"
        if number is None and port.get("name") is None
        else str(port.get("name") if number is None else number)
    )


def _endpoint_slice(obj: Object, now_seconds: float) -> list[Any]:
    return [
        name_of(obj),
        obj.get("addressType", ""),
        cut_short(map(_slice_port, obj.get("ports") or ())),
        cut_short(
            address for endpoint in obj.get("endpoints") or () for address in endpoint.get("addresses") or ()
        ),
        age(obj, now_seconds),
    ]


def _hosts(rules: list[Object]) -> str:
    hosts = [rule["host"] for rule in rules[:3] if rule.get("host")]
    if not hosts:
        return "*"
    text = ",".join(hosts)
    return f"{text} + {len(rules) - 3} more..." if len(rules) > 3 else text


def _ingress(obj: Object, now_seconds: float) -> list[Any]:
    spec: Object = obj.get("spec", {})
    return [
        name_of(obj),
        spec.get("ingressClassName") or NONE,
        _hosts(spec.get("rules") or []),
        ",".join(_balancer_addresses(obj.get("status", {}))),
        "80, 443" if spec.get("tls") else "80",
        age(obj, now_seconds),
    ]


def _ingress_class(obj: Object, now_seconds: float) -> list[Any]:
    spec: Object = obj.get("spec", {})
    default = is_default_class(obj, "ingressclass.kubernetes.io/is-default-class")
    parameters = spec.get("parameters")
    text = NONE
    if parameters:
        group = f".{parameters['apiGroup']}" if parameters.get("apiGroup") else ""
        text = f"{parameters.get('kind', '')}{group}/{parameters.get('name', '')}"
    name = f"{name_of(obj)} (default)" if default else name_of(obj)
    return [name, spec.get("controller", ""), text, age(obj, now_seconds)]


def _network_policy(obj: Object, now_seconds: float) -> list[Any]:
    return [name_of(obj), selector_text(obj.get("spec", {}).get("podSelector")), age(obj, now_seconds)]


def _service_cidr(obj: Object, now_seconds: float) -> list[Any]:
    return [name_of(obj), ",".join(obj.get("spec", {}).get("cidrs") or ()), age(obj, now_seconds)]


def _ip_address(obj: Object, now_seconds: float) -> list[Any]:
    parent: Object | None = obj.get("spec", {}).get("parentRef")
    text = NONE
    if parent:
        group = parent.get("group", "")
        resource = parent.get("resource", "")
        qualified = f"{resource}.{group}" if group else resource
        parts = [qualified.lower(), parent.get("namespace", ""), parent.get("name", "")]
        text = "/".join(part for part in parts if part)
    return [name_of(obj), text, age(obj, now_seconds)]


TABLES: dict[tuple[str, str], tuple[tuple[Column, ...], Callable[[Object, float], list[Any]]]] = {
    ("", "services"): (
        columns_of("Name, Type, Cluster-IP, External-IP, Port(s), Age, Selector*"),
        _service,
    ),
    ("", "endpoints"): (columns_of("Name, Endpoints, Age"), _endpoints),
    ("discovery.k8s.io", "endpointslices"): (
        columns_of("Name, AddressType, Ports, Endpoints, Age"),
        _endpoint_slice,
    ),
    ("networking.k8s.io", "ingresses"): (columns_of("Name, Class, Hosts, Address, Ports, Age"), _ingress),
    ("networking.k8s.io", "ingressclasses"): (
        columns_of("Name, Controller, Parameters, Age"),
        _ingress_class,
    ),
    ("networking.k8s.io", "networkpolicies"): (columns_of("Name, Pod-Selector, Age"), _network_policy),
    ("networking.k8s.io", "servicecidrs"): (columns_of("Name, CIDRs, Age"), _service_cidr),
    ("networking.k8s.io", "ipaddresses"): (columns_of("Name, ParentRef, Age"), _ip_address),
}
