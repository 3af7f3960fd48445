"""Rules of ConfigMaps, Secrets, nodes, quotas, priority and runtime classes, and revisions."""

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
from kajitori.laptop.apiserver.validation.metadata import immutable
from kajitori.laptop.apiserver.validation.names import (
    config_key,
    label_key,
    label_value,
)

Object = dict[str, Any]

DATA_BYTES_LIMIT = 1 << 20
_KEPT = "field is immutable when `immutable` is set"
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


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
        errors.append(too_long("[]", DATA_BYTES_LIMIT))
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
    errors += taint_errors(spec.get("taints") or [], "metadata.taints")
    if old is not None:
        before: Object = old.get("spec") or {}
        for field in ("podCIDRs", "providerID"):
            if before.get(field) and spec.get(field) != before[field]:
                shown = "podCIDR" if field == "podCIDRs" else field
                text = f'node updates may not change {shown} except from "" to valid'
                errors.append(forbidden_field(f"spec.{field}", text))
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
        supported = ("PreemptLowerPriority", "Never")
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
