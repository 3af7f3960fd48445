"""Defaults of the `apps` kinds and of replication controllers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.laptop.apiserver.defaults.cluster import default_claim
from kajitori.laptop.apiserver.defaults.pods import default_template

if TYPE_CHECKING:
    from collections.abc import Callable

Object = dict[str, Any]
TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"


def default_deployment(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    strategy: Object = spec.setdefault("strategy", {})
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling: Object = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    default_template(spec.setdefault("template", {}))
    obj.setdefault("status", {})


def default_replica_set(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    default_template(spec.setdefault("template", {}))
    obj.setdefault("status", {}).setdefault("replicas", 0)


def default_stateful_set(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    if not spec.get("podManagementPolicy"):
        spec["podManagementPolicy"] = "OrderedReady"
    strategy: Object = spec.setdefault("updateStrategy", {})
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
        strategy.setdefault("rollingUpdate", {})
    if strategy["type"] == "RollingUpdate" and "rollingUpdate" in strategy:
        strategy["rollingUpdate"].setdefault("partition", 0)
    retention: Object = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
    for moment in ("whenDeleted", "whenScaled"):
        if not retention.get(moment):
            retention[moment] = "Retain"
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    default_template(spec.setdefault("template", {}))
    for claim in spec.get("volumeClaimTemplates", ()):
        claim.setdefault("apiVersion", "v1")
        claim.setdefault("kind", "PersistentVolumeClaim")
        default_claim(claim)
    status: Object = obj.setdefault("status", {})
    status.setdefault("replicas", 0)
    status.setdefault("availableReplicas", 0)


def default_daemon_set(obj: Object) -> None:
    metadata: Object = obj.setdefault("metadata", {})
    annotations: Object = metadata.get("annotations") or {}
    if TEMPLATE_GENERATION not in annotations:
        metadata["annotations"] = {**annotations, TEMPLATE_GENERATION: "0"}
    spec: Object = obj.setdefault("spec", {})
    strategy: Object = spec.setdefault("updateStrategy", {})
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling: Object = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", 1)
        rolling.setdefault("maxSurge", 0)
    spec.setdefault("revisionHistoryLimit", 10)
    default_template(spec.setdefault("template", {}))
    status: Object = obj.setdefault("status", {})
    for count in (
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
    ):
        status.setdefault(count, 0)


def default_replication_controller(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    template = spec.get("template")
    if template is not None:
        default_template(template)
        labels = template["metadata"].get("labels")
        if labels:
            if not spec.get("selector"):
                spec["selector"] = dict(labels)
            metadata: Object = obj.setdefault("metadata", {})
            if not metadata.get("labels"):
                metadata["labels"] = dict(labels)
    obj.setdefault("status", {}).setdefault("replicas", 0)


DEFAULTERS: dict[str, Callable[[Object], None]] = {
    "io.k8s.api.apps.v1.Deployment": default_deployment,
    "io.k8s.api.apps.v1.ReplicaSet": default_replica_set,
    "io.k8s.api.apps.v1.StatefulSet": default_stateful_set,
    "io.k8s.api.apps.v1.DaemonSet": default_daemon_set,
    "io.k8s.api.core.v1.ReplicationController": default_replication_controller,
}
