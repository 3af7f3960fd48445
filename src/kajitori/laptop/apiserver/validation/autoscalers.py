"""Rules of HorizontalPodAutoscalers: what is scaled, by which metrics, how fast."""

from __future__ import annotations

from typing import Any

from kajitori.laptop.apiserver.status import (
    FieldError,
    forbidden_field,
    invalid_value,
    required,
    unsupported_value,
)
from kajitori.laptop.apiserver.validation.containers import amount
from kajitori.laptop.apiserver.validation.names import dns_label, path_segment

Object = dict[str, Any]

# Types of metrics and the fields that hold them, in the order in which they are looked at.
_SOURCES = {
    "Object": "object",
    "External": "external",
    "Pods": "pods",
    "Resource": "resource",
    "ContainerResource": "containerResource",
}
_TARGETS = ("Utilization", "Value", "AverageValue")
_LONGEST_WINDOW_SECONDS = 3600
_LONGEST_PERIOD_SECONDS = 1800


def autoscaler_errors(new: Object, _old: Object | None, subresource: str) -> list[FieldError]:
    if subresource == "status":
        return []
    spec: Object = new["spec"]
    errors: list[FieldError] = []
    minimum, maximum = spec.get("minReplicas"), spec.get("maxReplicas", 0)
    if minimum is not None and minimum < 1:
        text = "must be greater than or equal to 1"
        errors.append(invalid_value("spec.minReplicas", minimum, text))
    if maximum == 0:
        errors.append(required("spec.maxReplicas", "must be set and greater than 0"))
    elif maximum < 0:
        errors.append(invalid_value("spec.maxReplicas", maximum, "must be greater than or equal to 1"))
    if minimum is not None and maximum < minimum:
        text = "must be greater than or equal to `minReplicas`"
        errors.append(invalid_value("spec.maxReplicas", maximum, text))
    errors += _reference_errors(spec.get("scaleTargetRef") or {}, "spec.scaleTargetRef", any_group=False)
    for index, metric in enumerate(spec.get("metrics") or ()):
        errors += _metric_errors(metric, f"spec.metrics[{index}]")
    for direction in ("scaleUp", "scaleDown"):
        rules = (spec.get("behavior") or {}).get(direction)
        if rules is not None:
            errors += _pace_errors(rules, f"spec.behavior.{direction}")
    return errors


