"""GatewayClass, Gateway and HTTPRoute v1, and ReferenceGrant v1beta1.

Fields, defaults, bounds and rules follow kubernetes-sigs/gateway-api (standard channel).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, field

from kajitori.api.crd import AGE, Column, Definition, Int32, Version, extra, map_list, rule, rules
from kajitori.api.gateway.shared import (
    GROUP,
    BackendObjectReference,
    Duration,
    GatewayController,
    Group,
    HeaderName,
    Hostname,
    Kind,
    Namespace,
    ObjectName,
    ParentReference,
    PortNumber,
    RouteStatus,
    SecretObjectReference,
    SectionName,
)
from kajitori.api.kubernetes.meta_v1 import Condition, LabelSelector, ObjectMeta


class ParametersReference(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An object with settings of this implementation."""

    group: Group
    kind: Kind
    name: ObjectName
    namespace: Namespace | None = None


class GatewayClassSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Which controller serves Gateways of this class."""

    controller_name: Annotated[
        GatewayController, rules(rule("self == oldSelf", "the controller of a class cannot change"))
    ]
    parameters_ref: ParametersReference | None = None
    description: Annotated[str, Meta(max_length=64)] | None = None


class SupportedFeature(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A feature of the Gateway API by its name."""

    name: str


class GatewayClassStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Whether its controller took the class."""

    conditions: Annotated[list[Condition], Meta(max_length=8), map_list("type")] = field(default_factory=list)
    supported_features: Annotated[list[SupportedFeature], Meta(max_length=64), map_list("name")] = field(
        default_factory=list
    )


class GatewayClass(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A kind of gateway that can be asked for."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: GatewayClassSpec
    status: GatewayClassStatus | None = None


class GatewayTlsConfig(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How a listener ends TLS."""

    mode: Literal["Terminate", "Passthrough"] = "Terminate"
    certificate_refs: Annotated[list[SecretObjectReference], Meta(max_length=64)] = field(
        default_factory=list
    )
    options: dict[str, str] = field(default_factory=dict)


