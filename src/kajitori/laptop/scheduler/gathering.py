"""Gangs that come together: which pods of each wait for nodes, and when they are to be planned.

A gang is planned as soon as all its pods are there. One of which some pods hold nodes already is planned with what has come
once nothing more has come for a moment: pods of it that are lost are made again one by one, and pods that have done
their work never. What waits longer than that is handed on too, so that it is told what is missing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from kajitori.scheduling.demand import Demand

PATIENCE_SECONDS = 1.0


class Gathering:
    """Members by gang. Times are of whichever clock the caller has, in seconds."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[str, None]] = {}
        self._done: dict[str, set[str]] = {}
        self._patient_until: dict[str, float] = {}
        self._gang_of: dict[str, str] = {}

    def add(self, demand: Demand, now: float) -> None:
        """A member needs a node."""
        self._waiting.setdefault(demand.group, {})[demand.uid] = None
        self._gang_of[demand.uid] = demand.group
        self._patient_until[demand.group] = now + PATIENCE_SECONDS

    def remove(self, uid: str) -> None:
        """It needs none any more: it got one, or is gone."""
        gang = self._gang_of.pop(uid, "")
        waiting = self._waiting.get(gang)
        if waiting is not None:
            waiting.pop(uid, None)
            if not waiting:
                del self._waiting[gang]
                self._patient_until.pop(gang, None)

    def set_done(self, gang: str, uid: str) -> None:
        """A member has done its work."""
        self._done.setdefault(gang, set()).add(uid)

    def forget_done(self, gang: str, uid: str) -> None:
        """A member that may have done its work does not exist any more."""
        done = self._done.get(gang)
        if done is not None:
            done.discard(uid)
            if not done:
                del self._done[gang]

    @property
    def done(self) -> Mapping[str, int]:
        """By gang, how many of its pods have done their work."""
        return {gang: len(uids) for gang, uids in self._done.items()}

    def waiting(self, gang: str) -> Collection[str]:
        """Uids of its members that need nodes."""
        return self._waiting.get(gang, {}).keys()

    def is_due(self, gang: str, size: int, placed: Iterable[Demand], now: float) -> bool:
        """Whether it is to be planned now. placed: pods of it that the cluster's state holds."""
        if now >= self._patient_until.get(gang, now):
            return True
        waiting = self._waiting.get(gang, {})
        held = sum(not pod.leaving and pod.uid not in waiting for pod in placed)
        return len(waiting) + held + len(self._done.get(gang, ())) >= size

    def patience(self, gang: str, now: float) -> float:
        """Seconds until it is due in any case; 0 where nobody waits."""
        return max(0.0, self._patient_until.get(gang, now) - now)
