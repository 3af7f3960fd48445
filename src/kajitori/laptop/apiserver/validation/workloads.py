"""Rules of deployments, sets, jobs, cron jobs, autoscalers and disruption budgets."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from kajitori.base.cron import InvalidSchedule, parse_schedule
from kajitori.laptop.apiserver.status import (
    FieldError,
    forbidden_field,
    invalid_value,
    required,
    unsupported_value,
)
from kajitori.laptop.apiserver.validation.job_rules import job_change_errors, job_policy_errors
from kajitori.laptop.apiserver.validation.metadata import (
    immutable,
    is_empty_selector,
    matches,
    non_negative,
    selector_errors,
)
from kajitori.laptop.apiserver.validation.names import dns_label
from kajitori.laptop.apiserver.validation.pods import template_errors
from kajitori.laptop.apiserver.validation.storage import claim_spec_errors

Object = dict[str, Any]

_PERCENT = re.compile(r"[0-9]+%")
_PERCENT_TEXT = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used"
    " for validation is '[0-9]+%')"
)
_MISMATCH = "`selector` does not match template `labels`"


def _amount_or_percent_errors(value: Any, field: str, *, at_most_all: bool = False) -> list[FieldError]:
    """A whole number of zero or more, or a percentage."""
    if isinstance(value, str):
        if not _PERCENT.fullmatch(value):
            return [invalid_value(field, value, _PERCENT_TEXT)]
        if at_most_all and int(value[:-1]) > 100:
            return [invalid_value(field, value, "must not be greater than 100%")]
        return []
    if isinstance(value, int) and value < 0:
        return [invalid_value(field, value, "must be greater than or equal to 0")]
    return []


def _is_zero(value: Any) -> bool:
    return value in (0, "0%", None)


def _template_of(spec: Object, kind: str, *, selector_required: bool = True) -> list[FieldError]:
    """Selector and template of a workload whose pods run for ever."""
    errors: list[FieldError] = []
    selector = spec.get("selector")
    template: Object = spec.get("template") or {}
    if selector is None:
        if selector_required:
            errors.append(required("spec.selector"))
        # What selects nothing does not select the template either.
        labels = (template.get("metadata") or {}).get("labels")
        errors.append(invalid_value("spec.template.metadata.labels", labels, _MISMATCH))
    else:
        errors += selector_errors(selector, "spec.selector")
        if is_empty_selector(selector):
            # Sets of pods are told of as those of a Deployment.
            named = "deployment" if kind == "ReplicaSet" else kind.lower()
            text = f"empty selector is invalid for {named}"
            errors.append(invalid_value("spec.selector", selector, text))
    labels = (template.get("metadata") or {}).get("labels")
    if selector_errors(selector, ""):
        if kind != "DaemonSet":
            errors.append(invalid_value("spec.selector", selector, "invalid label selector"))
    elif not is_empty_selector(selector) and not matches(selector, labels):
        errors.append(invalid_value("spec.template.metadata.labels", labels or None, _MISMATCH))
    errors += template_errors(template, "spec.template")
    pod: Object = template.get("spec") or {}
    policy = pod.get("restartPolicy")
    if policy != "Always":
        errors.append(unsupported_value("spec.template.spec.restartPolicy", policy, ("Always",)))
    if pod.get("activeDeadlineSeconds") is not None:
        text = f"activeDeadlineSeconds in {kind} is not Supported"
        errors.append(forbidden_field("spec.template.spec.activeDeadlineSeconds", text))
    return errors


def deployment_errors(new: Object, old: Object | None, subresource: str) -> list[FieldError]:
    if subresource == "status":
        return non_negative(
            new.get("status") or {}, "status", "replicas", "readyReplicas", "availableReplicas"
        )
    spec: Object = new["spec"]
    if old is not None and spec == old.get("spec"):
        return []
    errors = non_negative(
        spec, "spec", "replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"
    )
    errors += _template_of(spec, "Deployment")
    errors += _deployment_strategy_errors(spec.get("strategy") or {})
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None and deadline <= spec.get("minReadySeconds", 0):
        text = "must be greater than minReadySeconds"
        errors.append(invalid_value("spec.progressDeadlineSeconds", deadline, text))
    if old is not None:
        errors += immutable(spec, old["spec"], "spec", "selector")
    return errors


def _deployment_strategy_errors(strategy: Object) -> list[FieldError]:
    path = "spec.strategy"
    rolling: Object | None = strategy.get("rollingUpdate")
    if strategy.get("type") == "Recreate":
        text = "may not be specified when strategy `type` is 'Recreate'"
        return [] if rolling is None else [forbidden_field(f"{path}.rollingUpdate", text)]
    if strategy.get("type") != "RollingUpdate":
        return [unsupported_value(path, strategy, ("Recreate", "RollingUpdate"))]
    rolling = rolling or {}
    here = f"{path}.rollingUpdate"
    errors = _amount_or_percent_errors(
        rolling.get("maxUnavailable"), f"{here}.maxUnavailable", at_most_all=True
    )
    errors += _amount_or_percent_errors(rolling.get("maxSurge"), f"{here}.maxSurge")
    if _is_zero(rolling.get("maxUnavailable")) and _is_zero(rolling.get("maxSurge")):
        text = "may not be 0 when `maxSurge` is 0"
        errors.append(invalid_value(f"{here}.maxUnavailable", rolling.get("maxUnavailable"), text))
    return errors


def replica_set_errors(new: Object, old: Object | None, subresource: str) -> list[FieldError]:
    if subresource == "status":
        return non_negative(
            new.get("status") or {}, "status", "replicas", "readyReplicas", "availableReplicas"
        )
    spec: Object = new["spec"]
    if old is not None and spec == old.get("spec"):
        return []
    errors = non_negative(spec, "spec", "replicas", "minReadySeconds")
    errors += _template_of(spec, "ReplicaSet")
    if old is not None:
        errors += immutable(spec, old["spec"], "spec", "selector")
    return errors


def replication_controller_errors(new: Object, old: Object | None, subresource: str) -> list[FieldError]:
    spec: Object = new["spec"]
    if subresource == "status" or (old is not None and spec == old.get("spec")):
        return []
    errors = non_negative(spec, "spec", "replicas", "minReadySeconds")
    selector: Object = spec.get("selector") or {}
    if not selector:
        errors.append(required("spec.selector"))
    template = spec.get("template")
    if template is None:
        return [*errors, required("spec.template")]
    labels = (template.get("metadata") or {}).get("labels")
    if selector and not matches({"matchLabels": selector}, labels):
        errors.append(invalid_value("spec.template.metadata.labels", labels or None, _MISMATCH))
    return errors + template_errors(template, "spec.template")


_STATEFUL_SET_FIELDS = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)


def stateful_set_errors(new: Object, old: Object | None, subresource: str) -> list[FieldError]:
    spec: Object = new["spec"]
    if subresource == "status" or (old is not None and spec == old.get("spec")):
        return []
    errors = non_negative(spec, "spec", "replicas", "minReadySeconds", "revisionHistoryLimit")
    policy = spec.get("podManagementPolicy")
    if policy not in ("OrderedReady", "Parallel"):
        text = "must be 'OrderedReady' or 'Parallel'"
        errors.append(invalid_value("spec.podManagementPolicy", policy, text))
    strategy: Object = spec.get("updateStrategy") or {}
    kind = strategy.get("type")
    if kind not in ("OnDelete", "RollingUpdate"):
        text = "must be 'RollingUpdate' or 'OnDelete'"
        errors.append(invalid_value("spec.updateStrategy", strategy, text))
    elif kind == "OnDelete" and strategy.get("rollingUpdate") is not None:
        text = "only allowed for updateStrategy 'RollingUpdate'"
        errors.append(invalid_value("spec.updateStrategy.rollingUpdate", strategy["rollingUpdate"], text))
    rolling: Object = strategy.get("rollingUpdate") or {}
    errors += non_negative(rolling, "spec.updateStrategy.rollingUpdate", "partition")
    service = spec.get("serviceName")
    if service:
        errors += [invalid_value("spec.serviceName", service, message) for message in dns_label(service)]
    errors += _template_of(_with_claim_volumes(spec), "StatefulSet")
    for index, claim in enumerate(spec.get("volumeClaimTemplates") or ()):
        errors += claim_spec_errors(claim.get("spec") or {}, f"spec.volumeClaimTemplates[{index}].spec")
    for field, fate in (spec.get("persistentVolumeClaimRetentionPolicy") or {}).items():
        if fate not in ("Retain", "Delete"):
            here = f"spec.persistentVolumeClaimRetentionPolicy.{field}"
            errors.append(unsupported_value(here, fate, ("Retain", "Delete")))
    if old is not None:
        before, after = dict(old["spec"]), dict(spec)
        for field in _STATEFUL_SET_FIELDS:
            before.pop(field, None)
            after.pop(field, None)
        if before != after:
            listed = ", ".join(f"'{field}'" for field in _STATEFUL_SET_FIELDS[:-1])
            text = (
                f"updates to statefulset spec for fields other than {listed} and"
                f" '{_STATEFUL_SET_FIELDS[-1]}' are forbidden"
            )
            errors.append(forbidden_field("spec", text))
    return errors


def _with_claim_volumes(spec: Object) -> Object:
    """With the volumes that the set's claims will give its pods, so that mounts of them are found."""
    claims: list[Object] = spec.get("volumeClaimTemplates") or []
    if not claims:
        return spec
    template: Object = spec.get("template") or {}
    pod: Object = template.get("spec") or {}
    names = list(dict.fromkeys((claim.get("metadata") or {}).get("name", "") for claim in claims))
    volumes = [volume for volume in pod.get("volumes") or () if volume.get("name") not in names]
    volumes += [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in names]
    return {**spec, "template": {**template, "spec": {**pod, "volumes": volumes}}}