class RouteNamespaces(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The namespaces whose routes may attach; `from: Selector` asks the namespace's labels."""

    from_: Literal["All", "Selector", "Same", "None"] = field(default="Same", name="from")
    selector: LabelSelector | None = None


class RouteGroupKind(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A kind of route."""

    group: Group = GROUP
    kind: Kind


class AllowedRoutes(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Which routes may attach to a listener."""

    namespaces: RouteNamespaces = field(default_factory=RouteNamespaces)
    kinds: Annotated[list[RouteGroupKind], Meta(max_length=8)] = field(default_factory=list)


class Listener(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A port with a protocol, and perhaps a hostname."""

    name: SectionName
    hostname: Hostname | None = None
    port: PortNumber
    protocol: Annotated[str, Meta(min_length=1, max_length=255)]
    tls: GatewayTlsConfig | None = None
    allowed_routes: AllowedRoutes = field(default_factory=AllowedRoutes)


class GatewayAddress(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An address that is asked for, or that was given."""

    type: Annotated[str, Meta(min_length=1, max_length=253)] = "IPAddress"
    value: Annotated[str, Meta(max_length=253)] | None = None


class GatewayInfrastructure(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Settings of what carries the gateway."""

    labels: Annotated[dict[str, str], Meta(max_length=8)] = field(default_factory=dict)
    annotations: Annotated[dict[str, str], Meta(max_length=8)] = field(default_factory=dict)
    parameters_ref: ParametersReference | None = None


_LISTENER_RULES = rules(
    rule(
        "self.all(l, l.protocol in ['HTTP', 'TCP', 'UDP'] ? !has(l.tls) : true)",
        "a listener of protocol HTTP, TCP or UDP has no tls",
    ),
    rule(
        "self.all(l, l.protocol in ['TCP', 'UDP'] ? (!has(l.hostname) || l.hostname == '') : true)",
        "a listener of protocol TCP or UDP has no hostname",
    ),
    rule(
        "self.all(a, self.exists_one(b, a.name == b.name))",
        "each listener of a Gateway has a name of its own",
    ),
    rule(
        "self.all(a, self.exists_one(b, a.port == b.port && a.protocol == b.protocol"
        " && (has(a.hostname) && has(b.hostname) ? a.hostname == b.hostname"
        " : !has(a.hostname) && !has(b.hostname))))",
        "two listeners have the same port, protocol and hostname",
    ),
)


class GatewaySpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Class and listeners."""

    gateway_class_name: ObjectName
    listeners: Annotated[list[Listener], Meta(min_length=1, max_length=64), map_list("name"), _LISTENER_RULES]
    addresses: Annotated[list[GatewayAddress], Meta(max_length=16)] = field(default_factory=list)
    infrastructure: GatewayInfrastructure | None = None


class ListenerStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What became of one listener."""

    name: SectionName
    supported_kinds: Annotated[list[RouteGroupKind], Meta(max_length=8)] = field(default_factory=list)
    attached_routes: Int32
    conditions: Annotated[list[Condition], Meta(max_length=8), map_list("type")] = field(default_factory=list)


class GatewayStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where the gateway can be reached, and whether it can."""

    addresses: Annotated[list[GatewayAddress], Meta(max_length=16)] = field(default_factory=list)
    conditions: Annotated[list[Condition], Meta(max_length=8), map_list("type")] = field(default_factory=list)
    listeners: Annotated[list[ListenerStatus], Meta(max_length=64), map_list("name")] = field(
        default_factory=list
    )


class Gateway(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An entry for traffic."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: GatewaySpec
    status: GatewayStatus | None = None


class HTTPPathMatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The path, whole or by its first segments."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "self.type in ['Exact', 'PathPrefix'] ? self.value.startsWith('/') : true",
                "the value of an Exact or PathPrefix match starts with a slash",
            ),
            rule(
                "self.type in ['Exact', 'PathPrefix'] ? !self.value.contains('//') : true",
                "the value of an Exact or PathPrefix match has no empty segment",
            ),
        ]
    }
    type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    value: Annotated[str, Meta(max_length=1024)] = "/"


class HTTPHeaderMatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A header's value."""

    type: Literal["Exact", "RegularExpression"] = "Exact"
    name: HeaderName
    value: Annotated[str, Meta(min_length=1, max_length=4096)]


class HTTPQueryParamMatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A query parameter's value."""

    type: Literal["Exact", "RegularExpression"] = "Exact"
    name: HeaderName
    value: Annotated[str, Meta(min_length=1, max_length=1024)]


HTTPMethod = Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]


class HTTPRouteMatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """All of these together."""

    path: HTTPPathMatch = field(default_factory=HTTPPathMatch)
    headers: Annotated[list[HTTPHeaderMatch], Meta(max_length=16), map_list("name")] = field(
        default_factory=list
    )
    query_params: Annotated[list[HTTPQueryParamMatch], Meta(max_length=16), map_list("name")] = field(
        default_factory=list
    )
    method: HTTPMethod | None = None


class HTTPHeader(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A header to write."""

    name: HeaderName
    value: Annotated[str, Meta(min_length=1, max_length=4096)]


class HTTPHeaderFilter(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Headers to set, add and remove, in this order."""

    set: Annotated[list[HTTPHeader], Meta(max_length=16), map_list("name")] = field(default_factory=list)
    add: Annotated[list[HTTPHeader], Meta(max_length=16), map_list("name")] = field(default_factory=list)
    remove: Annotated[list[str], Meta(max_length=16), extra(x_kubernetes_list_type="set")] = field(
        default_factory=list
    )


class HTTPPathModifier(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A path to put in place of the whole one, or of the matched prefix."""

    type: Literal["ReplaceFullPath", "ReplacePrefixMatch"]
    replace_full_path: Annotated[str, Meta(max_length=1024)] | None = None
    replace_prefix_match: Annotated[str, Meta(max_length=1024)] | None = None


class HTTPRequestRedirectFilter(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An answer that sends the client elsewhere."""

    scheme: Literal["http", "https"] | None = None
    hostname: Hostname | None = None
    path: HTTPPathModifier | None = None
    port: PortNumber | None = None
    status_code: Annotated[int, extra(enum=[301, 302, 303, 307, 308])] = 302


class HTTPUrlRewriteFilter(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Another host or path towards the backend."""

    hostname: Hostname | None = None
    path: HTTPPathModifier | None = None


class LocalObjectReference(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An object in the same namespace."""

    group: Group
    kind: Kind
    name: ObjectName


class HTTPRouteFilter(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One step on the way; exactly the member that `type` names is set."""

    type: Literal[
        "RequestHeaderModifier",
        "ResponseHeaderModifier",
        "RequestMirror",
        "RequestRedirect",
        "URLRewrite",
        "ExtensionRef",
        "CORS",
    ]
    request_header_modifier: HTTPHeaderFilter | None = None
    response_header_modifier: HTTPHeaderFilter | None = None
    request_mirror: dict[str, Any] | None = None
    request_redirect: HTTPRequestRedirectFilter | None = None
    url_rewrite: HTTPUrlRewriteFilter | None = None
    extension_ref: LocalObjectReference | None = None
    cors: dict[str, Any] | None = None


class HTTPBackendRef(BackendObjectReference, frozen=True, kw_only=True, rename="camel"):
    """A backend with its share of the traffic."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "(size(self.group) == 0 && self.kind == 'Service') ? has(self.port) : true",
                "a reference to a Service names a port",
            )
        ]
    }
    weight: Annotated[Int32, Meta(ge=0, le=1_000_000)] = 1
    filters: Annotated[list[HTTPRouteFilter], Meta(max_length=16)] = field(default_factory=list)


class HTTPRouteTimeouts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """request: the whole of it, retries included. backend_request: one attempt."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "!(has(self.request) && has(self.backendRequest) && duration(self.request) != duration('0s')"
                " && duration(self.backendRequest) > duration(self.request))",
                "backendRequest must not be longer than request",
            )
        ]
    }
    request: Duration | None = None
    backend_request: Duration | None = None


class HTTPRouteRetry(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """When and how often to try again."""

    codes: list[Annotated[int, Meta(ge=400, le=599)]] = field(default_factory=list)
    attempts: int | None = None
    backoff: Duration | None = None


class HTTPRouteRule(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Requests that match go through the filters to the backends."""

    name: SectionName | None = None
    matches: Annotated[list[HTTPRouteMatch], Meta(max_length=64)] = field(default_factory=list)
    filters: Annotated[list[HTTPRouteFilter], Meta(max_length=16)] = field(default_factory=list)
    backend_refs: Annotated[list[HTTPBackendRef], Meta(max_length=16)] = field(default_factory=list)
    timeouts: HTTPRouteTimeouts | None = None
    retry: HTTPRouteRetry | None = None
    session_persistence: dict[str, Any] | None = None


class HTTPRouteSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Parents, hostnames and rules."""

    parent_refs: Annotated[list[ParentReference], Meta(max_length=32)] = field(default_factory=list)
    hostnames: Annotated[list[Hostname], Meta(max_length=16)] = field(default_factory=list)
    rules: Annotated[list[HTTPRouteRule], Meta(max_length=16)] = field(
        default_factory=lambda: [HTTPRouteRule(matches=[HTTPRouteMatch()])]
    )


class HTTPRoute(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where HTTP requests go."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: HTTPRouteSpec = field(default_factory=HTTPRouteSpec)
    status: RouteStatus | None = None


class ReferenceGrantFrom(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Who may refer: a kind in a namespace."""

    group: Group
    kind: Kind
    namespace: Namespace


class ReferenceGrantTo(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What may be referred to: a kind, or one object of it."""

    group: Group
    kind: Kind
    name: ObjectName | None = None


class ReferenceGrantSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Every `from` may refer to every `to`."""

    from_: Annotated[list[ReferenceGrantFrom], Meta(min_length=1, max_length=16)] = field(name="from")
    to: Annotated[list[ReferenceGrantTo], Meta(min_length=1, max_length=16)]


class ReferenceGrant(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Lets objects of other namespaces refer to objects of this one."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: ReferenceGrantSpec


_GATEWAY_COLUMNS = (
    Column("Class", ".spec.gatewayClassName"),
    Column("Address", ".status.addresses[*].value"),
    Column("Programmed", ".status.conditions[?(@.type=='Programmed')].status"),
    AGE,
)
_CLASS_COLUMNS = (
    Column("Controller", ".spec.controllerName"),
    Column("Accepted", ".status.conditions[?(@.type=='Accepted')].status"),
    AGE,
)

DEFINITIONS: tuple[Definition, ...] = (
    Definition(
        group=GROUP,
        kind="GatewayClass",
        plural="gatewayclasses",
        short_names=("gc",),
        categories=("gateway-api",),
        namespaced=False,
        versions=(
            Version(name="v1", root=GatewayClass, columns=_CLASS_COLUMNS),
            Version(name="v1beta1", root=GatewayClass, columns=_CLASS_COLUMNS, storage=False),
        ),
    ),
    Definition(
        group=GROUP,
        kind="Gateway",
        plural="gateways",
        short_names=("gtw",),
        categories=("gateway-api",),
        versions=(
            Version(name="v1", root=Gateway, columns=_GATEWAY_COLUMNS),
            Version(name="v1beta1", root=Gateway, columns=_GATEWAY_COLUMNS, storage=False),
        ),
    ),
    Definition(
        group=GROUP,
        kind="HTTPRoute",
        plural="httproutes",
        categories=("gateway-api",),
        versions=(
            Version(name="v1", root=HTTPRoute, columns=(Column("Hostnames", ".spec.hostnames"), AGE)),
            Version(
                name="v1beta1",
                root=HTTPRoute,
                columns=(Column("Hostnames", ".spec.hostnames"), AGE),
                storage=False,
            ),
        ),
    ),
    Definition(
        group=GROUP,
        kind="ReferenceGrant",
        plural="referencegrants",
        short_names=("refgrant",),
        categories=("gateway-api",),
        versions=(Version(name="v1beta1", root=ReferenceGrant, columns=(AGE,)),),
    ),
)
