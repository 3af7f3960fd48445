"""The arithmetic of a rollout of one slice: whole numbers in, the next whole numbers out, one change at a time.

In are the groups of each role, of the new revision and of each old one. Out is at most one step, which either lets the
new revision grow or takes groups from the newest old revision. So a step can be repeated, and whoever comes after
a crash goes on from what is there. Four things hold whatever the numbers are:

- A role never has more than `target + max_surge` groups because of a step, and a step never leaves it with fewer
  than `target - max_unavailable`.
- No role of an old revision comes to nothing before its others: what is left of a revision can always serve.
- All roles keep pace: as a role is new to some share, so are the others, give or take one batch.
- There is a next step until the new revision is whole and the old ones are gone.

Source of pace and bounds: kubernetes-sigs/lws, KEP-766; its new and old groups at a step are `at_step` and `left_at_step`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

Counts = dict[str, int]


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """One role in a rollout.

    target: wanted groups; 0 for a role that the new revision does not have. new: groups of the new revision. initial:
    groups of old revisions when the rollout began. max_surge, max_unavailable: in groups, not both 0.
    """

    target: int = 0
    new: int = 0
    initial: int = 0
    max_surge: int = 1
    max_unavailable: int = 0

    @property
    def batch(self) -> int:
        return self.max_surge or max(1, self.max_unavailable)


class Step(msgspec.Struct, frozen=True):
    """What shall be, in whole: of the new revision, or of one old one (its index, the newest is 0)."""

    new: Counts | None = None
    old: Counts | None = None
    revision: int = -1


def number_of_steps(roles: Mapping[str, Role]) -> int:
    """Batches that the largest role, by its batches, needs."""
    return max((-(-max(role.initial, role.target) // role.batch) for role in roles.values()), default=0)


def at_step(step: int, target: int, steps: int) -> int:
    """Groups of the new revision after so many steps: rounded up."""
    return -(-step * target // steps)


def left_at_step(step: int, initial: int, steps: int) -> int:
    """Groups of old revisions after so many steps: what is taken is rounded down."""
    return initial - step * initial // steps


def next_step(roles: Mapping[str, Role], old: Sequence[Mapping[str, int]]) -> Step | None:
    """The next change; None when the rollout is over.

    roles: all of the new revision and of old ones. old: groups of each role for each old revision, the newest first;
    0 for a role that had some when the rollout began. The new revision's groups must all be ready, unless it shrinks.
    """
    too_many = {name: role.target for name, role in roles.items() if role.new > role.target}
    if too_many:
        return Step(new={name: role.new for name, role in roles.items()} | too_many)
    newest = next((index for index, counts in enumerate(old) if any(counts.values())), None)
    if newest is None:
        missing = any(role.new < role.target for role in roles.values())
        return Step(new={name: role.target for name, role in roles.items()}) if missing else None
    if not any(role.target for role in roles.values()):
        # Nobody is to serve: nothing to keep in step with.
        return Step(old=dict.fromkeys(old[newest], 0), revision=newest)
    left = {name: sum(counts.get(name, 0) for counts in old) for name in roles}
    return _Look(roles, left, old[newest], newest).step()


class _Look:
    """The numbers of one step. left: groups of each role over all old revisions. newest: of the one that drains."""

    def __init__(
        self, roles: Mapping[str, Role], left: Counts, newest: Mapping[str, int], index: int
    ) -> None:
        self._roles = roles
        self._left = left
        self._newest = newest
        self._index = index
        self._steps = max(1, number_of_steps(roles))
        self._pace = min(
            (
                self._done(role)
                for name, role in roles.items()
                if role.new < role.target and not self._is_held(name)
            ),
            default=self._steps,
        )

    def step(self) -> Step | None:
        if 0 in self._newest.values() and self._can_end():
            # Whoever ended it did not get to all of its roles.
            return Step(old=dict.fromkeys(self._newest, 0), revision=self._index)
        grown, due = self._grown(), self._due()
        grows = any(grown[name] > role.new for name, role in self._roles.items())
        if grows and all(grown[name] >= due[name] for name in self._roles if not self._is_held(name)):
            return Step(new=grown)
        drained = self._drained(due)
        if drained != self._newest:
            return Step(old=drained, revision=self._index)
        # Room for a part of a batch is better than none, and what is left lets nothing else happen.
        return Step(new=grown) if grows else None

    def _done(self, role: Role) -> int:
        """The last step whose groups the role's new revision has."""
        return role.new * self._steps // role.target if role.target else self._steps

    def _room(self, name: str) -> int:
        role = self._roles[name]
        return role.target + role.max_surge - self._left[name] - role.new

    def _is_held(self, name: str) -> bool:
        """It could only grow if its last group of the draining revision went, and that goes with the other roles'."""
        return self._room(name) <= 0 and self._newest.get(name, 0) <= 1

    def _due(self) -> Counts:
        """Groups of the new revision after the next step."""
        step = min(self._pace + 1, self._steps)
        return {
            name: max(role.new, at_step(step, role.target, self._steps)) for name, role in self._roles.items()
        }

    def _grown(self) -> Counts:
        """The same as far as there is room."""
        due = self._due()
        return {
            name: role.new + max(0, min(due[name] - role.new, self._room(name)))
            for name, role in self._roles.items()
        }

    def _least(self, name: str) -> int:
        """As few groups of all old revisions as the role can do with."""
        role = self._roles[name]
        return max(0, role.target - role.max_unavailable - role.new)

    def _drained(self, due: Counts) -> Counts:
        """The newest old revision after as much is taken from it as the pace says, or as the next growth needs."""
        wanted: Counts = {}
        for name, has in self._newest.items():
            role, left = self._roles[name], self._left[name]
            room_needed = role.target + role.max_surge - due[name] if due[name] > role.new else left
            paced = left_at_step(self._pace, role.initial, self._steps)
            take = left - max(min(paced, room_needed), self._least(name))
            wanted[name] = max(0, has - max(0, take))
        return self._together(wanted)

    def _together(self, wanted: Counts) -> Counts:
        """All that has any comes to nothing at once, or nothing does."""
        ends = [name for name, has in self._newest.items() if has and wanted[name] == 0]
        if not ends:
            return wanted
        return dict.fromkeys(wanted, 0) if self._can_end() else wanted | dict.fromkeys(ends, 1)

    def _can_end(self) -> bool:
        """Each role can do without what is left of the draining revision."""
        return all(
            has == 0 or self._left[name] - has >= self._least(name) for name, has in self._newest.items()
        )
