"""Rules of pods and pod templates, and of what may change in a pod that exists."""

from __future__ import annotations

from typing import Any

from kajitori.laptop.apiserver.status import (
    FieldError,
    duplicate,
    forbidden_field,
    invalid_value,
    required,
    unsupported_value,
)
from kajitori.laptop.apiserver.validation.containers import container_errors, containers_errors
from kajitori.laptop.apiserver.validation.metadata import (
    annotation_errors,
    label_errors,
)
from kajitori.laptop.apiserver.validation.names import (
    dns_label,
    dns_subdomain,
    label_key,
)
from kajitori.laptop.apiserver.validation.placement import (
    affinity_errors,
    host_alias_errors,
    spread_errors,
    toleration_errors,
)
from kajitori.laptop.apiserver.validation.pod_fields import POD_FIELDS
from kajitori.laptop.apiserver.validation.volumes import volume_errors

Object = dict[str, Any]

_RESTART_POLICIES = ("Always", "OnFailure", "Never")
_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_INT32 = 2**31 - 1


def _choice_errors(spec: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for field, supported in (("restartPolicy", _RESTART_POLICIES), ("dnsPolicy", _DNS_POLICIES)):
        value = spec.get(field)
        if not value:
            errors.append(required(f"{path}.{field}"))
        elif value not in supported:
            errors.append(unsupported_value(f"{path}.{field}", value, supported))
    if spec.get("dnsPolicy") == "None":
        if "dnsConfig" not in spec:
            text = "must provide `dnsConfig` when `dnsPolicy` is None"
            errors.append(required(f"{path}.dnsConfig", text))
        elif not spec["dnsConfig"].get("nameservers"):
            text = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            errors.append(required(f"{path}.dnsConfig.nameservers", text))
    policy = spec.get("preemptionPolicy")
    if policy and policy not in ("Never", "PreemptLowerPriority"):
        supported = ("Never", "PreemptLowerPriority")
        errors.append(unsupported_value(f"{path}.preemptionPolicy", policy, supported))
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= _INT32:
        text = f"must be between 1 and {_INT32}, inclusive"
        errors.append(invalid_value(f"{path}.activeDeadlineSeconds", deadline, text))
    grace = spec.get("terminationGracePeriodSeconds", 30)
    if grace < 0:
        text = "must be greater than or equal to 0"
        errors.append(invalid_value(f"{path}.terminationGracePeriodSeconds", grace, text))
    return errors


_NAMES = (
    ("serviceAccountName", dns_subdomain),
    ("nodeName", dns_subdomain),
    ("hostname", dns_label),
    ("subdomain", dns_label),
    ("priorityClassName", dns_subdomain),
    ("runtimeClassName", dns_subdomain),
)


def pod_spec_errors(spec: Object, path: str) -> list[FieldError]:
    """A defaulted pod spec, of a pod or of a template."""
    volumes, errors = volume_errors(spec.get("volumes") or [], f"{path}.volumes")
    errors += containers_errors(spec, path, volumes)
    errors += _choice_errors(spec, path)
    for field, form in _NAMES:
        name = spec.get(field)
        if name:
            errors += [invalid_value(f"{path}.{field}", name, message) for message in form(name)]
    if "nodeSelector" in spec:
        errors += label_errors(spec["nodeSelector"], f"{path}.nodeSelector")
    if "affinity" in spec:
        errors += affinity_errors(spec["affinity"], f"{path}.affinity")
    if "tolerations" in spec:
        errors += toleration_errors(spec["tolerations"], f"{path}.tolerations")
    if "topologySpreadConstraints" in spec:
        field = f"{path}.topologySpreadConstraints"
        errors += spread_errors(spec["topologySpreadConstraints"], field)
    if "hostAliases" in spec:
        errors += host_alias_errors(spec["hostAliases"], f"{path}.hostAliases")
    for index, gate in enumerate(spec.get("readinessGates") or ()):
        kind = gate.get("conditionType", "")
        field = f"{path}.readinessGates[{index}].conditionType"
        errors += [invalid_value(field, kind, message) for message in label_key(kind)]
    for index, gate in enumerate(spec.get("schedulingGates") or ()):
        name = gate.get("name", "")
        errors += [
            invalid_value(f"{path}.schedulingGates[{index}]", name, message) for message in label_key(name)
        ]
    return errors + POD_FIELDS.errors(spec, path)


def template_errors(template: Object, path: str) -> list[FieldError]:
    """A workload's pod template."""
    metadata: Object = template.get("metadata") or {}
    errors = label_errors(metadata.get("labels"), f"{path}.labels")
    errors += annotation_errors(metadata.get("annotations"), f"{path}.annotations")
    spec: Object = template.get("spec") or {}
    errors += pod_spec_errors(spec, f"{path}.spec")
    if spec.get("ephemeralContainers"):
        text = "ephemeral containers not allowed in pod template"
        errors.append(forbidden_field(f"{path}.spec.ephemeralContainers", text))
    return errors


# What may change.

_UPDATABLE = (
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations`"
    " (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it"
    " was previously negative)"
)


def _changed_paths(new: Any, old: Any, path: str) -> list[str]:
    """Paths of what differs, for the message."""
    if isinstance(new, dict) and isinstance(old, dict):
        found: list[str] = []
        for key in sorted(new.keys() | old.keys()):
            if new.get(key) != old.get(key):
                found += _changed_paths(new.get(key), old.get(key), f"{path}.{key}")
        return found
    if isinstance(new, list) and isinstance(old, list) and len(new) == len(old):
        found = []
        for index, (one, other) in enumerate(zip(new, old, strict=True)):
            if one != other:
                found += _changed_paths(one, other, f"{path}[{index}]")
        return found
    return [path]


def _tolerations_kept(new: list[Object], old: list[Object]) -> bool:
    def without_seconds(toleration: Object) -> Object:
        return {key: value for key, value in toleration.items() if key != "tolerationSeconds"}

    remaining = [without_seconds(toleration) for toleration in new]
    return all(without_seconds(toleration) in remaining for toleration in old)


def _pod_update_errors(new: Object, old: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for name in ("containers", "initContainers"):
        if len(new.get(name) or ()) != len(old.get(name) or ()):
            return [forbidden_field(f"spec.{name}", "pod updates may not add or remove containers")]
    deadline, previous = new.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds")
    if previous is not None and (deadline is None or deadline > previous):
        text = (
            "must not update from a positive integer to nil value"
            if deadline is None
            else "must be less than or equal to previous value"
        )
        errors.append(invalid_value("spec.activeDeadlineSeconds", deadline, text))
    if not _tolerations_kept(new.get("tolerations") or [], old.get("tolerations") or []):
        text = "existing toleration can not be modified except its tolerationSeconds"
        errors.append(forbidden_field("spec.tolerations", text))
    old_gates = [gate.get("name") for gate in old.get("schedulingGates") or ()]
    added = [gate for gate in new.get("schedulingGates") or () if gate.get("name") not in old_gates]
    if added:
        text = "only deletion is allowed, but found new scheduling gate"
        errors.append(forbidden_field("spec.schedulingGates", f"{text} '{added[0].get('name', '')}'"))
    allowed = {"activeDeadlineSeconds", "tolerations", "schedulingGates"}
    if old_gates:
        allowed |= {"nodeSelector", "affinity"}
    if old.get("terminationGracePeriodSeconds", 0) < 0 and new.get("terminationGracePeriodSeconds") == 1:
        allowed.add("terminationGracePeriodSeconds")
    changed = _changed_paths(_without_images(new, allowed), _without_images(old, allowed), "spec")
    if changed:
        text = f"pod updates may not change fields other than {_UPDATABLE}; changed: {', '.join(changed)}"
        errors.append(forbidden_field("spec", text))
    return errors


def _without_images(spec: Object, allowed: set[str]) -> Object:
    rest = {key: value for key, value in spec.items() if key not in allowed}
    for name in ("containers", "initContainers"):
        if name in rest:
            rest[name] = [{k: v for k, v in c.items() if k != "image"} for c in rest[name]]
    return rest


def _ephemeral_errors(new: Object, old: Object) -> list[FieldError]:
    """Containers for debugging can be added; those that are there stay as they are."""
    path = "spec.ephemeralContainers"
    taken = {c.get("name") for field in ("containers", "initContainers") for c in new.get(field) or ()}
    errors: list[FieldError] = []
    volumes = {volume.get("name", "") for volume in new.get("volumes") or ()}
    given: dict[str, Object] = {}
    for index, container in enumerate(new.get("ephemeralContainers") or ()):
        here = f"{path}[{index}]"
        name = container.get("name", "")
        errors += container_errors(container, here, volumes)
        if name in taken or name in given:
            errors.append(duplicate(f"{here}.name", name))
        given[name] = container
    for container in old.get("ephemeralContainers") or ():
        name = container.get("name", "")
        if name not in given:
            text = f'existing ephemeral containers "{name}" may not be removed\n'
            errors.append(forbidden_field(path, text))
        elif given[name] != container:
            text = f'existing ephemeral containers "{name}" may not be changed\n'
            errors.append(forbidden_field(path, text))
    return errors


def pod_errors(new: Object, old: Object | None, subresource: str) -> list[FieldError]:
    """A pod, or a change of one. Its status is its node's own business."""
    if subresource == "status":
        return []
    spec: Object = new["spec"]
    if old is not None and spec == old["spec"]:
        return []
    if old is not None and subresource == "ephemeralcontainers":
        return _ephemeral_errors(spec, old["spec"])
    errors = pod_spec_errors(spec, "spec")
    if old is None:
        if spec.get("ephemeralContainers"):
            text = "cannot be set on create"
            errors.append(forbidden_field("spec.ephemeralContainers", text))
    elif not subresource:
        errors += _pod_update_errors(spec, old["spec"])
    return errors


def pod_template_errors(new: Object, _old: Object | None, _subresource: str) -> list[FieldError]:
    return template_errors(new.get("template") or {}, "template")
