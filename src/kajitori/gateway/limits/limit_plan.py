"""All limits and prices of a plan, which route and key each is for, and what the statuses of their objects say. Pure.

Limits are numbered over the whole plan; a route knows the numbers of those that may hold for its requests, a key
those of the Budgets that it or its tenant names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.api.resource import BUDGETS, PRICE_LISTS, QUOTA_POLICIES, Resource
from kajitori.gateway.accounting.accountant_policy import Price, RouteFacts, TargetFacts
from kajitori.gateway.conditions import ai_status
from kajitori.gateway.limits import strictness
from kajitori.gateway.limits.compile_budget import budget_limit, budget_routes, list_prices
from kajitori.gateway.limits.compile_quota import QuotaBook
from kajitori.gateway.limits.compile_traffic import on_rules, traffic_limits
from kajitori.gateway.limits.limit import COST_PREFIX, Limit
from kajitori.gateway.observed import age_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kajitori.api.aigateway.quota_policy import QuotaPolicy
    from kajitori.api.aigateway.v1beta1 import AIGatewayRoute
    from kajitori.api.envoygateway.rate_limit import GlobalRateLimit
    from kajitori.api.kajitori_gateway.budget import Budget
    from kajitori.gateway.accounting.accountant_policy import KeyFacts
    from kajitori.gateway.observed import Observed

PolicyKey = tuple[str, str]


class TrafficUse(msgspec.Struct, frozen=True):
    """A BackendTrafficPolicy with global limits that holds for a route. rules: their numbers; None for all.

    strict: see `Limit`. problems: with what else the policy says of its limits.
    """

    policy: PolicyKey
    rate: GlobalRateLimit
    route: str
    rules: frozenset[int] | None = None
    strict: bool = True
    problems: tuple[str, ...] = ()


class LimitPlan(msgspec.Struct, frozen=True):
    """routes: the facts of each, with the numbers of its limits. budgets, prices: as in `AccountantPolicy`.

    statuses: of QuotaPolicies, Budgets and PriceLists. traffic_notes: what of a BackendTrafficPolicy is not honoured.
    """

    limits: tuple[Limit, ...]
    routes: dict[str, RouteFacts]
    budgets: dict[str, int]
    prices: tuple[Price, ...]
    statuses: list[tuple[Resource, Any, dict[str, Any]]]
    traffic_notes: dict[PolicyKey, list[str]]


def targets_of(route: AIGatewayRoute) -> tuple[TargetFacts, ...]:
    """The backends that a route may send to."""
    return tuple(
        TargetFacts(
            number,
            place,
            f"{ref.namespace or route.metadata.namespace}/{ref.name}",
            ref.model_name_override or "",
        )
        for number, rule in enumerate(route.spec.rules)
        for place, ref in enumerate(rule.backend_refs)
        if ref.weight and ref.kind is None
    )


def make_limits(
    observed: Observed,
    routes: Mapping[str, RouteFacts],
    keys: Mapping[str, KeyFacts],
    traffic: Sequence[TrafficUse],
) -> LimitPlan:
    """routes: by namespace/name, without limits. keys: by id. traffic: which policies hold for which routes."""
    making = _Making(routes)
    making.traffic(traffic)
    quotas = () if "QuotaPolicy" in observed.foreign else observed.quota_policies
    making.quotas(
        sorted(quotas, key=lambda item: (item.metadata.namespace or "", item.metadata.name or "")), observed
    )
    making.budgets(sorted(observed.budgets, key=age_key), keys)
    prices: list[Price] = []
    for item in sorted(observed.price_lists, key=age_key):
        prices += list_prices(item)
        making.statuses.append((PRICE_LISTS, item, ai_status([], [], "the prices hold")))
    # A backend that is not there has no quota that is used up, and would seem to have some left for ever.
    there = names_of(observed.ai_backends) if making.limits else set[str]()
    facts = {
        name: msgspec.structs.replace(
            each,
            limits=tuple(dict.fromkeys(making.numbers[name])),
            targets=tuple(target for target in each.targets if target.backend in there),
        )
        if making.numbers[name]
        else each
        for name, each in routes.items()
    }
    return LimitPlan(
        tuple(making.limits),
        facts,
        making.budget_numbers,
        tuple(prices),
        making.statuses,
        making.traffic_notes,
    )


def names_of(items: Iterable[Any]) -> set[str]:
    """namespace/name of each."""
    return {f"{item.metadata.namespace}/{item.metadata.name}" for item in items}


class _Making:
    def __init__(self, routes: Mapping[str, RouteFacts]) -> None:
        self._routes = routes
        self.limits: list[Limit] = []
        self.numbers: dict[str, list[int]] = {name: [] for name in routes}
        self.budget_numbers: dict[str, int] = {}
        self.statuses: list[tuple[Resource, Any, dict[str, Any]]] = []
        self.traffic_notes: dict[PolicyKey, list[str]] = {}
        self._known: dict[Limit, int] = {}

    def _add(self, limit: Limit) -> int:
        """The number of a limit; one that is there already is shared."""
        number = self._known.setdefault(limit, len(self.limits))
        if number == len(self.limits):
            self.limits.append(limit)
        return number

    def traffic(self, uses: Sequence[TrafficUse]) -> None:
        costs: dict[PolicyKey, set[str]] = {}
        for use in uses:
            keys = costs.setdefault(use.policy, set())
            keys.update(cost.key for cost in self._routes[use.route].costs)
        made: dict[PolicyKey, list[Limit]] = {}
        for use in uses:
            if use.policy not in made:
                notes = self.traffic_notes.setdefault(use.policy, [])
                notes += use.problems
                found = traffic_limits("/".join(use.policy), use.rate, costs[use.policy], notes)
                made[use.policy] = [msgspec.structs.replace(limit, strict=use.strict) for limit in found]
            self.numbers[use.route] += [self._add(on_rules(limit, use.rules)) for limit in made[use.policy]]

    def quotas(self, policies: Sequence[QuotaPolicy], observed: Observed) -> None:
        book = QuotaBook()
        there = names_of(observed.ai_backends) if policies else set[str]()
        for policy in policies:
            problems: list[str] = []
            book.add(policy, problems)
            notes = [*strictness.problems(policy.metadata), *self._unused(policy, there)]
            self.statuses.append((QUOTA_POLICIES, policy, ai_status(problems, notes, "the quotas hold")))
        for name, facts in self._routes.items() if policies else ():
            for backend in dict.fromkeys(target.backend for target in facts.targets):
                self.numbers[name] += [self._add(limit) for limit in book.limits.get(backend, ())]

    def _unused(self, policy: QuotaPolicy, there: set[str]) -> list[str]:
        """What of a policy cannot have any effect."""
        notes: list[str] = []
        namespace = policy.metadata.namespace or ""
        for reference in policy.spec.target_refs:
            backend = f"{namespace}/{reference.name}"
            if backend not in there:
                notes.append(f"AIServiceBackend {backend} does not exist")
                continue
            targets = [
                target
                for facts in self._routes.values()
                for target in facts.targets
                if target.backend == backend
            ]
            if not targets:
                notes.append(f"no route leads to AIServiceBackend {backend}")
            called = {target.model for target in targets}
            if "" in called:
                continue  # a route without an override calls it as its clients do
            notes += [
                f"spec.perModelQuotas[{number}]: no route calls {quota.model_name} at {backend}"
                for number, quota in enumerate(policy.spec.per_model_quotas)
                if targets and quota.model_name not in called
            ]
        return notes

    def budgets(self, budgets: Sequence[Budget], keys: Mapping[str, KeyFacts]) -> None:
        named: dict[str, int] = {}
        for key in keys.values():
            for budget in key.budgets:
                named[budget] = named.get(budget, 0) + 1
        for budget in budgets:
            problems: list[str] = []
            limit = budget_limit(budget, problems)
            routes, notes = budget_routes(budget, self._routes)
            name = f"{budget.metadata.namespace}/{budget.metadata.name}"
            count = named.get(name, 0)
            if limit is not None:
                number = self.budget_numbers[name] = self._add(limit)
                for route in routes:
                    self.numbers[route].append(number)
                notes += self._uncounted(limit, routes)
            if not routes and not count:
                notes.append(
                    "it names no route that serves, and no APIKey or Tenant names it, so nothing is charged to it"
                )
            told = f"it holds for {_counted(len(routes), 'route')} and {_counted(count, 'key')}"
            self.statuses.append((BUDGETS, budget, ai_status(problems, notes, told)))

    def _uncounted(self, limit: Limit, routes: set[str]) -> list[str]:
        if not limit.counts.startswith(COST_PREFIX):
            return []
        key = limit.counts.removeprefix(COST_PREFIX)
        return [
            f"route {route} has no cost {key}, so its requests count nothing"
            for route in sorted(routes)
            if key not in {cost.key for cost in self._routes[route].costs}
        ]


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
