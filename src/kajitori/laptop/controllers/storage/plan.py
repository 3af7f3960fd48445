"""Which volume a claim gets, and what binding writes. Pure.

A volume that names the claim is taken before any other; of the others the smallest that is large enough, offers the
access modes, and is of the class. Source: Kubernetes' documentation of persistent volumes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from kajitori.base.quantity import parse_quantity
from kajitori.laptop.controllers.storage.views import (
    BIND_COMPLETED,
    BOUND_BY_CONTROLLER,
    PROVISIONED_BY,
    ClaimView,
    ClassView,
    Object,
    VolumeView,
)
from kajitori.laptop.controllers.views import PodView
from kajitori.model.selection import matches, node_term_holds


def is_meant_for(volume: VolumeView, claim: ClaimView) -> bool:
    """Whether the volume names this claim, be it by name only."""
    reference = volume.spec.claim_ref
    if reference is None:
        return False
    where = (reference.namespace, reference.name)
    return where == (claim.metadata.namespace, claim.metadata.name) and reference.uid in (
        "",
        claim.metadata.uid,
    )


def misfit(volume: VolumeView, claim: ClaimView) -> str:
    """Why the claim cannot have the volume that it names; empty if it can."""
    if parse_quantity(volume.size) < parse_quantity(claim.size):
        return "requested PV is too small"
    if volume.spec.storage_class_name != (claim.spec.storage_class_name or ""):
        return "storageClassName does not match"
    if volume.spec.volume_mode != claim.spec.volume_mode:
        return "incompatible volumeMode"
    if not set(claim.spec.access_modes) <= set(volume.spec.access_modes):
        return "incompatible accessMode"
    return ""


def find_volume(
    claim: ClaimView,
    volumes: Iterable[VolumeView],
    *,
    waits: bool,
    node_labels: Mapping[str, str] | None = None,
) -> VolumeView | None:
    """The volume that the claim shall have. waits: it is bound only once a pod with it has a node.

    node_labels: of that node; volumes that it does not reach are left out.
    """
    best: VolumeView | None = None
    for volume in volumes:
        if volume.spec.claim_ref is not None and not is_meant_for(volume, claim):
            continue
        if volume.metadata.deletion_timestamp is not None or misfit_of_size_or_mode(volume, claim):
            continue
        if is_meant_for(volume, claim):
            return volume
        if waits and node_labels is None:
            continue
        fits = volume.status.phase == "Available" and not misfit(volume, claim)
        if claim.spec.selector is not None:
            fits = fits and matches(claim.spec.selector, volume.metadata.labels)
        if not fits or not _reaches(volume, node_labels):
            continue
        if best is None or parse_quantity(volume.size) < parse_quantity(best.size):
            best = volume
    return best


def misfit_of_size_or_mode(volume: VolumeView, claim: ClaimView) -> bool:
    """What even a volume that names the claim must meet."""
    return (
        parse_quantity(volume.size) < parse_quantity(claim.size)
        or volume.spec.volume_mode != claim.spec.volume_mode
    )


def _reaches(volume: VolumeView, node_labels: Mapping[str, str] | None) -> bool:
    affinity = volume.spec.node_affinity
    if node_labels is None or affinity is None or affinity.required is None:
        return True
    terms = affinity.required.node_selector_terms
    return any(
        node_term_holds(term, node_labels, node_labels.get("kubernetes.io/hostname", "")) for term in terms
    )


def volume_binding(volume: VolumeView, claim: ClaimView) -> Object | None:
    """The merge patch that gives the volume to the claim; None if it has it."""
    reference = volume.spec.claim_ref
    if reference is not None and reference.uid == claim.metadata.uid:
        return None
    metadata: Object = {"resourceVersion": volume.metadata.resource_version}
    if reference is None:
        metadata["annotations"] = {BOUND_BY_CONTROLLER: "yes"}
    return {"metadata": metadata, "spec": {"claimRef": claim_reference(claim)}}


def claim_reference(claim: ClaimView) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": claim.metadata.namespace,
        "name": claim.metadata.name,
        "uid": claim.metadata.uid,
        "resourceVersion": claim.metadata.resource_version,
    }


def claim_binding(volume: VolumeView, claim: ClaimView) -> Object | None:
    """The merge patch that gives the claim its volume; None if it has it."""
    annotations: dict[str, str] = {}
    if claim.metadata.annotations.get(BIND_COMPLETED) != "yes":
        annotations[BIND_COMPLETED] = "yes"
    patch: Object = {"metadata": {"resourceVersion": claim.metadata.resource_version}}
    if claim.spec.volume_name != volume.metadata.name:
        annotations[BOUND_BY_CONTROLLER] = "yes"
        patch["spec"] = {"volumeName": volume.metadata.name}
    if not annotations:
        return None
    patch["metadata"]["annotations"] = annotations
    return patch


def bound_status(volume: VolumeView, claim: ClaimView) -> Object | None:
    """The claim's status once bound; None if it says so."""
    status = claim.status
    known = (status.phase, status.access_modes, status.capacity.get("storage"))
    if known == ("Bound", volume.spec.access_modes, volume.size):
        return None
    if status.phase == "Bound" and status.capacity:
        return None  # grown since; not ours to shrink
    return {"phase": "Bound", "accessModes": volume.spec.access_modes, "capacity": volume.spec.capacity}


def default_class(classes: Sequence[ClassView]) -> ClassView | None:
    """The newest of those that are marked as the default; of equal ones the first by name."""
    marked = [one for one in classes if one.is_default]
    marked.sort(key=lambda one: one.metadata.name)
    marked.sort(key=lambda one: one.metadata.creation_timestamp, reverse=True)
    return marked[0] if marked else None


def first_consumer(pods: Iterable[PodView]) -> PodView | None:
    """A pod with a node that has not ended."""
    return next((pod for pod in pods if pod.spec.node_name and not pod.has_ended), None)


def waiting_event(pods: Sequence[PodView]) -> tuple[str, str]:
    """Reason and message of a claim that waits for a pod."""
    names = [pod.metadata.name for pod in pods if not pod.has_ended]
    if len(names) == 1:
        return "WaitForPodScheduled", f"waiting for pod {names[0]} to be scheduled"
    if names:
        return "WaitForPodScheduled", f"waiting for pods {','.join(sorted(names))} to be scheduled"
    return "WaitForFirstConsumer", "waiting for first consumer to be created before binding"


def volume_name(claim: ClaimView) -> str:
    return f"pvc-{claim.metadata.uid}"


def new_volume(claim: ClaimView, storage_class: ClassView, path: str) -> Object:
    """The volume that is made for the claim, a folder of this machine."""
    spec: Object = {
        "accessModes": claim.spec.access_modes,
        "capacity": {"storage": claim.size},
        "claimRef": claim_reference(claim),
        "hostPath": {"path": path, "type": "DirectoryOrCreate"},
        "persistentVolumeReclaimPolicy": storage_class.reclaim_policy,
        "storageClassName": storage_class.metadata.name,
        "volumeMode": claim.spec.volume_mode,
    }
    if storage_class.mount_options:
        spec["mountOptions"] = storage_class.mount_options
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": volume_name(claim),
            "annotations": {PROVISIONED_BY: storage_class.provisioner},
        },
        "spec": spec,
    }
