"""What the controller knows of a set between two reconciles and cannot read from the API: little, and not for long.

All of it may be lost with the process. Ends that were decided are then found again in the pods that are still
there or in the history of the set, and names that are taken are met again when the next create is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kajitori.api.leaderworkerset import v1
from kajitori.groups.leader_worker_sets.actions import Plan
from kajitori.groups.leader_worker_sets.budget import Life
from kajitori.groups.leader_worker_sets.history import records_of
from kajitori.groups.leader_worker_sets.observed import World
from kajitori.groups.leader_worker_sets.restart import Restart

TAKEN_SECONDS = 30.0


class Memory:
    """Of one set, told from another of the same name by its uid.

    restarts: groups that are on their way out, or wait to begin anew. lives: see `budget`. unrecorded: restarts that
    could not be written into the status yet. command_failures: why containers of a group could not be restarted in place.
    """

    def __init__(self, uid: str, restarts: Mapping[int, Restart] | None = None) -> None:
        self.uid = uid
        self.restarts: Mapping[int, Restart] = restarts or {}
        self.lives: Mapping[int, Life] = {}
        self.unrecorded: Sequence[v1.GroupRestart] = ()
        self.command_failures: dict[int, str] = {}
        self._commands_run: set[tuple[str, str, int]] = set()
        self._taken: dict[str, tuple[str, float]] = {}

    def note_plan(self, world: World, plan: Plan) -> None:
        """The plan is about to be carried out, as far as it goes beyond what comes before any pod."""
        self.restarts = plan.restarts
        self.lives = plan.lives
        self.unrecorded = [*self.unrecorded, *records_of(world, plan)]
        # They were about a restart in place that is over with this plan.
        self.command_failures = {}
        if not plan.restart_containers:
            self._commands_run.clear()

    def is_first_run(self, pod_uid: str, container: str, restarts: int) -> bool:
        """Whether no command was run yet in the container as it is since so many restarts; from now on one was."""
        key = (pod_uid, container, restarts)
        first = key not in self._commands_run
        self._commands_run.add(key)
        return first

    def note_taken(self, name: str, holder: str, now: float) -> None:
        """A create found `name` (`Pod x-0`) in use; do not try again for a while. now: seconds since 1970."""
        self._taken[name] = (holder, now + TAKEN_SECONDS)

    def taken(self, now: float) -> dict[str, str]:
        """Names that are in use and by whom, as far as it is fresh."""
        self._taken = {name: entry for name, entry in self._taken.items() if entry[1] > now}
        return {name: holder for name, (holder, _) in self._taken.items()}
