"""From a set and what there is of it to what to do: pure, made anew at each look.

Scalers come first, since they say how many groups a role shall have. Each slice then has a plan of its own, and slices
that are not wanted any more go as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from kajitori.base.reason import Reason
from kajitori.groups.disaggregated_sets.actions import Action, DeleteService, DeleteSet, Event, Plan
from kajitori.groups.disaggregated_sets.observed import Child, Service, World
from kajitori.groups.disaggregated_sets.revisions import current_revision
from kajitori.groups.disaggregated_sets.scaling import scaler_actions, targets, tell_scalers
from kajitori.groups.disaggregated_sets.slice_plan import SlicePlan, plan_slice
from kajitori.groups.disaggregated_sets.slice_view import SliceView
from kajitori.groups.disaggregated_sets.status import BLOCKED, next_status
from kajitori.groups.disaggregated_sets.unsupported import fields_not_honoured

S = TypeVar("S", Child, Service)

# An object in the way may be nobody's whom we watch.
BLOCKED_SECONDS = 30.0


def plan_set(world: World) -> Plan:
    """What to do now."""
    revision = current_revision(world.set.spec.roles, world.children)
    wanted = targets(world)
    scalers, events, warnings = scaler_actions(world)
    children, services = _by_slice(world.children), _by_slice(world.services)
    slices = [
        plan_slice(
            SliceView(world, number, revision, wanted, children.get(number, ()), services.get(number, ()))
        )
        for number in range(world.set.spec.slices)
    ]
    gone, said = _removed_slices(world)
    blocked = _blocked(world, slices)
    if blocked is not None and blocked.code == "NameTaken":
        warnings.append(Event(reason=blocked.code, message=str(blocked), type="Warning"))
    if blocked is not None and _is_told(world, blocked):
        warnings = []
    stages: list[list[Action]] = [
        scalers,
        _each(slices, "notes"),
        [*gone, *_each(slices, "services")],
        _each(slices, "creates"),
        _each(slices, "changes"),
        _each(slices, "deletes"),
        tell_scalers(world),
    ]
    return Plan(
        stages=[stage for stage in stages if stage],
        events=[*events, *said, *(event for each in slices for event in each.events)],
        warnings=warnings,
        status=next_status(
            world,
            revision,
            sum(wanted.values()) * world.set.spec.slices,
            rolling=[number for number, each in enumerate(slices) if each.rolling],
            whole=all(each.whole for each in slices) and not gone and blocked is None,
            not_honoured=fields_not_honoured(world, revision),
            blocked=blocked,
        ),
        again_after_seconds=BLOCKED_SECONDS if blocked is not None else None,
    )


def _by_slice(found: Sequence[S]) -> dict[int, list[S]]:
    by_slice: dict[int, list[S]] = {}
    for each in found:
        by_slice.setdefault(each.slice, []).append(each)
    return by_slice


def _each(slices: list[SlicePlan], stage: str) -> list[Action]:
    return [action for each in slices for action in getattr(each, stage)]


def _removed_slices(world: World) -> tuple[list[Action], list[Event]]:
    """Slices do not depend on each other, so there is nothing to drain in step."""
    number = world.set.spec.slices
    actions: list[Action] = []
    events: list[Event] = []
    actions += [DeleteService(service) for service in world.services if service.slice >= number]
    for child in world.children:
        if child.slice >= number:
            actions.append(DeleteSet(child))
            message = (
                f"Deleted LeaderWorkerSet {child.name} of slice {child.slice}: {number} slices are wanted"
            )
            events.append(Event(reason="LWSDeleted", message=message))
    return actions, events


def _is_told(world: World, blocked: Reason) -> bool:
    """Whether the status says so already: then nobody is warned at each look."""
    return any(
        one.type == BLOCKED and one.status == "True" and one.message == str(blocked)
        for one in world.set.status.conditions
    )


def _blocked(world: World, slices: list[SlicePlan]) -> Reason | None:
    if world.trouble is not None:
        return world.trouble
    found = [name for each in slices for name in each.blocked]
    for name, holder in world.foreign_scalers.items():
        if any(role.external and name == f"{world.set.name}-{role.name}" for role in world.set.spec.roles):
            found.append(f"DisaggregatedSetRoleScaler {name} is {holder}")
    if not found:
        return None
    return Reason("NameTaken", "; ".join(found), "delete or rename what is in the way, or the set")
