"""GatewayClass and Gateway v1, and the list of all kinds of the Gateway API.

Fields, defaults, bounds and rules follow kubernetes-sigs/gateway-api (standard channel).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, field

from kajitori.api.conditions import Conditions, ConditionsStatus
from kajitori.api.crd import AGE, Column, Definition, Int32, Version, map_list, rule, rules
from kajitori.api.gateway.backend_tls_policy import DEFINITION as BACKEND_TLS_POLICY
from kajitori.api.gateway.grpc_route import DEFINITION as GRPC_ROUTE
from kajitori.api.gateway.http_route import DEFINITION as HTTP_ROUTE
from kajitori.api.gateway.reference_grant import DEFINITION as REFERENCE_GRANT
from kajitori.api.gateway.shared import (
    GROUP,
    GatewayController,
    Group,
    Hostname,
    Kind,
    Namespace,
    ObjectName,
    ObjectReference,
    PortNumber,
    SecretObjectReference,
    SectionName,
)
from kajitori.api.kubernetes.meta_v1 import LabelSelector, ObjectMeta


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


class GatewayClassStatus(ConditionsStatus, frozen=True, kw_only=True, rename="camel"):
    """Whether its controller took the class."""

    supported_features: Annotated[list[SupportedFeature], Meta(max_length=64), map_list("name")] = field(
        default_factory=list
    )


class GatewayClass(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A kind of gateway that can be asked for."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: GatewayClassSpec
    status: GatewayClassStatus | None = None


class ListenerTlsConfig(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
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
    tls: ListenerTlsConfig | None = None
    allowed_routes: AllowedRoutes = field(default_factory=AllowedRoutes)


class GatewayAddress(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An address that is asked for, or that was given."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "self.type == 'IPAddress' && has(self.value) ? self.value == '' || "
                "self.value.matches('^(([0-9]{1,3}[.]){3}[0-9]{1,3}|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*)$') : true",
                "the value of an IPAddress is one",
            ),
            rule(
                "self.type == 'Hostname' && has(self.value) ? self.value == '' || self.value.matches("
                'r"""^(\\*\\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$""") : true',
                "the value of a Hostname is one",
            ),
        ]
    }
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
        "self.all(l, (l.protocol == 'HTTPS' && has(l.tls)) ? (!has(l.tls.mode) || l.tls.mode == 'Terminate') : true)",
        "the tls mode of a listener of protocol HTTPS is Terminate",
    ),
    rule(
        "self.all(l, l.protocol == 'TLS' ? has(l.tls) && has(l.tls.mode) : true)",
        "a listener of protocol TLS has a tls mode",
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


class FrontendValidation(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Which certificates clients must show; AllowInsecureFallback takes any, and none."""

    ca_certificate_refs: Annotated[list[ObjectReference], Meta(min_length=1, max_length=8)]
    mode: Literal["AllowValidOnly", "AllowInsecureFallback"] = "AllowValidOnly"


class FrontendTls(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What holds for the TLS of clients."""

    validation: FrontendValidation | None = None


class FrontendTlsOfPort(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What holds for one port instead."""

    port: PortNumber
    tls: FrontendTls


class FrontendTlsConfig(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The side of the clients: for all ports, and for single ones."""

    default: FrontendTls
    per_port: Annotated[
        list[FrontendTlsOfPort],
        Meta(max_length=64),
        map_list("port"),
        rules(rule("self.all(a, self.exists_one(b, a.port == b.port))", "each port stands once")),
    ] = field(default_factory=list)


class BackendTlsConfig(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The side of the backends."""

    client_certificate_ref: SecretObjectReference | None = None


class GatewayTlsConfig(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """TLS of the whole Gateway."""

    frontend: FrontendTlsConfig | None = None
    backend: BackendTlsConfig | None = None


class GatewaySpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Class and listeners."""

    gateway_class_name: ObjectName
    listeners: Annotated[list[Listener], Meta(min_length=1, max_length=64), map_list("name"), _LISTENER_RULES]
    addresses: Annotated[list[GatewayAddress], Meta(max_length=16)] = field(default_factory=list)
    infrastructure: GatewayInfrastructure | None = None
    tls: GatewayTlsConfig | None = None
    allowed_listeners: dict[str, Any] | None = None
    default_scope: str | None = None


class ListenerStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What became of one listener."""

    name: SectionName
    supported_kinds: Annotated[list[RouteGroupKind], Meta(max_length=8)] = field(default_factory=list)
    attached_routes: Int32
    conditions: Conditions = field(default_factory=list)


class GatewayStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where the gateway can be reached, and whether it can."""

    addresses: Annotated[list[GatewayAddress], Meta(max_length=16)] = field(default_factory=list)
    conditions: Conditions = field(default_factory=list)
    listeners: Annotated[list[ListenerStatus], Meta(max_length=64), map_list("name")] = field(
        default_factory=list
    )


class Gateway(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An entry for traffic."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: GatewaySpec
    status: GatewayStatus | None = None


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
    Column("Description", ".spec.description", priority=1),
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
    HTTP_ROUTE,
    GRPC_ROUTE,
    REFERENCE_GRANT,
    BACKEND_TLS_POLICY,
)
