"""The parts of SecurityPolicy that say who may do what: rules of our own, and a service that is asked.

Fields and rules follow envoyproxy/gateway.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, field

from kajitori.api.crd import Int32, map_list, rule
from kajitori.api.envoygateway.backend_cluster import RequiredBackendCluster
from kajitori.api.envoygateway.rate_limit import PathMatch
from kajitori.api.gateway.shared import Duration, ObjectName

Action = Literal["Allow", "Deny"]
Method = Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]
# Those that Envoy knows.
ErrorStatus = Literal[
    400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 421, 422, 423, 424, 426,
    428, 429, 431, 500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511,
]  # fmt: skip
_Name = Annotated[str, Meta(min_length=1, max_length=253)]


class JWTClaim(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A claim, nested ones with dots between, that has one of the values."""

    name: _Name
    value_type: Literal["String", "StringArray"] = "String"
    values: Annotated[list[str], Meta(min_length=1, max_length=128)]


class JWTPrincipal(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A token of a provider of the same policy with all of these claims and scopes."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule("(has(self.claims) || has(self.scopes))", "claims or scopes must be given")
        ]
    }
    provider: _Name
    claims: Annotated[list[JWTClaim], Meta(min_length=1, max_length=16)] | None = None
    scopes: Annotated[list[_Name], Meta(min_length=1, max_length=16)] | None = None


class AuthorizationHeaderMatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A header that has one of the values."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    values: Annotated[list[str], Meta(min_length=1, max_length=256)]


class Principal(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Who asks. All that is given must hold. clientIPGeoLocations is not honoured, and lets nobody in."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "(has(self.clientCIDRs) || has(self.jwt) || has(self.headers) || has(self.clientIPGeoLocations))",
                "clientCIDRs, jwt, headers or clientIPGeoLocations must be given",
            )
        ]
    }
    client_cidrs: (
        Annotated[list[Annotated[str, Meta(pattern=r"^[0-9a-fA-F:.]+/[0-9]{1,3}$")]], Meta(min_length=1)]
        | None
    ) = field(default=None, name="clientCIDRs")
    jwt: JWTPrincipal | None = None
    headers: Annotated[list[AuthorizationHeaderMatch], Meta(min_length=1, max_length=256)] | None = None
    client_ip_geo_locations: Annotated[list[dict[str, Any]], Meta(min_length=1)] | None = field(
        default=None, name="clientIPGeoLocations"
    )


class Operation(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is asked for. All that is given must hold."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule("has(self.methods) || has(self.path)", "methods or path must be given")
        ]
    }
    methods: Annotated[list[Method], Meta(min_length=1, max_length=16)] | None = None
    path: PathMatch | None = None


class AuthorizationRule(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The first rule that holds decides. cel: over what Envoy knows of the request; it holds where it is true."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule("has(self.principal) || has(self.cel)", "principal or cel must be given")
        ]
    }
    name: _Name | None = None
    action: Action
    operation: Operation | None = None
    principal: Principal | None = None
    cel: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None


class Authorization(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Rules in their order; where none holds, defaultAction."""

    rules: list[AuthorizationRule] = field(default_factory=list)
    default_action: Action = "Deny"


class GRPCExtAuthService(RequiredBackendCluster, frozen=True, kw_only=True, rename="camel"):
    """A service that speaks Envoy's protocol for authorization."""


class HTTPExtAuthService(RequiredBackendCluster, frozen=True, kw_only=True, rename="camel"):
    """A service that is sent the request's head, and answers 200 where it may pass.

    path: stands before the request's own. pathOverride: stands instead of it.
    """

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            *RequiredBackendCluster.__crd__["x-kubernetes-validations"],
            rule("!(has(self.path) && has(self.pathOverride))", "path and pathOverride exclude each other"),
        ]
    }
    path: str | None = None
    path_override: str | None = None
    headers_to_backend: list[str] = field(default_factory=list)


class BodyToExtAuth(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The service gets the body, up to a size; a longer one is answered with 413."""

    max_request_bytes: Annotated[Int32, Meta(ge=1)]


class ObjectKeyReference(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A value of a ConfigMap or a Secret of the same namespace."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "self.kind in ['ConfigMap', 'Secret'] && self.group in ['', 'v1']",
                "a ConfigMap or a Secret of the core group is referred to",
            )
        ]
    }
    group: str
    kind: str
    name: ObjectName
    key: str


class ContextExtension(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Something more that the service is told."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "(self.type == 'Value' && has(self.value) && !has(self.valueRef))"
                " || (self.type == 'ValueRef' && !has(self.value) && has(self.valueRef))",
                "what type names is given, and nothing else: value or valueRef",
            )
        ]
    }
    name: str
    type: Literal["Value", "ValueRef"] = "Value"
    value: str | None = None
    value_ref: ObjectKeyReference | None = None


class ExtAuth(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A service decides. failOpen: where it gives no answer, requests pass. includeRouteMetadata: it is told the route."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule("(has(self.grpc) || has(self.http))", "grpc or http must be given"),
            rule(
                "(has(self.grpc) && !has(self.http)) || (!has(self.grpc) && has(self.http))",
                "grpc and http exclude each other",
            ),
        ]
    }
    grpc: GRPCExtAuthService | None = None
    http: HTTPExtAuthService | None = None
    headers_to_ext_auth: list[str] = field(default_factory=list)
    body_to_ext_auth: BodyToExtAuth | None = None
    timeout: Duration | None = None
    fail_open: bool = False
    recompute_route: bool | None = None
    include_route_metadata: bool | None = None
    context_extensions: Annotated[list[ContextExtension], map_list("name")] = field(default_factory=list)
    status_on_error: ErrorStatus | None = None
