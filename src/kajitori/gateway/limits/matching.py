"""Which limits bear upon a request, and what each wants of the store. Pure but for the clock that is handed in.

A limit that selects by backend is looked at once for each backend that the request may go to: it closes that backend,
and stops the request only if all of them are closed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from kajitori.base.errors import UserError
from kajitori.gateway.accounting.accountant_policy import AccountantPolicy, KeyFacts, RouteFacts, TargetFacts
from kajitori.gateway.accounting.charges import Charger
from kajitori.gateway.limits.amounts import capacity, check_counts, reserved_amount
from kajitori.gateway.limits.decision import Hold, HoldKind
from kajitori.gateway.limits.limit import LOGGED_FACTS, REQUESTS, USD, Limit
from kajitori.gateway.limits.request import Request, Verdict
from kajitori.gateway.limits.selectors import Conditions, counter_name
from kajitori.gateway.limits.windows import Span, WindowClock
from kajitori.gateway.limits.wording import unpriced

_log = logging.getLogger(__name__)

_MOST_DISTINCT = 50_000
_MOST_SCOPES = 10_000
OTHERS = "others"
_NO_ROUTE = RouteFacts()


class CompiledLimit:
    """A limit ready to be asked. Raises UserError for one that makes no sense. is_logged: whether it can be told whom it
    concerns when a request has ended.
    """

    __slots__ = ("_seen", "capacity", "conditions", "is_logged", "kind", "limit", "window")

    def __init__(self, limit: Limit) -> None:
        check_counts(limit)
        self.limit = limit
        self.capacity = capacity(limit)
        self.conditions = Conditions(limit.selectors)
        self.window = WindowClock(limit.window)
        self.kind: HoldKind = (
            "shadow" if limit.shadow else "soft" if not limit.strict else "clip" if limit.clip else "strict"
        )
        self.is_logged = all(selector.fact in LOGGED_FACTS for selector in limit.selectors)
        self._seen: dict[str, int] = {}

    def counter(self, distinct: tuple[str, ...], span: Span, now: float) -> str:
        """The name to count under. Beyond 50,000 different values in a window all new ones count as one."""
        name = counter_name(self.limit.name, distinct)
        if not distinct:
            return name
        seen = self._seen
        if name not in seen and len(seen) >= _MOST_DISTINCT:
            for old in [each for each, forget in seen.items() if forget <= now]:
                del seen[old]
            if len(seen) >= _MOST_DISTINCT:
                return f"{self.limit.name}|{OTHERS}"
        seen[name] = span.forget
        return name


class Tag(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a hold was made for. backend, model: empty where it speaks of the request as a whole."""

    limit: str
    backend: str = ""
    model: str = ""


class Asked(msgspec.Struct, frozen=True, gc=False):
    """A question for the store. tags, limits, spans: one a hold. candidates: backends by number."""

    holds: list[Hold]
    tags: list[Tag]
    limits: list[CompiledLimit]
    spans: list[Span]
    groups: list[int]
    candidates: list[TargetFacts]
    open_candidates: list[int]


class _Scope(NamedTuple):
    """What is the same for all requests of a route, a rule and a key that name a model, or none.

    targets: whom they may go to. limits: that may hold for them. Nobody changes the lists.
    """

    key: KeyFacts | None
    limits: list[CompiledLimit]
    targets: list[TargetFacts]


class Matcher:
    """The limits of one policy. Limits that cannot be compiled are left out and logged; the plan tells of them."""

    def __init__(self, policy: AccountantPolicy) -> None:
        self.charger = Charger(policy)
        self._routes = policy.routes
        self._keys = policy.keys
        self._budgets = policy.budgets
        self._compiled: list[CompiledLimit | None] = [_compile(limit) for limit in policy.limits]
        self.by_name = {each.limit.name: each for each in self._compiled if each is not None}
        self._scopes: dict[tuple[str, str, str, bool], _Scope] = {}

    def of_request(self, request: Request) -> tuple[Request, list[CompiledLimit]]:
        """The request by the names that limits speak of, and all limits that may hold for it."""
        scope = self._scope(request)
        if scope.key is not None:
            # Envoy tells the id that stands in the key; limits speak of names.
            request = msgspec.structs.replace(request, key=scope.key.name, tenant=scope.key.tenant)
        return request, scope.limits

    def ask(self, request: Request, now: float) -> Asked | Verdict | None:
        """What to ask the store; a verdict where there is nothing to ask, None where no limit holds."""
        request, limits = self.of_request(request)
        if not limits:
            return None
        question = _Question(self.charger, request, self._scope(request).targets, now)
        for compiled in limits:
            verdict = question.add(compiled)
            if verdict is not None:
                return verdict
        return question.asked()

    def _scope(self, request: Request) -> _Scope:
        place = request.route, request.key, request.rule, bool(request.model)
        found = self._scopes.get(place)
        if found is None:
            if len(self._scopes) >= _MOST_SCOPES:
                self._scopes.clear()
            found = self._scopes[place] = self._make_scope(request)
        return found

    def _make_scope(self, request: Request) -> _Scope:
        facts = self._routes.get(request.route, _NO_ROUTE)
        key = self._keys.get(request.key)
        numbers = dict.fromkeys(facts.limits)
        if key is not None:
            numbers |= dict.fromkeys(
                self._budgets[budget] for budget in key.budgets if budget in self._budgets
            )
        found = [compiled for number in numbers if (compiled := self._compiled[number]) is not None]
        return _Scope(
            key,
            [compiled for compiled in found if _may_take(compiled.limit, request, facts)],
            [target for target in facts.targets if request.rule in ("", str(target.rule))],
        )