def daemon_set_errors(new: Object, old: Object | None, subresource: str) -> list[FieldError]:
    spec: Object = new["spec"]
    if subresource == "status" or (old is not None and spec == old.get("spec")):
        return []
    errors = non_negative(spec, "spec", "minReadySeconds", "revisionHistoryLimit")
    errors += _template_of(spec, "DaemonSet", selector_required=False)
    strategy: Object = spec.get("updateStrategy") or {}
    if strategy.get("type") not in ("RollingUpdate", "OnDelete"):
        supported = ("RollingUpdate", "OnDelete")
        errors.append(unsupported_value("spec.updateStrategy", strategy, supported))
    rolling: Object = strategy.get("rollingUpdate") or {}
    here = "spec.updateStrategy.rollingUpdate"
    errors += _amount_or_percent_errors(
        rolling.get("maxUnavailable"), f"{here}.maxUnavailable", at_most_all=True
    )
    errors += _amount_or_percent_errors(rolling.get("maxSurge"), f"{here}.maxSurge", at_most_all=True)
    if strategy.get("type") == "RollingUpdate":
        spare, missing = _is_zero(rolling.get("maxSurge")), _is_zero(rolling.get("maxUnavailable"))
        if not spare and not missing:
            text = "may not be set when maxUnavailable is non-zero"
            errors.append(invalid_value(f"{here}.maxSurge", rolling["maxSurge"], text))
        if spare and missing:
            errors.append(required(f"{here}.maxUnavailable", "cannot be 0 when maxSurge is 0"))
    if old is not None:
        errors += immutable(spec, old["spec"], "spec", "selector")
    return errors


