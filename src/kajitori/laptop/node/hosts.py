"""Names inside pods: the text of a namespace's hosts file. Pure.

Every pod of a namespace on a node shares one file, bound over its /etc/hosts, so that every program that uses the C
library resolves cluster names without a DNS server (docs/decisions/0010). It holds localhost, the node's pods of the
namespace by hostname, services by their cluster address, headless services by their endpoints, and each endpoint
that has a hostname. Names of the namespace itself also stand in their short forms.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from kajitori.control.cache import Metadata
from kajitori.laptop.node.environment import Service

CLUSTER_DOMAIN = "cluster.local"
SERVICE_NAME_LABEL = "kubernetes.io/service-name"

_HEAD = "# Written by Kajitori; changes are lost.\n127.0.0.1 localhost\n::1 ip6-localhost ip6-loopback\n"


class EndpointConditions(msgspec.Struct, frozen=True):
    ready: bool | None = None


class Endpoint(msgspec.Struct, frozen=True):
    addresses: list[str] = []
    hostname: str | None = None
    conditions: EndpointConditions = EndpointConditions()


class EndpointSlice(msgspec.Struct, frozen=True):
    """What a node reads of an EndpointSlice."""

    metadata: Metadata
    endpoints: list[Endpoint] | None = None

    @property
    def service(self) -> tuple[str, str]:
        return self.metadata.namespace, self.metadata.labels.get(SERVICE_NAME_LABEL, "")


class Name(NamedTuple):
    """address: what the name stands for. host: before the service's name, may be empty."""

    address: str
    namespace: str
    service: str
    host: str = ""


def service_names(services: Iterable[Service], slices: Iterable[EndpointSlice]) -> list[Name]:
    """Every name of the cluster, in a stable order."""
    by_service: dict[tuple[str, str], list[EndpointSlice]] = {}
    for each in slices:
        by_service.setdefault(each.service, []).append(each)
    names: list[Name] = []
    for service in services:
        key = (service.metadata.namespace, service.metadata.name)
        if service.has_address:
            names.append(Name(service.spec.cluster_ip, *key))
        for each in by_service.get(key, ()):
            for endpoint in each.endpoints or ():
                if endpoint.conditions.ready is False and not service.spec.publish_not_ready_addresses:
                    continue
                for address in endpoint.addresses:
                    if service.spec.cluster_ip == "None":
                        names.append(Name(address, *key))
                    if endpoint.hostname:
                        names.append(Name(address, *key, endpoint.hostname))
    return sorted(set(names))


def render_hosts(namespace: str, names: Iterable[Name], pods: Iterable[tuple[str, list[str]]]) -> str:
    """The file for the pods of a namespace. pods: address and own names of those on this node."""
    lines = [_HEAD]
    lines += [f"{address} {' '.join(own)}\n" for address, own in sorted(pods)]
    for name in names:
        base = f"{name.host}.{name.service}" if name.host else name.service
        forms = [
            f"{base}.{name.namespace}.svc.{CLUSTER_DOMAIN}",
            f"{base}.{name.namespace}.svc",
            f"{base}.{name.namespace}",
        ]
        if name.namespace == namespace:
            forms.append(base)
        lines.append(f"{name.address} {' '.join(forms)}\n")
    return "".join(lines)


def own_names(hostname: str, subdomain: str, namespace: str) -> list[str]:
    """What a pod's address is called in the pod itself, the full name first."""
    if not subdomain:
        return [hostname]
    return [f"{hostname}.{subdomain}.{namespace}.svc.{CLUSTER_DOMAIN}", hostname]


def with_aliases(hosts: str, aliases: Iterable[tuple[str, list[str]]]) -> str:
    """A pod's own file: the namespace's text, then its `hostAliases`."""
    return hosts + "".join(f"{address} {' '.join(names)}\n" for address, names in aliases if names)
