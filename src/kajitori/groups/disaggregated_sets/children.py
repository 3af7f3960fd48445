"""The bodies of what a set makes: LeaderWorkerSets, their Services, scalers. Names, labels, owners."""

from __future__ import annotations

from typing import Any

import msgspec

from kajitori.api.disaggregatedset import v1
from kajitori.api.leaderworkerset.v1 import WORKER_INDEX_LABEL
from kajitori.api.resource import DISAGGREGATED_SET_ROLE_SCALERS, DISAGGREGATED_SETS, LEADER_WORKER_SETS
from kajitori.groups.disaggregated_sets.observed import (
    GENERATION_ANNOTATION,
    PLACEMENT_ANNOTATION,
    ROLE_METADATA_ANNOTATION,
    Body,
    Child,
    RoleView,
    SetView,
)
from kajitori.groups.disaggregated_sets.placement import placed, policy_text
from kajitori.kube.objects import owner_reference

# Decided by the set, not by the template of a role.
_OF_THE_SET = ("replicas", "rolloutStrategy")


def lws_name(name: str, slice: int, revision: str, role: str) -> str:
    return f"{name}-{slice}-{revision}-{role}"


def service_name(lws: str) -> str:
    return f"{lws}-prv"


def scaler_name(name: str, role: str) -> str:
    return f"{name}-{role}"


def system_labels(name: str, slice: int, revision: str, role: str) -> dict[str, str]:
    """They win over labels of the same name that a user writes."""
    return {
        v1.APP_LABEL: f"{name}-{slice}-{role}",
        v1.NAME_LABEL: name,
        v1.ROLE_LABEL: role,
        v1.SLICE_LABEL: str(slice),
        v1.REVISION_LABEL: revision,
    }


def leader_worker_set(set: SetView, role: RoleView, slice: int, revision: str, replicas: int) -> Body:
    """The LeaderWorkerSet to create."""
    labels = system_labels(set.name, slice, revision, role.name)
    annotations = {
        **role.metadata_of("annotations"),
        ROLE_METADATA_ANNOTATION: metadata_record(role),
        GENERATION_ANNOTATION: str(set.metadata.generation or 0),
    }
    if placement := policy_text(set.spec.placement_policy):
        annotations[PLACEMENT_ANNOTATION] = placement
    template = dict(role.template)
    for kind in ("leaderTemplate", "workerTemplate"):
        if template.get(kind):
            template[kind] = _pod(template[kind], labels, set, slice)
    spec = {key: value for key, value in role.spec.items() if key not in _OF_THE_SET}
    return {
        "apiVersion": LEADER_WORKER_SETS.api_version,
        "kind": LEADER_WORKER_SETS.kind,
        "metadata": {
            "name": lws_name(set.name, slice, revision, role.name),
            "namespace": set.namespace,
            "labels": {**role.metadata_of("labels"), **labels},
            "annotations": annotations,
            "ownerReferences": [_owner(set)],
        },
        "spec": {**spec, "leaderWorkerTemplate": template, "replicas": replicas},
    }


def _pod(pod: Body, labels: dict[str, str], set: SetView, slice: int) -> Body:
    metadata = pod.get("metadata") or {}
    labelled = {**pod, "metadata": {**metadata, "labels": {**(metadata.get("labels") or {}), **labels}}}
    return placed(labelled, set.spec.placement_policy, set.name, set.namespace, slice)


def metadata_record(role: RoleView) -> str:
    """The keys that a LeaderWorkerSet has from its role, so that they can be taken away again."""
    keys = {kind: sorted(role.metadata_of(kind)) for kind in ("labels", "annotations")}
    return msgspec.json.encode({kind: found for kind, found in keys.items() if found}).decode()


def service(set: SetView, child: Child) -> Body:
    """Headless and without ports: it says which pods of this revision and slice play the role."""
    labels = child.lws.metadata.labels
    keys = (v1.NAME_LABEL, v1.ROLE_LABEL, v1.REVISION_LABEL, *([v1.SLICE_LABEL] if child.sliced else []))
    selector = {key: labels[key] for key in keys}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": service_name(child.name),
            "namespace": set.namespace,
            "labels": {**selector, v1.APP_LABEL: labels.get(v1.APP_LABEL, "")},
            "ownerReferences": [_owner(set)],
        },
        "spec": {"clusterIP": "None", "selector": selector},
    }


def scaler(set: SetView, role: str, replicas: int) -> Body:
    return {
        "apiVersion": DISAGGREGATED_SET_ROLE_SCALERS.api_version,
        "kind": DISAGGREGATED_SET_ROLE_SCALERS.kind,
        "metadata": {
            "name": scaler_name(set.name, role),
            "namespace": set.namespace,
            "labels": {v1.NAME_LABEL: set.name, v1.ROLE_LABEL: role},
            "ownerReferences": [_owner(set)],
        },
        "spec": {"replicas": replicas},
    }


def scaler_selector(set: SetView, role: str) -> str:
    """Of leaders alone, so that an average over pods is one over groups."""
    return f"{v1.NAME_LABEL}={set.name},{v1.ROLE_LABEL}={role},{WORKER_INDEX_LABEL}=0"


def _owner(set: SetView) -> dict[str, Any]:
    return owner_reference(set, resource=DISAGGREGATED_SETS)
