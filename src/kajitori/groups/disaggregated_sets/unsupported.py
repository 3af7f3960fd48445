"""What a DisaggregatedSet may ask for and does not get from us: named aloud, never passed over.

Each is one line of the condition `kajitori.dev/FieldsNotHonoured`.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from kajitori.base.reason import Reason
from kajitori.groups.disaggregated_sets.children import scaler_name
from kajitori.groups.disaggregated_sets.observed import (
    PAUSED_ANNOTATION,
    PLACEMENT_ANNOTATION,
    Child,
    RoleView,
    World,
)
from kajitori.groups.disaggregated_sets.placement import policy_text
from kajitori.groups.disaggregated_sets.revisions import bare

_HONOURED_METADATA = {"labels", "annotations", "creationTimestamp"}


def fields_not_honoured(world: World, revision: str) -> Reason | None:
    """One reason that lists every such field with what happens instead; None if there is none."""
    current = [child for child in world.children if child.revision == revision]
    found = [
        f"spec.roles[{role.name}].{problem}"
        for role in world.set.spec.roles
        for problem in _of_role(world, role, [child for child in current if child.role == role.name])
    ]
    paused = world.set.metadata.annotations.get(PAUSED_ANNOTATION)
    if paused not in (None, "true", "false"):
        found.append(f"annotation {PAUSED_ANNOTATION}: {paused!r} is not true or false; nothing is paused")
    wanted = policy_text(world.set.spec.placement_policy)
    others = sorted(child.name for child in current if child.annotation(PLACEMENT_ANNOTATION) != wanted)
    if others:
        found.append(
            f"spec.placementPolicy: {_few(others)} made before it keep their place until the next rollout"
        )
    if world.set.spec.slices > 1:
        old = sorted(child.name for child in current if not child.sliced)
        if old:
            found.append(
                f"spec.slices: {_few(old)} without a slice's label has no Service until the next rollout"
            )
    return Reason("FieldsNotHonoured", "; ".join(found)) if found else None


def _of_role(world: World, role: RoleView, current: list[Child]) -> Iterator[str]:
    if role.sub_roles:
        yield "subRoles: the groups of a role are not divided"
    others = sorted(
        key for key, value in (role.metadata or {}).items() if value and key not in _HONOURED_METADATA
    )
    if others:
        yield f"metadata.{', '.join(others)}: a LeaderWorkerSet gets labels and annotations"
    if role.external and role.replicas > 1:
        yield f"spec.replicas: DisaggregatedSetRoleScaler {scaler_name(world.set.name, role.name)} decides"
    network = role.spec.get("networkConfig") or {"subdomainPolicy": "Shared"}
    for child in current:
        has = child.lws.spec.network_config
        if bare(msgspec.to_builtins(has)) != bare(network) and not (
            has is None and network == {"subdomainPolicy": "Shared"}
        ):
            yield f"spec.networkConfig: {child.name} keeps its names until the next rollout"
            return


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"LeaderWorkerSet {', '.join(names[:3])}{more}"
