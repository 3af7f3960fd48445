"""Rules of the volumes of a pod."""

from __future__ import annotations

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
    field_reference_errors,
    local_path_errors,
)
from kajitori.laptop.apiserver.validation.names import (
    dns_label,
)

if TYPE_CHECKING:
    from collections.abc import Callable

Object = dict[str, Any]

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


def volume_errors(volumes: list[Object], path: str) -> tuple[set[str], list[FieldError]]:
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
