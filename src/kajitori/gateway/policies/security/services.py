"""Services that a policy has the gateway ask: by references to backends, or by a URI. Each becomes a cluster."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from kajitori.base.reason import Reason
from kajitori.gateway.backends.clusters import plain_cluster
from kajitori.gateway.backends.targets import (
    Target,
    find_backend,
    find_service,
    host,
    load_assignment,
    over_http2,
)
from kajitori.gateway.backends.tls import upstream_tls
from kajitori.gateway.policies.cluster_settings import with_settings
from kajitori.gateway.policies.security.making import GROUP, KIND

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kajitori.api.envoygateway.backend_cluster import BackendCluster, WeightedBackendRef
    from kajitori.api.gateway.shared import BackendObjectReference
    from kajitori.gateway.policies.security.making import Making

_PORTS = {"https": 443, "http": 80}


def service_cluster(
    making: Making, service: BackendCluster, part: str, *, uri: str = "", http2: bool = False
) -> str | None:
    """The name of the cluster, or None with the problem told.

    part: of the policy, such as `extAuth`. uri: where the service is if no backend is referred to.
    """
    refs = list(service.backend_refs) or ([service.backend_ref] if service.backend_ref else [])
    found = [_target(making, ref) for ref in refs] or [_by_uri(making, uri, part)]
    targets = [target for each in found if (target := making.take(each)) is not None]
    if len(targets) < len(found):
        return None
    if len({(target.discovery == "STRICT_DNS", str(target.tls)) for target in targets}) > 1:
        making.problems.append(
            f"spec.{part}.backendRefs: hosts by name and by address, or with and without TLS, cannot be mixed"
        )
        return None
    for target in targets:
        making.notes += [note for note in target.notes if note not in making.notes]
    if http2:
        targets = [over_http2(target) for target in targets]
    name = f"security/{making.name}/{part}"
    weights = [getattr(ref, "weight", 1) for ref in refs] or [1]

    def make() -> dict[str, Any]:
        cluster = plain_cluster(name, targets[0])
        if len(targets) > 1:
            cluster = _shared(making, cluster, targets, weights)
        settings = service.backend_settings
        return with_settings(cluster, settings, None, making.notes) if settings else cluster

    # Several backends bring their hosts along; one that is a Service has its endpoints looked up.
    target = targets[0] if len(targets) == 1 else msgspec.structs.replace(targets[0], discovery="STATIC")
    making.world.add_cluster(name, make, target)
    return name


def _shared(
    making: Making, cluster: dict[str, Any], targets: Sequence[Target], weights: Sequence[int]
) -> dict[str, Any]:
    """One cluster over several backends, each with its share."""
    localities = [
        {
            "locality": {"region": f"backend-{number}"},
            "load_balancing_weight": weight,
            "lb_endpoints": _hosts(making, target),
        }
        for number, (target, weight) in enumerate(zip(targets, weights, strict=True))
        if weight
    ]
    made = {
        key: value for key, value in cluster.items() if key not in ("eds_cluster_config", "load_assignment")
    }
    made["type"] = "STRICT_DNS" if targets[0].discovery == "STRICT_DNS" else "STATIC"
    made["load_assignment"] = {"cluster_name": cluster["name"], "endpoints": localities}
    made["common_lb_config"] = {"locality_weighted_lb_config": {}}
    return made


def _hosts(making: Making, target: Target) -> list[dict[str, Any]]:
    if target.discovery == "EDS":
        return load_assignment(making.index, target)["endpoints"][0]["lb_endpoints"]
    return [host(*place) for place in target.endpoints]


def _target(making: Making, ref: WeightedBackendRef | BackendObjectReference) -> Target | Reason:
    key = (ref.namespace or making.namespace, ref.name)
    if not making.index.granted(GROUP, KIND, making.namespace, ref.group, ref.kind, key):
        return Reason(
            "RefNotPermitted",
            f"no ReferenceGrant lets {KIND} {making.name} refer to {ref.kind} {key[0]}/{key[1]}",
        )
    if (ref.group, ref.kind) == ("", "Service"):
        if ref.port is None:
            return Reason("Invalid", f"the reference to Service {key[0]}/{key[1]} names no port")
        return find_service(making.index, *key, ref.port)
    if (ref.group, ref.kind) == (GROUP, "Backend"):
        return find_backend(making.index, *key)
    return Reason("InvalidKind", f"{ref.kind} {key[0]}/{key[1]} is neither a Service nor a Backend")


def _by_uri(making: Making, uri: str, part: str) -> Target | Reason:
    try:
        parts = urlsplit(uri)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        parts, port = urlsplit(""), 0
    name = parts.hostname
    if not name or not port:
        return Reason("Invalid", f"spec.{part}: {uri!r} is no http or https URI")
    tls = None
    if parts.scheme == "https":
        found = upstream_tls(
            making.index, f"{KIND} {making.name}", making.namespace, {"sni": name}, None, making.notes
        )
        if isinstance(found, Reason):
            return found
        tls = found
    try:
        ipaddress.ip_address(name)
    except ValueError:
        discovery = "STRICT_DNS"
    else:
        discovery = "STATIC"
    return Target(
        discovery,
        ((name, port, name),),
        tls=tls.socket if tls else None,
        secrets=tls.secrets if tls else (),
    )
