"""What the autoscaler reads: autoscalers, pods with what they ask for, scales, and measurements."""

from __future__ import annotations

from typing import Any

import msgspec

from kajitori.api.kubernetes.core_v1 import PodCondition
from kajitori.control.cache import Metadata
from kajitori.laptop.controllers.views import View

Object = dict[str, Any]


class TargetView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    api_version: str = ""
    kind: str = ""
    name: str = ""


class AutoscalerSpecView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    scale_target_ref: TargetView = TargetView()
    min_replicas: int = 1
    max_replicas: int = 0
    metrics: list[Object] = []
    behavior: Object | None = None


class AutoscalerStatusView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    current_replicas: int = 0
    desired_replicas: int = 0
    last_scale_time: str | None = None
    current_metrics: list[Object] | None = None
    conditions: list[Object] = []


class AutoscalerView(View, frozen=True, kw_only=True):
    kind: str = "HorizontalPodAutoscaler"
    api_version: str = "autoscaling/v2"
    spec: AutoscalerSpecView = AutoscalerSpecView()
    status: AutoscalerStatusView = AutoscalerStatusView()


class ResourcesView(msgspec.Struct, frozen=True, kw_only=True):
    requests: dict[str, str] = {}


class RequestingContainer(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    name: str = ""
    restart_policy: str | None = None
    resources: ResourcesView = ResourcesView()


class ScaledPodSpec(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    containers: list[RequestingContainer] = []
    init_containers: list[RequestingContainer] = []
    resources: ResourcesView | None = None


class ScaledPodStatus(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    phase: str = ""
    start_time: str | None = None
    conditions: list[PodCondition] = []


class ScaledPod(msgspec.Struct, frozen=True, kw_only=True):
    """A pod of what is scaled."""

    metadata: Metadata
    spec: ScaledPodSpec = ScaledPodSpec()
    status: ScaledPodStatus = ScaledPodStatus()

    @property
    def ready_condition(self) -> PodCondition | None:
        return next((one for one in self.status.conditions if one.type == "Ready"), None)

    @property
    def is_ready(self) -> bool:
        ready = self.ready_condition
        return ready is not None and ready.status == "True"


class Sample(msgspec.Struct, frozen=True):
    """value: in thousandths. time: when its window ended, in seconds since 1970."""

    value: int
    time: float = 0.0
    window_seconds: float = 60.0


class Reading(msgspec.Struct, frozen=True):
    """What one metric of an autoscaler shows: a sample of each pod, or values; or why it shows nothing."""

    pods: dict[str, Sample] = {}
    values: list[int] = []
    failure: str = ""
