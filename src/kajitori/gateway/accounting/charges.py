"""What a request is charged: the costs of its route and its price in US dollars, from its usage. Pure.

Admission asks with an estimate before the request, the ledger with what was reported after it, so both speak the
same units.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from operator import attrgetter

import msgspec

from kajitori.base.errors import KajitoriError
from kajitori.gateway.accounting.accountant_policy import AccountantPolicy, CostRule, Price, RouteFacts
from kajitori.gateway.accounting.costs import COST_FIELDS, CostExpression, Usage
from kajitori.gateway.accounting.prices import NANO_USD, PriceBook, nano_usd

_log = logging.getLogger(__name__)

_NOTHING = RouteFacts()
_MOST_TARIFFS = 10_000


class Charge(msgspec.Struct, frozen=True, gc=False):
    """costs: by metadata key. nano_usd: None if no price is known."""

    costs: dict[str, int] = {}
    nano_usd: int | None = None

    @property
    def cost_usd(self) -> float | None:
        """US dollars."""
        return None if self.nano_usd is None else self.nano_usd / NANO_USD


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where requests are charged alike. route, backend: namespace/name. model: as it was called at the backend."""

    route: str
    rule: str | int
    backend: str
    model: str


# What one cost comes to, given the price of the request in nano-dollars; None if it cannot be computed.
_Cost = Callable[[Usage, int | None], int | None]


class Tariff:
    """All that requests of one place are charged, looked up once."""

    __slots__ = ("_costs", "price")

    def __init__(self, price: Price | None, costs: dict[str, _Cost]) -> None:
        self.price = price
        self._costs = tuple(costs.items())

    def charge(self, usage: Usage) -> Charge:
        """All costs."""
        money = self.nano_usd(usage)
        costs: dict[str, int] = {}
        for key, cost in self._costs:
            value = cost(usage, money)
            if value is not None:
                costs[key] = value
        return Charge(costs, money)

    def nano_usd(self, usage: Usage) -> int | None:
        """The price alone; None if none is known."""
        return None if self.price is None else nano_usd(self.price, usage)

    def cost(self, key: str, usage: Usage) -> int | None:
        """One cost; None if there is none of this key, or if it cannot be computed."""
        for name, cost in self._costs:
            if name == key:
                return cost(usage, self.nano_usd(usage))
        return None


class Charger:
    """Charges requests as a policy says."""

    def __init__(self, policy: AccountantPolicy) -> None:
        self._routes = policy.routes
        self._book = PriceBook(policy.prices)
        self._expressions: dict[str, CostExpression | None] = {}
        self._tariffs: dict[tuple[str, str | int, str, str], Tariff] = {}

    def tariff(self, route: str, rule: str | int, backend: str, model: str) -> Tariff:
        """What holds at a place, see `Place`."""
        key = route, rule, backend, model
        found = self._tariffs.get(key)
        if found is None:
            if len(self._tariffs) >= _MOST_TARIFFS:  # clients choose the names of models
                self._tariffs.clear()
            place = Place(*key)
            rules = self._routes.get(route, _NOTHING).costs
            costs = {each.key: self._cost(each, place) for each in rules}
            found = self._tariffs[key] = Tariff(self._book.find(backend, model), costs)
        return found

    def charge(self, route: str, rule: str | int, backend: str, model: str, usage: Usage) -> Charge:
        """All costs. route, backend: namespace/name. model: as it was called at the backend."""
        return self.tariff(route, rule, backend, model).charge(usage)

    def nano_usd(self, backend: str, model: str, usage: Usage) -> int | None:
        """The price alone; None if none is known."""
        return self._book.nano_usd(backend, model, usage)

    def cost(
        self, key: str, route: str, rule: str | int, backend: str, model: str, usage: Usage
    ) -> int | None:
        """One cost of a route; None if it has none of this key, or if it cannot be computed."""
        return self.tariff(route, rule, backend, model).cost(key, usage)

    def expression(
        self, text: str, route: str, rule: str | int, backend: str, model: str, usage: Usage
    ) -> int | None:
        """What an expression of a limit says; None if it cannot be computed."""
        cost = self._cost(CostRule("", "CEL", text), Place(route, rule, backend, model))
        return cost(usage, self._book.nano_usd(backend, model, usage))

    def _cost(self, rule: CostRule, place: Place) -> _Cost:
        field = COST_FIELDS.get(rule.type)
        if field is not None:
            read = attrgetter(field)
            return lambda usage, money: read(usage)
        expression = self._compiled(rule.cel)
        if expression is None:
            return lambda usage, money: None
        namespace, _, name = place.backend.partition("/")
        long = _long_backend(self._routes.get(place.route, _NOTHING), place)
        of_counts = expression.of_counts or _asks_the_expression

        def compute(usage: Usage, money: int | None) -> int | None:
            quick = of_counts(usage)
            if quick is not None:
                return quick
            dollars = (money or 0) / NANO_USD
            try:
                return expression.compute(
                    usage, place.model, f"{name}.{namespace}", long, place.route, dollars
                )
            except KajitoriError as error:
                _log.warning("cost %s of %s could not be computed: %s", rule.key, place.route, error)
                return None

        return compute

    def _compiled(self, text: str) -> CostExpression | None:
        if text not in self._expressions:
            try:
                self._expressions[text] = CostExpression(text)
            except KajitoriError as error:
                # The plan leaves out what does not compile; this one came from a plan of another version.
                _log.error("a cost cannot be computed: %s", error)
                self._expressions[text] = None
        return self._expressions[text]


def _asks_the_expression(usage: Usage) -> None:
    """Of what is no plain sum of counts."""


def _long_backend(facts: RouteFacts, place: Place) -> str:
    """As upstream's program names a backend: by the reference that led there."""
    for target in facts.targets:
        if (
            target.backend == place.backend
            and (place.rule == "" or target.rule == int(place.rule))
            and target.model in ("", place.model)
        ):
            name = place.route.rpartition("/")[2]
            return f"{place.backend}/route/{name}/rule/{target.rule}/ref/{target.ref}"
    return place.backend
