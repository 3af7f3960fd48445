"""One slice as it is: its LeaderWorkerSets by role and revision, and the numbers that a rollout asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kajitori.api.disaggregatedset import v1
from kajitori.base.whole_numbers import whole_number
from kajitori.groups.disaggregated_sets.observed import Child, Service, World
from kajitori.groups.disaggregated_sets.revisions import newest_first
from kajitori.groups.disaggregated_sets.rollout import Counts, Role


class SliceView:
    """The LeaderWorkerSets of one slice, told apart, and its Services. targets: wanted groups of each role."""

    def __init__(
        self,
        world: World,
        slice: int,
        revision: str,
        targets: Mapping[str, int],
        children: Sequence[Child],
        services: Sequence[Service],
    ) -> None:
        self.world = world
        self.slice = slice
        self.revision = revision
        self.targets = targets
        self.services = services
        self.current = {child.role: child for child in children if child.revision == revision}
        others = [child for child in children if child.revision != revision]
        self.old = [
            {child.role: child for child in others if child.revision == name} for name in newest_first(others)
        ]

    @property
    def rolling(self) -> bool:
        return any(child.replicas for made in self.old for child in made.values())

    def initial(self, child: Child) -> int | None:
        """Groups that it had when the rollout began; None if nobody noted it."""
        return whole_number(child.annotation(v1.INITIAL_REPLICAS_ANNOTATION))

    def counts(self) -> list[Counts]:
        """Groups of old revisions, without roles that had none in the first place."""
        return [
            {role: child.replicas for role, child in made.items() if child.replicas or self.initial(child)}
            for made in self.old
        ]

    def roles(self) -> dict[str, Role]:
        """The numbers of each role, those that are going included."""
        initial: Counts = {}
        for made in self.old:
            for role, child in made.items():
                noted = self.initial(child)
                initial[role] = initial.get(role, 0) + (child.replicas if noted is None else noted)
        numbers = {role: Role(initial=groups) for role, groups in initial.items()}
        for role in self.world.set.spec.roles:
            made = self.current.get(role.name)
            new = made.replicas if made else 0
            target = self.targets[role.name]
            if role.external and self.rolling:
                # An autoscaler that sees fewer requests for a moment must not undo what the rollout has done.
                target = max(target, new)
            surge, unavailable = role.bounds(target)
            numbers[role.name] = Role(
                target=target,
                new=new,
                initial=initial.get(role.name, 0),
                max_surge=surge,
                max_unavailable=unavailable,
            )
        return numbers

    @property
    def stable(self) -> bool:
        """All roles of the current revision are there with all of their groups ready."""
        return all(role in self.current and self.current[role].settled for role in self.world.set.role_names)
