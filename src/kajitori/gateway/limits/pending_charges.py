"""What requests took that nobody was asked about, added up until the store has it.

What was sent to a store that did not answer may have been booked or not: it is sent again just as it was, under the same
number, so that it counts once. With the last of it goes how far the log is booked.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping
from typing import NamedTuple

from kajitori.base.clock import Clock
from kajitori.gateway.accounting.accountant_policy import TargetFacts
from kajitori.gateway.accounting.costs import Usage
from kajitori.gateway.limits.amounts import MOST, NOTHING, failed_amount, real_amount
from kajitori.gateway.limits.decision import Taken
from kajitori.gateway.limits.limit import REQUESTS, USD, Limit
from kajitori.gateway.limits.matching import CompiledLimit, Matcher
from kajitori.gateway.limits.request import Request, Settlement
from kajitori.gateway.limits.settling import Counts
from kajitori.gateway.limits.store import Receipt, Store
from kajitori.gateway.rescue.legs import LEG_MARK

_MOST_PENDING = 100_000
# A shared store serves nobody else meanwhile: a millisecond.
_MOST_IN_A_BOOKING = 500


class _Booking(NamedTuple):
    taken: list[Taken]
    receipt: Receipt


class PendingCharges:
    """source: whose bookings these are, see `Receipt`. unpriced: by limits that refuse what has no price, models that were
    charged and have none, as clients call them. dropped: for want of room.
    """

    def __init__(self, clock: Clock, source: str, counts: Counts) -> None:
        self._clock = clock
        self._counts = counts
        self._source = source
        self._began = time.time_ns()
        self._numbers = itertools.count()
        self._lock = asyncio.Lock()
        self._pending: dict[tuple[str, int], Taken] = {}
        self._position = b""
        self._sent: _Booking | None = None
        self._unpriced: dict[str, dict[str, Settlement]] = {}
        self.dropped = 0

    def __bool__(self) -> bool:
        return bool(self._pending or self._position or self._sent)

    def configure(self, matcher: Matcher, limits: Mapping[str, CompiledLimit]) -> None:
        """limits: by name, those that nobody is asked about."""
        self._matcher = matcher
        self._limits = limits
        self._unpriced = {
            name: models
            for name, known in self._unpriced.items()
            if name in limits and (models := self._still_unpriced(limits[name].limit, known))
        }

    @property
    def unpriced(self) -> dict[str, frozenset[str]]:
        return {name: frozenset(models) for name, models in self._unpriced.items()}

    def _still_unpriced(self, limit: Limit, known: dict[str, Settlement]) -> dict[str, Settlement]:
        if limit.counts != USD or limit.unpriced != "Deny":
            return {}
        return {model: each for model, each in known.items() if self._priced(limit, each, NOTHING) is None}

    def add(self, settlement: Settlement, charged: dict[str, CompiledLimit]) -> None:
        """Charges a request. charged: gets the counts of limits that nobody is asked about; where nobody was until a moment
        ago there may be strict ones, too.
        """
        request, limits = self._matcher.of_request(
            Request(
                id=settlement.id,
                route=settlement.route,
                rule=settlement.rule,
                model=settlement.model,
                key=settlement.key,
                tenant=settlement.tenant,
                client=settlement.client,
                method=settlement.method,
            )
        )
        began = settlement.began or self._clock.now()
        target = TargetFacts(0, 0, settlement.backend, settlement.backend_model)
        for compiled in limits:
            conditions = compiled.conditions
            if conditions.of_backend and not settlement.backend:
                continue
            if not compiled.is_logged:
                continue  # a fact that is forgotten is not one that was missing
            distinct = conditions.holds(request, target if conditions.of_backend else None)
            amount = self._amount(compiled.limit, settlement) if distinct is not None else 0
            if distinct is None or amount <= 0:
                continue
            span = compiled.window.at(began)
            counter = compiled.counter(distinct, span, began)
            known = self._pending.get((counter, span.slot))
            if known is not None:
                known.amount = min(known.amount + amount, MOST)
            else:
                self._keep(Taken(counter, span.slot, amount, span.forget, span.keep))
            if compiled.limit.name in self._limits:
                charged[counter] = compiled

    async def hand_over(self, store: Store, position: bytes = b"") -> list[Taken]:
        """Has the store book all; gives what that was. position: of the log, up to which this is all.

        Raises StoreLost: what is left is handed over with the next.
        """
        self._position = position or self._position
        booked: list[Taken] = []
        async with self._lock:
            while self:
                if self._sent is None:
                    self._sent = self._next()
                await store.book(self._sent.taken, now=self._clock.now(), receipt=self._sent.receipt)
                booked += self._sent.taken
                self._sent = None
        return booked

    def _next(self) -> _Booking:
        places = list(itertools.islice(self._pending, _MOST_IN_A_BOOKING))
        taken = [self._pending.pop(place) for place in places]
        position = b""
        if not self._pending:
            position, self._position = self._position, b""
        return _Booking(taken, Receipt(self._source, f"{self._began}.{next(self._numbers)}", position))

    def _keep(self, taken: Taken) -> None:
        place = taken.counter, taken.slot
        known = self._pending.get(place)
        if known is not None:
            known.amount = min(known.amount + taken.amount, MOST)
        elif len(self._pending) < _MOST_PENDING:
            self._pending[place] = taken
        else:
            self.dropped += 1

    def _amount(self, limit: Limit, settlement: Settlement) -> int:
        once = failed_amount(limit)
        usage = settlement.usage
        if limit.counts == REQUESTS or usage is None:
            amount = once
        else:
            if settlement.estimated:
                self._counts.note_estimate(limit.name)
            found = self._priced(limit, settlement, usage)
            if found is None and limit.unpriced == "Deny" and not limit.shadow:
                self._unpriced.setdefault(limit.name, {}).setdefault(settlement.model, settlement)
            amount = once if found is None else found
        # What is taken for each request is taken once, however many backends went on with its stream.
        return amount - once if LEG_MARK in settlement.id else amount

    def _priced(self, limit: Limit, settlement: Settlement, usage: Usage) -> int | None:
        model = settlement.backend_model or settlement.model
        return real_amount(
            self._matcher.charger,
            limit,
            settlement.route,
            settlement.rule,
            settlement.backend,
            model,
            usage,
        )
