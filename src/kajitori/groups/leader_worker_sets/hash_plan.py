"""The groups of a set that names them by hashes: which are kept, which stop, which begin.

Groups have no order, so there is no position of a rollout to be kept: each look counts anew (see `identity.choose`).
What a group does in itself is up to `group_plan`. A group that ended by a fault comes back under another name,
and takes along how often it was restarted and why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import field

from kajitori.api.leaderworkerset import v1
from kajitori.base.clock import parse_rfc3339
from kajitori.groups.leader_worker_sets.gang_release import may_be_made
from kajitori.groups.leader_worker_sets.group_ending import stop_group
from kajitori.groups.leader_worker_sets.group_plan import begin_group, plan_group
from kajitori.groups.leader_worker_sets.group_setting import GroupPlan, GroupSetting
from kajitori.groups.leader_worker_sets.identity import Candidate, choose, fresh_groups
from kajitori.groups.leader_worker_sets.observed import Pod
from kajitori.groups.leader_worker_sets.readiness import is_draining
from kajitori.groups.leader_worker_sets.restart import Restart
from kajitori.groups.leader_worker_sets.rollout import Limits
from kajitori.groups.leader_worker_sets.status import GroupState

# No group is due for the newest templates by its number.
_NEVER = 1 << 62


class Groups(msgspec.Struct, frozen=True, kw_only=True):
    """kept: groups that are wanted, new ones included. leaving: those that are stopped on purpose.

    later: ends without pods whose groups come back, under another name.
    """

    kept: Sequence[GroupPlan]
    leaving: Sequence[GroupPlan] = ()
    later: Mapping[int, Restart] = field(default_factory=dict[int, Restart])


def plan_hash_groups(setting: GroupSetting, limits: Limits, pods: Mapping[int, Sequence[Pod]]) -> Groups:
    """pods: the set's own, by group."""
    world = setting.world
    held = msgspec.structs.replace(setting, partition=_NEVER)
    plans = {group: plan_group(held, group, members) for group, members in pods.items()}
    ending = {group for group, plan in plans.items() if plan.ends is not None}
    pending = _pending(setting, pods)
    waiting = [group for group, restart in pending.items() if restart.not_before > world.now]
    choice = choose(
        limits,
        [_candidate(members, plans[group]) for group, members in pods.items() if group not in ending],
        leaving=len(ending),
        waiting=len(waiting),
        wait_for_leaving=world.set.spec.group_replacement_policy != "Immediate",
        paused=setting.options.paused,
    )
    stop = set(choice.stop)
    due = [group for group in pending if group not in waiting]
    # Each attempt has another name: what holds for one that was refused holds for all.
    refused = any(group not in pods and not may_be_made(world, group) for group in world.refused)
    create = 0 if refused else choice.create
    fresh = fresh_groups(f"{world.uid}/{world.token}", create, pods.keys())
    begun = [
        begin_group(setting, group, pending[due[number]] if number < len(due) else None)
        for number, group in enumerate(fresh)
    ]
    # A group that is not wanted any more is forgotten.
    later = [*waiting[: choice.waiting], *due[create : choice.missing]]
    return Groups(
        kept=[*(plan for group, plan in plans.items() if group not in stop), *begun],
        leaving=[stop_group(setting, group, pods[group]) for group in choice.stop],
        later={group: pending[group] for group in later},
    )


def _pending(setting: GroupSetting, pods: Mapping[int, Sequence[Pod]]) -> dict[int, Restart]:
    """Ends whose pods are all gone and whose groups are to come back, the earliest first."""
    ends = setting.world.restarts.items()
    found = [(group, end) for group, end in ends if group not in pods and end.blame is not None]
    return dict(sorted(found, key=lambda entry: (entry[1].not_before, entry[0])))


def _candidate(members: Sequence[Pod], plan: GroupPlan) -> Candidate:
    leader = next(pod for pod in members if pod.worker == 0)
    born = leader.metadata.creation_timestamp
    return Candidate(
        plan.state.index,
        ready=plan.state.ready,
        updated=plan.state.updated,
        draining=is_draining(leader),
        pods=len(members),
        scheduled=sum(bool(pod.spec.node_name) for pod in members),
        born=parse_rfc3339(born) if born else 0.0,
    )


def numbered(states: Sequence[GroupState]) -> list[GroupState]:
    """The groups with indexes as if they had an order: those of an older revision first, then those that are ready.

    What leaves comes last, so that it is counted among the wanted ones only as long as there are too few others.
    """
    ranked = sorted(states, key=lambda one: (not one.exists or one.updated, not one.ready, not one.exists))
    return [msgspec.structs.replace(one, index=number) for number, one in enumerate(ranked)]


def names_groups_by_hash(lws: v1.LeaderWorkerSet) -> bool:
    return lws.spec.group_identity == "Hash"
