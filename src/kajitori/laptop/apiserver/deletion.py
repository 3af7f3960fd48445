"""What a DELETE means for an object: gone at once, or marked and kept until finalizers or a node let it go.

Pure: from the stored object and the options to the decision. Source: generic registry behaviour of kube-apiserver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.base.clock import parse_rfc3339, rfc3339
from kajitori.laptop.apiserver import status
from kajitori.laptop.apiserver.status import FieldError
from kajitori.laptop.apiserver.store import Deleted

if TYPE_CHECKING:
    from kajitori.laptop.apiserver.kinds.kind import Kind

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"
DEFINITION_CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
DEFAULT_GRACE_SECONDS = 30
_POLICIES = ("Foreground", "Background", "Orphan")
IMMORTAL_NAMESPACES = frozenset({"default", "kube-system", "kube-public"})


class Preconditions(msgspec.Struct, rename="camel"):
    """What the stored object must be for a DELETE to happen."""

    uid: str | None = None
    resource_version: str | None = None


class DeleteOptions(msgspec.Struct, rename="camel"):
    """Body of a DELETE; query parameters fill in what the body leaves open."""

    grace_period_seconds: int | None = None
    preconditions: Preconditions | None = None
    orphan_dependents: bool | None = None
    propagation_policy: str | None = None
    dry_run: list[str] | None = None

    def shown(self) -> dict[str, Any]:
        """As webhooks are told of it."""
        given = {key: value for key, value in msgspec.to_builtins(self).items() if value is not None}
        return {"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1", **given}

    def check(self) -> None:
        """Raises StatusError 422 for words that are no policy, and for two that say different things."""
        errors: list[FieldError] = []
        if self.propagation_policy is not None and self.orphan_dependents is not None:
            errors.append(
                status.invalid_value(
                    "propagationPolicy",
                    self.propagation_policy,
                    "orphanDependents and deletionPropagation cannot be both set",
                )
            )
        if self.propagation_policy is not None and self.propagation_policy not in _POLICIES:
            errors.append(
                status.unsupported_value("propagationPolicy", self.propagation_policy, (*_POLICIES, "nil"))
            )
        if errors:
            raise status.invalid("DeleteOptions", "meta.k8s.io", "", errors)


def check_preconditions(kind: Kind, obj: dict[str, Any], wanted: Preconditions | None) -> None:
    """Raises StatusError 409 if the stored object is not the one that was meant."""
    if wanted is None:
        return
    metadata = obj["metadata"]
    if wanted.uid is not None and wanted.uid != metadata.get("uid"):
        raise _precondition_failed(
            kind,
            metadata["name"],
            f"the UID in the precondition ({wanted.uid}) does not match the UID in record "
            f"({metadata.get('uid', '')}). The object might have been deleted and then recreated",
        )
    if wanted.resource_version is not None and wanted.resource_version != metadata.get("resourceVersion"):
        raise _precondition_failed(
            kind,
            metadata["name"],
            f"the ResourceVersion in the precondition ({wanted.resource_version}) does not match the "
            f"ResourceVersion in record ({metadata.get('resourceVersion', '')}). "
            "The object might have been modified",
        )


def _precondition_failed(kind: Kind, name: str, text: str) -> status.StatusError:
    """409 that names the kind, where other conflicts name the resource."""
    resource = kind.resource
    qualified = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    details = {"name": name, **({"group": resource.group} if resource.group else {}), "kind": resource.kind}
    message = f'Operation cannot be fulfilled on {qualified} "{name}": {text}'
    return status.failure(409, "Conflict", message, details)


def _finalizers_after(obj: dict[str, Any], options: DeleteOptions, default_policy: str) -> list[str]:
    """The object's finalizers with those that the propagation policy adds or takes away."""
    policy = options.propagation_policy
    if policy is None and options.orphan_dependents is not None:
        policy = "Orphan" if options.orphan_dependents else "Background"
    finalizers: list[str] = list(obj["metadata"].get("finalizers") or ())
    if policy is None:
        if default_policy != "Orphan" or {ORPHAN, FOREGROUND} & set(finalizers):
            return finalizers
        policy = "Orphan"
    kept = [f for f in finalizers if f not in (ORPHAN, FOREGROUND)]
    if policy == "Orphan":
        kept.append(ORPHAN)
    elif policy == "Foreground":
        kept.append(FOREGROUND)
    return kept


