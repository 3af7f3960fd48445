"""Tenant: what a group of keys may use and see together.

A tenant narrows its keys and never widens them: what a key may use is what it names itself, within what its tenant
allows, within the namespaces that are open to it.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, field

from kajitori.api.conditions import STATUS, Conditions
from kajitori.api.crd import Column
from kajitori.api.gateway.shared import Namespace, ObjectName
from kajitori.api.kajitori_gateway.api_key import ModelPattern
from kajitori.api.kajitori_gateway.definition import definition
from kajitori.api.kajitori_gateway.names import NamespacedName
from kajitori.api.kubernetes.meta_v1 import ObjectMeta


class TenantSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the tenant's keys may use.

    models, routes: as in an APIKey; a route without a namespace is one of the tenant's. namespaces: whose routes may be
    used and seen; none means every namespace that is open to the key. budgets: names of Budgets in the tenant's namespace that
    the requests of all its keys are charged to. disabled: all its keys are refused.
    """

    models: Annotated[list[ModelPattern], Meta(max_length=64)] = field(default_factory=list)
    routes: Annotated[list[NamespacedName], Meta(max_length=64)] = field(default_factory=list)
    namespaces: Annotated[list[Namespace], Meta(max_length=64)] = field(default_factory=list)
    budgets: Annotated[list[ObjectName], Meta(max_length=16)] = field(default_factory=list)
    disabled: bool = False


class TenantStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How many keys the tenant has."""

    keys: int = 0
    conditions: Conditions = field(default_factory=list)


class Tenant(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Who uses the gateway: a team, a customer, an application."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: TenantSpec = field(default_factory=TenantSpec)
    status: TenantStatus | None = None


DEFINITIONS = (
    definition(
        Tenant,
        "tenants",
        Column("Keys", ".status.keys", "integer"),
        Column("Models", ".spec.models"),
        Column("Disabled", ".spec.disabled", "boolean"),
        STATUS,
    ),
)
