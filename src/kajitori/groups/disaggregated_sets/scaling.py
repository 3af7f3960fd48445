"""How many groups a role shall have, and by whose word: its spec's, or its scaler's.

A role with `scaling.mode: External` gets a scaler, which begins with as many groups as there are, or with one: 0 would
keep a HorizontalPodAutoscaler from ever acting. A scaler of somebody else is not adopted; the role then stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable

from kajitori.api.disaggregatedset import v1
from kajitori.api.kubernetes.meta_v1 import Condition
from kajitori.base.clock import rfc3339
from kajitori.groups.disaggregated_sets.actions import Action, CreateScaler, DeleteScaler, Event, TellScaler
from kajitori.groups.disaggregated_sets.children import scaler, scaler_name, scaler_selector
from kajitori.groups.disaggregated_sets.observed import Child, RoleView, Scaler, World

FIRST_REPLICAS = 1


def targets(world: World) -> dict[str, int]:
    """Wanted groups of each role in each slice."""
    return {role.name: _target(world, role) for role in world.set.spec.roles}


def _target(world: World, role: RoleView) -> int:
    if not role.external:
        return role.replicas
    found = world.scalers.get(scaler_name(world.set.name, role.name))
    return found.spec.replicas if found is not None else seed(world, role.name)


def seed(world: World, role: str) -> int:
    """As many groups as the role has; 1 if it is new."""
    made = [child for child in world.children if child.role == role]
    return sum(child.replicas for child in made) if made else FIRST_REPLICAS


def scaler_actions(world: World) -> tuple[list[Action], list[Event], list[Event]]:
    """What to do about scalers, what to say of it, and what to warn of."""
    external = {
        scaler_name(world.set.name, role.name): role.name for role in world.set.spec.roles if role.external
    }
    actions: list[Action] = []
    events: list[Event] = []
    warnings: list[Event] = []
    for name, role in external.items():
        holder = world.foreign_scalers.get(name)
        if holder is not None:
            warnings.append(
                Event(
                    reason="ScalerConflict",
                    message=f"DisaggregatedSetRoleScaler {name} is {holder}: role {role} stays as it is",
                    type="Warning",
                )
            )
        elif name not in world.scalers:
            replicas = seed(world, role)
            actions.append(CreateScaler(role, scaler(world.set, role, replicas)))
            events.append(
                Event(
                    reason="ScalerCreated",
                    message=f"Created scaler {name} for role {role} with {replicas} groups",
                )
            )
    for name, found in world.scalers.items():
        if name not in external and found.metadata.deletion_timestamp is None:
            role = found.metadata.labels.get(v1.ROLE_LABEL, "")
            actions.append(DeleteScaler(role, found))
            events.append(
                Event(reason="ScalerDeleted", message=f"Deleted scaler {name}: role {role} is not External")
            )
    return actions, events, warnings


def tell_scalers(world: World) -> list[Action]:
    """The statuses of scalers that are not as they should be."""
    told: list[Action] = []
    for role in world.set.spec.roles:
        found = world.scalers.get(scaler_name(world.set.name, role.name))
        if role.external and found is not None and found.metadata.deletion_timestamp is None:
            status = _status(world, role.name, found)
            if status != found.status:
                told.append(TellScaler(found, status))
    return told


def _status(world: World, role: str, found: Scaler) -> v1.RoleScalerStatus:
    old = next((one for one in found.status.conditions if one.type == v1.SCALER_READY), None)
    generation = found.metadata.generation or 0
    ready = Condition(
        type=v1.SCALER_READY,
        status="True",
        reason="Bound",
        message=f"sets the groups of role {role} of DisaggregatedSet {world.set.name}",
        last_transition_time=old.last_transition_time if old and old.status == "True" else rfc3339(world.now),
        observed_generation=generation,
    )
    return v1.RoleScalerStatus(
        conditions=[*(one for one in found.status.conditions if one.type != v1.SCALER_READY), ready],
        observed_generation=generation,
        replicas=_groups(child for child in world.children if child.role == role),
        selector=scaler_selector(world.set, role),
    )


def _groups(children: Iterable[Child]) -> int:
    return sum(child.lws.status.replicas for child in children)