def _reference_errors(reference: Object, path: str, *, any_group: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    for field in ("kind", "name"):
        value = reference.get(field)
        if not value:
            errors.append(required(f"{path}.{field}"))
        else:
            errors += [invalid_value(f"{path}.{field}", value, message) for message in path_segment(value)]
    version = reference.get("apiVersion", "")
    if version.count("/") > 1:
        errors.append(
            invalid_value(f"{path}.apiVersion", version, f"unexpected GroupVersion string: {version}")
        )
    elif not any_group and "/" not in version and reference.get("kind") != "ReplicationController":
        errors.append(invalid_value(f"{path}.apiVersion", version, "apiVersion must specify API group"))
    return errors


def _metric_errors(metric: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    kind = metric.get("type", "")
    if not kind:
        errors.append(required(f"{path}.type", "must specify a metric source type"))
    if kind not in _SOURCES:
        errors.append(unsupported_value(f"{path}.type", kind, sorted(_SOURCES)))
    given = [field for field in _SOURCES.values() if field in metric]
    if given:
        errors += _source_errors(given[0], metric[given[0]], f"{path}.{given[0]}")
    wanted = _SOURCES.get(kind, "")
    if wanted and wanted not in given:
        errors.append(required(f"{path}.{wanted}", "must populate information for the given metric source"))
    if len(given) != 1:
        text = "must populate the given metric source only"
        errors += [forbidden_field(f"{path}.{field}", text) for field in given if field != wanted]
    return errors


def _source_errors(field: str, source: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    target: Object = source.get("target") or {}
    if field == "object":
        errors += _reference_errors(
            source.get("describedObject") or {}, f"{path}.describedObject", any_group=True
        )
    if field in ("object", "external", "pods"):
        name = (source.get("metric") or {}).get("name", "")
        if not name:
            errors.append(required(f"{path}.metric.name", "must specify a metric name"))
        errors += [invalid_value(f"{path}.metric.name", name, text) for text in path_segment(name)]
    elif not source.get("name"):
        errors.append(required(f"{path}.name", "must specify a resource name"))
    if field == "containerResource":
        container = source.get("container", "")
        if not container:
            errors.append(required(f"{path}.container", "must specify a container"))
        else:
            errors += [invalid_value(f"{path}.container", container, text) for text in dns_label(container)]
    return (
        errors + _target_errors(target, f"{path}.target") + _fitting_errors(field, target, f"{path}.target")
    )


def _target_errors(target: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    kind = target.get("type", "")
    if not kind:
        errors.append(required(f"{path}.type", "must specify a metric target type"))
    if kind not in _TARGETS:
        errors.append(
            invalid_value(f"{path}.type", kind, "must be either Utilization, Value, or AverageValue")
        )
    errors += [
        invalid_value(f"{path}.{field}", target[field], "must be positive")
        for field in ("value", "averageValue")
        if field in target and amount(target[field]) <= 0
    ]
    if target.get("averageUtilization", 1) < 1:
        utilization = target["averageUtilization"]
        errors.append(invalid_value(f"{path}.averageUtilization", utilization, "must be greater than 0"))
    return errors


def _fitting_errors(field: str, target: Object, path: str) -> list[FieldError]:
    """Which of its numbers a target must have, and may not have together."""
    if field in ("object", "external"):
        alone = "value or averageValue" if field == "object" else "value for metric or a per-pod target"
        if "value" not in target and "averageValue" not in target:
            return [required(f"{path}.averageValue", f"must set either a target {alone}")]
        if field == "external" and "value" in target and "averageValue" in target:
            text = "may not set both a target value for metric and a per-pod target"
            return [forbidden_field(f"{path}.value", text)]
        return []
    if field == "pods":
        text = "must specify a positive target averageValue"
        return [] if "averageValue" in target else [required(f"{path}.averageValue", text)]
    if "averageUtilization" not in target and "averageValue" not in target:
        text = "must set either a target raw value or a target utilization"
        return [required(f"{path}.averageUtilization", text)]
    if "averageUtilization" in target and "averageValue" in target:
        text = "may not set both a target raw value and a target utilization"
        return [forbidden_field(f"{path}.averageValue", text)]
    return []


def _pace_errors(rules: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    window = rules.get("stabilizationWindowSeconds")
    here = f"{path}.stabilizationWindowSeconds"
    if window is not None and window < 0:
        errors.append(invalid_value(here, window, "must be greater than or equal to zero"))
    if window is not None and window > _LONGEST_WINDOW_SECONDS:
        text = f"must be less than or equal to {_LONGEST_WINDOW_SECONDS}"
        errors.append(invalid_value(here, window, text))
    choice = rules.get("selectPolicy")
    if choice is not None and choice not in ("Disabled", "Max", "Min"):
        errors.append(unsupported_value(f"{path}.selectPolicy", choice, ("Disabled", "Max", "Min")))
    policies: list[Object] = rules.get("policies") or []
    if not policies:
        errors.append(required(f"{path}.policies", "must specify at least one Policy"))
    for index, policy in enumerate(policies):
        errors += _policy_errors(policy, f"{path}.policies[{index}]")
    if "tolerance" in rules and amount(rules["tolerance"]) < 0:
        text = "must be greater than or equal to 0"
        errors.append(invalid_value(f"{path}.tolerance", rules["tolerance"], text))
    return errors


def _policy_errors(policy: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if policy.get("type") not in ("Percent", "Pods"):
        errors.append(unsupported_value(f"{path}.type", policy.get("type", ""), ("Percent", "Pods")))
    for field in ("value", "periodSeconds"):
        number = policy.get(field, 0)
        if number <= 0:
            errors.append(invalid_value(f"{path}.{field}", number, "must be greater than zero"))
    if policy.get("periodSeconds", 0) > _LONGEST_PERIOD_SECONDS:
        text = f"must be less than or equal to {_LONGEST_PERIOD_SECONDS}"
        errors.append(invalid_value(f"{path}.periodSeconds", policy["periodSeconds"], text))
    return errors
