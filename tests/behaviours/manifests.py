"""LeaderWorkerSets as users write them."""

from __future__ import annotations

from typing import Any

from tests.wire import Object

READY = "kajitori.dev/test-ready"
EXIT = "kajitori.dev/test-exit"
NEVER_READY = {READY: "false"}
OLD, NEW, NEWEST = "engine:1", "engine:2", "engine:3"
# Of a set's template rather than of its spec.
OF_THE_GROUP = (
    "leaderTemplate",
    "restartPolicy",
    "subGroupPolicy",
    "volumeClaimTemplates",
    "persistentVolumeClaimRetentionPolicy",
)


def template(image: str = OLD, annotations: Object | None = None, **spec: Any) -> Object:
    """A pod template with one container. annotations: of the pod. spec: more of it."""
    made: Object = {"spec": {"containers": [{"name": "engine", "image": image}], **spec}}
    if annotations:
        made["metadata"] = {"annotations": annotations}
    return made


def rolling(
    max_unavailable: int | str | None = None, max_surge: int | str | None = None, partition: int | None = None
) -> Object:
    """A `rolloutStrategy`."""
    fields = {"maxUnavailable": max_unavailable, "maxSurge": max_surge, "partition": partition}
    return {"rollingUpdateConfiguration": {key: value for key, value in fields.items() if value is not None}}


def a_set(
    name: str = "x",
    replicas: int = 2,
    size: int = 2,
    worker: Object | None = None,
    annotations: Object | None = None,
    **fields: Any,
) -> Object:
    """fields: of the spec, or of the group's template if they are its."""
    group = {key: fields.pop(key) for key in OF_THE_GROUP if key in fields}
    metadata: Object = {"name": name}
    if annotations:
        metadata["annotations"] = annotations
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": metadata,
        "spec": {
            "replicas": replicas,
            "leaderWorkerTemplate": {"size": size, "workerTemplate": worker or template(), **group},
            **fields,
        },
    }
