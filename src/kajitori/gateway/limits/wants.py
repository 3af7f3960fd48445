"""What each limit wants of the store for a request.

Requests of one route, key, tenant and model are alike to limits that select by nothing else: for them only amounts and
windows are looked at again. A limit that selects by backend is looked at once for each backend that the request may go to: it
closes that backend, and stops the request only if all of them are closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from kajitori.gateway.accounting.accountant_policy import TargetFacts
from kajitori.gateway.accounting.charges import Charger
from kajitori.gateway.limits.amounts import reserved_amount
from kajitori.gateway.limits.decision import Hold
from kajitori.gateway.limits.limit import USD
from kajitori.gateway.limits.request import Request, Verdict
from kajitori.gateway.limits.windows import Span
from kajitori.gateway.limits.wording import unpriced

if TYPE_CHECKING:
    from kajitori.gateway.limits.matching import CompiledLimit


class Tag(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a hold was made for. backend, model: empty where it speaks of the request as a whole."""

    limit: str
    backend: str = ""
    model: str = ""


class Asked(msgspec.Struct, frozen=True, gc=False):
    """A question for the store. tags, limits, spans: one a hold. candidates: backends by number. All but holds and spans is
    shared with other questions: nobody changes it.

    passes_without_store: whether no limit says to refuse while the store is lost. told: the numbers of those limits that clients
    are told of. shadows: whether there are any that are only counted.
    """

    holds: list[Hold]
    tags: list[Tag]
    limits: list[CompiledLimit]
    spans: list[Span]
    groups: list[int]
    candidates: list[TargetFacts]
    open_candidates: list[int]
    passes_without_store: bool
    told: list[int]
    shadows: bool


class _Want:
    """What one limit wants of requests that are alike. targets: whom the dearest is sought among. model: that they ask for."""

    __slots__ = ("_counter", "_span", "compiled", "distinct", "group", "model", "targets")

    def __init__(
        self,
        compiled: CompiledLimit,
        distinct: tuple[str, ...],
        group: int,
        targets: Sequence[TargetFacts],
        model: str,
    ) -> None:
        self.compiled = compiled
        self.distinct = distinct
        self.group = group
        self.targets = targets
        self.model = model
        self._span: Span | None = None
        self._counter = ""

    def counter(self, span: Span, now: float) -> str:
        """As the limit says; asked once a slot, but for a name that it has for want of room."""
        if span is self._span:
            return self._counter
        found = self.compiled.counter(self.distinct, span, now)
        if found != self.compiled.others:
            self._span, self._counter = span, found
        return found


class Wants:
    """What all limits want of requests that are alike, but for how much, and when."""

    def __init__(self) -> None:
        self.all: list[_Want] = []
        self.tags: list[Tag] = []
        self.limits: list[CompiledLimit] = []
        self.groups: list[int] = []
        self.candidates: list[TargetFacts] = []
        self.open_candidates: list[int] = []
        self.passes_without_store = True
        self.told: list[int] = []
        self.shadows = False

    def ask(self, charger: Charger, request: Request, now: float) -> Asked | Verdict | None:
        """See `Matcher.ask`."""
        holds: list[Hold] = []
        spans: list[Span] = []
        for want in self.all:
            compiled = want.compiled
            limit = compiled.limit
            amount = reserved_amount(charger, limit, request, want.targets)
            if amount is None:
                if limit.unpriced == "Deny" and not limit.shadow:
                    return unpriced(limit, want.model)
                amount = 0
            span = compiled.window.at(now)
            holds.append(
                Hold(
                    want.counter(span, now),
                    span.slot,
                    span.oldest,
                    span.newest,
                    span.keep,
                    amount,
                    compiled.capacity,
                    compiled.kind,
                    want.group,
                    span.forget,
                )
            )
            spans.append(span)
        if not holds:
            return None
        return Asked(
            holds,
            self.tags,
            self.limits,
            spans,
            self.groups,
            self.candidates,
            self.open_candidates,
            self.passes_without_store,
            self.told,
            self.shadows,
        )


def gather(request: Request, limits: Iterable[CompiledLimit], targets: Sequence[TargetFacts]) -> Wants:
    """What limits want of a request, by the names that limits speak of, and of all that are like it. targets: whom it may go to."""
    gathering = _Gathering(request, targets)
    for compiled in limits:
        gathering.add(compiled)
    return gathering.wants()


class _Gathering:
    """Wants as they come together."""

    def __init__(self, request: Request, targets: Sequence[TargetFacts]) -> None:
        self._request = request
        self._targets = targets
        self._wants = Wants()
        self._groups: dict[tuple[int, str], int] = {}
        self._candidates: dict[tuple[str, str], int] = {}

    def add(self, compiled: CompiledLimit) -> None:
        """Adds what a limit wants."""
        conditions = compiled.conditions
        if not conditions.of_backend:
            distinct = conditions.holds(self._request, None)
            if distinct is not None:
                self._want(compiled, distinct, None, self._targets)
            return
        for candidate in self._all_candidates():
            distinct = conditions.holds(self._request, candidate)
            if distinct is not None:
                self._want(compiled, distinct, candidate, (candidate,))

    def wants(self) -> Wants:
        """All of them."""
        wants = self._wants
        named = set(wants.groups)
        if named != {-1}:
            wants.open_candidates.extend(
                number for number in range(len(wants.candidates)) if number not in named
            )
        return wants

    def _all_candidates(self) -> list[TargetFacts]:
        wants = self._wants
        if not self._candidates:
            for target in self._targets:
                place = target.backend, target.model or self._request.model
                if place not in self._candidates:
                    self._candidates[place] = len(wants.candidates)
                    wants.candidates.append(target)
        return wants.candidates

    def _want(
        self,
        compiled: CompiledLimit,
        distinct: tuple[str, ...],
        candidate: TargetFacts | None,
        targets: Sequence[TargetFacts],
    ) -> None:
        limit, wants, model = compiled.limit, self._wants, self._request.model
        number = -1
        tag = Tag(limit.name)
        if candidate is not None:
            model = candidate.model or model
            tag = Tag(limit.name, candidate.backend, model)
            number = self._candidates[tag.backend, tag.model]
        # A shadow never stands in for a limit of its group that is meant.
        place = number, (limit.group if not limit.shadow else "") or f"\0{len(wants.all)}"
        group = self._groups.get(place)
        if group is None:
            group = self._groups[place] = len(wants.groups)
            wants.groups.append(number)
        if limit.headers and not limit.shadow and limit.counts != USD:
            wants.told.append(len(wants.all))
        wants.all.append(_Want(compiled, distinct, group, targets, model))
        wants.tags.append(tag)
        wants.limits.append(compiled)
        wants.shadows = wants.shadows or limit.shadow
        if limit.deny_without_store and not limit.shadow:
            wants.passes_without_store = False
