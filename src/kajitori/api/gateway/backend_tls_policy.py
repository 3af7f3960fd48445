"""BackendTLSPolicy v1, which is stored, and v1alpha3, which manifests of AI gateways still write.

Fields, defaults, bounds and rules follow kubernetes-sigs/gateway-api.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, field

from kajitori.api.crd import AGE, OF_FIRST_ANCESTOR, Definition, Version, rule, rules
from kajitori.api.gateway.shared import (
    GROUP,
    Group,
    Hostname,
    Kind,
    LocalObjectReference,
    ObjectName,
    PolicyStatus,
    PreciseHostname,
    SectionName,
)
from kajitori.api.kubernetes.meta_v1 import ObjectMeta

_SAME = "a.group == b.group && a.kind == b.kind && a.name == b.name"


class BackendTLSTargetRef(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A backend in the policy's namespace. section_name: a port of a Service by its name."""

    group: Group
    kind: Kind
    name: ObjectName
    section_name: SectionName | None = None


class SubjectAltName(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A name that the backend's certificate may carry."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule("(self.type == 'Hostname') == has(self.hostname)", "hostname goes with type Hostname only"),
            rule("(self.type == 'URI') == has(self.uri)", "uri goes with type URI only"),
        ]
    }
    type: Literal["Hostname", "URI"]
    hostname: Hostname | None = None
    uri: Annotated[str, Meta(min_length=1, max_length=253)] | None = None


class BackendTLSValidation(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Whom the gateway believes, and what name it asks for."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "(has(self.caCertificateRefs) && size(self.caCertificateRefs) > 0)"
                " != (has(self.wellKnownCACertificates) && self.wellKnownCACertificates != '')",
                "exactly one of caCertificateRefs and wellKnownCACertificates is given",
            )
        ]
    }
    ca_certificate_refs: Annotated[list[LocalObjectReference], Meta(max_length=8)] = field(
        default_factory=list, name="caCertificateRefs"
    )
    well_known_ca_certificates: Annotated[str, Meta(min_length=1, max_length=253)] | None = field(
        default=None, name="wellKnownCACertificates"
    )
    hostname: PreciseHostname
    subject_alt_names: Annotated[list[SubjectAltName], Meta(max_length=5)] = field(default_factory=list)


class BackendTLSPolicySpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Targets, and how their certificates are judged."""

    target_refs: Annotated[
        list[BackendTLSTargetRef],
        Meta(min_length=1, max_length=16),
        rules(
            rule(
                f"self.all(a, self.all(b, {_SAME} ? has(a.sectionName) == has(b.sectionName) : true))",
                "a target that stands several times has a sectionName each time",
            ),
            rule(
                f"self.all(a, self.exists_one(b, {_SAME} && (has(a.sectionName) && has(b.sectionName)"
                " ? a.sectionName == b.sectionName : !has(a.sectionName) && !has(b.sectionName))))",
                "each section of a target stands once",
            ),
        ),
    ]
    validation: BackendTLSValidation
    options: Annotated[dict[str, str], Meta(max_length=16)] = field(default_factory=dict)


class BackendTLSPolicy(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How the gateway connects to backends by TLS."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: BackendTLSPolicySpec
    status: PolicyStatus | None = None


DEFINITION = Definition(
    group=GROUP,
    kind="BackendTLSPolicy",
    plural="backendtlspolicies",
    short_names=("btlspolicy",),
    categories=("gateway-api",),
    versions=(
        Version(name="v1", root=BackendTLSPolicy, columns=(OF_FIRST_ANCESTOR, AGE)),
        Version(
            name="v1alpha3",
            root=BackendTLSPolicy,
            columns=(OF_FIRST_ANCESTOR, AGE),
            storage=False,
            deprecated=True,
        ),
    ),
)
