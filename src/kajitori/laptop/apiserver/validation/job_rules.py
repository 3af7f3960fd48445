"""Rules of jobs that their policies and their changes bring: what fits together, and what may change when.

While a job is suspended its template may still be told where pods shall run and what they ask for: queues such
as Kueue and JobSet admit jobs that way. Source: behaviour of kube-apiserver 1.36.
"""

from __future__ import annotations

from typing import Any

from kajitori.laptop.apiserver.status import (
    FieldError,
    duplicate,
    invalid_value,
    required,
    unsupported_value,
)
from kajitori.laptop.apiserver.validation.metadata import immutable
from kajitori.laptop.apiserver.validation.names import label_key

Object = dict[str, Any]
_MOST_PARALLEL = 100_000
_REPLACEMENTS = ("Failed", "TerminatingOrFailed")
_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_STATUSES = ("False", "True", "Unknown")
_DIRECTIVES = ("nodeSelector", "tolerations", "schedulingGates")


def job_policy_errors(spec: Object, path: str) -> list[FieldError]:
    """Limits and policies of a job against each other."""
    errors: list[FieldError] = []
    most_failed, completions = spec.get("maxFailedIndexes"), spec.get("completions")
    if most_failed is not None and spec.get("backoffLimitPerIndex") is None:
        errors.append(required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified"))
    if spec.get("completionMode") == "Indexed":
        if spec.get("parallelism", 0) > _MOST_PARALLEL:
            text = f"must be less than or equal to {_MOST_PARALLEL} when completion mode is Indexed"
            errors.append(invalid_value(f"{path}.parallelism", spec["parallelism"], text))
        if most_failed is not None and completions is not None and most_failed > completions:
            text = "must be less than or equal to completions"
            errors.append(invalid_value(f"{path}.maxFailedIndexes", most_failed, text))
        if spec.get("successPolicy") is not None and completions is not None:
            errors += _success_errors(spec["successPolicy"], completions, f"{path}.successPolicy.rules")
    if spec.get("podFailurePolicy") is not None:
        errors += _failure_errors(spec, f"{path}.podFailurePolicy.rules")
    replacement = spec.get("podReplacementPolicy")
    supported = ("Failed",) if spec.get("podFailurePolicy") is not None else _REPLACEMENTS
    if replacement is not None and replacement not in supported:
        errors.append(unsupported_value(f"{path}.podReplacementPolicy", replacement, supported))
    return errors


def _failure_errors(spec: Object, path: str) -> list[FieldError]:
    pod: Object = (spec.get("template") or {}).get("spec") or {}
    names = {c.get("name") for field in ("containers", "initContainers") for c in pod.get(field) or ()}
    errors: list[FieldError] = []
    for number, rule in enumerate(spec["podFailurePolicy"].get("rules") or ()):
        here = f"{path}[{number}]"
        errors += _choice_errors(rule, here, "action", _ACTIONS)
        if rule.get("action") == "FailIndex" and spec.get("backoffLimitPerIndex") is None:
            text = "requires the backoffLimitPerIndex to be set"
            errors.append(invalid_value(f"{here}.action", "FailIndex", text))
        codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions") or []
        if codes is not None:
            errors += _exit_code_errors(codes, f"{here}.onExitCodes", names)
        for place, condition in enumerate(conditions):
            at = f"{here}.onPodConditions[{place}]"
            kind = condition.get("type", "")
            errors += [invalid_value(f"{at}.type", kind, text) for text in label_key(kind)]
            errors += _choice_errors(condition, at, "status", _STATUSES)
        if (codes is not None) == bool(conditions):
            which = "both OnExitCodes and OnPodConditions is not supported"
            text = which if conditions else "one of OnExitCodes and OnPodConditions is required"
            errors.append(FieldError("FieldValueInvalid", here, f"Invalid value: specifying {text}"))
    return errors


def _choice_errors(obj: Object, path: str, field: str, supported: tuple[str, ...]) -> list[FieldError]:
    value = obj.get(field)
    if not value:
        listed = " ".join(f'"{choice}"' for choice in supported)
        return [required(f"{path}.{field}", f"valid values: [{listed}]")]
    return [] if value in supported else [unsupported_value(f"{path}.{field}", value, supported)]


def _exit_code_errors(codes: Object, path: str, containers: set[str | None]) -> list[FieldError]:
    errors = _choice_errors(codes, path, "operator", ("In", "NotIn"))
    name = codes.get("containerName")
    if name is not None and name not in containers:
        text = "must be one of the container or initContainer names in the pod template"
        errors.append(invalid_value(f"{path}.containerName", name, text))
    values: list[int] = codes.get("values") or []
    if not values:
        errors.append(invalid_value(f"{path}.values", codes.get("values"), "at least one value is required"))
    for place, value in enumerate(values):
        if value == 0 and codes.get("operator") == "In":
            text = "must not be 0 for the In operator"
            errors.append(invalid_value(f"{path}.values[{place}]", value, text))
        if value in values[:place]:
            errors.append(duplicate(f"{path}.values[{place}]", value))
    if values != sorted(values):
        errors.append(invalid_value(f"{path}.values", values, "must be ordered"))
    return errors


def _success_errors(policy: Object, completions: int, path: str) -> list[FieldError]:
    rules: list[Object] = policy.get("rules") or []
    if not rules:
        return [required(path, "at least one rules must be specified when the successPolicy is specified")]
    errors: list[FieldError] = []
    for number, rule in enumerate(rules):
        counted = rule.get("succeededCount")
        if counted is None and rule.get("succeededIndexes") is None:
            text = "at least one of succeededCount or succeededIndexes must be specified"
            errors.append(required(f"{path}[{number}]", text))
        if counted is not None and counted > completions:
            text = f"must be less than or equal to {completions} (the number of specified completions)"
            errors.append(invalid_value(f"{path}[{number}].succeededCount", counted, text))
    return errors


def job_change_errors(new: Object, old: Object, status: Object) -> list[FieldError]:
    """new, old: specs. status: of the stored job."""
    errors = immutable(
        new,
        old,
        "spec",
        "selector",
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    )
    if new.get("completionMode") != "Indexed":
        errors += immutable(new, old, "spec", "completions")
    elif new.get("completions") != old.get("completions") and new.get("completions") != new.get(
        "parallelism"
    ):
        text = "can only be modified in tandem with spec.parallelism"
        errors.append(invalid_value("spec.completions", new.get("completions"), text))
    before = old.get("template") or {}
    if old.get("suspend") and _may_change_template(status):
        before = _with_directives(before, new.get("template") or {})
    return errors + immutable(new, {"template": before}, "spec", "template")


def _may_change_template(status: Object) -> bool:
    """It has never run, or has come to rest since it was suspended."""
    conditions = status.get("conditions") or ()
    rests = any(one.get("type") == "Suspended" and one.get("status") == "True" for one in conditions)
    return (rests or status.get("startTime") is None) and not status.get("active")


def _with_directives(old: Object, new: Object) -> Object:
    """The old template with what the new one says of places and resources."""
    metadata = {
        **(old.get("metadata") or {}),
        **{key: (new.get("metadata") or {}).get(key) for key in ("labels", "annotations")},
    }
    spec, wanted = {**(old.get("spec") or {})}, new.get("spec") or {}
    for field in _DIRECTIVES:
        spec[field] = wanted.get(field)
    affinity = {**(spec.get("affinity") or {})}
    affinity["nodeAffinity"] = (wanted.get("affinity") or {}).get("nodeAffinity")
    affinity = _without_none(affinity)
    spec["affinity"] = affinity if affinity or wanted.get("affinity") == {} else None
    for field in ("initContainers", "containers"):
        spec[field] = _with_resources(spec.get(field), wanted.get(field))
    return {**old, "metadata": _without_none(metadata), "spec": _without_none(spec)}


def _with_resources(old: list[Object] | None, new: list[Object] | None) -> list[Object] | None:
    if not old or not new or len(old) != len(new):
        return old
    return [
        _without_none({**one, "resources": other.get("resources")}) if one["name"] == other["name"] else one
        for one, other in zip(old, new, strict=True)
    ]


def _without_none(obj: Object) -> Object:
    return {key: value for key, value in obj.items() if value is not None}
