"""What the controller knows of a set between two reconciles and cannot read from the API: little, and not for long.

All of it may be lost with the process. Ends that were decided are then found again in the pods that are still
there or in the history of the set, and names that are taken are met again when the next create is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kajitori.api.leaderworkerset import v1
from kajitori.groups.leader_worker_sets.actions import Plan
from kajitori.groups.leader_worker_sets.budget import Life
from kajitori.groups.leader_worker_sets.history import MOST_RECORDS, records_of
from kajitori.groups.leader_worker_sets.identity import is_hash
from kajitori.groups.leader_worker_sets.observed import Refusal, World, place_of
from kajitori.groups.leader_worker_sets.restart import Restart
from kajitori.groups.names_in_use import NamesInUse

FIRST_REFUSAL_SECONDS = 1.0
LONGEST_REFUSAL_SECONDS = 60.0
# So long after it may be tried again, a refusal is still told of, and makes the next one last longer.
REFUSAL_KEPT_SECONDS = 60.0


class Memory:
    """Of one set, told from another of the same name by its uid.

    restarts: groups that are on their way out, or wait to begin anew. lives: see `budget`. unrecorded: restarts that
    could not be written into the status yet. command_failures: why containers of a group could not be restarted in place.
    pods: see `World.pods_before`.
    """

    def __init__(self, uid: str, restarts: Mapping[int, Restart] | None = None) -> None:
        self.uid = uid
        self.restarts: Mapping[int, Restart] = restarts or {}
        self.lives: Mapping[int, Life] = {}
        self.unrecorded: Sequence[v1.GroupRestart] = ()
        self.command_failures: dict[int, str] = {}
        self.pods: Mapping[str, str] = {}
        self._commands_run: set[tuple[str, str, int]] = set()
        self._names = NamesInUse(uid)
        self._refused: dict[int, tuple[Refusal, int]] = {}
        self._news = False

    def note_plan(self, world: World, plan: Plan) -> None:
        """The plan is about to be carried out, as far as it goes beyond what comes before any pod."""
        self.restarts = plan.restarts
        self.lives = plan.lives
        self.unrecorded = [*self.unrecorded, *records_of(world, plan)][-MOST_RECORDS:]
        # They were about a restart in place that is over with this plan.
        self.command_failures = {}
        if not plan.restart_containers:
            self._commands_run.clear()

    def note_pods(self, world: World) -> None:
        """All that the plan found in these pods is done. One that is gone is remembered until another has its place."""
        makers = {each.metadata.uid for each in world.stateful_sets}
        gone = {place: uid for place, uid in self.pods.items() if place.partition("/")[0] in makers}
        self.pods = gone | {place_of(pod): pod.metadata.uid for pod in world.pods if pod.owner_uid in makers}

    def is_first_run(self, pod_uid: str, container: str, restarts: int) -> bool:
        """Whether no command was run yet in the container as it is since so many restarts; from now on one was."""
        key = (pod_uid, container, restarts)
        first = key not in self._commands_run
        self._commands_run.add(key)
        return first

    def note_taken(self, name: str, holder: str, now: float) -> None:
        """A create found `name` (`Pod x-0`) in use; do not try again for a while. now: seconds since 1970."""
        self._names.note(name, holder, now)
        self._news = True

    def note_refused(self, group: int, message: str, now: float) -> None:
        """The API server did not take a pod of the group; each time in a row it is left alone for longer."""
        known = self._refused.get(group)
        if known is not None and known[0].until > now:
            return
        before = known[1] if known is not None else 0
        if is_hash(group):
            # It had another name the last time.
            before = max((times for one, times in self._refused.values() if one.until <= now), default=0)
        times = before + 1
        delay = min(LONGEST_REFUSAL_SECONDS, FIRST_REFUSAL_SECONDS * 2.0 ** min(times - 1, 30))
        self._refused[group] = (Refusal(message, now + delay), times)
        self._news = True

    def refused(self, now: float) -> dict[int, Refusal]:
        """What was refused lately, by group."""
        fresh = {
            group: one for group, one in self._refused.items() if one[0].until + REFUSAL_KEPT_SECONDS > now
        }
        self._refused = fresh
        return {group: refusal for group, (refusal, _) in fresh.items()}

    def take_news(self) -> bool:
        """Whether something was refused or taken since this was asked last: the set is to be looked at again."""
        news, self._news = self._news, False
        return news

    def taken(self, now: float) -> dict[str, str]:
        """Names that are in use and by whom, as far as it is fresh."""
        return self._names.fresh(now)
