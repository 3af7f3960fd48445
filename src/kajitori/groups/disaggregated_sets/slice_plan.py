"""One slice: its LeaderWorkerSets of the current revision and of old ones, and the Services in front of them.

While an old revision has groups, the two are changed in steps (`rollout`), one at a time and only when all groups of the
current revision are ready. Services of a revision appear when each of its roles has a ready group, and go before the
last of its groups do: so nobody finds a prefill of one revision beside a decode of another.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import field

from kajitori.api.disaggregatedset import v1
from kajitori.groups.disaggregated_sets.actions import (
    Action,
    ChangeSet,
    CreateSet,
    DeleteSet,
    Event,
)
from kajitori.groups.disaggregated_sets.children import (
    leader_worker_set,
    lws_name,
    metadata_record,
    system_labels,
)
from kajitori.groups.disaggregated_sets.observed import (
    ROLE_METADATA_ANNOTATION,
    Child,
    RoleView,
)
from kajitori.groups.disaggregated_sets.rollout import Step, next_step
from kajitori.groups.disaggregated_sets.services import plan_services
from kajitori.groups.disaggregated_sets.slice_view import SliceView


class SlicePlan(msgspec.Struct):
    """What to do in one slice, in this order; what to say; names in the way; whether it rolls and is as wanted."""

    notes: list[Action] = field(default_factory=list[Action])
    services: list[Action] = field(default_factory=list[Action])
    creates: list[Action] = field(default_factory=list[Action])
    changes: list[Action] = field(default_factory=list[Action])
    deletes: list[Action] = field(default_factory=list[Action])
    events: list[Event] = field(default_factory=list[Event])
    blocked: list[str] = field(default_factory=list[str])
    rolling: bool = False
    whole: bool = False


def plan_slice(view: SliceView) -> SlicePlan:
    """The next thing to do in this slice."""
    plan = SlicePlan(rolling=view.rolling)
    _note_initial(view, plan)
    _create(view, plan)
    _mend(view, plan)
    step = _step(view, plan)
    if step is not None:
        _take(view, step, plan)
    _clean_up(view, plan)
    services, taken = plan_services(view, step)
    plan.services += services
    plan.blocked += taken
    plan.whole = (
        not view.old
        and view.stable
        and all(child.replicas == view.targets[role] for role, child in view.current.items())
    )
    return plan


def _note_initial(view: SliceView, plan: SlicePlan) -> None:
    """At the begin of a rollout, before anything changes."""
    if not view.rolling:
        return
    missing = [child for made in view.old for child in made.values() if view.initial(child) is None]
    for child in missing:
        annotations = {v1.INITIAL_REPLICAS_ANNOTATION: str(child.replicas)}
        plan.notes.append(ChangeSet(child, {"metadata": {"annotations": annotations}}))
    if missing:
        what = f"rolling update to revision {view.revision} from {_old(view)} begins"
        plan.events.append(_event(view, "RollingUpdateStarted", what))


def _create(view: SliceView, plan: SlicePlan) -> None:
    """What the current revision lacks: empty while an old one has groups."""
    set, world = view.world.set, view.world
    for role in set.spec.roles:
        if role.name in view.current:
            continue
        name = lws_name(set.name, view.slice, view.revision, role.name)
        if name in world.foreign:
            plan.blocked.append(f"LeaderWorkerSet {name} is {world.foreign[name]}")
        elif name not in world.dying:
            replicas = 0 if view.rolling else view.targets[role.name]
            plan.creates.append(CreateSet(leader_worker_set(set, role, view.slice, view.revision, replicas)))


def _mend(view: SliceView, plan: SlicePlan) -> None:
    """What of a role reaches its LeaderWorkerSet without a rollout: labels, annotations and when workers start."""
    for role in view.world.set.spec.roles:
        child = view.current.get(role.name)
        if child is None:
            continue
        metadata = _metadata_patch(view, role, child)
        patch: dict[str, Any] = {"metadata": metadata} if metadata else {}
        startup = role.spec.get("startupPolicy") or "LeaderCreated"
        if startup != child.lws.spec.startup_policy:
            patch["spec"] = {"startupPolicy": startup}
        if patch:
            plan.changes.append(ChangeSet(child, patch))


def _metadata_patch(view: SliceView, role: RoleView, child: Child) -> dict[str, Any]:
    had = child.annotation(ROLE_METADATA_ANNOTATION)
    record = metadata_record(role)
    system = system_labels(view.world.set.name, view.slice, view.revision, role.name)
    patch: dict[str, Any] = {}
    for kind, now in (("labels", child.lws.metadata.labels), ("annotations", child.lws.metadata.annotations)):
        wanted = role.metadata_of(kind)
        changes: dict[str, str | None] = {
            key: value for key, value in wanted.items() if now.get(key) != value and key not in system
        }
        changes |= {
            key: None for key in _keys(had, kind) if key in now and key not in wanted and key not in system
        }
        if kind == "annotations":
            if had and had != record:
                changes[ROLE_METADATA_ANNOTATION] = record
            if v1.INITIAL_REPLICAS_ANNOTATION in now:
                # It was old in another rollout, to which the set has come back from.
                changes[v1.INITIAL_REPLICAS_ANNOTATION] = None
        if changes:
            patch[kind] = changes
    return patch


def _keys(record: str, kind: str) -> list[str]:
    try:
        return msgspec.json.decode(record, type=dict[str, list[str]]).get(kind, []) if record else []
    except msgspec.DecodeError:
        return []


def _step(view: SliceView, plan: SlicePlan) -> Step | None:
    """The next step of a rollout, or the way to the wanted numbers where there is nothing to roll."""
    if plan.creates or plan.blocked or (view.rolling and (view.world.paused or plan.notes)):
        return None
    roles = view.roles()
    step = next_step(roles, view.counts())
    if step is None or not view.rolling:
        return step
    shrinks = step.new is not None and all(step.new[name] <= role.new for name, role in roles.items())
    ends = not any(role.target for role in roles.values())
    return step if view.stable or shrinks or ends else None


def _take(view: SliceView, step: Step, plan: SlicePlan) -> None:
    made = view.current if step.new is not None else view.old[step.revision]
    counts = step.new if step.new is not None else step.old or {}
    changed = [(made[role], count) for role, count in counts.items() if role in made]
    changed = [(child, count) for child, count in changed if child.replicas != count]
    plan.changes += [ChangeSet(child, {"spec": {"replicas": count}}) for child, count in changed]
    for reason, up in (("ScalingUp", True), ("ScalingDown", False)):
        moves = [
            f"{child.role} {child.replicas} to {count}"
            for child, count in changed
            if (count > child.replicas) is up
        ]
        if moves:
            what = f"revision {next(iter(made.values())).revision}: {', '.join(moves)} groups"
            plan.events.append(_event(view, reason, what))


def _clean_up(view: SliceView, plan: SlicePlan) -> None:
    """Old revisions whose groups are all gone."""
    left = False
    for made in view.old:
        if not all(child.gone for child in made.values()):
            left = True
            continue
        plan.deletes += [DeleteSet(child) for child in made.values()]
        names = ", ".join(child.name for child in made.values())
        plan.events.append(Event(reason="LWSDeleted", message=f"Deleted drained LeaderWorkerSets: {names}"))
    if plan.deletes and not left:
        what = f"rolling update to revision {view.revision} is complete"
        plan.events.append(_event(view, "RollingUpdateCompleted", what))


def _old(view: SliceView) -> str:
    return ", ".join(next(iter(made.values())).revision for made in view.old)


def _event(view: SliceView, reason: str, what: str) -> Event:
    where = f"Slice {view.slice}: " if view.world.set.spec.slices > 1 else ""
    return Event(reason=reason, message=f"{where}{what[0].upper()}{what[1:]}")
