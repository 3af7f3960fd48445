"""What the accountant must know of the configuration. The plan makes it, the control plane sends it as msgpack.

Nothing secret is in it: of keys there are only names and what they belong to.
"""

from __future__ import annotations

import msgspec

from kajitori.gateway.limits.limit import Limit, is_pushed, selects_by_path


class CostRule(msgspec.Struct, frozen=True):
    """One of `llmRequestCosts`. type: as the API has it. cel: the expression of type CEL."""

    key: str
    type: str
    cel: str = ""


class BackendFacts(msgspec.Struct, frozen=True):
    """What a cluster of Envoy stands for. name: AIServiceBackend as namespace/name. model: override, if any."""

    name: str
    model: str = ""
    schema: str = "OpenAI"


class TargetFacts(msgspec.Struct, frozen=True):
    """A backend that a rule may send to. rule, ref: their numbers. backend: AIServiceBackend as namespace/name.

    model: as it is called there; empty where it is called as the client does.
    """

    rule: int
    ref: int
    backend: str
    model: str = ""


class RouteFacts(msgspec.Struct, frozen=True):
    """costs: what its requests are charged. limits: numbers of those limits of the policy that may concern it.

    targets: whom its requests may go to.
    """

    costs: tuple[CostRule, ...] = ()
    limits: tuple[int, ...] = ()
    targets: tuple[TargetFacts, ...] = ()


class KeyFacts(msgspec.Struct, frozen=True):
    """A client's key. name: APIKey as namespace/name. tenant: namespace/name, or empty.

    budgets: Budgets, as namespace/name, that its requests are charged to.
    """

    name: str
    tenant: str = ""
    budgets: tuple[str, ...] = ()


class Price(msgspec.Struct, frozen=True):
    """US dollars for a million tokens of a model. backend: AIServiceBackend as namespace/name, or namespace/*; empty for all.

    model: a name, or the beginning of names followed by `*`. cached_input_usd and the others that may be None: as for
    input, or output in the case of reasoning. request_usd: for each request besides.
    """

    model: str
    backend: str = ""
    input_usd: float = 0.0
    output_usd: float = 0.0
    cached_input_usd: float | None = None
    cache_creation_input_usd: float | None = None
    reasoning_usd: float | None = None
    request_usd: float = 0.0


class AccountantPolicy(msgspec.Struct, frozen=True):
    """backends: by cluster. routes: by AIGatewayRoute as namespace/name. keys: by the id that stands in the key.

    budgets: Budget as namespace/name -> number of its limit, for the keys that name it.
    prices: those of PriceLists, the first that fits holds; what none fits is looked up in the catalogue of the package.
    rescues_streams: whether any route leads streams through the relay. pushes: whether Envoy reads what is used up, so that
    limits which are not strict need no question.
    """

    backends: dict[str, BackendFacts] = {}
    routes: dict[str, RouteFacts] = {}
    limits: tuple[Limit, ...] = ()
    keys: dict[str, KeyFacts] = {}
    prices: tuple[Price, ...] = ()
    budgets: dict[str, int] = {}
    rescues_streams: bool = False
    pushes: bool = False

    def limits_of_keys(self) -> set[int]:
        """Numbers of limits that hold wherever a key is used."""
        named = {budget for key in self.keys.values() for budget in key.budgets}
        return {number for budget, number in self.budgets.items() if budget in named}

    def limited_routes(self) -> frozenset[str]:
        """Routes for whose requests anything may hold."""
        of_keys = self.limits_of_keys()
        return frozenset(name for name, facts in self.routes.items() if facts.limits or of_keys)

    def unasked_routes(self) -> frozenset[str]:
        """Routes with limits of which all are pushed: nobody is asked whether their requests may pass."""
        pushed = {number for number, limit in enumerate(self.limits) if is_pushed(limit)}
        # Of a plain route the log has the path that it has made of the client's.
        on_plain = {number for number in pushed if not selects_by_path(self.limits[number])}
        of_keys = self.limits_of_keys()
        if not self.pushes or not of_keys <= pushed:
            return frozenset()
        return frozenset(
            name
            for name, facts in self.routes.items()
            if (facts.limits or of_keys)
            and (pushed if facts.targets else on_plain).issuperset({*facts.limits, *of_keys})
        )
