"""Volume claims of a set: one for each template and pod, kept or deleted as the set says.

A claim outlives its pods, so that a group that comes back finds its data. It is made before its pod, as the template has
it; one of the same name that is there already is used as it is. `persistentVolumeClaimRetentionPolicy` decides
what goes with the set (then the set owns the claims) and with a group that is scaled away; both are kept by default.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from kajitori.api.leaderworkerset import v1
from kajitori.groups.leader_worker_sets.actions import Action, DeleteClaim, OwnClaim
from kajitori.groups.leader_worker_sets.observed import World, label_index


def claim_name(template: dict[str, Any], pod: str) -> str:
    return f"{(template.get('metadata') or {}).get('name', '')}-{pod}"


def claim_bodies(
    lws: v1.LeaderWorkerSet,
    templates: list[dict[str, Any]],
    group: int,
    pod: str,
    owner: dict[str, Any],
) -> list[dict[str, Any]]:
    """The claims of one pod. templates: of the group's own revision."""
    owners = [owner] if _goes_with_set(lws) else []
    bodies: list[dict[str, Any]] = []
    for template in templates:
        metadata: dict[str, Any] = template.get("metadata") or {}
        labels = {
            **(metadata.get("labels") or {}),
            v1.SET_NAME_LABEL: lws.metadata.name,
            v1.GROUP_INDEX_LABEL: str(group),
        }
        bodies.append(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {
                    "name": claim_name(template, pod),
                    "namespace": lws.metadata.namespace,
                    "labels": labels,
                    "annotations": metadata.get("annotations") or {},
                    "ownerReferences": owners,
                },
                "spec": template.get("spec") or {},
            }
        )
    return bodies


def claim_volumes(
    templates: list[dict[str, Any]], pod: str, own: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The pod's volumes: a claim takes the place of a volume of its name. own: the pod template's."""
    claimed = {
        (template.get("metadata") or {}).get("name"): claim_name(template, pod) for template in templates
    }
    return [
        *(volume for volume in own if volume.get("name") not in claimed),
        *({"name": name, "persistentVolumeClaim": {"claimName": claim}} for name, claim in claimed.items()),
    ]


def plan_claims(world: World, groups: int, with_pods: Collection[int]) -> list[Action]:
    """Claims that go with their group, and those whose owner is to be changed.

    groups: how many there shall be. with_pods: indexes of groups that have pods still.
    """
    actions: list[Action] = []
    for claim in world.claims:
        group = label_index(claim.metadata.labels, v1.GROUP_INDEX_LABEL)
        if group < 0 or claim.metadata.deletion_timestamp:
            continue
        if any(owner.uid != world.uid for owner in claim.metadata.owner_references):
            # Somebody else's, whatever its labels say.
            continue
        if group >= groups and group not in with_pods and _when(world.set, "whenScaled") == "Delete":
            actions.append(DeleteClaim(claim))
        elif bool(claim.metadata.owner_references) != _goes_with_set(world.set):
            owners = [world.owner_entry()] if _goes_with_set(world.set) else []
            actions.append(OwnClaim(claim, owners))
    return actions


def _goes_with_set(lws: v1.LeaderWorkerSet) -> bool:
    return _when(lws, "whenDeleted") == "Delete"


def _when(lws: v1.LeaderWorkerSet, occasion: str) -> str:
    policy = lws.spec.leader_worker_template.persistent_volume_claim_retention_policy or {}
    return policy.get(occasion) or "Retain"
