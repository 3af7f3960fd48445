"""Who owns the claims of a StatefulSet's pods: what is deleted with the set, with a pod scaled away, or never. Pure.

Deletion is left to the garbage collector: a claim that shall go with the set is owned by the set, one that shall go
with a pod beyond the set's size is owned by that pod. Claims with owners that nobody expects are left alone.
Source: Kubernetes' documentation, "PersistentVolumeClaim retention".
"""

from __future__ import annotations

from collections.abc import Sequence

from kajitori.api.kubernetes.meta_v1 import OwnerReference
from kajitori.laptop.controllers.stateful_sets.identity import ordinal_of
from kajitori.laptop.controllers.stateful_sets.views import StatefulSetView
from kajitori.laptop.controllers.views import PodView, View

Owner = StatefulSetView | PodView


def is_stale(claim: View, kind: str, api_version: str, name: str, uid: str) -> bool:
    """Whether the claim is owned by an earlier object of the owner's name."""
    for reference in claim.metadata.owner_references:
        if (reference.kind, reference.api_version, reference.name) == (kind, api_version, name):
            return reference.uid != uid
    return False


def _is_stale_of(claim: View, owner: Owner) -> bool:
    return is_stale(claim, owner.kind, owner.api_version, owner.metadata.name, owner.metadata.uid)


def blocks_creation(stateful_set: StatefulSetView, claim: View, pod_name: str) -> bool:
    """Whether the claim is on its way out with an earlier pod of that name: the new one must wait for a new claim."""
    policy = stateful_set.spec.persistent_volume_claim_retention_policy
    return policy.when_scaled != "Retain" and is_stale(claim, "Pod", "v1", pod_name, "")


def has_foreign_controller(claim: View, stateful_set: StatefulSetView, pod: PodView) -> bool:
    """Whether somebody else manages the claim though the set has a policy for it."""
    policy = stateful_set.spec.persistent_volume_claim_retention_policy
    if policy.when_scaled == policy.when_deleted == "Retain":
        return False
    for reference in claim.metadata.owner_references:
        owner = next((one for one in (stateful_set, pod) if _names(reference, one)), None)
        if owner is None:
            if reference.controller:
                return True
        elif reference.uid != owner.metadata.uid:
            return True
    return False


def wanted_owners(claim: View, stateful_set: StatefulSetView, pod: PodView) -> list[OwnerReference] | None:
    """The claim's owners as the policy wants them; None where nothing is to be changed."""
    if _is_stale_of(claim, stateful_set) or _is_stale_of(claim, pod):
        return None
    owned = {reference.uid: reference for reference in claim.metadata.owner_references}
    by_set, by_pod = stateful_set.metadata.uid in owned, pod.metadata.uid in owned
    kept = [
        reference
        for reference in claim.metadata.owner_references
        if not _names(reference, stateful_set) and not _names(reference, pod)
    ]
    if has_foreign_controller(claim, stateful_set, pod):
        return kept if by_set or by_pod else None
    policy = stateful_set.spec.persistent_volume_claim_retention_policy
    to_pod = policy.when_scaled == "Delete" and not stateful_set.has_ordinal(ordinal_of(pod))
    to_set = policy.when_deleted == "Delete" and not to_pod
    half = any(uid in owned and not owned[uid].controller for uid in _uids(stateful_set, pod))
    if not half and (by_set, by_pod) == (to_set, to_pod):
        return None
    owners: Sequence[Owner] = [owner for owner, wanted in ((pod, to_pod), (stateful_set, to_set)) if wanted]
    return [*kept, *(_reference(owner) for owner in owners)]


def _uids(stateful_set: StatefulSetView, pod: PodView) -> tuple[str, str]:
    return stateful_set.metadata.uid, pod.metadata.uid


def _names(reference: OwnerReference, owner: Owner) -> bool:
    return (reference.kind, reference.api_version, reference.name) == (
        owner.kind,
        owner.api_version,
        owner.metadata.name,
    )


def _reference(owner: Owner) -> OwnerReference:
    return OwnerReference(
        api_version=owner.api_version,
        kind=owner.kind,
        name=owner.metadata.name,
        uid=owner.metadata.uid,
        controller=True,
        block_owner_deletion=True,
    )
