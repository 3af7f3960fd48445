"""Tables of volumes, claims, storage classes and drivers, and of devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.laptop.apiserver.tables.cells import (
    NONE,
    UNSET,
    age,
    is_default_class,
    name_of,
)
from kajitori.laptop.apiserver.tables.columns import Column, columns_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from kajitori.laptop.apiserver.tables.columns import Column

Object = dict[str, Any]

_MODES = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}
_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"


def _access_modes(modes: list[str] | None) -> str:
    given = set(modes or ())
    return ",".join(short for mode, short in _MODES.items() if mode in given)


def _class_of(obj: Object) -> str:
    annotations = obj["metadata"].get("annotations") or {}
    return annotations.get(_CLASS_ANNOTATION) or obj.get("spec", {}).get("storageClassName") or ""


def _phase(obj: Object) -> str:
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return obj.get("status", {}).get("phase", "")


def _claim(obj: Object, now_seconds: float) -> list[Any]:
    spec: Object = obj.get("spec", {})
    status: Object = obj.get("status", {})
    bound = bool(spec.get("volumeName"))
    return [
        name_of(obj),
        _phase(obj),
        spec.get("volumeName", ""),
        (status.get("capacity") or {}).get("storage", "0") if bound else "",
        _access_modes(status.get("accessModes")) if bound else "",
        _class_of(obj),
        spec.get("volumeAttributesClassName") or UNSET,
        age(obj, now_seconds),
        spec.get("volumeMode") or UNSET,
    ]


def _volume(obj: Object, now_seconds: float) -> list[Any]:
    spec: Object = obj.get("spec", {})
    claim: Object | None = spec.get("claimRef")
    return [
        name_of(obj),
        (spec.get("capacity") or {}).get("storage", "0"),
        _access_modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy", ""),
        _phase(obj),
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
        _class_of(obj),
        spec.get("volumeAttributesClassName") or UNSET,
        obj.get("status", {}).get("reason", ""),
        age(obj, now_seconds),
        spec.get("volumeMode") or UNSET,
    ]


def _storage_class(obj: Object, now_seconds: float) -> list[Any]:
    default = is_default_class(obj, "storageclass.kubernetes.io/is-default-class")
    return [
        f"{name_of(obj)} (default)" if default else name_of(obj),
        obj.get("provisioner", ""),
        obj.get("reclaimPolicy", "Delete"),
        obj.get("volumeBindingMode", "Immediate"),
        obj.get("allowVolumeExpansion", False),
        age(obj, now_seconds),
    ]


def _attributes_class(obj: Object, now_seconds: float) -> list[Any]:
    return [name_of(obj), obj.get("driverName", ""), age(obj, now_seconds)]


def _attachment(obj: Object, now_seconds: float) -> list[Any]:
    spec: Object = obj.get("spec", {})
    return [
        name_of(obj),
        spec.get("attacher", ""),
        (spec.get("source") or {}).get("persistentVolumeName", ""),
        spec.get("nodeName", ""),
        obj.get("status", {}).get("attached", False),
        age(obj, now_seconds),
    ]


def _csi_node(obj: Object, now_seconds: float) -> list[Any]:
    return [name_of(obj), len(obj.get("spec", {}).get("drivers") or ()), age(obj, now_seconds)]


def _csi_driver(obj: Object, now_seconds: float) -> list[Any]:
    spec: Object = obj.get("spec", {})
    requests: list[Object] | None = spec.get("tokenRequests")
    return [
        name_of(obj),
        spec.get("attachRequired", True),
        spec.get("podInfoOnMount", False),
        spec.get("storageCapacity", False),
        UNSET if requests is None else ",".join(request.get("audience", "") for request in requests),
        spec.get("requiresRepublish", False),
        ",".join(spec.get("volumeLifecycleModes") or ()) or NONE,
        age(obj, now_seconds),
    ]


def _capacity(obj: Object, _now_seconds: float) -> list[Any]:
    return [name_of(obj), obj["metadata"].get("creationTimestamp", "")]


def _resource_claim(obj: Object, now_seconds: float) -> list[Any]:
    status: Object = obj.get("status", {})
    deleted = bool(obj["metadata"].get("deletionTimestamp"))
    states = ["deleted"] if deleted else []
    if status.get("allocation") is not None:
        states.append("allocated")
        states += ["reserved"] if status.get("reservedFor") else []
    elif not deleted:
        states.append("pending")
    return [name_of(obj), ",".join(states), age(obj, now_seconds)]


def _resource_slice(obj: Object, now_seconds: float) -> list[Any]:
    spec: Object = obj.get("spec", {})
    return [
        name_of(obj),
        spec.get("nodeName", ""),
        spec.get("driver", ""),
        (spec.get("pool") or {}).get("name", ""),
        age(obj, now_seconds),
    ]


_STORAGE = "storage.k8s.io"
TABLES: dict[tuple[str, str], tuple[tuple[Column, ...], Callable[[Object, float], list[Any]]]] = {
    ("", "persistentvolumeclaims"): (
        columns_of(
            "Name, Status, Volume, Capacity, Access Modes, StorageClass, VolumeAttributesClass, Age, VolumeMode*"
        ),
        _claim,
    ),
    ("", "persistentvolumes"): (
        columns_of(
            "Name, Capacity, Access Modes, Reclaim Policy, Status, Claim, StorageClass, VolumeAttributesClass,"
            " Reason, Age, VolumeMode*"
        ),
        _volume,
    ),
    (_STORAGE, "storageclasses"): (
        columns_of("Name, Provisioner, ReclaimPolicy, VolumeBindingMode, AllowVolumeExpansion, Age"),
        _storage_class,
    ),
    (_STORAGE, "volumeattributesclasses"): (columns_of("Name, DriverName, Age"), _attributes_class),
    (_STORAGE, "volumeattachments"): (
        (
            *columns_of("Name"),
            Column("Attacher", "string", format="name"),
            *columns_of("PV, Node, Attached:boolean, Age"),
        ),
        _attachment,
    ),
    (_STORAGE, "csinodes"): (columns_of("Name, Drivers:integer, Age"), _csi_node),
    (_STORAGE, "csidrivers"): (
        columns_of(
            "Name, AttachRequired:boolean, PodInfoOnMount:boolean, StorageCapacity:boolean, TokenRequests,"
            " RequiresRepublish:boolean, Modes, Age"
        ),
        _csi_driver,
    ),
    (_STORAGE, "csistoragecapacities"): (columns_of("Name, Created At:date"), _capacity),
    ("resource.k8s.io", "resourceclaims"): (columns_of("Name, State, Age"), _resource_claim),
    ("resource.k8s.io", "resourceslices"): (columns_of("Name, Node, Driver, Pool, Age"), _resource_slice),
}
