"""The Service in front of the Envoy fleet: its ports follow the Gateways' listeners, its addresses are theirs.

The gateway controller makes it, since a Service without ports cannot be: it appears with the first listener. When the last
listener goes it stays as it is, so that a load balancer's address is not lost by a Gateway that is replaced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kajitori.api.kubernetes.core_v1 import Service
    from kajitori.gateway.observed import Settings

# What a user may choose of it; the rest is ours.
CHOSEN_FIELDS = (
    "type", "externalTrafficPolicy", "loadBalancerClass", "loadBalancerSourceRanges", "ipFamilyPolicy",
)  # fmt: skip


class Front(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the Service shall be. selector: of Envoy's pods. deployment: of Envoy, which takes the Service with it.

    spec: fields of CHOSEN_FIELDS.
    """

    namespace: str
    name: str
    selector: dict[str, str]
    deployment: str = ""
    spec: dict[str, Any] = {}
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


def service_body(
    front: Front, settings: Settings, ports: Sequence[int], owner: dict[str, Any] | None
) -> dict[str, Any]:
    """The Service to apply. owner: an entry for `ownerReferences`, if the Deployment is there."""
    metadata: dict[str, Any] = {
        "namespace": front.namespace,
        "name": front.name,
        "labels": front.labels,
        "annotations": front.annotations,
    }
    if owner is not None:
        metadata["ownerReferences"] = [owner]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            **{key: value for key, value in front.spec.items() if value not in (None, "", [])},
            "selector": front.selector,
            "ports": [
                {
                    "name": f"port-{port}",
                    "port": port,
                    "protocol": "TCP",
                    "targetPort": settings.bound_port(port),
                }
                for port in ports
            ],
        },
    }


def differs(service: Service | None, body: dict[str, Any]) -> bool:
    """Whether the Service lacks something of what it shall be."""
    if service is None:
        return True
    spec, wanted = service.spec, body["spec"]
    ports = {(port.name, port.port, port.protocol, port.target_port) for port in spec.ports}
    return (
        ports
        != {(port["name"], port["port"], port["protocol"], port["targetPort"]) for port in wanted["ports"]}
        or spec.selector != wanted["selector"]
        or (spec.type or "ClusterIP") != wanted.get("type", "ClusterIP")
        or not _items(body["metadata"]["annotations"]) <= _items(service.metadata.annotations)
    )


def _items(mapping: dict[str, str]) -> set[tuple[str, str]]:
    return set(mapping.items())


def service_addresses(service: Service | None) -> list[tuple[str, str]]:
    """Type and value of each address at which the Service is reached; none while a load balancer has none.

    Of a Service without a load balancer it is the cluster's own address.
    """
    if service is None:
        return []
    if service.spec.type == "LoadBalancer":
        balancer = service.status.load_balancer
        found: list[tuple[str, str]] = []
        for ingress in balancer.ingress if balancer else ():
            if ingress.ip:
                found.append(("IPAddress", ingress.ip))
            elif ingress.hostname:
                found.append(("Hostname", ingress.hostname))
        return found
    return [
        ("IPAddress", address)
        for address in (*service.spec.external_ips, service.spec.cluster_ip)
        if address and address != "None"
    ]
