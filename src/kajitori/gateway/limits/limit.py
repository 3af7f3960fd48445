"""What a limit is, whatever kind of object it was written in.

The plan makes limits of BackendTrafficPolicies, QuotaPolicies and Budgets; the accountant holds requests to them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

# Facts of a request by which a limit may select, or which it may count apart. A header is `header:NAME`.
Fact = str
FACTS: tuple[Fact, ...] = ("route", "rule", "model", "backend", "key", "tenant", "client")


class Selector(msgspec.Struct, frozen=True):
    """One condition of a limit; a limit holds where all of its selectors do.

    kind: `Exact` and `Regex` compare with value; `Distinct` holds for any value and counts each apart; `Present`
    holds for any value and counts all as one.
    """

    fact: Fact
    kind: Literal["Exact", "Regex", "Distinct", "Present"]
    value: str = ""
    invert: bool = False


class Window(msgspec.Struct, frozen=True):
    """The time that a limit speaks of.

    kind: `Fixed` windows begin at whole multiples of `seconds` since 1970, as Envoy's rate limit service has them; a
    `Sliding` one is the last `seconds`; `Calendar` is a `unit` in `zone`.
    """

    kind: Literal["Fixed", "Sliding", "Calendar"]
    seconds: float = 0.0
    unit: Literal["", "Day", "Week", "Month", "Year"] = ""
    zone: str = "UTC"


class Limit(msgspec.Struct, frozen=True):
    """At most `amount` of what `counts` names, in a window, for each combination of distinct facts.

    name: stable and for people, such as `Budget team/monthly`. counts: `requests`, `usd`, or the metadata key of a cost.
    request_amount: what is taken at admission where `counts` is a cost or requests. strict: reserved before a request
    passes; else it is only counted, and who is beyond it is refused from then on. deny_without_store: what happens while the
    store cannot be asked. shadow: counted and told, never refused.
    """

    name: str
    counts: str
    amount: float
    window: Window
    selectors: tuple[Selector, ...] = ()
    strict: bool = True
    deny_without_store: bool = False
    shadow: bool = False
