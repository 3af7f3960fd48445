"""What requests took that nobody was asked about, added up until the store has it. Pure but for the clock that is handed in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kajitori.base.clock import Clock
from kajitori.gateway.accounting.accountant_policy import TargetFacts
from kajitori.gateway.limits.amounts import MOST, failed_amount, real_amount
from kajitori.gateway.limits.decision import Taken
from kajitori.gateway.limits.limit import REQUESTS, Limit
from kajitori.gateway.limits.matching import CompiledLimit, Matcher
from kajitori.gateway.limits.request import Request, Settlement
from kajitori.gateway.rescue.legs import LEG_MARK

_MOST_PENDING = 100_000


class PendingCharges:
    """unpriced: limits of which a request without a price was charged that refuse such. dropped: for want of room."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pending: dict[tuple[str, int], Taken] = {}
        self.unpriced: set[str] = set()
        self.dropped = 0

    def __bool__(self) -> bool:
        return bool(self._pending)

    def configure(self, matcher: Matcher, limits: Mapping[str, CompiledLimit]) -> None:
        """limits: by name, those that nobody is asked about."""
        self._matcher = matcher
        self._limits = limits
        self.unpriced.intersection_update(limits)

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
            )
        )
        began = settlement.began or self._clock.now()
        target = TargetFacts(0, 0, settlement.backend, settlement.backend_model)
        for compiled in limits:
            conditions = compiled.conditions
            if conditions.of_backend and not settlement.backend:
                continue
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

    def take(self) -> list[Taken]:
        """All, which is the store's from now on."""
        taken, self._pending = list(self._pending.values()), {}
        return taken

    def give_back(self, taken: Iterable[Taken]) -> None:
        """What the store did not take."""
        for each in taken:
            self._keep(each)

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
            model = settlement.backend_model or settlement.model
            found = real_amount(
                self._matcher.charger,
                limit,
                settlement.route,
                settlement.rule,
                settlement.backend,
                model,
                usage,
            )
            if found is None and limit.unpriced == "Deny":
                self.unpriced.add(limit.name)
            amount = once if found is None else found
        # What is taken for each request is taken once, however many backends went on with its stream.
        return amount - once if LEG_MARK in settlement.id else amount
