"""APIKey: by what a client of the gateway is known, without the key itself.

A key reads `kaji_<id>_<secret>`: the id finds the object, and of the whole text only SHA-256 hashes are kept. Several
hashes with times of their own let a new secret come before the old one goes.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, field

from kajitori.api.conditions import STATUS, ConditionsStatus
from kajitori.api.crd import Column, extra, map_list, rule
from kajitori.api.gateway.shared import Namespace, ObjectName
from kajitori.api.kajitori_gateway.definition import definition
from kajitori.api.kajitori_gateway.names import NamespacedName
from kajitori.api.kubernetes.meta_v1 import ObjectMeta

Time = Annotated[str, extra(format="date-time")]
ModelPattern = Annotated[str, Meta(min_length=1, max_length=253, pattern=r"^[^*\x00-\x1f]*\*?$")]


class KeyHash(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The SHA-256 of a key's whole text in lower-case hexadecimal digits, and when that key holds."""

    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    not_before: Time | None = None
    not_after: Time | None = None


class TenantReference(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The Tenant that a key belongs to; one of another namespace needs a ReferenceGrant there."""

    name: ObjectName
    namespace: Namespace | None = None


class APIKeySpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the key may be used for.

    id: the part of the key's text by which it is found. hashes: of the whole text; each opens by itself. models: names, or beginnings of names followed by `*`; none means all. routes: AIGatewayRoutes and HTTPRoutes as
    `name` or `namespace/name`; none means all of the key's own namespace and of those that grant it. budgets: names of
    Budgets in the key's namespace that its requests are charged to. expiresAt: when it ends, whatever its hashes say.
    disabled: it is refused, and known still.
    """

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule("self.id == oldSelf.id", "the id stands in the key's text and cannot change"),
            rule(
                "self.hashes.all(h, !has(h.notBefore) || !has(h.notAfter) || h.notBefore < h.notAfter)",
                "notBefore must be earlier than notAfter",
            ),
        ]
    }
    id: Annotated[str, Meta(pattern="^[a-z0-9]{6,16}$")]
    hashes: Annotated[list[KeyHash], Meta(min_length=1, max_length=8), map_list("sha256")]
    tenant_ref: TenantReference | None = None
    models: Annotated[list[ModelPattern], Meta(max_length=64)] = field(default_factory=list)
    routes: Annotated[list[NamespacedName], Meta(max_length=64)] = field(default_factory=list)
    budgets: Annotated[list[ObjectName], Meta(max_length=16)] = field(default_factory=list)
    expires_at: Time | None = None
    disabled: bool = False


class APIKeyStatus(ConditionsStatus, frozen=True, kw_only=True, rename="camel"):
    """Whether the gateway takes the key."""


class APIKey(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A client's key."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: APIKeySpec
    status: APIKeyStatus | None = None


DEFINITIONS = (
    definition(
        APIKey,
        "apikeys",
        Column("ID", ".spec.id"),
        Column("Tenant", ".spec.tenantRef.name"),
        Column("Models", ".spec.models"),
        Column("Expires", ".spec.expiresAt"),
        Column("Disabled", ".spec.disabled", "boolean"),
        STATUS,
    ),
)
