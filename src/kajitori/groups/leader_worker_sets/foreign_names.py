"""Names that a set wants and objects of others have: whose they are, in words. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kajitori.base.reason import Reason
from kajitori.groups.leader_worker_sets.observed import Metadata, World


def foreign_pods(world: World) -> dict[str, str]:
    uid = world.uid
    return {f"Pod {pod.name}": _holder("pod", pod) for pod in world.pods if pod.owner_uid != uid}


def blocked_reason(world: World, names: Sequence[str], taken: Mapping[str, str]) -> Reason | None:
    if not names:
        return world.trouble
    services = {f"Service {service.metadata.name}": service for service in world.services}
    holders = {f"Pod {pod.name}": pod.metadata for pod in world.pods}
    holders |= {name: service.metadata for name, service in services.items()}
    # What an earlier set of this name left is on its way out by itself.
    names = [name for name in names if name not in holders or not _is_leftover(world, holders[name])]
    if not names:
        return world.trouble
    told: list[str] = []
    for name in names[:5]:
        service = services.get(name)
        told.append(f"{name} is {_holder('service', service) if service else taken[name]}")
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return Reason(
        "NameTaken",
        f"names of this set are in use: {', '.join(told)}{more}",
        "delete or rename them, or give the set another name; they are not touched",
    )


def _holder(what: str, obj: Any) -> str:
    owner = obj.metadata.controller()
    return f"a {what} of {owner.kind} {owner.name}" if owner else f"a {what} that nobody controls"


def _is_leftover(world: World, metadata: Metadata) -> bool:
    owner = metadata.controller()
    if owner is None or owner.uid == world.uid:
        return False
    return owner.kind == "LeaderWorkerSet" and owner.name == world.name
