"""What a write to a subresource of an object may change; all else stays as it is stored.

`finalize` of namespaces: the finalizers of the spec. `ephemeralcontainers` and `resize` of pods: those containers,
and the resources of the others. `approval` of certificate requests: the conditions. (`status` is the same for all
kinds: see `Kind.keep_all_but_status`.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

Object = dict[str, Any]

_RESIZED = ("resources", "resizePolicy")


def _finalize(new: Object, old: Object) -> None:
    finalizers = (new.get("spec") or {}).get("finalizers")
    spec = {key: value for key, value in (old.get("spec") or {}).items() if key != "finalizers"}
    if finalizers:
        spec["finalizers"] = finalizers
    new["spec"] = spec
    _keep_status(new, old)


def _ephemeral_containers(new: Object, old: Object) -> None:
    containers = (new.get("spec") or {}).get("ephemeralContainers")
    new["spec"] = {key: value for key, value in old["spec"].items() if key != "ephemeralContainers"}
    if containers:
        new["spec"]["ephemeralContainers"] = containers
    _keep_status(new, old)


def _resize(new: Object, old: Object) -> None:
    wanted: Object = new.get("spec") or {}
    spec: Object = dict(old["spec"])
    for field in ("containers", "initContainers"):
        by_name = {container.get("name"): container for container in wanted.get(field) or ()}
        if field in spec:
            spec[field] = [_resized(container, by_name.get(container["name"])) for container in spec[field]]
    if "resources" in wanted:
        spec["resources"] = wanted["resources"]
    new["spec"] = spec
    _keep_status(new, old)


def _resized(container: Object, wanted: Object | None) -> Object:
    given = {key: wanted[key] for key in _RESIZED if key in wanted} if wanted else {}
    return {**container, **given}


def _approval(new: Object, old: Object) -> None:
    conditions = (new.get("status") or {}).get("conditions")
    new["spec"] = old.get("spec") or {}
    new["status"] = dict(old.get("status") or {})
    if conditions:
        new["status"]["conditions"] = conditions


def _keep_status(new: Object, old: Object) -> None:
    if "status" in old:
        new["status"] = old["status"]
    else:
        new.pop("status", None)


NARROWED: dict[str, Callable[[Object, Object], None]] = {
    "finalize": _finalize,
    "ephemeralcontainers": _ephemeral_containers,
    "resize": _resize,
    "approval": _approval,
}
