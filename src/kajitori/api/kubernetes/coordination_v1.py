"""coordination/v1 as structs; made by tools/generate_kubernetes_schemas.py from Kubernetes v1.36.3, not edited by hand."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from kajitori.api.kubernetes import meta_v1


class Lease(Struct, frozen=True, kw_only=True, rename='camel'):
    api_version: str = "coordination.k8s.io/v1"
    kind: str = "Lease"
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())
    spec: LeaseSpec = field(default_factory=lambda: LeaseSpec())


class LeaseSpec(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    acquire_time: str | None = None
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    lease_transitions: int | None = None
    preferred_holder: str | None = None
    renew_time: str | None = None
    strategy: str | None = None
