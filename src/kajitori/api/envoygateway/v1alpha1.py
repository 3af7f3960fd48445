"""Backend v1alpha1: addresses outside the cluster, or inside it by their name.

Fields and rules follow envoyproxy/gateway.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, field

from kajitori.api.conditions import ConditionsStatus
from kajitori.api.crd import AGE, Column, Definition, Version, rule, rules
from kajitori.api.gateway.shared import Hostname, PortNumber
from kajitori.api.kubernetes.meta_v1 import ObjectMeta

GROUP = "gateway.envoyproxy.io"


class IPEndpoint(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An IP address with a port."""

    address: Annotated[str, Meta(min_length=3, max_length=45, pattern=r"^[0-9a-fA-F.:]+$")]
    port: PortNumber


class FQDNEndpoint(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A name with a port."""

    hostname: Annotated[
        str,
        Meta(min_length=1, max_length=253, pattern=r"^(\*\.)?[a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?$"),
    ]
    port: PortNumber


class UnixSocket(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The path of a Unix socket."""

    path: Annotated[str, Meta(min_length=1, max_length=108)]


class BackendEndpoint(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One place, in exactly one form. hostname: what it is called, if not by its own name."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "[has(self.fqdn), has(self.ip), has(self.unix)].filter(x, x).size() == 1",
                "exactly one of fqdn, ip and unix is given",
            ),
        ]
    }
    fqdn: FQDNEndpoint | None = None
    ip: IPEndpoint | None = None
    unix: UnixSocket | None = None
    hostname: Hostname | None = None
    zone: Annotated[str, Meta(min_length=1, max_length=253)] | None = None


class BackendSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Endpoints, and how to speak to them."""

    type: Literal["Endpoints", "DynamicResolver"] = "Endpoints"
    endpoints: Annotated[
        list[BackendEndpoint],
        Meta(max_length=256),
        rules(
            rule(
                "self.all(e, has(e.fqdn)) || !self.exists(e, has(e.fqdn))",
                "endpoints by name cannot stand beside endpoints by address",
            )
        ),
    ] = field(default_factory=list)
    app_protocols: Annotated[list[str], Meta(max_length=64)] = field(default_factory=list)
    fallback: bool = False
    tls: dict[str, Any] | None = None


class BackendStatus(ConditionsStatus, frozen=True, kw_only=True, rename="camel"):
    """Whether the backend can be used."""


class Backend(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where traffic can go."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: BackendSpec
    status: BackendStatus | None = None


DEFINITIONS: tuple[Definition, ...] = (
    Definition(
        group=GROUP,
        kind="Backend",
        plural="backends",
        short_names=("be",),
        categories=("envoy-gateway",),
        versions=(
            Version(
                name="v1alpha1",
                root=Backend,
                columns=(Column("Status", ".status.conditions[?(@.type=='Accepted')].reason"), AGE),
            ),
        ),
    ),
)
