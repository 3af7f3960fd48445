"""Services that the gateway itself asks, such as one that authorizes requests or has keys: where they are.

Fields and rules follow envoyproxy/gateway.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, field

from kajitori.api.crd import Int32, extra, rule
from kajitori.api.envoygateway.cluster_settings import ClusterSettings
from kajitori.api.gateway.shared import BackendObjectReference, Group, Kind, Namespace, ObjectName, PortNumber

_KINDS = "['Service', 'ServiceImport', 'Backend']"
_GROUPS = "['', 'multicluster.x-k8s.io', 'gateway.envoyproxy.io']"


class WeightedBackendRef(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A Service or a Backend with its share."""

    group: Annotated[Group, extra(default="")] = ""
    kind: Kind = "Service"
    name: ObjectName
    namespace: Namespace | None = None
    port: PortNumber | None = None
    weight: Annotated[Int32, Meta(ge=0, le=1_000_000)] = 1
    fallback: bool | None = None


class BackendCluster(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where a service is, and how to speak to it. backendRef: the older form of backendRefs."""

    backend_ref: BackendObjectReference | None = None
    backend_refs: Annotated[list[WeightedBackendRef], Meta(max_length=16)] = field(default_factory=list)
    backend_settings: ClusterSettings | None = None


class RequiredBackendCluster(BackendCluster, frozen=True, kw_only=True, rename="camel"):
    """One that must be named."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "has(self.backendRef) || self.backendRefs.size() > 0",
                "backendRef or backendRefs must be given",
            ),
            rule(
                f"has(self.backendRefs) ? self.backendRefs.all(f, f.kind in {_KINDS}) : true",
                "each of backendRefs is of kind Service, ServiceImport or Backend",
            ),
            rule(
                f"has(self.backendRefs) ? self.backendRefs.all(f, f.group in {_GROUPS}) : true",
                "each of backendRefs is of the core group, multicluster.x-k8s.io or gateway.envoyproxy.io",
            ),
        ]
    }


# What services that hold keys may not say of retries, and by which name they are given.
HTTP_SERVICE_RULES: tuple[dict[str, Any], ...] = (
    rule("!has(self.backendRef)", "use backendRefs; backendRef is not supported"),
    rule(
        "has(self.backendSettings) ? (has(self.backendSettings.retry) ? (has(self.backendSettings.retry.perRetry)"
        " ? !has(self.backendSettings.retry.perRetry.timeout) : true) : true) : true",
        "a timeout of single retries is not supported",
    ),
    rule(
        "has(self.backendSettings) ? (has(self.backendSettings.retry) ? (has(self.backendSettings.retry.retryOn)"
        " ? !has(self.backendSettings.retry.retryOn.httpStatusCodes) : true) : true) : true",
        "retries by status code are not supported",
    ),
)
