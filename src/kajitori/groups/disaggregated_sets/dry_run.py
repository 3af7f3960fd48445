"""What a changed DisaggregatedSet would do: whether it rolls, why, and in which steps. Pure.

The steps are those of `rollout.next_step`, which the controller asks, from the groups of one slice as they are now; it is
supposed that every group that is made becomes ready. All slices that stand alike go alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from kajitori.groups.disaggregated_sets.observed import Child, SetView, World
from kajitori.groups.disaggregated_sets.revisions import bare, current_revision, newest_first, plain_template
from kajitori.groups.disaggregated_sets.rollout import Counts, Role, next_step
from kajitori.groups.disaggregated_sets.scaling import targets
from kajitori.model.changes import Change, changes

_MOST_STEPS = 100_000


class RoleStep(msgspec.Struct, frozen=True):
    """What is changed, and the groups of each role after it: of the new revision, and of all older ones."""

    done: str
    new: Counts
    old: Counts


class DryRun(msgspec.Struct, frozen=True, kw_only=True):
    """changes: of the templates, none if the set would not roll for them. under_way: two revisions are there."""

    revision: str
    changes: list[Change]
    under_way: bool
    paused: bool
    targets: Counts
    steps: list[RoleStep]


def dry_run(world: World, wanted: SetView, slice: int = 0) -> DryRun:
    """The rollout that `wanted` would begin or go on with in one slice. world: the set as it is."""
    after = msgspec.structs.replace(world, set=wanted)
    revision = current_revision(wanted.spec.roles, world.children)
    goals = targets(after)
    children = [child for child in world.children if child.slice == slice]
    others = [child for child in children if child.revision != revision]
    made = {child.role: child for child in children if child.revision == revision}
    old = [
        {child.role: child.replicas for child in others if child.revision == name}
        for name in newest_first(others)
    ]
    roles = _roles(wanted, goals, made, old)
    return DryRun(
        revision=revision,
        changes=template_changes(world.set, wanted),
        under_way=len({child.revision for child in children}) > 1,
        paused=world.paused,
        targets=goals,
        steps=slice_steps(roles, old),
    )


def _roles(
    wanted: SetView, goals: Counts, made: Mapping[str, Child], old: Sequence[Counts]
) -> dict[str, Role]:
    initial: Counts = {}
    for counts in old:
        for name, count in counts.items():
            initial[name] = initial.get(name, 0) + count
    numbers = {name: Role(initial=count) for name, count in initial.items()}
    for role in wanted.spec.roles:
        surge, unavailable = role.bounds(goals[role.name])
        numbers[role.name] = Role(
            target=goals[role.name],
            new=made[role.name].replicas if role.name in made else 0,
            initial=initial.get(role.name, 0),
            max_surge=surge,
            max_unavailable=unavailable,
        )
    return numbers


def slice_steps(roles: Mapping[str, Role], old: Sequence[Counts]) -> list[RoleStep]:
    """All steps that are left, until there is none."""
    now, left = dict(roles), [dict(counts) for counts in old]
    found: list[RoleStep] = []
    while (step := next_step(now, left)) is not None and len(found) < _MOST_STEPS:
        if step.new is not None:
            moves = {
                name: (role.new, step.new[name]) for name, role in now.items() if step.new[name] != role.new
            }
            now = {name: msgspec.structs.replace(role, new=step.new[name]) for name, role in now.items()}
            word = "new"
        else:
            before = left[step.revision]
            left[step.revision] = dict(step.old or {})
            moves = {
                name: (before[name], count)
                for name, count in left[step.revision].items()
                if count != before[name]
            }
            word = "old"
        if not moves:
            return found
        done = ", ".join(f"{word} {name} {before} to {after}" for name, (before, after) in moves.items())
        totals = {name: sum(counts.get(name, 0) for counts in left) for name in now}
        found.append(RoleStep(done, {name: role.new for name, role in now.items()}, totals))
    return found


def template_changes(now: SetView, wanted: SetView) -> list[Change]:
    """Fields of the templates that differ, and roles that come or go."""
    before = {role.name: bare(plain_template(role.template)) for role in now.spec.roles}
    after = {role.name: bare(plain_template(role.template)) for role in wanted.spec.roles}
    found: list[Change] = []
    for name in [*before, *(name for name in after if name not in before)]:
        if name in before and name in after:
            found += changes(before[name], after[name], f"roles[{name}]")
        else:
            there, then = ("a role" if name in side else None for side in (before, after))
            found.append(Change(f"roles[{name}]", there, then))
    return found
