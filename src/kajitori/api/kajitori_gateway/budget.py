"""Budget: how much may be spent, in dollars, tokens, requests or a cost of a route, in a time.

It holds for the routes that it names, and for the requests of every APIKey and Tenant that names it, wherever they go.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, field

from kajitori.api.conditions import STATUS, ConditionsStatus
from kajitori.api.crd import Column, Int64, rule
from kajitori.api.gateway.shared import Duration
from kajitori.api.kajitori_gateway.definition import definition
from kajitori.api.kajitori_gateway.names import Dollars
from kajitori.api.kubernetes.meta_v1 import ObjectMeta

FactName = Annotated[
    str,
    Meta(
        pattern="^(route|rule|model|backend|backend_model|key|tenant|client|method|path|header:[A-Za-z0-9_-]{1,256})$"
    ),
]
BudgetRoute = Annotated[str, Meta(max_length=253, pattern=r"^(\*|[a-z0-9]([-a-z0-9.]*[a-z0-9])?)$")]


class CostAmount(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Units of one of a route's `llmRequestCosts`."""

    metadata_key: Annotated[str, Meta(min_length=1)]
    units: Annotated[Int64, Meta(ge=0)]


class BudgetAmount(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Exactly one of them. tokens: input and output together. usd: as a decimal number in quotes, such as "12.50"."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "(has(self.usd) ? 1 : 0) + (has(self.tokens) ? 1 : 0) + (has(self.requests) ? 1 : 0)"
                " + (has(self.cost) ? 1 : 0) == 1",
                "give exactly one of usd, tokens, requests and cost",
            )
        ]
    }
    usd: Dollars | None = None
    tokens: Annotated[Int64, Meta(ge=0)] | None = None
    requests: Annotated[Int64, Meta(ge=0)] | None = None
    cost: CostAmount | None = None


class CalendarWindow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """From midnight to midnight in a time zone; weeks begin on Monday."""

    unit: Literal["Day", "Week", "Month", "Year"]
    time_zone: Annotated[str, Meta(min_length=1, max_length=64)] = "UTC"


class BudgetWindow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Exactly one of them. sliding: the last so long, such as `24h`."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule("has(self.calendar) != has(self.sliding)", "give either calendar or sliding")
        ]
    }
    calendar: CalendarWindow | None = None
    sliding: Duration | None = None


class BudgetSelector(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A condition on a fact of a request. Prefix: of a path. Cidr: of the client's address."""

    fact: FactName
    type: Literal["Exact", "RegularExpression", "Prefix", "Cidr", "Present"] = "Exact"
    value: Annotated[str, Meta(max_length=1024)] = ""
    invert: bool = False


class BudgetSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How much, in which time, of whom.

    routes: AIGatewayRoutes and HTTPRoutes of the budget's namespace; `*` is all of them. selectors: which requests;
    all must hold. countApart: facts whose every value has the whole amount for itself. strict: what a request may take is
    reserved before it passes; else a request passes as long as anything is left. maxReservedOutputTokens: reserved at
    most for the output of a request, and where it names no bound. unpriced: whether models without a known
    price may be used where dollars are counted. onStoreLoss: what happens while the store of the counters does not answer.
    shadow: it counts and tells, and refuses nothing.
    """

    amount: BudgetAmount
    window: BudgetWindow
    routes: Annotated[list[BudgetRoute], Meta(max_length=64)] = field(default_factory=list)
    selectors: Annotated[list[BudgetSelector], Meta(max_length=16)] = field(default_factory=list)
    count_apart: Annotated[list[FactName], Meta(max_length=4)] = field(default_factory=list)
    strict: bool = True
    max_reserved_output_tokens: Annotated[Int64, Meta(ge=1)] = 4096
    unpriced: Literal["Allow", "Deny"] = "Deny"
    on_store_loss: Literal["Allow", "Deny"] = "Allow"
    shadow: bool = False


class BudgetStatus(ConditionsStatus, frozen=True, kw_only=True, rename="camel"):
    """Whether the gateway holds requests to it."""


class Budget(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How much may be spent."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: BudgetSpec
    status: BudgetStatus | None = None


DEFINITIONS = (
    definition(
        Budget,
        "budgets",
        Column("USD", ".spec.amount.usd"),
        Column("Tokens", ".spec.amount.tokens", "integer"),
        Column("Requests", ".spec.amount.requests", "integer"),
        Column("Calendar", ".spec.window.calendar.unit"),
        Column("Sliding", ".spec.window.sliding"),
        STATUS,
    ),
)