# Jobs.

_JOB_NUMBERS = (
    "parallelism",
    "completions",
    "activeDeadlineSeconds",
    "backoffLimit",
    "ttlSecondsAfterFinished",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
)


def _job_spec_errors(spec: Object, path: str) -> list[FieldError]:
    errors = non_negative(spec, path, *_JOB_NUMBERS)
    mode = spec.get("completionMode", "NonIndexed")
    if mode not in ("NonIndexed", "Indexed"):
        errors.append(unsupported_value(f"{path}.completionMode", mode, ("NonIndexed", "Indexed")))
    if mode == "Indexed" and spec.get("completions") is None:
        errors.append(required(f"{path}.completions", "when completion mode is Indexed"))
    if mode == "NonIndexed":
        errors += [
            invalid_value(f"{path}.{field}", spec[field], "requires indexed completion mode")
            for field in ("backoffLimitPerIndex", "maxFailedIndexes", "successPolicy")
            if field in spec
        ]
    errors += job_policy_errors(spec, path)
    template: Object = spec.get("template") or {}
    errors += template_errors(template, f"{path}.template")
    policy = (template.get("spec") or {}).get("restartPolicy")
    here = f"{path}.template.spec.restartPolicy"
    if policy in ("Always", "", None):
        errors.append(required(here, 'valid values: "OnFailure", "Never"'))
    elif policy not in ("OnFailure", "Never"):
        errors.append(unsupported_value(here, policy, ("OnFailure", "Never")))
    elif "podFailurePolicy" in spec and policy != "Never":
        text = 'only "Never" is supported when podFailurePolicy is specified'
        errors.append(invalid_value(here, policy, text))
    return errors


