"""What the plan of a set says to each of its groups, and what a group's plan says back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from kajitori.groups.leader_worker_sets.actions import Action, CreatePod, DeletePod, Event
from kajitori.groups.leader_worker_sets.budget import Life
from kajitori.groups.leader_worker_sets.in_place import RestartContainer
from kajitori.groups.leader_worker_sets.observed import World
from kajitori.groups.leader_worker_sets.options import Options
from kajitori.groups.leader_worker_sets.restart import Restart
from kajitori.groups.leader_worker_sets.revisions import Templates
from kajitori.groups.leader_worker_sets.status import GroupState


class GroupSetting(msgspec.Struct, frozen=True, kw_only=True):
    """What the plan of a set says to each of its groups.

    target: the newest templates. partition: groups at or above it are due for them. older: templates of another
    revision by hash, None if they are lost. previous: hash of the revision for groups below the partition.
    owner: the entry for `ownerReferences`. taken: names in use by others, with their owner in words. options: of the set.
    """

    world: World
    target: Templates
    partition: int
    older: Callable[[str], Templates | None]
    previous: str
    owner: dict[str, object]
    taken: Mapping[str, str]
    options: Options = Options()


class GroupPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What one group needs.

    ends: it is on its way out, or waits to begin anew. blocked: names it cannot have. look_again: seconds since 1970.
    begun: the restart that this very plan decides. failed: why the group is left as it is. life: to be remembered.
    restart_containers: those that end and begin in their pods.
    """

    state: GroupState
    deletes: Sequence[DeletePod] = ()
    creates: Sequence[CreatePod] = ()
    after: Sequence[Action] = ()
    events: Sequence[Event] = ()
    ends: Restart | None = None
    blocked: Sequence[str] = ()
    look_again: float | None = None
    begun: Restart | None = None
    failed: str = ""
    life: Life | None = None
    restart_containers: Sequence[RestartContainer] = ()
    templates: Templates


def templates_of(setting: GroupSetting, hash: str) -> Templates | None:
    """The templates of this revision; None if they are lost."""
    return setting.target if hash == setting.target.hash else setting.older(hash)
