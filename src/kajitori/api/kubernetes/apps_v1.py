"""apps/v1 as structs; made by tools/generate_kubernetes_schemas.py from Kubernetes v1.36.3, not edited by hand."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from kajitori.api.kubernetes import core_v1
from kajitori.api.kubernetes import meta_v1


class Deployment(Struct, frozen=True, kw_only=True, rename='camel'):
    api_version: str = "apps/v1"
    kind: str = "Deployment"
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())
    spec: DeploymentSpec = field(default_factory=lambda: DeploymentSpec())
    status: DeploymentStatus = field(default_factory=lambda: DeploymentStatus())


class DeploymentSpec(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    min_ready_seconds: int | None = None
    paused: bool | None = None
    progress_deadline_seconds: int | None = None
    replicas: int | None = None
    revision_history_limit: int | None = None
    selector: meta_v1.LabelSelector | None = None
    strategy: DeploymentStrategy | None = None
    template: core_v1.PodTemplateSpec = field(default_factory=lambda: core_v1.PodTemplateSpec())


class DeploymentStrategy(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    rolling_update: RollingUpdateDeployment | None = None
    type: str | None = None


class RollingUpdateDeployment(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    max_surge: int | str | None = None
    max_unavailable: int | str | None = None


class DeploymentStatus(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    available_replicas: int | None = None
    collision_count: int | None = None
    conditions: list[DeploymentCondition] = []
    observed_generation: int | None = None
    ready_replicas: int | None = None
    replicas: int | None = None
    terminating_replicas: int | None = None
    unavailable_replicas: int | None = None
    updated_replicas: int | None = None


class DeploymentCondition(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    last_transition_time: str | None = None
    last_update_time: str | None = None
    message: str | None = None
    reason: str | None = None
    status: str = ''
    type: str = ''


class ReplicaSet(Struct, frozen=True, kw_only=True, rename='camel'):
    api_version: str = "apps/v1"
    kind: str = "ReplicaSet"
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())
    spec: ReplicaSetSpec = field(default_factory=lambda: ReplicaSetSpec())
    status: ReplicaSetStatus = field(default_factory=lambda: ReplicaSetStatus())


class ReplicaSetSpec(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    min_ready_seconds: int | None = None
    replicas: int | None = None
    selector: meta_v1.LabelSelector | None = None
    template: core_v1.PodTemplateSpec = field(default_factory=lambda: core_v1.PodTemplateSpec())


class ReplicaSetStatus(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    available_replicas: int | None = None
    conditions: list[ReplicaSetCondition] = []
    fully_labeled_replicas: int | None = None
    observed_generation: int | None = None
    ready_replicas: int | None = None
    replicas: int = 0
    terminating_replicas: int | None = None


class ReplicaSetCondition(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    last_transition_time: str | None = None
    message: str | None = None
    reason: str | None = None
    status: str = ''
    type: str = ''


class StatefulSet(Struct, frozen=True, kw_only=True, rename='camel'):
    api_version: str = "apps/v1"
    kind: str = "StatefulSet"
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())
    spec: StatefulSetSpec = field(default_factory=lambda: StatefulSetSpec())
    status: StatefulSetStatus = field(default_factory=lambda: StatefulSetStatus())


class StatefulSetSpec(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    min_ready_seconds: int | None = None
    ordinals: StatefulSetOrdinals | None = None
    persistent_volume_claim_retention_policy: StatefulSetPersistentVolumeClaimRetentionPolicy | None = None
    pod_management_policy: str | None = None
    replicas: int | None = None
    revision_history_limit: int | None = None
    selector: meta_v1.LabelSelector | None = None
    service_name: str = ''
    template: core_v1.PodTemplateSpec = field(default_factory=lambda: core_v1.PodTemplateSpec())
    update_strategy: StatefulSetUpdateStrategy | None = None
    volume_claim_templates: list[core_v1.PersistentVolumeClaim] = []


class StatefulSetOrdinals(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    start: int = 0


class StatefulSetPersistentVolumeClaimRetentionPolicy(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    when_deleted: str | None = None
    when_scaled: str | None = None


class StatefulSetUpdateStrategy(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    rolling_update: RollingUpdateStatefulSetStrategy | None = None
    type: str | None = None


class RollingUpdateStatefulSetStrategy(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    max_unavailable: int | str | None = None
    partition: int | None = None


class StatefulSetStatus(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    available_replicas: int = 0
    collision_count: int | None = None
    conditions: list[StatefulSetCondition] = []
    current_replicas: int | None = None
    current_revision: str | None = None
    observed_generation: int | None = None
    ready_replicas: int | None = None
    replicas: int = 0
    update_revision: str | None = None
    updated_replicas: int | None = None


class StatefulSetCondition(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    last_transition_time: str | None = None
    message: str | None = None
    reason: str | None = None
    status: str = ''
    type: str = ''


class DaemonSet(Struct, frozen=True, kw_only=True, rename='camel'):
    api_version: str = "apps/v1"
    kind: str = "DaemonSet"
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())
    spec: DaemonSetSpec = field(default_factory=lambda: DaemonSetSpec())
    status: DaemonSetStatus = field(default_factory=lambda: DaemonSetStatus())


class DaemonSetSpec(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    min_ready_seconds: int | None = None
    revision_history_limit: int | None = None
    selector: meta_v1.LabelSelector | None = None
    template: core_v1.PodTemplateSpec = field(default_factory=lambda: core_v1.PodTemplateSpec())
    update_strategy: DaemonSetUpdateStrategy | None = None


class DaemonSetUpdateStrategy(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    rolling_update: RollingUpdateDaemonSet | None = None
    type: str | None = None


class RollingUpdateDaemonSet(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    max_surge: int | str | None = None
    max_unavailable: int | str | None = None


class DaemonSetStatus(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    collision_count: int | None = None
    conditions: list[DaemonSetCondition] = []
    current_number_scheduled: int = 0
    desired_number_scheduled: int = 0
    number_available: int | None = None
    number_misscheduled: int = 0
    number_ready: int = 0
    number_unavailable: int | None = None
    observed_generation: int | None = None
    updated_number_scheduled: int | None = None


class DaemonSetCondition(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    last_transition_time: str | None = None
    message: str | None = None
    reason: str | None = None
    status: str = ''
    type: str = ''


class ControllerRevision(Struct, frozen=True, kw_only=True, rename='camel'):
    api_version: str = "apps/v1"
    data: Any = None
    kind: str = "ControllerRevision"
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())
    revision: int = 0
