"""The plan of a LeaderWorkerSet: from what is there to what shall be done, said and written. No I/O, no clock.

It settles the revision and how far a rollout may go, asks `group_plan` for each group, sees to the headless
Services, and counts. The same world gives the same plan; a plan that was carried out in part, or on a late cache,
is mended by the next one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from kajitori.api.leaderworkerset import v1
from kajitori.base.reason import Reason
from kajitori.groups.leader_worker_sets.actions import (
    Action,
    Plan,
)
from kajitori.groups.leader_worker_sets.budget import groups_failed
from kajitori.groups.leader_worker_sets.claims import plan_claims
from kajitori.groups.leader_worker_sets.conditions import (
    DOES_NOT_FIT,
    LOOK_AGAIN_SECONDS,
    shared_conditions,
)
from kajitori.groups.leader_worker_sets.foreign_names import blocked_reason, foreign_pods
from kajitori.groups.leader_worker_sets.gang import unheard_marks
from kajitori.groups.leader_worker_sets.gang_release import gang_blocked, next_release
from kajitori.groups.leader_worker_sets.group_ending import stop_group
from kajitori.groups.leader_worker_sets.group_plan import plan_group
from kajitori.groups.leader_worker_sets.group_setting import GroupPlan, GroupSetting
from kajitori.groups.leader_worker_sets.hanging import deletion_hangs, hanging_pods, next_hanging
from kajitori.groups.leader_worker_sets.hash_plan import (
    Groups,
    names_groups_by_hash,
    numbered,
    plan_hash_groups,
)
from kajitori.groups.leader_worker_sets.history import with_history
from kajitori.groups.leader_worker_sets.in_place import refused_commands
from kajitori.groups.leader_worker_sets.observed import Pod, World
from kajitori.groups.leader_worker_sets.options import COMPATIBILITY, options_of
from kajitori.groups.leader_worker_sets.restart import Restart
from kajitori.groups.leader_worker_sets.revision_plan import (
    RevisionPlan,
    plan_revision,
    remove_old_revisions,
    set_limits,
)
from kajitori.groups.leader_worker_sets.services import plan_services
from kajitori.groups.leader_worker_sets.set_events import (
    creation_events,
    phase_events,
    surplus_events,
    warning_events,
)
from kajitori.groups.leader_worker_sets.status import (
    BLOCKED,
    FIELDS_NOT_HONOURED,
    GROUPS_FAILED,
    Counts,
    GroupState,
    count,
    next_conditions,
)
from kajitori.groups.leader_worker_sets.unsupported import fields_not_honoured

BLOCKED_RETRY_SECONDS = 30.0


def plan_set(world: World) -> Plan:
    """The plan of the set. One that is being deleted gets none: the garbage collector takes what it owns."""
    if world.set.metadata.deletion_timestamp:
        return Plan(status=world.set.status)
    pods = _own_pods_by_group(world)
    revision = plan_revision(world, pods)
    taken = {**foreign_pods(world), **world.taken}
    setting = GroupSetting(
        world=world,
        target=revision.target,
        partition=revision.position.partition,
        older=revision.older,
        previous=revision.previous,
        owner=world.owner_entry(),
        taken=taken,
        options=options_of(world.set.metadata.annotations),
    )
    if names_groups_by_hash(world.set):
        groups = plan_hash_groups(setting, set_limits(world.set), pods)
    else:
        groups = _plan_ordinal_groups(setting, revision.position.groups, pods)
    services, blocked_services = plan_services(
        world, revision, pods, [plan.state.index for plan in groups.kept]
    )
    blocked = blocked_reason(
        world, [*blocked_services, *(name for plan in groups.kept for name in plan.blocked)], taken
    )
    return _assemble(world, revision, services, groups, blocked, stopped=bool(blocked_services))


def _plan_ordinal_groups(setting: GroupSetting, count: int, pods: Mapping[int, Sequence[Pod]]) -> Groups:
    """So many groups from 0 on; those beyond go, the highest first and all of them at once."""
    surplus = [index for index in sorted(pods, reverse=True) if index >= count]
    return Groups(
        kept=[plan_group(setting, index, pods.get(index, [])) for index in range(count)],
        leaving=[stop_group(setting, index, pods[index]) for index in surplus],
    )


def _own_pods_by_group(world: World) -> dict[int, list[Pod]]:
    uid = world.uid
    groups: dict[int, list[Pod]] = defaultdict(list)
    for pod in world.pods:
        if pod.owner_uid == uid and pod.group >= 0:
            groups[pod.group].append(pod)
    return dict(groups)


def _own_pods(world: World) -> Iterable[Pod]:
    uid = world.uid
    return (pod for pod in world.pods if pod.owner_uid == uid)


def _assemble(
    world: World,
    revision: RevisionPlan,
    services: Sequence[Action],
    groups: Groups,
    blocked: Reason | None,
    *,
    stopped: bool,
) -> Plan:
    """One plan of the parts. stopped: pods must not be made, their names would lead elsewhere."""
    plans = [*groups.leaving, *groups.kept]
    deletes = [delete for plan in (*groups.leaving, *reversed(groups.kept)) for delete in plan.deletes]
    creates = [] if stopped else [create for plan in plans for create in plan.creates]
    states = [plan.state for plan in (*groups.kept, *groups.leaving)]
    if names_groups_by_hash(world.set):
        states = numbered(states)
    restarts = {**groups.later, **{plan.state.index: plan.ends for plan in plans if plan.ends is not None}}
    ours = {
        **_own_conditions(world, plans, restarts, blocked),
        **shared_conditions(world, revision),
    }
    counts, status = status_of(world, states, ours)
    looks = [next_hanging(_own_pods(world), world.now), *(plan.look_again for plan in plans)]
    plan = Plan(
        before=[*revision.actions, *services],
        deletes=deletes,
        creates=creates,
        after=[
            *(action for plan in plans for action in plan.after),
            *remove_old_revisions(world, revision, states),
            *plan_claims(world, revision.position.groups, {plan.state.index for plan in plans}),
        ],
        events=[
            *revision.events,
            *surplus_events(world, groups.leaving),
            *(event for plan in plans for event in plan.events),
            *creation_events(creates),
            *phase_events(world, counts),
            *warning_events(world, ours),
        ],
        status=status,
        restarts=restarts,
        begun={plan.state.index: plan.begun for plan in plans if plan.begun is not None},
        lives={plan.state.index: plan.life for plan in plans if plan.life is not None},
        restart_containers=[restart for plan in plans for restart in plan.restart_containers],
        again_after_seconds=again_after(world, restarts.values(), ours, looks),
    )
    return with_history(world, plan)


def _own_conditions(
    world: World, plans: Sequence[GroupPlan], restarts: Mapping[int, Restart], blocked: Reason | None
) -> dict[str, Reason | None]:
    """Of sets whose pods we make: for each why it is true, or None. blocked: by names that others have."""
    return {
        FIELDS_NOT_HONOURED: fields_not_honoured(
            world.set, [*_too_late(world), *refused_commands(world), *unheard_marks(world)]
        ),
        BLOCKED: blocked
        or gang_blocked(world, restarts, _own_pods(world))
        or deletion_hangs(hanging_pods(_own_pods(world), world.now), world.node_states),
        GROUPS_FAILED: groups_failed({plan.state.index: plan.failed for plan in plans if plan.failed}),
    }


def _too_late(world: World) -> list[str]:
    if options_of(world.set.metadata.annotations).compatibility != "StatefulSet":
        return []
    if names_groups_by_hash(world.set):
        why = "StatefulSets number their pods, and groups that are named by hashes have none"
    else:
        why = "it counts when the set is made; this one has pods of its own already"
    return [f"annotation {COMPATIBILITY}: {why}"]


def status_of(
    world: World, states: Sequence[GroupState], own: dict[str, Reason | None]
) -> tuple[Counts, v1.LeaderWorkerSetStatus]:
    spec = world.set.spec
    generation = world.set.metadata.generation or 0
    partition = spec.rollout_strategy.rolling_update_configuration.partition
    counts = count(states, spec.replicas, partition)
    conditions = next_conditions(
        world.set.status.conditions, counts, spec.replicas, own, generation, world.now
    )
    return counts, v1.LeaderWorkerSetStatus(
        conditions=conditions,
        hpa_pod_selector=f"{v1.SET_NAME_LABEL}={world.name},{v1.WORKER_INDEX_LABEL}=0",
        observed_generation=generation,
        ready_replicas=counts.ready,
        replicas=counts.replicas,
        updated_replicas=counts.updated,
    )


def again_after(
    world: World,
    restarts: Iterable[Restart],
    own: Mapping[str, Reason | None],
    looks: Iterable[float | None] = (),
) -> float | None:
    """When to look again though nothing changes, in seconds: a group may begin anew, or what was in the way is gone.

    looks: when groups want to be looked at again, seconds since 1970.
    """
    waits = [restart.not_before - world.now for restart in restarts if restart.not_before > world.now]
    waits += [max(0.0, look - world.now) for look in looks if look is not None]
    blocked = own.get(BLOCKED)
    if blocked is not None and blocked is not world.trouble:
        waits.append(BLOCKED_RETRY_SECONDS)
    if (release := next_release(world)) is not None:
        waits.append(release - world.now)
    if own.get(DOES_NOT_FIT) is not None:
        waits.append(LOOK_AGAIN_SECONDS)
    return min(waits, default=None)


def same_status(one: v1.LeaderWorkerSetStatus, other: v1.LeaderWorkerSetStatus) -> bool:
    """Whether a write would change anything; the order of conditions does not count."""
    by_type = {condition.type: condition for condition in one.conditions}
    return by_type == {condition.type: condition for condition in other.conditions} and (
        msgspec.structs.replace(one, conditions=[]) == msgspec.structs.replace(other, conditions=[])
    )
