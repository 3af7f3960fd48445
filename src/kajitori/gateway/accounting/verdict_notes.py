"""What admission did to a request, remembered until the request is booked: Envoy's log tells only that it was refused.

Kept in memory alone. Most requests leave nothing: those that passed at once.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from kajitori.gateway.accounting.admission_server import Admission
    from kajitori.gateway.limits.request import Request, Verdict

_MOST_NOTES = 10_000
# Answers that took less say nothing of waiting.
_WORTH_TELLING_SECONDS = 0.001


class Note(msgspec.Struct, frozen=True, gc=False):
    """seconds: that the answer took, 0 for a moment. limit: that refused, refusal: in which words."""

    seconds: float = 0.0
    limit: str = ""
    refusal: str = ""


NOTHING = Note()


class VerdictNotes:
    """Stands before whoever decides, and listens."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._notes: OrderedDict[str, Note] = OrderedDict()

    def admit_at_once(self, request: Request) -> Verdict | None:
        """As whoever decides says, if at once."""
        verdict = self._admission.admit_at_once(request)
        if verdict is not None and not verdict.allowed:
            self._keep(request.id, Note(0.0, verdict.limit, verdict.message))
        return verdict

    async def admit(self, request: Request) -> Verdict:
        """As whoever decides says."""
        began = time.perf_counter()
        verdict = await self._admission.admit(request)
        seconds = time.perf_counter() - began
        if not verdict.allowed or seconds >= _WORTH_TELLING_SECONDS:
            refusal = "" if verdict.allowed else verdict.message
            self._keep(request.id, Note(seconds, "" if verdict.allowed else verdict.limit, refusal))
        return verdict

    def _keep(self, request_id: str, note: Note) -> None:
        self._notes[request_id] = note
        if len(self._notes) > _MOST_NOTES:
            self._notes.popitem(last=False)

    def look(self, request_id: str) -> Note:
        """What is known of a request; it stays known."""
        return self._notes.get(request_id, NOTHING)

    def take(self, request_id: str) -> Note:
        """What is known of a request; it is forgotten with that."""
        return self._notes.pop(request_id, NOTHING) if self._notes else NOTHING