def job_errors(new: Object, old: Object | None, subresource: str) -> list[FieldError]:
    spec: Object = new["spec"]
    if subresource == "status" or (old is not None and spec == old.get("spec")):
        return []
    errors = _job_spec_errors(spec, "spec")
    selector = spec.get("selector")
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    if selector is None:
        errors.append(required("spec.selector"))
    else:
        problems = selector_errors(selector, "spec.selector")
        errors += problems
        if not problems and not matches(selector, labels):
            errors.append(invalid_value("spec.template.metadata.labels", labels or None, _MISMATCH))
    if old is not None:
        errors += job_change_errors(spec, old["spec"], old.get("status") or {})
    return errors


_ZONE_PART = re.compile(r"[A-Za-z._0-9+][A-Za-z._0-9+-]{0,13}")
_CRON_JOB_NAME_LIMIT = 52


def _schedule_errors(schedule: str) -> list[FieldError]:
    if not schedule:
        return [required("spec.schedule")]
    if "TZ" in schedule:
        text = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        return [invalid_value("spec.schedule", schedule, text)]
    try:
        parse_schedule(schedule)
    except InvalidSchedule as error:
        return [invalid_value("spec.schedule", schedule, str(error))]
    return []


def _time_zone_errors(zone: str | None) -> list[FieldError]:
    if zone is None:
        return []
    if not zone:
        return [invalid_value("spec.timeZone", zone, "timeZone must be nil or non-empty string")]
    if zone.lower() == "local":
        text = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        return [invalid_value("spec.timeZone", zone, text)]
    parts = zone.split("/")
    if all(_ZONE_PART.fullmatch(part) and part not in (".", "..") for part in parts) and _is_zone(zone):
        return []
    return [invalid_value("spec.timeZone", zone, f"unknown time zone {zone}")]


@lru_cache(maxsize=256)
def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        return False
    return True


def cron_job_errors(new: Object, old: Object | None, subresource: str) -> list[FieldError]:
    spec: Object = new["spec"]
    if subresource == "status" or (old is not None and spec == old.get("spec")):
        return []
    errors = _schedule_errors(spec.get("schedule", ""))
    errors += _time_zone_errors(spec.get("timeZone"))
    errors += non_negative(
        spec, "spec", "startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"
    )
    policy = spec.get("concurrencyPolicy")
    if policy not in ("Allow", "Forbid", "Replace"):
        errors.append(unsupported_value("spec.concurrencyPolicy", policy, ("Allow", "Forbid", "Replace")))
    job: Object = (spec.get("jobTemplate") or {}).get("spec") or {}
    errors += _job_spec_errors(job, "spec.jobTemplate.spec")
    name = new["metadata"].get("name", "")
    if old is None and len(name) > _CRON_JOB_NAME_LIMIT:
        text = f"must be no more than {_CRON_JOB_NAME_LIMIT} characters"
        errors.append(invalid_value("metadata.name", name, text))
    return errors


# What scales and guards them.


def disruption_budget_errors(new: Object, _old: Object | None, subresource: str) -> list[FieldError]:
    if subresource == "status":
        return []
    spec: Object = new.get("spec") or {}
    errors: list[FieldError] = []
    if "minAvailable" in spec and "maxUnavailable" in spec:
        text = "minAvailable and maxUnavailable cannot be both set"
        errors.append(invalid_value("spec", spec, text))
    for field in ("minAvailable", "maxUnavailable"):
        if field in spec:
            errors += _amount_or_percent_errors(spec[field], f"spec.{field}", at_most_all=True)
    policy = spec.get("unhealthyPodEvictionPolicy")
    if policy and policy not in ("AlwaysAllow", "IfHealthyBudget"):
        supported = ("AlwaysAllow", "IfHealthyBudget")
        errors.append(unsupported_value("spec.unhealthyPodEvictionPolicy", policy, supported))
    return errors + selector_errors(spec.get("selector"), "spec.selector")
