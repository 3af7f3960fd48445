"""Rules of pods and pod templates, and of what may change in a pod that exists."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from kajitori.laptop.apiserver.status import (
    FieldError,
    duplicate,
    forbidden_field,
    invalid_value,
    required,
    unsupported_value,
)
from kajitori.laptop.apiserver.validation.containers import (
    containers_errors,
    field_reference_errors,
    local_path_errors,
)
from kajitori.laptop.apiserver.validation.metadata import (
    annotation_errors,
    label_errors,
    selector_errors,
)
from kajitori.laptop.apiserver.validation.names import (
    dns_label,
    dns_subdomain,
    label_key,
    label_value,
)

if TYPE_CHECKING:
    from collections.abc import Callable

Object = dict[str, Any]

_RESTART_POLICIES = ("Always", "OnFailure", "Never")
_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_HOST_PATH_TYPES = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)
_DOWNWARD_FIELDS = (
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
)
_INT32 = 2**31 - 1


# Volumes.


def _items_errors(items: list[Object], path: str) -> list[FieldError]:
    """Files of a ConfigMap or Secret volume."""
    errors: list[FieldError] = []
    for index, item in enumerate(items):
        if not item.get("key"):
            errors.append(required(f"{path}[{index}].key"))
        if not item.get("path"):
            errors.append(required(f"{path}[{index}].path"))
        else:
            errors += local_path_errors(item["path"], f"{path}[{index}].path")
    return errors


def _mode_errors(source: Object, path: str) -> list[FieldError]:
    mode = source.get("defaultMode")
    if mode is not None and not 0 <= mode <= 0o777:
        text = "must be a number between 0 and 0777 (octal), both inclusive"
        return [invalid_value(f"{path}.defaultMode", mode, text)]
    return []


def _secret_errors(source: Object, path: str) -> list[FieldError]:
    errors = [] if source.get("secretName") else [required(f"{path}.secretName")]
    return errors + _mode_errors(source, path) + _items_errors(source.get("items") or [], f"{path}.items")


def _config_map_errors(source: Object, path: str) -> list[FieldError]:
    errors = [] if source.get("name") else [required(f"{path}.name")]
    return errors + _mode_errors(source, path) + _items_errors(source.get("items") or [], f"{path}.items")


def _downward_errors(source: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, item in enumerate(source.get("items") or ()):
        here = f"{path}[{index}]"
        if not item.get("path"):
            errors.append(required(f"{path}.path"))
        else:
            errors += local_path_errors(item["path"], f"{path}.path")
        if "fieldRef" in item and "resourceFieldRef" in item:
            text = "fieldRef and resourceFieldRef can not be specified simultaneously"
            errors.append(invalid_value(here, item, text))
        elif "fieldRef" in item:
            errors += field_reference_errors(item["fieldRef"], f"{path}.fieldRef", _DOWNWARD_FIELDS)
        elif "resourceFieldRef" not in item:
            errors.append(required(path, "one of fieldRef and resourceFieldRef is required"))
    return errors


def _host_path_errors(source: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    folder = source.get("path", "")
    if not folder:
        errors.append(required(f"{path}.path"))
    elif ".." in folder.split("/"):
        errors.append(invalid_value(f"{path}.path", folder, "must not contain '..'"))
    if source.get("type", "") not in _HOST_PATH_TYPES:
        errors.append(unsupported_value(f"{path}.type", source["type"], _HOST_PATH_TYPES))
    return errors


def _claim_errors(source: Object, path: str) -> list[FieldError]:
    return [] if source.get("claimName") else [required(f"{path}.claimName")]


_PROJECTIONS = (
    "secret",
    "configMap",
    "downwardAPI",
    "serviceAccountToken",
    "clusterTrustBundle",
    "podCertificate",
)


def _projected_errors(source: Object, path: str) -> list[FieldError]:
    errors = _mode_errors(source, path)
    for index, part in enumerate(source.get("sources") or ()):
        here = f"{path}.sources[{index}]"
        given = [name for name in _PROJECTIONS if name in part]
        errors += [
            forbidden_field(f"{here}.{name}", "may not specify more than 1 volume type") for name in given[1:]
        ]
        for name in given[:1]:
            if name in ("secret", "configMap"):
                if not part[name].get("name"):
                    errors.append(required(f"{here}.{name}.name"))
                errors += _items_errors(part[name].get("items") or [], f"{here}.{name}.items")
            elif name == "downwardAPI":
                errors += _downward_errors(part[name], f"{here}.downwardAPI")
            elif name == "serviceAccountToken":
                seconds = part[name].get("expirationSeconds", 3600)
                if seconds < 600:
                    text = "may not specify a duration less than 10 minutes"
                    errors.append(invalid_value(f"{here}.{name}.expirationSeconds", seconds, text))
                if not part[name].get("path"):
                    errors.append(required(f"{here}.{name}.path"))
    return errors


_VOLUMES: dict[str, Callable[[Object, str], list[FieldError]]] = {
    "secret": _secret_errors,
    "configMap": _config_map_errors,
    "downwardAPI": _downward_errors,
    "hostPath": _host_path_errors,
    "persistentVolumeClaim": _claim_errors,
    "projected": _projected_errors,
}


def _volume_errors(volumes: list[Object], path: str) -> tuple[set[str], list[FieldError]]:
    """(names of the good ones, errors)."""
    errors: list[FieldError] = []
    names: set[str] = set()
    for index, volume in enumerate(volumes):
        here = f"{path}[{index}]"
        found: list[FieldError] = []
        sources = [key for key in volume if key != "name"]
        if not sources:
            found.append(required(here, "must specify a volume type"))
        text = "may not specify more than 1 volume type"
        found += [forbidden_field(f"{here}.{source}", text) for source in sources[1:]]
        for source in sources[:1]:
            check = _VOLUMES.get(source)
            if check is not None:
                found += check(volume[source], f"{here}.{source}")
        name = volume.get("name")
        if not name:
            found.append(required(f"{here}.name"))
        else:
            found += [invalid_value(f"{here}.name", name, message) for message in dns_label(name)]
            if name in names:
                found.append(duplicate(f"{here}.name", name))
        if not found and name:
            names.add(name)
        errors += found
    return names, errors


# Placement.


def toleration_errors(tolerations: list[Object], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, toleration in enumerate(tolerations):
        here = f"{path}[{index}]"
        key, operator = toleration.get("key", ""), toleration.get("operator", "")
        effect, value = toleration.get("effect", ""), toleration.get("value", "")
        if key:
            errors += [invalid_value(f"{here}.key", key, message) for message in label_key(key)]
        elif operator != "Exists":
            text = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            errors.append(invalid_value(f"{here}.operator", operator, text))
        if "tolerationSeconds" in toleration and effect != "NoExecute":
            text = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            errors.append(invalid_value(f"{here}.effect", effect, text))
        if operator in ("Equal", ""):
            messages = label_value(value)
            if messages:
                errors.append(invalid_value(f"{here}.operator", value, ";".join(messages)))
        elif operator == "Exists":
            if value:
                text = "value must be empty when `operator` is 'Exists'"
                errors.append(invalid_value(f"{here}.operator", value, text))
        else:
            errors.append(unsupported_value(f"{here}.operator", operator, ("Equal", "Exists")))
        if effect and effect not in _EFFECTS:
            errors.append(unsupported_value(f"{here}.effect", effect, _EFFECTS))
    return errors


_NODE_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")


def node_selector_term_errors(term: Object, path: str) -> list[FieldError]:
    """One term of a node selector, as affinities and volumes have them."""
    errors: list[FieldError] = []
    for index, expression in enumerate(term.get("matchExpressions") or ()):
        here = f"{path}.matchExpressions[{index}]"
        operator, values = expression.get("operator", ""), expression.get("values") or []
        if operator in ("In", "NotIn") and not values:
            text = "must be specified when `operator` is 'In' or 'NotIn'"
            errors.append(required(f"{here}.values", text))
        elif operator in ("Exists", "DoesNotExist") and values:
            text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            errors.append(forbidden_field(f"{here}.values", text))
        elif operator in ("Gt", "Lt") and len(values) != 1:
            text = "must be specified single value when `operator` is 'Lt' or 'Gt'"
            errors.append(required(f"{here}.values", text))
        elif operator not in _NODE_OPERATORS:
            errors.append(invalid_value(f"{here}.operator", operator, "not a valid selector operator"))
        key = expression.get("key", "")
        errors += [invalid_value(f"{here}.key", key, message) for message in label_key(key)]
    return errors


def _pod_term_errors(term: Object, path: str) -> list[FieldError]:
    errors = selector_errors(term.get("labelSelector"), f"{path}.labelSelector")
    errors += selector_errors(term.get("namespaceSelector"), f"{path}.namespaceSelector")
    key = term.get("topologyKey", "")
    if not key:
        errors.append(required(f"{path}.topologyKey", "can not be empty"))
    else:
        errors += [invalid_value(f"{path}.topologyKey", key, message) for message in label_key(key)]
    return errors


def _weight_errors(weight: int, path: str) -> list[FieldError]:
    if 1 <= weight <= 100:
        return []
    return [invalid_value(f"{path}.weight", weight, "must be in the range 1-100")]


_HARD, _SOFT = (
    "requiredDuringSchedulingIgnoredDuringExecution",
    "preferredDuringSchedulingIgnoredDuringExecution",
)


def _affinity_errors(affinity: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    node: Object = affinity.get("nodeAffinity") or {}
    if _HARD in node:
        terms: list[Object] = node[_HARD].get("nodeSelectorTerms") or []
        here = f"{path}.nodeAffinity.{_HARD}.nodeSelectorTerms"
        if not terms:
            errors.append(required(here, "must have at least one node selector term"))
        for index, term in enumerate(terms):
            errors += node_selector_term_errors(term, f"{here}[{index}]")
    for index, weighted in enumerate(node.get(_SOFT) or ()):
        here = f"{path}.nodeAffinity.{_SOFT}[{index}]"
        errors += _weight_errors(weighted.get("weight", 0), here)
        errors += node_selector_term_errors(weighted.get("preference") or {}, f"{here}.preference")
    for name in ("podAffinity", "podAntiAffinity"):
        rules: Object = affinity.get(name) or {}
        for index, term in enumerate(rules.get(_HARD) or ()):
            errors += _pod_term_errors(term, f"{path}.{name}.{_HARD}[{index}]")
        for index, weighted in enumerate(rules.get(_SOFT) or ()):
            here = f"{path}.{name}.{_SOFT}[{index}]"
            errors += _weight_errors(weighted.get("weight", 0), here)
            errors += _pod_term_errors(weighted.get("podAffinityTerm") or {}, f"{here}.podAffinityTerm")
    return errors


def _spread_errors(constraints: list[Object], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[tuple[str, str]] = set()
    for index, constraint in enumerate(constraints):
        here = f"{path}[{index}]"
        if constraint.get("maxSkew", 0) <= 0:
            text = "must be greater than zero"
            errors.append(invalid_value(f"{here}.maxSkew", constraint.get("maxSkew", 0), text))
        key, when = constraint.get("topologyKey", ""), constraint.get("whenUnsatisfiable", "")
        if not key:
            errors.append(required(f"{here}.topologyKey", "can not be empty"))
        if when not in ("DoNotSchedule", "ScheduleAnyway"):
            supported = ("DoNotSchedule", "ScheduleAnyway")
            errors.append(unsupported_value(f"{here}.whenUnsatisfiable", when, supported))
        if (key, when) in seen:
            errors.append(duplicate(f"{here}.{{topologyKey, whenUnsatisfiable}}", f"{{{key}, {when}}}"))
        seen.add((key, when))
        errors += selector_errors(constraint.get("labelSelector"), f"{here}.labelSelector")
    return errors


def _host_alias_errors(aliases: list[Object], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, alias in enumerate(aliases):
        address = alias.get("ip", "")
        try:
            ipaddress.ip_address(address)
        except ValueError:
            text = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
            errors.append(invalid_value(f"{path}[{index}].ip", address, text))
        for place, name in enumerate(alias.get("hostnames") or ()):
            errors += [
                invalid_value(f"{path}[{index}].hostnames[{place}]", name, text)
                for text in dns_subdomain(name)
            ]
    return errors


# The spec as a whole.


def _choice_errors(spec: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for field, supported in (("restartPolicy", _RESTART_POLICIES), ("dnsPolicy", _DNS_POLICIES)):
        value = spec.get(field)
        if not value:
            errors.append(required(f"{path}.{field}"))
        elif value not in supported:
            errors.append(unsupported_value(f"{path}.{field}", value, supported))
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
    volumes, errors = _volume_errors(spec.get("volumes") or [], f"{path}.volumes")
    errors += containers_errors(spec, path, volumes)
    errors += _choice_errors(spec, path)
    for field, form in _NAMES:
        name = spec.get(field)
        if name:
            errors += [invalid_value(f"{path}.{field}", name, message) for message in form(name)]
    if "nodeSelector" in spec:
        errors += label_errors(spec["nodeSelector"], f"{path}.nodeSelector")
    if "affinity" in spec:
        errors += _affinity_errors(spec["affinity"], f"{path}.affinity")
    if "tolerations" in spec:
        errors += toleration_errors(spec["tolerations"], f"{path}.tolerations")
    if "topologySpreadConstraints" in spec:
        field = f"{path}.topologySpreadConstraints"
        errors += _spread_errors(spec["topologySpreadConstraints"], field)
    if "hostAliases" in spec:
        errors += _host_alias_errors(spec["hostAliases"], f"{path}.hostAliases")
    for index, gate in enumerate(spec.get("readinessGates") or ()):
        kind = gate.get("conditionType", "")
        field = f"{path}.readinessGates[{index}].conditionType"
        errors += [invalid_value(field, kind, message) for message in label_key(kind)]
    for index, gate in enumerate(spec.get("schedulingGates") or ()):
        name = gate.get("name", "")
        errors += [
            invalid_value(f"{path}.schedulingGates[{index}]", name, message) for message in label_key(name)
        ]
    return errors


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


def pod_errors(new: Object, old: Object | None, subresource: str) -> list[FieldError]:
    """A pod, or a change of one. Status and the subresources with rules of their own are left alone."""
    if subresource == "status":
        return []
    spec: Object = new["spec"]
    if old is not None and spec == old["spec"]:
        return []
    errors = pod_spec_errors(spec, "spec")
    if old is not None and not subresource:
        errors += _pod_update_errors(spec, old["spec"])
    return errors


def pod_template_errors(new: Object, _old: Object | None, _subresource: str) -> list[FieldError]:
    return template_errors(new.get("template") or {}, "template")
