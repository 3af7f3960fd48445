"""DisaggregatedSets as users write them."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def a_role(
    name: str = "prefill", replicas: int | None = 2, size: int = 1, image: str = "engine:1", **fields: Any
) -> Object:
    """fields: `scaling`, `metadata` of the role, or of its spec; `annotations` of its pods."""
    role: Object = {key: fields.pop(key) for key in ("scaling", "metadata") if key in fields}
    template: Object = {"spec": {"containers": [{"name": "engine", "image": image}]}}
    if annotations := fields.pop("annotations", None):
        template["metadata"] = {"annotations": annotations}
    group = {"size": size, "workerTemplate": template} | fields.pop("group", {})
    spec = {"leaderWorkerTemplate": group, **fields}
    if replicas is not None:
        spec["replicas"] = replicas
    return {"name": name, **role, "spec": spec}


def rolling(surge: int | str | None = None, unavailable: int | str | None = None, **fields: Any) -> Object:
    """A `rolloutStrategy`."""
    bounds = {"maxSurge": surge, "maxUnavailable": unavailable} | fields
    configuration = {key: value for key, value in bounds.items() if value is not None}
    return {"rollingUpdateConfiguration": configuration}


def a_set(*roles: Object, name: str = "x", **spec: Any) -> Object:
    return {
        "apiVersion": "disaggregatedset.x-k8s.io/v1",
        "kind": "DisaggregatedSet",
        "metadata": {"name": name},
        "spec": {"roles": list(roles) or [a_role("prefill"), a_role("decode")], **spec},
    }


EXTERNAL = {"mode": "External"}
