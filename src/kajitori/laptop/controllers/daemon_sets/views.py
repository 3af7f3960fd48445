"""What the DaemonSet controller reads of a DaemonSet."""

from __future__ import annotations

import msgspec

from kajitori.api.kubernetes.meta_v1 import LabelSelector
from kajitori.kube.objects import Object
from kajitori.laptop.controllers.views import View


class RollingUpdateView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    max_unavailable: int | str = 1
    max_surge: int | str = 0


class UpdateStrategyView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    type: str = "RollingUpdate"
    rolling_update: RollingUpdateView | None = None


class DaemonSetSpecView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    selector: LabelSelector = LabelSelector()
    template: Object = {}
    update_strategy: UpdateStrategyView = UpdateStrategyView()
    min_ready_seconds: int = 0
    revision_history_limit: int = 10


class DaemonSetStatusView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    current_number_scheduled: int = 0
    number_misscheduled: int = 0
    desired_number_scheduled: int = 0
    number_ready: int = 0
    updated_number_scheduled: int = 0
    number_available: int = 0
    number_unavailable: int = 0
    observed_generation: int = 0
    collision_count: int = 0


class DaemonSetView(View, frozen=True, kw_only=True):
    kind: str = "DaemonSet"
    api_version: str = "apps/v1"
    spec: DaemonSetSpecView = DaemonSetSpecView()
    status: DaemonSetStatusView = DaemonSetStatusView()
