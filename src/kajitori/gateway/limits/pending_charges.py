"""What requests took that nobody was asked about, added up until the store has it. Pure but for the clock that is handed in."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

from kajitori.base.clock import Clock
from kajitori.gateway.accounting.accountant_policy import TargetFacts
from kajitori.gateway.accounting.costs import Usage
from kajitori.gateway.limits.amounts import MOST, NOTHING, failed_amount, real_amount
from kajitori.gateway.limits.decision import Taken
from kajitori.gateway.limits.limit import REQUESTS, USD, Limit
from kajitori.gateway.limits.matching import CompiledLimit, Matcher
from kajitori.gateway.limits.request import Request, Settlement
from kajitori.gateway.rescue.legs import LEG_MARK

_MOST_PENDING = 100_000
# Clients choose the names of models.
_MOST_UNPRICED = 101


class PendingCharges:
    """note_estimate: is told the name of a limit that counts by an estimate. unpriced: by limits that refuse what has no price,
    models that were charged and have none, as clients call them. dropped: for want of room.
    """

    def __init__(self, clock: Clock, note_estimate: Callable[[str], None]) -> None:
        self._clock = clock
        self._note_estimate = note_estimate
        self._pending: dict[tuple[str, int], Taken] = {}
        self._unpriced: dict[str, dict[str, Settlement]] = {}
        self.dropped = 0

    def __bool__(self) -> bool:
        return bool(self._pending)

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
                path=settlement.path,
            )
        )
        began = settlement.began or self._clock.now()
        target = TargetFacts(0, 0, settlement.backend, settlement.backend_model)
        for compiled in limits:
            conditions = compiled.conditions
            if conditions.of_backend and not settlement.backend:
                continue
            if not compiled.is_logged or (compiled.by_path and not settlement.path):
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
                self.keep(Taken(counter, span.slot, amount, span.forget, span.keep))
            if compiled.limit.name in self._limits:
                charged[counter] = compiled

    def take(self, most: int) -> list[Taken]:
        """The oldest, which are somebody else's from now on."""
        return [self._pending.pop(place) for place in list(itertools.islice(self._pending, most))]

    def keep(self, taken: Taken) -> None:
        """Adds what was taken of one counter."""
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
                self._note_estimate(limit.name)
            found = self._priced(limit, settlement, usage)
            if found is None and limit.unpriced == "Deny" and not limit.shadow:
                models = self._unpriced.setdefault(limit.name, {})
                if len(models) < _MOST_UNPRICED:
                    models[settlement.model] = settlement
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
