"""rbac/v1 as structs; made by tools/generate_kubernetes_schemas.py from Kubernetes v1.36.3, not edited by hand."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from kajitori.api.kubernetes import meta_v1


class Role(Struct, frozen=True, kw_only=True, rename='camel'):
    api_version: str = "rbac.authorization.k8s.io/v1"
    kind: str = "Role"
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())
    rules: list[PolicyRule] = []


class PolicyRule(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    api_groups: list[str] = []
    non_resource_ur_ls: list[str] = field(name='nonResourceURLs', default_factory=list)
    resource_names: list[str] = []
    resources: list[str] = []
    verbs: list[str] = []


class RoleBinding(Struct, frozen=True, kw_only=True, rename='camel'):
    api_version: str = "rbac.authorization.k8s.io/v1"
    kind: str = "RoleBinding"
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())
    role_ref: RoleRef | None = None
    subjects: list[Subject] = []


class RoleRef(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    api_group: str = ''
    kind: str = ''
    name: str = ''


class Subject(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    api_group: str | None = None
    kind: str = ''
    name: str = ''
    namespace: str | None = None


class ClusterRole(Struct, frozen=True, kw_only=True, rename='camel'):
    aggregation_rule: AggregationRule | None = None
    api_version: str = "rbac.authorization.k8s.io/v1"
    kind: str = "ClusterRole"
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())
    rules: list[PolicyRule] = []


class AggregationRule(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    cluster_role_selectors: list[meta_v1.LabelSelector] = []


class ClusterRoleBinding(Struct, frozen=True, kw_only=True, rename='camel'):
    api_version: str = "rbac.authorization.k8s.io/v1"
    kind: str = "ClusterRoleBinding"
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())
    role_ref: RoleRef | None = None
    subjects: list[Subject] = []