def _may_take(limit: Limit, request: Request, facts: RouteFacts) -> bool:
    """Requests of a plain route take neither tokens nor money; those that name no model (files, batches) no money."""
    if limit.counts == REQUESTS:
        return True
    return bool(facts.targets) and (limit.counts != USD or bool(request.model))


def _compile(limit: Limit) -> CompiledLimit | None:
    try:
        return CompiledLimit(limit)
    except UserError as error:
        _log.error("limit %s is left out: %s", limit.name, error)
        return None
    except Exception:
        # A defect of ours that one limit meets; it must not take the others with it.
        _log.exception("limit %s is left out", limit.name)
        return None


class _Question:
    """Holds as they gather."""

    def __init__(
        self, charger: Charger, request: Request, targets: Sequence[TargetFacts], now: float
    ) -> None:
        self._charger = charger
        self._request = request
        self._targets = targets
        self._now = now
        self._asked = Asked([], [], [], [], [], [], [])
        self._groups: dict[tuple[int, str], int] = {}
        self._candidates: dict[tuple[str, str], int] = {}

    def add(self, compiled: CompiledLimit) -> Verdict | None:
        """Adds what a limit wants. A verdict: the request cannot pass whatever the store says."""
        conditions = compiled.conditions
        if not conditions.of_backend:
            distinct = conditions.holds(self._request, None)
            if distinct is None:
                return None
            return self._hold(compiled, distinct, None, self._targets)
        for candidate in self._all_candidates():
            distinct = conditions.holds(self._request, candidate)
            if distinct is not None:
                verdict = self._hold(compiled, distinct, candidate, (candidate,))
                if verdict is not None:
                    return verdict
        return None

    def asked(self) -> Asked | None:
        asked = self._asked
        if not asked.holds:
            return None
        named = set(asked.groups)
        if named != {-1}:
            asked.open_candidates.extend(
                number for number in range(len(asked.candidates)) if number not in named
            )
        return asked

    def _all_candidates(self) -> list[TargetFacts]:
        asked = self._asked
        if not self._candidates:
            for target in self._targets:
                place = target.backend, target.model or self._request.model
                if place not in self._candidates:
                    self._candidates[place] = len(asked.candidates)
                    asked.candidates.append(target)
        return asked.candidates

    def _hold(
        self,
        compiled: CompiledLimit,
        distinct: tuple[str, ...],
        candidate: TargetFacts | None,
        targets: Sequence[TargetFacts],
    ) -> Verdict | None:
        limit, request, asked = compiled.limit, self._request, self._asked
        amount = reserved_amount(self._charger, limit, request, targets)
        if amount is None:
            if limit.unpriced == "Deny" and not limit.shadow:
                model = (candidate.model if candidate else "") or request.model
                return unpriced(limit, model)
            amount = 0
        number = -1
        tag = Tag(limit.name)
        if candidate is not None:
            tag = Tag(limit.name, candidate.backend, candidate.model or request.model)
            number = self._candidates[tag.backend, tag.model]
        # A shadow never stands in for a limit of its group that is meant.
        place = number, (limit.group if not limit.shadow else "") or f"\0{len(asked.holds)}"
        group = self._groups.get(place)
        if group is None:
            group = self._groups[place] = len(asked.groups)
            asked.groups.append(number)
        span = compiled.window.at(self._now)
        counter = compiled.counter(distinct, span, self._now)
        asked.holds.append(
            Hold(
                counter,
                span.slot,
                span.oldest,
                span.newest,
                span.keep,
                amount,
                compiled.capacity,
                compiled.kind,
                group,
                span.forget,
            )
        )
        asked.tags.append(tag)
        asked.limits.append(compiled)
        asked.spans.append(span)
        return None
