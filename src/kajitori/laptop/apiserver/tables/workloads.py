"""Tables of what makes pods: deployments, sets, jobs, autoscalers, disruption budgets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.base.duration import format_age
from kajitori.laptop.apiserver.tables.cells import (
    NONE,
    UNKNOWN,
    UNSET,
    age,
    age_of,
    containers_and_images,
    cut_short,
    labels_text,
    name_of,
    selector_text,
    truth,
    unix_seconds,
)
from kajitori.laptop.apiserver.tables.columns import columns_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from kajitori.laptop.apiserver.tables.columns import Column

Object = dict[str, Any]


def _template_spec(obj: Object) -> Object:
    return ((obj.get("spec") or {}).get("template") or {}).get("spec") or {}


def _deployment(obj: Object, now_seconds: float) -> list[Any]:
    spec: Object = obj.get("spec", {})
    status: Object = obj.get("status", {})
    return [
        name_of(obj),
        f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        age(obj, now_seconds),
        *containers_and_images(_template_spec(obj)),
        selector_text(spec.get("selector"), empty=""),
    ]


def _stateful_set(obj: Object, now_seconds: float) -> list[Any]:
    ready = obj.get("status", {}).get("readyReplicas", 0)
    return [
        name_of(obj),
        f"{ready}/{obj.get('spec', {}).get('replicas', 0)}",
        age(obj, now_seconds),
        *containers_and_images(_template_spec(obj)),
    ]


def _replicas(obj: Object, now_seconds: float) -> list[Any]:
    status: Object = obj.get("status", {})
    return [
        name_of(obj),
        obj.get("spec", {}).get("replicas", 0),
        status.get("replicas", 0),
        status.get("readyReplicas", 0),
        age(obj, now_seconds),
        *containers_and_images(_template_spec(obj)),
    ]


def _replica_set(obj: Object, now_seconds: float) -> list[Any]:
    return [*_replicas(obj, now_seconds), selector_text(obj.get("spec", {}).get("selector"))]


def _replication_controller(obj: Object, now_seconds: float) -> list[Any]:
    return [*_replicas(obj, now_seconds), labels_text(obj.get("spec", {}).get("selector"))]


def _daemon_set(obj: Object, now_seconds: float) -> list[Any]:
    status: Object = obj.get("status", {})
    return [
        name_of(obj),
        status.get("desiredNumberScheduled", 0),
        status.get("currentNumberScheduled", 0),
        status.get("numberReady", 0),
        status.get("updatedNumberScheduled", 0),
        status.get("numberAvailable", 0),
        labels_text(_template_spec(obj).get("nodeSelector")),
        age(obj, now_seconds),
        *containers_and_images(_template_spec(obj)),
        selector_text(obj.get("spec", {}).get("selector")),
    ]


def _controller_revision(obj: Object, now_seconds: float) -> list[Any]:
    owners: list[Object] = obj["metadata"].get("ownerReferences") or []
    owner = next((reference for reference in owners if reference.get("controller")), None)
    controller = NONE
    if owner is not None:
        group = owner.get("apiVersion", "").rpartition("/")[0]
        kind = f"{owner.get('kind', '')}.{group}" if group else owner.get("kind", "")
        controller = f"{kind.lower()}/{owner.get('name', '')}"
    return [name_of(obj), controller, obj.get("revision", 0), age(obj, now_seconds)]


def _pod_template(obj: Object, _now_seconds: float) -> list[Any]:
    template: Object = obj.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels")
    return [name_of(obj), *containers_and_images(template.get("spec") or {}), labels_text(labels)]


# The first of these that is True is what a job is.
_JOB_STATES = (("Complete", "Complete"), ("Failed", "Failed"))
_JOB_LATER_STATES = (
    ("Suspended", "Suspended"),
    ("FailureTarget", "FailureTarget"),
    ("SuccessCriteriaMet", "SuccessCriteriaMet"),
)


def _job_state(obj: Object) -> str:
    true = {c.get("type") for c in obj.get("status", {}).get("conditions") or () if c.get("status") == "True"}
    for condition, shown in _JOB_STATES:
        if condition in true:
            return shown
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return next((shown for condition, shown in _JOB_LATER_STATES if condition in true), "Running")


def _job_duration(status: Object, now_seconds: float) -> str:
    started = unix_seconds(status["startTime"]) if status.get("startTime") else None
    if started is None:
        return ""
    ended = unix_seconds(status["completionTime"]) if status.get("completionTime") else now_seconds
    return format_age((now_seconds if ended is None else ended) - started)


def _job(obj: Object, now_seconds: float) -> list[Any]:
    spec: Object = obj.get("spec", {})
    status: Object = obj.get("status", {})
    done = status.get("succeeded", 0)
    parallelism = spec.get("parallelism", 0)
    if spec.get("completions") is not None:
        completions = f"{done}/{spec['completions']}"
    else:
        completions = f"{done}/1 of {parallelism}" if parallelism > 1 else f"{done}/1"
    return [
        name_of(obj),
        _job_state(obj),
        completions,
        _job_duration(status, now_seconds),
        age(obj, now_seconds),
        *containers_and_images(_template_spec(obj)),
        selector_text(spec.get("selector")),
    ]


def _cron_job(obj: Object, now_seconds: float) -> list[Any]:
    spec: Object = obj.get("spec", {})
    status: Object = obj.get("status", {})
    job: Object = (spec.get("jobTemplate") or {}).get("spec") or {}
    last = status.get("lastScheduleTime")
    return [
        name_of(obj),
        spec.get("schedule", ""),
        spec.get("timeZone") or NONE,
        truth(spec.get("suspend")),
        len(status.get("active") or ()),
        age_of(last, now_seconds) if last else NONE,
        age(obj, now_seconds),
        *containers_and_images((job.get("template") or {}).get("spec") or {}),
        selector_text(job.get("selector")),
    ]


def _budget(obj: Object, now_seconds: float) -> list[Any]:
    spec: Object = obj.get("spec", {})
    return [
        name_of(obj),
        str(spec.get("minAvailable", "N/A")),
        str(spec.get("maxUnavailable", "N/A")),
        obj.get("status", {}).get("disruptionsAllowed", 0),
        age(obj, now_seconds),
    ]


_METRIC_FIELDS = {
    "External": "external",
    "Pods": "pods",
    "Object": "object",
    "Resource": "resource",
    "ContainerResource": "containerResource",
}


def _metric(spec: Object, status: Object | None) -> str:
    """`cpu: 12%/80%`, `<unknown>/5 (avg)`."""
    kind = spec.get("type", "")
    field = _METRIC_FIELDS.get(kind)
    if field is None:
        return "<unknown type>"
    source: Object = spec.get(field) or {}
    target: Object = source.get("target") or {}
    current: Object = ((status or {}).get(field) or {}).get("current") or {}
    if kind in ("Resource", "ContainerResource"):
        if "averageValue" in target:
            shown = f"{current.get('averageValue', UNKNOWN)}/{target['averageValue']}"
        else:
            now, wanted = current.get("averageUtilization"), target.get("averageUtilization")
            shown = f"{UNKNOWN if now is None else f'{now}%'}/{'<auto>' if wanted is None else f'{wanted}%'}"
        return f"{source.get('name', '')}: {shown}"
    if kind == "Pods":
        return f"{current.get('averageValue', UNKNOWN)}/{target.get('averageValue', '0')}"
    if "averageValue" in target:
        return f"{current.get('averageValue', UNKNOWN)}/{target['averageValue']} (avg)"
    return f"{current.get('value', UNKNOWN)}/{target.get('value', '0')}"


def _autoscaler(obj: Object, now_seconds: float) -> list[Any]:
    spec: Object = obj.get("spec", {})
    status: Object = obj.get("status", {})
    specs: list[Object] = spec.get("metrics") or []
    if not specs and "targetCPUUtilizationPercentage" in spec:  # the v1 form
        target = {"averageUtilization": spec["targetCPUUtilizationPercentage"]}
        specs = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    current: list[Object | None] = list(status.get("currentMetrics") or ())
    current += [None] * (len(specs) - len(current))
    metrics = [_metric(one, now) for one, now in zip(specs, current, strict=False)]
    reference: Object = spec.get("scaleTargetRef") or {}
    return [
        name_of(obj),
        f"{reference.get('kind', '')}/{reference.get('name', '')}",
        cut_short(metrics, 2, empty=NONE, separator=", "),
        str(spec.get("minReplicas", UNSET)),
        spec.get("maxReplicas", 0),
        status.get("currentReplicas", 0),
        age(obj, now_seconds),
    ]


_REPLICAS = "Name, Desired:integer, Current:integer, Ready:integer, Age, Containers*, Images*, Selector*"
_AUTOSCALER = "Name, Reference, Targets, MinPods, MaxPods, Replicas, Age"
TABLES: dict[tuple[str, str], tuple[tuple[Column, ...], Callable[[Object, float], list[Any]]]] = {
    ("apps", "deployments"): (
        columns_of("Name, Ready, Up-to-date, Available, Age, Containers*, Images*, Selector*"),
        _deployment,
    ),
    ("apps", "statefulsets"): (columns_of("Name, Ready, Age, Containers*, Images*"), _stateful_set),
    ("apps", "replicasets"): (columns_of(_REPLICAS), _replica_set),
    ("", "replicationcontrollers"): (columns_of(_REPLICAS), _replication_controller),
    ("apps", "daemonsets"): (
        columns_of(
            "Name, Desired:integer, Current:integer, Ready:integer, Up-to-date:integer, Available:integer,"
            " Node Selector, Age, Containers*, Images*, Selector*"
        ),
        _daemon_set,
    ),
    ("apps", "controllerrevisions"): (columns_of("Name, Controller, Revision, Age"), _controller_revision),
    ("", "podtemplates"): (columns_of("Name, Containers, Images, Pod Labels"), _pod_template),
    ("batch", "jobs"): (
        columns_of("Name, Status, Completions, Duration, Age, Containers*, Images*, Selector*"),
        _job,
    ),
    ("batch", "cronjobs"): (
        columns_of(
            "Name, Schedule, Timezone, Suspend:boolean, Active:integer, Last Schedule, Age, Containers*,"
            " Images*, Selector*"
        ),
        _cron_job,
    ),
    ("policy", "poddisruptionbudgets"): (
        columns_of("Name, Min Available, Max Unavailable, Allowed Disruptions:integer, Age"),
        _budget,
    ),
    ("autoscaling", "horizontalpodautoscalers"): (columns_of(_AUTOSCALER), _autoscaler),
}
