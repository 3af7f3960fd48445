"""ReferenceGrant v1 and v1beta1: who may refer into a namespace.

Fields and bounds follow kubernetes-sigs/gateway-api; v1beta1 is stored, as upstream has it.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, field

from kajitori.api.crd import AGE, Definition, Version
from kajitori.api.gateway.shared import GROUP, Group, Kind, Namespace, ObjectName
from kajitori.api.kubernetes.meta_v1 import ObjectMeta


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


DEFINITION = Definition(
    group=GROUP,
    kind="ReferenceGrant",
    plural="referencegrants",
    short_names=("refgrant",),
    categories=("gateway-api",),
    versions=(
        Version(name="v1", root=ReferenceGrant, columns=(AGE,), storage=False),
        Version(name="v1beta1", root=ReferenceGrant, columns=(AGE,)),
    ),
)
