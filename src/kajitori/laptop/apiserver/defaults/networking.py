"""Defaults of services, endpoints, ingress classes and network policies. Addresses are allotted elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

Object = dict[str, Any]

_CLIENT_IP_AFFINITY_SECONDS = 10800


def default_service(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    _default_affinity(spec)
    if not spec.get("type"):
        spec["type"] = "ClusterIP"
    kind = spec["type"]
    for port in spec.get("ports", ()):
        if not port.get("protocol"):
            port["protocol"] = "TCP"
        if port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port.get("port", 0)
    external = kind in ("NodePort", "LoadBalancer") or (kind == "ClusterIP" and spec.get("externalIPs"))
    if external and not spec.get("externalTrafficPolicy"):
        spec["externalTrafficPolicy"] = "Cluster"
    if kind != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if kind == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    status: Object = obj.setdefault("status", {})
    balancer: Object = status.setdefault("loadBalancer", {})
    for ingress in balancer.get("ingress", ()):
        if ingress.get("ip"):
            ingress.setdefault("ipMode", "VIP")


def _default_affinity(spec: Object) -> None:
    if not spec.get("sessionAffinity"):
        spec["sessionAffinity"] = "None"
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        config: Object = spec.setdefault("sessionAffinityConfig", {})
        config.setdefault("clientIP", {}).setdefault("timeoutSeconds", _CLIENT_IP_AFFINITY_SECONDS)


def default_endpoints(obj: Object) -> None:
    for subset in obj.get("subsets", ()):
        for port in subset.get("ports", ()):
            if not port.get("protocol"):
                port["protocol"] = "TCP"


def default_endpoint_slice(obj: Object) -> None:
    for port in obj.get("ports", ()):
        port.setdefault("name", "")
        port.setdefault("protocol", "TCP")
    for endpoint in obj.get("endpoints", ()):
        endpoint.setdefault("conditions", {})


def default_network_policy(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
    spec.setdefault("podSelector", {})
    for rules in (spec.get("ingress", ()), spec.get("egress", ())):
        for rule in rules:
            for port in rule.get("ports", ()):
                port.setdefault("protocol", "TCP")


def default_ingress_class(obj: Object) -> None:
    parameters = obj.setdefault("spec", {}).get("parameters")
    if parameters is not None:
        parameters.setdefault("scope", "Cluster")


def default_ingress(obj: Object) -> None:
    obj.setdefault("spec", {})
    obj.setdefault("status", {}).setdefault("loadBalancer", {})


DEFAULTERS: dict[str, Callable[[Object], None]] = {
    "io.k8s.api.core.v1.Service": default_service,
    "io.k8s.api.core.v1.Endpoints": default_endpoints,
    "io.k8s.api.discovery.v1.EndpointSlice": default_endpoint_slice,
    "io.k8s.api.networking.v1.NetworkPolicy": default_network_policy,
    "io.k8s.api.networking.v1.IngressClass": default_ingress_class,
    "io.k8s.api.networking.v1.Ingress": default_ingress,
}
