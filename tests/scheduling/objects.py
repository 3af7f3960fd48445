"""Pods and nodes as the wire has them, decoded for the pure functions."""

from __future__ import annotations

from typing import Any

import msgspec

from kajitori.scheduling.demand import Demand, demand_of
from kajitori.scheduling.state import ClusterState
from kajitori.scheduling.views import BudgetView, NodeView, PodView


def node(
    name: str, labels: dict[str, str] | None = None, taints: list[dict] | None = None, **allocatable: str
) -> NodeView:
    offered = {
        "cpu": "8",
        "memory": "16Gi",
        "pods": "110",
        **allocatable,
    }
    body = {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "spec": {"taints": taints or []},
        "status": {"allocatable": offered},
    }
    return msgspec.convert(body, NodeView)


def pod(name: str, requests: dict[str, str] | None = None, **parts: Any) -> Demand:
    """parts: of the spec; `labels`, `annotations`, `namespace`, `created` and `owner` go into the metadata."""
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": parts.pop("namespace", "default"),
        "uid": f"uid-{name}",
        "labels": parts.pop("labels", {}),
        "annotations": parts.pop("annotations", {}),
        "creationTimestamp": parts.pop("created", ""),
    }
    if owner := parts.pop("owner", ""):
        metadata["ownerReferences"] = [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner, "controller": True}
        ]
    containers = parts.pop("containers", [{"name": "c", "resources": {"requests": requests or {}}}])
    return demand_of(
        msgspec.convert({"metadata": metadata, "spec": {"containers": containers, **parts}}, PodView)
    )


def budget(selected: str, allowed: int) -> BudgetView:
    """Of the pods with the label `app: SELECTED`; so many of them may go."""
    body = {
        "metadata": {"name": selected, "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": selected}}},
        "status": {"disruptionsAllowed": allowed},
    }
    return msgspec.convert(body, BudgetView)


def cluster(*nodes: NodeView) -> ClusterState:
    state = ClusterState()
    for view in nodes:
        state.set_node(view)
    return state
