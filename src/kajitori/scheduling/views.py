"""What the scheduler reads of pods, nodes and namespaces: projections, decoded straight from the wire."""

from __future__ import annotations

from typing import Any

import msgspec

from kajitori.api.kubernetes.core_v1 import (
    Affinity,
    ContainerPort,
    PodSchedulingGate,
    ResourceRequirements,
    Taint,
    Toleration,
    TopologySpreadConstraint,
)
from kajitori.api.kubernetes.meta_v1 import LabelSelector
from kajitori.control.cache import Metadata


class View(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """An object by its metadata."""

    metadata: Metadata


class ContainerView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """restart_policy: `Always` marks an init container as a sidecar."""

    resources: ResourceRequirements = ResourceRequirements()
    ports: list[ContainerPort] = []
    restart_policy: str | None = None


class PodSpecView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    node_name: str = ""
    scheduler_name: str = ""
    priority: int = 0
    containers: list[ContainerView] = []
    init_containers: list[ContainerView] = []
    resources: ResourceRequirements | None = None
    overhead: dict[str, str] = {}
    node_selector: dict[str, str] = {}
    affinity: Affinity | None = None
    tolerations: list[Toleration] = []
    topology_spread_constraints: list[TopologySpreadConstraint] = []
    scheduling_gates: list[PodSchedulingGate] = []
    preemption_policy: str = ""


class PodStatusView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    phase: str = ""
    conditions: list[dict[str, Any]] = []
    nominated_node_name: str = ""


class PodView(View, frozen=True, kw_only=True):
    kind: str = "Pod"
    api_version: str = "v1"
    spec: PodSpecView = PodSpecView()
    status: PodStatusView = PodStatusView()

    @property
    def key(self) -> str:
        return f"{self.metadata.namespace}/{self.metadata.name}"

    @property
    def has_ended(self) -> bool:
        """Succeeded or failed for good: holds nothing any more."""
        return self.status.phase in ("Succeeded", "Failed")

    def condition(self, type_name: str) -> dict[str, Any]:
        return next((c for c in self.status.conditions if c.get("type") == type_name), {})


class NodeSpecView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    taints: list[Taint] = []
    unschedulable: bool = False


class NodeStatusView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    allocatable: dict[str, str] = {}


class NodeView(View, frozen=True, kw_only=True):
    kind: str = "Node"
    api_version: str = "v1"
    spec: NodeSpecView = NodeSpecView()
    status: NodeStatusView = NodeStatusView()


class BudgetSpecView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    selector: LabelSelector | None = None


class BudgetStatusView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    disruptions_allowed: int = 0
    disrupted_pods: dict[str, str] = {}


class BudgetView(View, frozen=True, kw_only=True):
    """A PodDisruptionBudget."""

    spec: BudgetSpecView = BudgetSpecView()
    status: BudgetStatusView = BudgetStatusView()
