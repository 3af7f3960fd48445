"""Parts that the kinds of the Gateway API have in common: names, references, parents and their status."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, field

from kajitori.api.conditions import Conditions
from kajitori.api.crd import Int32, extra, rule

GROUP = "gateway.networking.k8s.io"

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
ObjectName = Annotated[str, Meta(min_length=1, max_length=253)]
SectionName = Annotated[str, Meta(min_length=1, max_length=253, pattern=rf"^{_LABEL}(\.{_LABEL})*$")]
Namespace = Annotated[str, Meta(min_length=1, max_length=63, pattern=f"^{_LABEL}$")]
Group = Annotated[str, Meta(max_length=253, pattern=rf"^$|^{_LABEL}(\.{_LABEL})*$")]
Kind = Annotated[str, Meta(min_length=1, max_length=63, pattern="^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$")]
Hostname = Annotated[str, Meta(min_length=1, max_length=253, pattern=rf"^(\*\.)?{_LABEL}(\.{_LABEL})*$")]
PreciseHostname = Annotated[str, Meta(min_length=1, max_length=253, pattern=rf"^{_LABEL}(\.{_LABEL})*$")]
PortNumber = Annotated[Int32, Meta(ge=1, le=65535)]
Duration = Annotated[str, Meta(pattern="^([0-9]{1,5}(h|m|s|ms)){1,4}$")]
HeaderName = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$")]
GatewayController = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=253,
        pattern=rf"^{_LABEL}(\.{_LABEL})*\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$",
    ),
]


class ParentReference(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The Gateway, or one listener of it, that a route attaches to."""

    group: Group = GROUP
    kind: Kind = "Gateway"
    namespace: Namespace | None = None
    name: ObjectName
    section_name: SectionName | None = None
    port: PortNumber | None = None


class SecretObjectReference(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A Secret, or another kind that holds one."""

    group: Annotated[Group, extra(default="")] = ""
    kind: Kind = "Secret"
    name: ObjectName
    namespace: Namespace | None = None


class ObjectReference(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An object of any kind, perhaps of another namespace."""

    group: Group
    kind: Kind
    name: ObjectName
    namespace: Namespace | None = None


class LocalObjectReference(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An object in the same namespace."""

    group: Group
    kind: Kind
    name: ObjectName


class Fraction(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A share of something."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [rule("self.numerator <= self.denominator", "a fraction is at most 1")]
    }
    numerator: Annotated[Int32, Meta(ge=0)]
    denominator: Annotated[Int32, Meta(ge=1)] = 100


class CookieConfig(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How long a browser keeps the cookie of a session."""

    lifetime_type: Literal["Permanent", "Session"] = "Session"


class SessionPersistence(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Requests of one session go to the same endpoint."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "!has(self.cookieConfig) || !has(self.cookieConfig.lifetimeType)"
                " || self.cookieConfig.lifetimeType != 'Permanent' || has(self.absoluteTimeout)",
                "a permanent cookie needs absoluteTimeout",
            ),
            rule(
                "!has(self.cookieConfig) || self.type == 'Cookie'", "cookieConfig goes with type Cookie only"
            ),
        ]
    }
    session_name: Annotated[str, Meta(max_length=128)] | None = None
    absolute_timeout: Duration | None = None
    idle_timeout: Duration | None = None
    type: Literal["Cookie", "Header"] = "Cookie"
    cookie_config: CookieConfig | None = None


class BackendObjectReference(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where traffic goes: a port of a Service, or an object of another kind."""

    group: Annotated[Group, extra(default="")] = ""
    kind: Kind = "Service"
    name: ObjectName
    namespace: Namespace | None = None
    port: PortNumber | None = None


SERVICE_HAS_PORT = rule(
    "(size(self.group) == 0 && self.kind == 'Service') ? has(self.port) : true",
    "a reference to a Service names a port",
)


class WeightedBackendReference(BackendObjectReference, frozen=True, kw_only=True, rename="camel"):
    """A backend with its share of the traffic."""

    weight: Annotated[Int32, Meta(ge=0, le=1_000_000)] = 1


class HostRouteSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Parents and hostnames of a route."""

    parent_refs: Annotated[list[ParentReference], Meta(max_length=32)] = field(default_factory=list)
    hostnames: Annotated[list[Hostname], Meta(max_length=16)] = field(default_factory=list)


class RouteParentStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What one controller says of a route at one of its parents."""

    parent_ref: ParentReference
    controller_name: GatewayController
    conditions: Conditions = field(default_factory=list)


class RouteStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One entry a parent and controller."""

    parents: Annotated[list[RouteParentStatus], Meta(max_length=32)] = field(default_factory=list)


class PolicyAncestorStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What one controller says of a policy where it takes effect."""

    ancestor_ref: ParentReference
    controller_name: GatewayController
    conditions: Conditions = field(default_factory=list)


class PolicyStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One entry an ancestor and controller."""

    ancestors: Annotated[list[PolicyAncestorStatus], Meta(max_length=16)] = field(default_factory=list)
