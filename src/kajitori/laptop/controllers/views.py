"""What the cluster's controllers read of each kind: projections, decoded straight from the wire.

Templates of pods stay plain dicts, since they are given back to the server and must lose nothing.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kajitori.api.kubernetes.core_v1 import (
    ContainerPort,
    NodeSelector,
    PodCondition,
    PodIP,
    ServicePort,
    Taint,
    Toleration,
)
from kajitori.api.kubernetes.meta_v1 import LabelSelector
from kajitori.control.cache import Metadata

Object = dict[str, Any]


class View(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """An object by its metadata."""

    metadata: Metadata


class ContainerView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    name: str = ""
    ports: list[ContainerPort] = []
    restart_policy: str = ""


class ClaimSourceView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    claim_name: str = ""


class VolumeView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    name: str = ""
    persistent_volume_claim: ClaimSourceView | None = None


class NodeAffinityView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    required_during_scheduling_ignored_during_execution: NodeSelector | None = None


class AffinityView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    node_affinity: NodeAffinityView | None = None


class PodSpecView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    node_name: str = ""
    hostname: str = ""
    subdomain: str = ""
    containers: list[ContainerView] = []
    init_containers: list[ContainerView] = []
    tolerations: list[Toleration] = []
    affinity: AffinityView | None = None
    volumes: list[VolumeView] = []


class TerminatedView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    exit_code: int = 0
    finished_at: str | None = None


class ContainerStateView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    terminated: TerminatedView | None = None


class ContainerStatusView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    name: str = ""
    restart_count: int = 0
    state: ContainerStateView = ContainerStateView()

    @property
    def terminated(self) -> TerminatedView | None:
        """How the container ended, if it has."""
        return self.state.terminated


class PodStatusView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    phase: str = ""
    pod_ip: str = msgspec.field(name="podIP", default="")
    pod_ips: list[PodIP] = msgspec.field(name="podIPs", default_factory=list[PodIP])
    conditions: list[PodCondition] = []
    container_statuses: list[ContainerStatusView] = []
    init_container_statuses: list[ContainerStatusView] = []


class PodView(View, frozen=True, kw_only=True):
    kind: str = "Pod"
    api_version: str = "v1"
    spec: PodSpecView = PodSpecView()
    status: PodStatusView = PodStatusView()

    @property
    def is_deleting(self) -> bool:
        return self.metadata.deletion_timestamp is not None

    @property
    def has_ended(self) -> bool:
        """Succeeded or failed for good."""
        return self.status.phase in ("Succeeded", "Failed")

    @property
    def is_active(self) -> bool:
        """Counts as a replica: neither ended nor on its way out."""
        return not self.has_ended and not self.is_deleting

    @property
    def ready_condition(self) -> PodCondition | None:
        for condition in self.status.conditions:
            if condition.type == "Ready":
                return condition
        return None

    @property
    def is_ready(self) -> bool:
        condition = self.ready_condition
        return condition is not None and condition.status == "True"


class ServiceSpecView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    selector: dict[str, str] = {}
    ports: list[ServicePort] = []
    cluster_ip: str = msgspec.field(name="clusterIP", default="")
    ip_families: list[str] = []
    type: str = "ClusterIP"
    publish_not_ready_addresses: bool = False


class ServiceView(View, frozen=True, kw_only=True):
    kind: str = "Service"
    api_version: str = "v1"
    spec: ServiceSpecView = ServiceSpecView()


class ReplicaSetSpecView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    replicas: int = 1
    min_ready_seconds: int = 0
    selector: LabelSelector = LabelSelector()
    template: Object = {}


class ReplicaSetStatusView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    replicas: int = 0
    fully_labeled_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    terminating_replicas: int = 0
    observed_generation: int = 0
    conditions: list[Object] = []


class ReplicaSetView(View, frozen=True, kw_only=True):
    kind: str = "ReplicaSet"
    api_version: str = "apps/v1"
    spec: ReplicaSetSpecView = ReplicaSetSpecView()
    status: ReplicaSetStatusView = ReplicaSetStatusView()


class RollingUpdateView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    max_surge: int | str = "25%"
    max_unavailable: int | str = "25%"


class StrategyView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    type: str = "RollingUpdate"
    rolling_update: RollingUpdateView | None = None


class DeploymentSpecView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    replicas: int = 1
    selector: LabelSelector = LabelSelector()
    template: Object = {}
    strategy: StrategyView = StrategyView()
    min_ready_seconds: int = 0
    revision_history_limit: int = 10
    progress_deadline_seconds: int = 600
    paused: bool = False


class DeploymentStatusView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    unavailable_replicas: int = 0
    terminating_replicas: int = 0
    observed_generation: int = 0
    collision_count: int = 0
    conditions: list[Object] = []


class DeploymentView(View, frozen=True, kw_only=True):
    kind: str = "Deployment"
    api_version: str = "apps/v1"
    spec: DeploymentSpecView = DeploymentSpecView()
    status: DeploymentStatusView = DeploymentStatusView()


class NodeSpecView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    unschedulable: bool = False
    taints: list[Taint] = []


class NodeStatusView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    conditions: list[Object] = []


class NodeView(View, frozen=True, kw_only=True):
    kind: str = "Node"
    api_version: str = "v1"
    spec: NodeSpecView = NodeSpecView()
    status: NodeStatusView = NodeStatusView()

    def condition(self, type_name: str) -> Object:
        """The condition, or an empty dict."""
        return next((c for c in self.status.conditions if c.get("type") == type_name), {})


class NamespaceView(View, frozen=True, kw_only=True):
    kind: str = "Namespace"
    api_version: str = "v1"
    spec: Object = {}
    status: Object = {}


class EndpointSliceView(View, frozen=True, kw_only=True):
    kind: str = "EndpointSlice"
    api_version: str = "discovery.k8s.io/v1"
    address_type: str = "IPv4"
    endpoints: list[Object] = []
    ports: list[Object] = []


class EndpointsView(View, frozen=True, kw_only=True):
    kind: str = "Endpoints"
    api_version: str = "v1"
    subsets: list[Object] = []
