"""What a request is charged: the costs of its route and its price in US dollars, from its usage. Pure.

Admission asks with an estimate before the request, the ledger with what was reported after it, so both speak the
same units.
"""

from __future__ import annotations

import logging

import msgspec

from kajitori.base.errors import KajitoriError
from kajitori.gateway.accounting.costs import COST_FIELDS, CostExpression, Usage
from kajitori.gateway.accounting.policy import CostRule, Policy, RouteFacts
from kajitori.gateway.accounting.prices import NANO_USD, PriceBook

_log = logging.getLogger(__name__)

_NOTHING = RouteFacts()


class Charge(msgspec.Struct, frozen=True, gc=False):
    """costs: by metadata key. nano_usd: None if no price is known."""

    costs: dict[str, int] = {}
    nano_usd: int | None = None

    @property
    def cost_usd(self) -> float | None:
        """US dollars."""
        return None if self.nano_usd is None else self.nano_usd / NANO_USD


class Charger:
    """Charges requests as a policy says."""

    def __init__(self, policy: Policy) -> None:
        self._routes = policy.routes
        self._book = PriceBook(policy.prices)
        self._expressions: dict[str, CostExpression | None] = {}

    def charge(self, route: str, rule: str | int, backend: str, model: str, usage: Usage) -> Charge:
        """All costs. route, backend: namespace/name. model: as it was called at the backend."""
        facts = self._routes.get(route, _NOTHING)
        money = self._book.nano_usd(backend, model, usage)
        costs: dict[str, int] = {}
        for cost in facts.costs:
            value = self._cost(cost, route, facts, rule, backend, model, usage, money)
            if value is not None:
                costs[cost.key] = value
        return Charge(costs, money)

    def nano_usd(self, backend: str, model: str, usage: Usage) -> int | None:
        """The price alone; None if none is known."""
        return self._book.nano_usd(backend, model, usage)

    def cost(
        self, key: str, route: str, rule: str | int, backend: str, model: str, usage: Usage
    ) -> int | None:
        """One cost of a route; None if it has none of this key, or if it cannot be computed."""
        facts = self._routes.get(route, _NOTHING)
        for cost in facts.costs:
            if cost.key == key:
                money = self._book.nano_usd(backend, model, usage) if cost.type == "CEL" else None
                return self._cost(cost, route, facts, rule, backend, model, usage, money)
        return None

    def expression(
        self, text: str, route: str, rule: str | int, backend: str, model: str, usage: Usage
    ) -> int | None:
        """What an expression of a limit says; None if it cannot be computed."""
        money = self._book.nano_usd(backend, model, usage)
        cost = CostRule("", "CEL", text)
        return self._cost(cost, route, self._routes.get(route, _NOTHING), rule, backend, model, usage, money)

    def _cost(
        self,
        cost: CostRule,
        route: str,
        facts: RouteFacts,
        rule: str | int,
        backend: str,
        model: str,
        usage: Usage,
        money: int | None,
    ) -> int | None:
        field = COST_FIELDS.get(cost.type)
        if field is not None:
            return getattr(usage, field)
        expression = self._compiled(cost.cel)
        if expression is None:
            return None
        namespace, _, name = backend.partition("/")
        try:
            return expression.compute(
                usage,
                model,
                f"{name}.{namespace}",
                _long_backend(facts, route, rule, backend, model),
                route,
                (money or 0) / NANO_USD,
            )
        except KajitoriError as error:
            _log.warning("cost %s of %s could not be computed: %s", cost.key, route, error)
            return None

    def _compiled(self, text: str) -> CostExpression | None:
        if text not in self._expressions:
            try:
                self._expressions[text] = CostExpression(text)
            except KajitoriError as error:
                # The plan leaves out what does not compile; this one came from a plan of another version.
                _log.error("a cost cannot be computed: %s", error)
                self._expressions[text] = None
        return self._expressions[text]


def _long_backend(facts: RouteFacts, route: str, rule: str | int, backend: str, model: str) -> str:
    """As upstream's program names a backend: by the reference that led there."""
    for target in facts.targets:
        if (
            target.backend == backend
            and (rule == "" or target.rule == int(rule))
            and target.model in ("", model)
        ):
            name = route.rpartition("/")[2]
            return f"{backend}/route/{name}/rule/{target.rule}/ref/{target.ref}"
    return backend
