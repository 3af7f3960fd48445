"""Defaults of jobs, cron jobs and pod autoscalers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.laptop.apiserver.defaults.pods import default_template

if TYPE_CHECKING:
    from collections.abc import Callable

Object = dict[str, Any]


def default_job_spec(spec: Object) -> None:
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    spec.setdefault("parallelism", 1)
    spec.setdefault("backoffLimit", 2**31 - 1 if "backoffLimitPerIndex" in spec else 6)
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    spec.setdefault("manualSelector", False)
    policy = spec.get("podFailurePolicy")
    spec.setdefault("podReplacementPolicy", "Failed" if policy is not None else "TerminatingOrFailed")
    for rule in (policy or {}).get("rules", ()):
        for condition in rule.get("onPodConditions", ()):
            if not condition.get("status"):
                condition["status"] = "True"
    default_template(spec.setdefault("template", {}))


def default_job(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    default_job_spec(spec)
    labels = spec["template"]["metadata"].get("labels")
    metadata: Object = obj.setdefault("metadata", {})
    if labels and not metadata.get("labels"):
        metadata["labels"] = dict(labels)
    obj.setdefault("status", {})


def default_cron_job(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    if not spec.get("concurrencyPolicy"):
        spec["concurrencyPolicy"] = "Allow"
    spec.setdefault("suspend", False)
    spec.setdefault("successfulJobsHistoryLimit", 3)
    spec.setdefault("failedJobsHistoryLimit", 1)
    template: Object = spec.setdefault("jobTemplate", {})
    template.setdefault("metadata", {})
    job: Object = template.setdefault("spec", {})
    # A job's own defaults come when a job is made of the template; only those of its pods show here.
    default_template(job.setdefault("template", {}))
    obj.setdefault("status", {})


_SCALE_UP: Object = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [
        {"type": "Pods", "value": 4, "periodSeconds": 15},
        {"type": "Percent", "value": 100, "periodSeconds": 15},
    ],
}
_SCALE_DOWN: Object = {
    "selectPolicy": "Max",
    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
}


def _scaling_rules(given: Object | None, defaults: Object) -> Object:
    rules = {**defaults, **(given or {})}
    rules["policies"] = [dict(policy) for policy in rules["policies"]]
    return rules


def default_autoscaler(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    spec.setdefault("minReplicas", 1)
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": 80}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    behavior = spec.get("behavior")
    if behavior is not None:
        behavior["scaleUp"] = _scaling_rules(behavior.get("scaleUp"), _SCALE_UP)
        behavior["scaleDown"] = _scaling_rules(behavior.get("scaleDown"), _SCALE_DOWN)
    obj.setdefault("status", {}).setdefault("desiredReplicas", 0)


def default_autoscaler_v1(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    spec.setdefault("minReplicas", 1)
    annotations = obj.get("metadata", {}).get("annotations") or {}
    if "autoscaling.alpha.kubernetes.io/metrics" not in annotations:
        spec.setdefault("targetCPUUtilizationPercentage", 80)
    status: Object = obj.setdefault("status", {})
    status.setdefault("currentReplicas", 0)
    status.setdefault("desiredReplicas", 0)


def default_disruption_budget(obj: Object) -> None:
    status: Object = obj.setdefault("status", {})
    for count in ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"):
        status.setdefault(count, 0)


DEFAULTERS: dict[str, Callable[[Object], None]] = {
    "io.k8s.api.batch.v1.Job": default_job,
    "io.k8s.api.batch.v1.CronJob": default_cron_job,
    "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler": default_autoscaler_v1,
    "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler": default_autoscaler,
    "io.k8s.api.policy.v1.PodDisruptionBudget": default_disruption_budget,
}
