"""Rules of volumes, claims and storage classes."""

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
from kajitori.laptop.apiserver.validation.metadata import immutable, selector_errors
from kajitori.laptop.apiserver.validation.names import (
    dns_subdomain,
)

Object = dict[str, Any]

_ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")


def _access_errors(spec: Object, text: str, path: str = "spec") -> list[FieldError]:
    modes: list[str] = spec.get("accessModes") or []
    if not modes:
        return [required(f"{path}.accessModes", text)]
    errors = [
        unsupported_value(f"{path}.accessModes", mode, _ACCESS_MODES)
        for mode in modes
        if mode not in _ACCESS_MODES
    ]
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        text = "may not use ReadWriteOncePod with other access modes"
        errors.append(forbidden_field(f"{path}.accessModes", text))
    return errors


def _volume_mode_errors(spec: Object, path: str = "spec") -> list[FieldError]:
    mode = spec.get("volumeMode", "Filesystem")
    if mode in ("Block", "Filesystem"):
        return []
    return [unsupported_value(f"{path}.volumeMode", mode, ("Block", "Filesystem"))]


def _class_errors(spec: Object, path: str = "spec") -> list[FieldError]:
    name = spec.get("storageClassName")
    if not name:
        return []
    return [invalid_value(f"{path}.storageClassName", name, message) for message in dns_subdomain(name)]


def claim_spec_errors(spec: Object, path: str) -> list[FieldError]:
    """What a claim asks for, be it a claim of its own or a template of one."""
    errors = _access_errors(spec, "at least 1 access mode is required", path)
    errors += selector_errors(spec.get("selector"), f"{path}.selector")
    size = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    field = f"{path}.resources[storage]"
    if size is None:
        errors.append(required(field))
    elif amount(size) <= 0:
        errors.append(invalid_value(field, size, "must be greater than zero"))
    return errors + _class_errors(spec, path) + _volume_mode_errors(spec, path)


def claim_errors(new: Object, old: Object | None, subresource: str) -> list[FieldError]:
    if subresource == "status":
        return []
    spec: Object = new["spec"]
    errors = claim_spec_errors(spec, "spec")
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
    if set(capacity) != {"storage"}:
        errors.append(unsupported_value("spec.capacity", capacity or None, ("storage",)))
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
        errors += immutable(new, old, "", "parameters", "provisioner", "reclaimPolicy", "volumeBindingMode")
    return errors
