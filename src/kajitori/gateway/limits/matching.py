"""Which limits bear upon a request: those of its route and its key, and of them those whose selectors choose it.

What they want is found out once for requests that are alike, see `wants`. Pure but for the clock that is handed in.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

import msgspec

from kajitori.base.errors import UserError
from kajitori.gateway.accounting.accountant_policy import AccountantPolicy, KeyFacts, RouteFacts, TargetFacts
from kajitori.gateway.accounting.charges import Charger
from kajitori.gateway.limits.amounts import capacity, check_counts
from kajitori.gateway.limits.decision import HoldKind
from kajitori.gateway.limits.limit import BACKEND_FACTS, LOGGED_FACTS, REQUESTS, USD, Limit, selects_by_path
from kajitori.gateway.limits.request import Request, Verdict
from kajitori.gateway.limits.selectors import Conditions, counter_name
from kajitori.gateway.limits.wants import Asked, Wants, gather
from kajitori.gateway.limits.windows import Span, WindowClock

_log = logging.getLogger(__name__)

_MOST_DISTINCT = 50_000
_MOST_SCOPES = 10_000
# Facts of a request by which its wants are known again. Of the others there are too many.
_PLACE_FACTS = frozenset({"route", "rule", "model", "key", "tenant", *BACKEND_FACTS})
_MOST_PLACES = 10_000
OTHERS = "others"
_NO_ROUTE = RouteFacts()


class CompiledLimit:
    """A limit ready to be asked. Raises UserError for one that makes no sense. is_logged: whether it can be told whom it
    concerns when a request has ended; by_path: of plain routes that is not known.
    """

    __slots__ = (
        "_seen",
        "by_path",
        "capacity",
        "conditions",
        "is_logged",
        "kind",
        "limit",
        "others",
        "window",
    )

    def __init__(self, limit: Limit) -> None:
        check_counts(limit)
        self.limit = limit
        self.capacity = capacity(limit)
        self.conditions = Conditions(limit.selectors)
        self.window = WindowClock(limit.window)
        self.kind: HoldKind = (
            "shadow" if limit.shadow else "soft" if not limit.strict else "clip" if limit.clip else "strict"
        )
        self.by_path = selects_by_path(limit)
        self.is_logged = all(selector.fact in LOGGED_FACTS for selector in limit.selectors)
        # The name that new values share when there are too many.
        self.others = f"{limit.name}|{OTHERS}"
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
                return self.others
        seen[name] = span.forget
        return name


class _Scope(NamedTuple):
    """What is the same for all requests of a route, a rule and a key that name a model, or none.

    targets: whom they may go to. limits: that may hold for them. Nobody changes the lists. alike: whether requests that have
    the facts of `_PLACE_FACTS` in common are alike to all of these limits.
    """

    key: KeyFacts | None
    limits: list[CompiledLimit]
    targets: list[TargetFacts]
    alike: bool


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
        self._wants: dict[tuple[str, str, str, str, str], Wants] = {}

    def of_request(self, request: Request) -> tuple[Request, list[CompiledLimit]]:
        """The request by the names that limits speak of, and all limits that may hold for it."""
        scope = self._scope(request)
        if scope.key is not None:
            # Envoy tells the id that stands in the key; limits speak of names.
            request = msgspec.structs.replace(request, key=scope.key.name, tenant=scope.key.tenant)
        return request, scope.limits

    def ask(self, request: Request, now: float) -> Asked | Verdict | None:
        """What to ask the store; a verdict where there is nothing to ask, None where no limit holds."""
        place = request.route, request.rule, request.key, request.tenant, request.model
        wants = self._wants.get(place)
        if wants is None:
            scope = self._scope(request)
            if not scope.limits:
                return None
            wants = gather(self.of_request(request)[0], scope.limits, scope.targets)
            if scope.alike:
                if len(self._wants) >= _MOST_PLACES:  # clients choose the names of models
                    self._wants.clear()
                self._wants[place] = wants
        return wants.ask(self.charger, request, now)

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
        limits = [compiled for compiled in found if _may_take(compiled.limit, request, facts)]
        selectors = (selector for compiled in limits for selector in compiled.limit.selectors)
        return _Scope(
            key,
            limits,
            [target for target in facts.targets if request.rule in ("", str(target.rule))],
            all(selector.fact in _PLACE_FACTS for selector in selectors),
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
