"""Of hedged requests: what was reserved for one stays reserved until it has its answer, whichever leg gives that. Pure.

A leg that was overtaken ends when the answer begins. Its ending waits for the leg that answers, or for the line of the whole
request, which also comes when the client leaves. A process that is killed meanwhile leaves the reservation to the other leg.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Sequence

from kajitori.gateway.limits.request import Settlement
from kajitori.gateway.rescue.legs import base_id

_MOST_REMEMBERED = 2_000


class HedgedEndings:
    """Endings of first legs that were overtaken."""

    def __init__(self) -> None:
        self._waiting: dict[str, Settlement] = {}
        self._due: list[Settlement] = []
        # Requests that were over before their first leg was told of.
        self._over: OrderedDict[str, None] = OrderedDict()

    def note_over(self, request_id: str) -> bool:
        """A request has had its answer, or its client has left. Whether something is due by that."""
        first = self._waiting.pop(request_id, None)
        if first is not None:
            self._due.append(first)
            return True
        self._over[request_id] = None
        if len(self._over) > _MOST_REMEMBERED:
            self._over.popitem(last=False)
        return False

    def due(self, settlements: Sequence[Settlement], under_way: Container[str]) -> list[Settlement]:
        """What is to be booked now. under_way: ids of requests that something is reserved for."""
        found: list[Settlement] = []
        for each in settlements:
            base = base_id(each.id)
            if base and not each.overtaken and base in under_way:
                self.note_over(base)
            elif each.overtaken and each.id in under_way and each.id not in self._over:
                self._waiting[each.id] = each
                continue
            self._over.pop(each.id, None)
            found.append(each)
        # First legs come first: their reservations end, and what others took comes on top.
        found, self._due = [*self._due, *found], []
        return found

    def forget(self, request_id: str) -> None:
        """Its reservation has run out."""
        self._waiting.pop(request_id, None)
