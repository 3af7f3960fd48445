"""JobSets on an installation without nodes: each right of their controller is used on the way."""

from __future__ import annotations

from typing import Any

from kajitori.api.resource import JOB_SETS, JOBS, PERSISTENT_VOLUME_CLAIMS
from kajitori.base.errors import NotFound
from tests.install.installation import Installation

CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}


def live(cluster: Installation) -> None:
    """One is held back and sent elsewhere; one runs out of time, and is deleted when it has ended."""
    _suspend(cluster)
    _take_names(cluster)
    _apply(
        cluster, "late", [_jobs("slow"), _jobs("short", activeDeadlineSeconds=1)], ttlSecondsAfterFinished=0
    )
    cluster.until(lambda: _is_gone(cluster, JOB_SETS.path("default", "late")), "it is deleted after its end")


def _suspend(cluster: Installation) -> None:
    job = JOBS.path("default", "held-a-0")
    _apply(cluster, "held", [_jobs("a")])
    cluster.until(lambda: _get(cluster, job).get("status", {}).get("startTime"), "its Job is started")
    _apply(cluster, "held", [_jobs("a")], suspend=True)
    cluster.until(lambda: _get(cluster, job)["spec"]["suspend"], "its Job is held back")
    sent = _jobs("a", nodeSelector={"pool": "other"})
    _apply(cluster, "held", [sent], suspend=True)
    _apply(cluster, "held", [sent], suspend=False)

    def sent_elsewhere() -> bool:
        spec = _get(cluster, job)["spec"]
        selector = spec["template"]["spec"].get("nodeSelector")
        return not spec["suspend"] and selector == {"pool": "other"}

    cluster.until(sent_elsewhere, "its Job goes on elsewhere")


def _take_names(cluster: Installation) -> None:
    """Somebody else has a claim, which is used, and a Job, which is in the way."""
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data-blocked", "namespace": "default"},
        "spec": CLAIM,
    }
    cluster.apply(claim, PERSISTENT_VOLUME_CLAIMS.path("default", "data-blocked"))
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "busybox:1"}]}}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "blocked-a-0", "namespace": "default"},
        "spec": {"template": template, "suspend": True},
    }
    cluster.apply(job, JOBS.path("default", "blocked-a-0"))
    mount = {"name": "data", "mountPath": "/data"}
    policies = [{"templates": [{"metadata": {"name": "data"}, "spec": CLAIM}]}]
    _apply(cluster, "blocked", [_jobs("a", mounts=[mount])], volumeClaimPolicies=policies)

    def blocked() -> bool:
        status = _get(cluster, JOB_SETS.path("default", "blocked")).get("status") or {}
        return any(one["type"] == "kajitori.dev/Blocked" for one in status.get("conditions", ()))

    cluster.until(blocked, "it says what is in its way")


def _jobs(name: str, mounts: list[Any] | None = None, **fields: Any) -> dict[str, Any]:
    container = {"name": "worker", "image": "busybox:1", "volumeMounts": mounts or []}
    pod: dict[str, Any] = {"restartPolicy": "Never", "containers": [container]}
    if "nodeSelector" in fields:
        pod["nodeSelector"] = fields.pop("nodeSelector")
    return {"name": name, "template": {"spec": {**fields, "template": {"spec": pod}}}}


def _apply(cluster: Installation, name: str, jobs: list[dict[str, Any]], **spec: Any) -> None:
    body = {
        "apiVersion": JOB_SETS.api_version,
        "kind": JOB_SETS.kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicatedJobs": jobs, **spec},
    }
    cluster.apply(body, JOB_SETS.path("default", name))


def _get(cluster: Installation, path: str) -> dict[str, Any]:
    try:
        return cluster.client.get(path)
    except NotFound:
        return {}


def _is_gone(cluster: Installation, path: str) -> bool:
    return not _get(cluster, path)
