"""What the StatefulSet controller reads of a StatefulSet."""

from __future__ import annotations

import msgspec

from kajitori.api.kubernetes.meta_v1 import LabelSelector
from kajitori.kube.objects import Object
from kajitori.laptop.controllers.views import View


class RollingUpdateView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    partition: int = 0
    max_unavailable: int | str | None = None


class UpdateStrategyView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    type: str = "RollingUpdate"
    rolling_update: RollingUpdateView | None = None


class OrdinalsView(msgspec.Struct, frozen=True, kw_only=True):
    start: int = 0


class ClaimRetentionView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Retain or Delete."""

    when_deleted: str = "Retain"
    when_scaled: str = "Retain"


class StatefulSetSpecView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    replicas: int = 1
    selector: LabelSelector = LabelSelector()
    template: Object = {}
    service_name: str = ""
    volume_claim_templates: list[Object] = []
    pod_management_policy: str = "OrderedReady"
    update_strategy: UpdateStrategyView = UpdateStrategyView()
    revision_history_limit: int = 10
    min_ready_seconds: int = 0
    ordinals: OrdinalsView = OrdinalsView()
    persistent_volume_claim_retention_policy: ClaimRetentionView = ClaimRetentionView()


class StatefulSetStatusView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    replicas: int = 0
    ready_replicas: int = 0
    current_replicas: int = 0
    updated_replicas: int = 0
    available_replicas: int = 0
    current_revision: str = ""
    update_revision: str = ""
    observed_generation: int = 0
    collision_count: int = 0


class StatefulSetView(View, frozen=True, kw_only=True):
    kind: str = "StatefulSet"
    api_version: str = "apps/v1"
    spec: StatefulSetSpecView = StatefulSetSpecView()
    status: StatefulSetStatusView = StatefulSetStatusView()

    @property
    def first_ordinal(self) -> int:
        return self.spec.ordinals.start

    def has_ordinal(self, ordinal: int) -> bool:
        """Whether a pod of this ordinal shall be."""
        return self.first_ordinal <= ordinal < self.first_ordinal + self.spec.replicas

    @property
    def is_ordered(self) -> bool:
        """One pod after the other, rather than all at once."""
        return self.spec.pod_management_policy != "Parallel"
