"""Rules of ConfigMaps, Secrets, namespaces, nodes, volumes, roles, leases, events and priority classes."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from kajitori.laptop.apiserver.status import (
    FieldError,
    duplicate,
    forbidden_field,
    invalid_value,
    required,
    too_long,
    unsupported_value,
)
from kajitori.laptop.apiserver.validation.containers import amount
from kajitori.laptop.apiserver.validation.metadata import immutable, selector_errors
from kajitori.laptop.apiserver.validation.names import (
    config_key,
    dns_subdomain,
    label_key,
    label_value,
    path_segment,
)

Object = dict[str, Any]

DATA_BYTES_LIMIT = 1 << 20
_KEPT = "field is immutable when `immutable` is set"
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_RBAC_GROUP = "rbac.authorization.k8s.io"


def _frozen_errors(new: Object, old: Object, *fields: str) -> list[FieldError]:
    """Data that was declared immutable."""
    if not old.get("immutable"):
        return []
    errors = [] if new.get("immutable") else [forbidden_field("immutable", _KEPT)]
    return errors + [forbidden_field(field, _KEPT) for field in fields if new.get(field) != old.get(field)]


def config_map_errors(new: Object, old: Object | None, _subresource: str) -> list[FieldError]:
    data, binary = new.get("data") or {}, new.get("binaryData") or {}
    errors: list[FieldError] = []
    size = 0
    for key, text in data.items():
        errors += [invalid_value(f"data[{key}]", key, message) for message in config_key(key)]
        if key in binary:
            errors.append(invalid_value(f"data[{key}]", key, "duplicate of key present in binaryData"))
        size += len(text.encode())
    for key, encoded in binary.items():
        errors += [invalid_value(f"binaryData[{key}]", key, message) for message in config_key(key)]
        size += len(encoded) * 3 // 4
    if size > DATA_BYTES_LIMIT:
        errors.append(too_long("", DATA_BYTES_LIMIT))
    if old is not None:
        errors += _frozen_errors(new, old, "data", "binaryData")
    return errors


# Keys that a secret of a type must have.
_SECRET_KEYS = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
_SECRET_JSON = ("kubernetes.io/dockercfg", "kubernetes.io/dockerconfigjson")


def secret_errors(new: Object, old: Object | None, _subresource: str) -> list[FieldError]:
    data: Object = new.get("data") or {}
    kind = new.get("type", "Opaque")
    errors: list[FieldError] = []
    for key in data:
        errors += [invalid_value(f"data[{key}]", key, message) for message in config_key(key)]
    if sum(len(encoded) * 3 // 4 for encoded in data.values()) > DATA_BYTES_LIMIT:
        errors.append(too_long("data", DATA_BYTES_LIMIT))
    for key in _SECRET_KEYS.get(kind, ()):
        if key not in data:
            errors.append(required(f"data[{key}]"))
        elif kind in _SECRET_JSON:
            try:
                msgspec.json.decode(base64.b64decode(data[key]), type=dict[str, Any])
            except msgspec.DecodeError as error:
                errors.append(invalid_value(f"data[{key}]", "<secret contents redacted>", str(error)))
    if kind == "kubernetes.io/basic-auth" and not {"username", "password"} & data.keys():
        errors += [required("data[username]"), required("data[password]")]
    account = "kubernetes.io/service-account.name"
    annotations: Object = new["metadata"].get("annotations") or {}
    if kind == "kubernetes.io/service-account-token" and not annotations.get(account):
        errors.append(required(f"metadata.annotations[{account}]"))
    if old is not None:
        errors += immutable(new, old, "", "type")
        errors += _frozen_errors(new, old, "data")
    return errors


def taint_errors(taints: list[Object], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(taints):
        here = f"{path}[{index}]"
        key, effect, value = taint.get("key", ""), taint.get("effect", ""), taint.get("value", "")
        errors += [invalid_value(f"{here}.key", key, message) for message in label_key(key)]
        messages = label_value(value)
        if messages:
            errors.append(invalid_value(f"{here}.value", value, ";".join(messages)))
        if not effect:
            errors.append(required(f"{here}.effect"))
        elif effect not in _EFFECTS:
            errors.append(unsupported_value(f"{here}.effect", effect, _EFFECTS))
        if (key, effect) in seen:
            errors.append(duplicate(here, taint))
        seen.add((key, effect))
    return errors


def node_errors(new: Object, old: Object | None, subresource: str) -> list[FieldError]:
    status: Object = new.get("status") or {}
    errors: list[FieldError] = []
    for field in ("capacity", "allocatable"):
        for name, quantity in (status.get(field) or {}).items():
            if amount(quantity) < 0:
                text = "must be greater than or equal to 0"
                errors.append(invalid_value(f"status.{field}[{name}]", quantity, text))
    addresses = [(a.get("type"), a.get("address")) for a in status.get("addresses") or ()]
    errors += [
        duplicate(f"status.addresses[{index}]", status["addresses"][index])
        for index, address in enumerate(addresses)
        if address in addresses[:index]
    ]
    if subresource == "status":
        return errors
    spec: Object = new.get("spec") or {}
    errors += taint_errors(spec.get("taints") or [], "spec.taints" if old is None else "metadata.taints")
    if old is not None:
        before: Object = old.get("spec") or {}
        for field in ("podCIDRs", "providerID"):
            if before.get(field) and spec.get(field) != before[field]:
                shown = "podCIDR" if field == "podCIDRs" else field
                text = f'node updates may not change {shown} except from "" to valid'
                errors.append(forbidden_field(f"spec.{field}", text))
    return errors


# Volumes.


def _access_errors(spec: Object, text: str) -> list[FieldError]:
    modes: list[str] = spec.get("accessModes") or []
    if not modes:
        return [required("spec.accessModes", text)]
    errors = [
        unsupported_value("spec.accessModes", mode, _ACCESS_MODES)
        for mode in modes
        if mode not in _ACCESS_MODES
    ]
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        text = "may not use ReadWriteOncePod with other access modes"
        errors.append(forbidden_field("spec.accessModes", text))
    return errors


def _volume_mode_errors(spec: Object) -> list[FieldError]:
    mode = spec.get("volumeMode", "Filesystem")
    if mode in ("Block", "Filesystem"):
        return []
    return [unsupported_value("spec.volumeMode", mode, ("Block", "Filesystem"))]


def _class_errors(spec: Object) -> list[FieldError]:
    name = spec.get("storageClassName")
    if not name:
        return []
    return [invalid_value("spec.storageClassName", name, message) for message in dns_subdomain(name)]


def claim_errors(new: Object, old: Object | None, subresource: str) -> list[FieldError]:
    if subresource == "status":
        return []
    spec: Object = new["spec"]
    errors = _access_errors(spec, "at least 1 access mode is required")
    errors += selector_errors(spec.get("selector"), "spec.selector")
    size = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    field = "spec.resources[storage]"
    if size is None:
        errors.append(required(field))
    elif amount(size) <= 0:
        errors.append(invalid_value(field, size, "must be greater than zero"))
    errors += _class_errors(spec)
    errors += _volume_mode_errors(spec)
    if old is not None:
        errors += _claim_update_errors(spec, old["spec"], old.get("status") or {})
    return errors


def _claim_update_errors(new: Object, old: Object, status: Object) -> list[FieldError]:
    free = {"volumeAttributesClassName"}
    if status.get("phase") == "Bound":
        free.add("resources")
    if not old.get("volumeName"):
        free.add("volumeName")  # binding fills it in
    if old.get("storageClassName") is None:
        free.add("storageClassName")
    changed = {key for key in new.keys() | old.keys() if new.get(key) != old.get(key)} - free
    errors: list[FieldError] = []
    if changed:
        text = (
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound"
            f" claims; changed: {', '.join(sorted(changed))}"
        )
        errors.append(forbidden_field("spec", text))
    before = ((old.get("resources") or {}).get("requests") or {}).get("storage", "0")
    after = ((new.get("resources") or {}).get("requests") or {}).get("storage", "0")
    if amount(after) < amount(before):
        text = "field can not be less than status.capacity"
        errors.append(forbidden_field("spec.resources.requests.storage", text))
    return errors


_VOLUME_SETTINGS = frozenset(
    {
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeAttributesClassName",
        "volumeMode",
    }
)


def volume_errors(new: Object, old: Object | None, subresource: str) -> list[FieldError]:
    if subresource == "status":
        return []
    spec: Object = new["spec"]
    errors = _access_errors(spec, "")
    capacity: Object = spec.get("capacity") or {}
    if not capacity:
        errors.append(required("spec.capacity"))
    elif set(capacity) != {"storage"}:
        errors.append(unsupported_value("spec.capacity", capacity, ("storage",)))
    elif amount(capacity["storage"]) <= 0:
        text = "must be greater than zero"
        errors.append(invalid_value("spec.capacity[storage]", capacity["storage"], text))
    policy = spec.get("persistentVolumeReclaimPolicy", "Retain")
    if policy not in ("Delete", "Recycle", "Retain"):
        supported = ("Delete", "Recycle", "Retain")
        errors.append(unsupported_value("spec.persistentVolumeReclaimPolicy", policy, supported))
    sources = [key for key in spec if key not in _VOLUME_SETTINGS]
    if not sources:
        errors.append(required("spec", "must specify a volume type"))
    text = "may not specify more than 1 volume type"
    errors += [forbidden_field(f"spec.{source}", text) for source in sources[1:]]
    if "local" in spec and not spec.get("nodeAffinity"):
        errors.append(required("spec.nodeAffinity", "Local volume requires node affinity"))
    errors += _class_errors(spec)
    errors += _volume_mode_errors(spec)
    if old is not None:
        before: Object = old["spec"]
        if any(spec.get(source) != before.get(source) for source in sources):
            text = "spec.persistentvolumesource is immutable after creation"
            errors.append(forbidden_field("spec.persistentvolumesource", text))
    return errors


def storage_class_errors(new: Object, old: Object | None, _subresource: str) -> list[FieldError]:
    errors = [] if new.get("provisioner") else [required("provisioner")]
    if new.get("reclaimPolicy") not in ("Delete", "Retain"):
        errors.append(unsupported_value("reclaimPolicy", new.get("reclaimPolicy"), ("Delete", "Retain")))
    mode = new.get("volumeBindingMode")
    if mode not in ("Immediate", "WaitForFirstConsumer"):
        supported = ("Immediate", "WaitForFirstConsumer")
        errors.append(unsupported_value("volumeBindingMode", mode, supported))
    if old is not None:
        text = "updates to {} are forbidden."
        errors += [
            forbidden_field(field, text.format(field))
            for field in ("parameters", "provisioner", "reclaimPolicy", "volumeBindingMode")
            if new.get(field) != old.get(field)
        ]
    return errors


# Access.


def role_errors(new: Object, _old: Object | None, _subresource: str) -> list[FieldError]:
    """Rules of a Role or a ClusterRole; only the latter may name URLs that are no resources."""
    errors: list[FieldError] = []
    for index, rule in enumerate(new.get("rules") or ()):
        here = f"rules[{index}]"
        if not rule.get("verbs"):
            errors.append(required(f"{here}.verbs", "verbs must contain at least one value"))
        urls = rule.get("nonResourceURLs")
        if urls:
            if new.get("kind") == "Role":
                text = "namespaced rules cannot apply to non-resource URLs"
                errors.append(invalid_value(f"{here}.nonResourceURLs", urls, text))
            if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
                text = "rules cannot apply to both regular resources and non-resource URLs"
                errors.append(invalid_value(f"{here}.nonResourceURLs", urls, text))
            continue
        if not rule.get("apiGroups"):
            text = "resource rules must supply at least one api group"
            errors.append(required(f"{here}.apiGroups", text))
        if not rule.get("resources"):
            text = "resource rules must supply at least one resource"
            errors.append(required(f"{here}.resources", text))
    return errors


def _subject_errors(subject: Object, path: str, *, namespaced: bool) -> list[FieldError]:
    kind, name, group = subject.get("kind"), subject.get("name"), subject.get("apiGroup", "")
    errors = [] if name else [required(f"{path}.name")]
    if kind == "ServiceAccount":
        if name:
            errors += [invalid_value(f"{path}.name", name, message) for message in dns_subdomain(name)]
        if group:
            errors.append(unsupported_value(f"{path}.apiGroup", group, ("",)))
        if not namespaced and not subject.get("namespace"):
            errors.append(required(f"{path}.namespace"))
    elif kind in ("User", "Group"):
        if group != _RBAC_GROUP:
            errors.append(unsupported_value(f"{path}.apiGroup", group, (_RBAC_GROUP,)))
    else:
        errors.append(unsupported_value(f"{path}.kind", kind, ("ServiceAccount", "User", "Group")))
    return errors


def binding_errors(new: Object, old: Object | None, _subresource: str) -> list[FieldError]:
    """A RoleBinding or a ClusterRoleBinding."""
    role: Object = new.get("roleRef") or {}
    namespaced = new.get("kind") == "RoleBinding"
    kinds = ("Role", "ClusterRole") if namespaced else ("ClusterRole",)
    errors: list[FieldError] = []
    if role.get("apiGroup") != _RBAC_GROUP:
        errors.append(unsupported_value("roleRef.apiGroup", role.get("apiGroup", ""), (_RBAC_GROUP,)))
    if role.get("kind") not in kinds:
        errors.append(unsupported_value("roleRef.kind", role.get("kind", ""), kinds))
    name = role.get("name")
    if not name:
        errors.append(required("roleRef.name"))
    else:
        errors += [invalid_value("roleRef.name", name, message) for message in path_segment(name)]
    for index, subject in enumerate(new.get("subjects") or ()):
        errors += _subject_errors(subject, f"subjects[{index}]", namespaced=namespaced)
    if old is not None and role != old.get("roleRef"):
        errors.append(invalid_value("roleRef", role, "cannot change roleRef"))
    return errors


# Coordination.


def lease_errors(new: Object, _old: Object | None, _subresource: str) -> list[FieldError]:
    spec: Object = new.get("spec") or {}
    errors: list[FieldError] = []
    seconds, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if seconds is not None and seconds <= 0:
        errors.append(invalid_value("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
    if transitions is not None and transitions < 0:
        text = "must be greater than or equal to 0"
        errors.append(invalid_value("spec.leaseTransitions", transitions, text))
    return errors


def _event_namespace_errors(namespace: str, involved: Object, field: str) -> list[FieldError]:
    expected = involved.get("namespace") or "default"
    if namespace == expected or (not involved.get("namespace") and namespace == "kube-system"):
        return []
    text = "does not match event.namespace"
    return [invalid_value(f"{field}.namespace", involved.get("namespace", ""), text)]


def core_event_errors(new: Object, _old: Object | None, _subresource: str) -> list[FieldError]:
    namespace = new["metadata"].get("namespace", "")
    return _event_namespace_errors(namespace, new.get("involvedObject") or {}, "involvedObject")


_EVENT_LIMITS = (("reportingInstance", 128), ("action", 128), ("reason", 128), ("note", 1024))
_EVENT_REQUIRED = ("reportingController", "reportingInstance", "action", "reason")


def event_errors(new: Object, old: Object | None, _subresource: str) -> list[FieldError]:
    """An event of the events.k8s.io group, which asks for more than the core one."""
    namespace = new["metadata"].get("namespace", "")
    errors = _event_namespace_errors(namespace, new.get("regarding") or {}, "involvedObject")
    if old is None and not new.get("eventTime"):
        errors.append(required("eventTime"))
    if new.get("type") not in ("Normal", "Warning"):
        errors.append(invalid_value("type", "", f"has invalid value: {new.get('type', '')}"))
    errors += [required(field) for field in _EVENT_REQUIRED if not new.get(field)]
    errors += [
        invalid_value("message" if field == "note" else field, "", f"can have at most {limit} characters")
        for field, limit in _EVENT_LIMITS
        if len(new.get(field, "")) > limit
    ]
    if old is None:
        unset = ("deprecatedFirstTimestamp", "deprecatedLastTimestamp", "deprecatedCount")
        errors += [
            invalid_value(field.removeprefix("deprecated"), "", "needs to be unset")
            for field in unset
            if new.get(field)
        ]
    series = new.get("series")
    if series is not None and series.get("count", 0) < 2:
        errors.append(invalid_value("series.count", "", "should be at least 2"))
    return errors


_SYSTEM_PREFIX = "system-"
_SYSTEM_CLASSES = {"system-node-critical": 2000001000, "system-cluster-critical": 2000000000}
_HIGHEST_USER_PRIORITY = 1_000_000_000


def priority_class_errors(new: Object, old: Object | None, _subresource: str) -> list[FieldError]:
    name, value = new["metadata"].get("name", ""), new.get("value", 0)
    errors: list[FieldError] = []
    if name.startswith(_SYSTEM_PREFIX):
        if _SYSTEM_CLASSES.get(name) != value:
            text = f"priority class names with '{_SYSTEM_PREFIX}' prefix are reserved for system use only"
            errors.append(forbidden_field("metadata.name", text))
    elif value > _HIGHEST_USER_PRIORITY:
        text = f"maximum allowed value of a user defined priority is {_HIGHEST_USER_PRIORITY}"
        errors.append(forbidden_field("value", text))
    policy = new.get("preemptionPolicy")
    if policy not in ("Never", "PreemptLowerPriority"):
        supported = ("Never", "PreemptLowerPriority")
        errors.append(unsupported_value("preemptionPolicy", policy, supported))
    if old is not None:
        if value != old.get("value", 0):
            errors.append(forbidden_field("value", "may not be changed in an update."))
        errors += immutable(new, old, "", "preemptionPolicy")
    return errors


def runtime_class_errors(new: Object, old: Object | None, _subresource: str) -> list[FieldError]:
    handler = new.get("handler")
    errors = [] if handler else [required("handler")]
    return errors + (immutable(new, old, "", "handler") if old is not None else [])


def revision_errors(new: Object, old: Object | None, _subresource: str) -> list[FieldError]:
    """ControllerRevisions: the revision counts up, the data stays."""
    text = "must be greater than or equal to 0"
    errors = [invalid_value("revision", new["revision"], text)] if new.get("revision", 0) < 0 else []
    return errors + (immutable(new, old, "", "data") if old is not None else [])


def quota_errors(new: Object, _old: Object | None, subresource: str) -> list[FieldError]:
    path = "status" if subresource == "status" else "spec"
    hard: Object = (new.get(path) or {}).get("hard") or {}
    text = "must be greater than or equal to 0"
    return [
        invalid_value(f"{path}.hard[{name}]", quantity, text)
        for name, quantity in hard.items()
        if amount(quantity) < 0
    ]


def limit_range_errors(new: Object, _old: Object | None, _subresource: str) -> list[FieldError]:
    errors: list[FieldError] = []
    kinds: set[str] = set()
    for index, item in enumerate((new.get("spec") or {}).get("limits") or ()):
        here = f"spec.limits[{index}]"
        kind = item.get("type", "")
        if kind in kinds:
            errors.append(duplicate(f"{here}.type", kind))
        kinds.add(kind)
        least, most = item.get("min") or {}, item.get("max") or {}
        for name in sorted(least.keys() & most.keys()):
            if amount(least[name]) > amount(most[name]):
                text = f"min value {least[name]} is greater than max value {most[name]}"
                errors.append(invalid_value(f"{here}.min[{name}]", least[name], text))
    return errors
