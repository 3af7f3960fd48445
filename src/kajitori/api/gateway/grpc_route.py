"""GRPCRoute v1: services and methods, filters, backends.

Fields, defaults, bounds and rules follow kubernetes-sigs/gateway-api (experimental channel).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, field

from kajitori.api.crd import AGE, Column, Definition, Version, map_list, rule, rules
from kajitori.api.gateway.http_route import (
    FILTER_RULES,
    HTTPHeaderFilter,
    HTTPHeaderMatch,
    HTTPRequestMirrorFilter,
    once,
)
from kajitori.api.gateway.shared import (
    GROUP,
    SERVICE_HAS_PORT,
    HostRouteSpec,
    LocalObjectReference,
    RouteStatus,
    SectionName,
    SessionPersistence,
    WeightedBackendReference,
)
from kajitori.api.kubernetes.meta_v1 import ObjectMeta


class GRPCMethodMatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A service, a method, or both."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule("has(self.service) || has(self.method)", "a match by method names a service or a method"),
            rule(
                "(!has(self.type) || self.type == 'Exact') && has(self.service)"
                r" ? self.service.matches(r'''^\.?[A-Za-z_][A-Za-z_0-9]*(\.[A-Za-z_][A-Za-z_0-9]*)*$''') : true",
                "service is a name of letters, digits, underscores and dots",
            ),
            rule(
                "(!has(self.type) || self.type == 'Exact') && has(self.method)"
                " ? self.method.matches(r'''^[A-Za-z_][A-Za-z_0-9]*$''') : true",
                "method is a name of letters, digits and underscores",
            ),
        ]
    }
    type: Literal["Exact", "RegularExpression"] = "Exact"
    service: Annotated[str, Meta(max_length=1024)] | None = None
    method: Annotated[str, Meta(max_length=1024)] | None = None


class GRPCRouteMatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """All of these together."""

    method: GRPCMethodMatch | None = None
    headers: Annotated[list[HTTPHeaderMatch], Meta(max_length=16), map_list("name")] = field(
        default_factory=list
    )


class GRPCRouteFilter(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One step on the way; exactly the member that `type` names is set."""

    __crd__: ClassVar[dict[str, Any]] = {"x-kubernetes-validations": FILTER_RULES}
    type: Literal["RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "ExtensionRef"]
    request_header_modifier: HTTPHeaderFilter | None = None
    response_header_modifier: HTTPHeaderFilter | None = None
    request_mirror: HTTPRequestMirrorFilter | None = None
    extension_ref: LocalObjectReference | None = None


_FILTERS = rules(once("RequestHeaderModifier"), once("ResponseHeaderModifier"))


class GRPCBackendRef(WeightedBackendReference, frozen=True, kw_only=True, rename="camel"):
    """A backend with its share of the traffic."""

    __crd__: ClassVar[dict[str, Any]] = {"x-kubernetes-validations": [SERVICE_HAS_PORT]}
    filters: Annotated[list[GRPCRouteFilter], Meta(max_length=16), _FILTERS] = field(default_factory=list)


class GRPCRouteRule(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Calls that match go through the filters to the backends."""

    name: SectionName | None = None
    matches: Annotated[list[GRPCRouteMatch], Meta(max_length=64)] = field(default_factory=list)
    filters: Annotated[list[GRPCRouteFilter], Meta(max_length=16), _FILTERS] = field(default_factory=list)
    backend_refs: Annotated[list[GRPCBackendRef], Meta(max_length=16)] = field(default_factory=list)
    session_persistence: SessionPersistence | None = None


class GRPCRouteSpec(HostRouteSpec, frozen=True, kw_only=True, rename="camel"):
    """Parents, hostnames and rules."""

    rules: Annotated[list[GRPCRouteRule], Meta(max_length=16)] = field(default_factory=list)


class GRPCRoute(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where gRPC calls go."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: GRPCRouteSpec = field(default_factory=GRPCRouteSpec)
    status: RouteStatus | None = None


DEFINITION = Definition(
    group=GROUP,
    kind="GRPCRoute",
    plural="grpcroutes",
    categories=("gateway-api",),
    versions=(Version(name="v1", root=GRPCRoute, columns=(Column("Hostnames", ".spec.hostnames"), AGE)),),
)
