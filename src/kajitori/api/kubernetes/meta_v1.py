"""meta/v1 as structs; made by tools/generate_kubernetes_schemas.py from Kubernetes v1.36.3, not edited by hand."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field



class ObjectMeta(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    annotations: dict[str, str] = {}
    creation_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    deletion_timestamp: str | None = None
    finalizers: list[str] = []
    generate_name: str | None = None
    generation: int | None = None
    labels: dict[str, str] = {}
    managed_fields: list[ManagedFieldsEntry] = []
    name: str | None = None
    namespace: str | None = None
    owner_references: list[OwnerReference] = []
    resource_version: str | None = None
    self_link: str | None = None
    uid: str | None = None


class ManagedFieldsEntry(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    api_version: str | None = None
    fields_type: str | None = None
    fields_v1: dict[str, Any] = {}
    manager: str | None = None
    operation: str | None = None
    subresource: str | None = None
    time: str | None = None


class OwnerReference(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    api_version: str = ''
    block_owner_deletion: bool | None = None
    controller: bool | None = None
    kind: str = ''
    name: str = ''
    uid: str = ''


class LabelSelector(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    match_expressions: list[LabelSelectorRequirement] = []
    match_labels: dict[str, str] = {}


class LabelSelectorRequirement(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    key: str = ''
    operator: str = ''
    values: list[str] = []


class Condition(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    last_transition_time: str | None = None
    message: str = ''
    observed_generation: int | None = None
    reason: str = ''
    status: str = ''
    type: str = ''


class Status(Struct, frozen=True, kw_only=True, rename='camel'):
    api_version: str | None = None
    code: int | None = None
    details: StatusDetails | None = None
    kind: str | None = None
    message: str | None = None
    metadata: ListMeta = field(default_factory=lambda: ListMeta())
    reason: str | None = None
    status: str | None = None


class StatusDetails(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    causes: list[StatusCause] = []
    group: str | None = None
    kind: str | None = None
    name: str | None = None
    retry_after_seconds: int | None = None
    uid: str | None = None


class StatusCause(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    field: str | None = None
    message: str | None = None
    reason: str | None = None


class ListMeta(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    continue_: str | None = field(name='continue', default=None)
    remaining_item_count: int | None = None
    resource_version: str | None = None
    self_link: str | None = None
    shard_info: ShardInfo | None = None


class ShardInfo(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    selector: str = ''


class DeleteOptions(Struct, frozen=True, kw_only=True, rename='camel'):
    api_version: str | None = None
    dry_run: list[str] = []
    grace_period_seconds: int | None = None
    ignore_store_read_error_with_cluster_breaking_potential: bool | None = None
    kind: str | None = None
    orphan_dependents: bool | None = None
    preconditions: Preconditions | None = None
    propagation_policy: str | None = None


class Preconditions(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    resource_version: str | None = None
    uid: str | None = None