def _grace_seconds(kind: Kind, obj: dict[str, Any], options: DeleteOptions) -> int:
    """How long a pod may take; 0 for everything else, for pods on no node and for pods that ended."""
    if kind.storage.qualified_name != "pods":
        return 0
    spec: dict[str, Any] = obj.get("spec") or {}
    if not spec.get("nodeName") or obj.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    if options.grace_period_seconds is not None:
        # A negative one means as soon as the node can, which is not at once.
        return options.grace_period_seconds if options.grace_period_seconds >= 0 else 1
    seconds = spec.get("terminationGracePeriodSeconds")
    return DEFAULT_GRACE_SECONDS if seconds is None else seconds


def decide_deletion(
    kind: Kind, obj: dict[str, Any], options: DeleteOptions, now: float
) -> dict[str, Any] | Deleted | None:
    """What becomes of a stored object (the caller's own copy): Deleted, the marked object, or None: no change."""
    check_preconditions(kind, obj, options.preconditions)
    metadata: dict[str, Any] = obj["metadata"]
    resource = kind.storage.qualified_name
    if resource == "namespaces" and metadata["name"] in IMMORTAL_NAMESPACES:
        raise status.forbidden(kind.resource, metadata["name"], "this namespace may not be deleted")
    grace = _grace_seconds(kind, obj, options)
    finalizers = _finalizers_after(obj, options, "Orphan" if resource == "jobs.batch" else "Background")
    if resource == "customresourcedefinitions.apiextensions.k8s.io" and DEFINITION_CLEANUP not in finalizers:
        finalizers.append(DEFINITION_CLEANUP)
    if "deletionTimestamp" in metadata:
        return _again(obj, finalizers, grace, now)
    held = bool(finalizers) or (resource == "namespaces" and bool(obj.get("spec", {}).get("finalizers")))
    if not held and grace == 0:
        return Deleted(obj)
    _set_finalizers(metadata, finalizers)
    metadata["deletionTimestamp"] = rfc3339(now + grace)
    metadata["deletionGracePeriodSeconds"] = grace
    if kind.has_generation and "generation" in metadata:
        metadata["generation"] += 1
    if resource == "namespaces":
        obj.setdefault("status", {})["phase"] = "Terminating"
    return obj


def _again(
    obj: dict[str, Any], finalizers: list[str], grace: int, now: float
) -> dict[str, Any] | Deleted | None:
    """A further DELETE only shortens the time or changes what the policy asks."""
    metadata: dict[str, Any] = obj["metadata"]
    before: int = metadata.get("deletionGracePeriodSeconds", 0)
    changed = False
    if set(finalizers) != set(metadata.get("finalizers") or ()) and not (
        ORPHAN in (metadata.get("finalizers") or ()) or FOREGROUND in (metadata.get("finalizers") or ())
    ):
        _set_finalizers(metadata, finalizers)
        changed = True
    if grace < before:
        started = parse_rfc3339(metadata["deletionTimestamp"]) - before
        metadata["deletionTimestamp"] = rfc3339(max(started + grace, now if grace == 0 else 0))
        metadata["deletionGracePeriodSeconds"] = grace
        changed = True
    if is_released(obj):
        return Deleted(obj)
    return obj if changed else None


def _set_finalizers(metadata: dict[str, Any], finalizers: list[str]) -> None:
    if finalizers:
        metadata["finalizers"] = finalizers
    else:
        metadata.pop("finalizers", None)


def is_released(obj: dict[str, Any]) -> bool:
    """Whether nothing holds an object any more that is marked for deletion."""
    metadata: dict[str, Any] = obj["metadata"]
    if "deletionTimestamp" not in metadata or metadata.get("finalizers"):
        return False
    if metadata.get("deletionGracePeriodSeconds"):
        return False
    return not (obj.get("kind") == "Namespace" and obj.get("spec", {}).get("finalizers"))


def check_finalizers(kind: Kind, new: dict[str, Any], old: dict[str, Any]) -> None:
    """While an object is being deleted its finalizers may only shrink. Raises StatusError 422."""
    if "deletionTimestamp" not in old["metadata"]:
        return
    before = set(old["metadata"].get("finalizers") or ())
    added = [f for f in new["metadata"].get("finalizers") or () if f not in before]
    if added:
        listed = ", ".join(f'"{finalizer}"' for finalizer in added)
        raise status.invalid(
            kind.resource.kind,
            kind.resource.group,
            new["metadata"]["name"],
            [
                status.forbidden_field(
                    "metadata.finalizers",
                    "no new finalizers can be added if the object is being deleted, "
                    f"found new finalizers []string{{{listed}}}",
                )
            ],
        )
