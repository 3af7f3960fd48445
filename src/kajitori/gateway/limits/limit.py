"""What a limit is, whatever kind of object it was written in.

The plan makes limits of BackendTrafficPolicies, QuotaPolicies and Budgets; the accountant holds requests to them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

# Facts of a request by which a limit may select, or which it may count apart. A header is `header:NAME`, in lower
# case, a parameter of the query `query:NAME`. `backend` and `backend_model` (the model as it is called there) belong to what may serve the request: a
# limit that selects by them keeps requests from a backend, and refuses them only if no backend is left.
Fact = str
FACTS: tuple[Fact, ...] = (
    "route",
    "rule",
    "model",
    "backend",
    "backend_model",
    "key",
    "tenant",
    "client",
    "method",
    "path",
)
HEADER_FACT, QUERY_FACT = "header:", "query:"
# What admission is told where a limit selects by the query: the path with what it has, and, behind a space, the query that the
# script has taken away.
QUERY_HEADER = "x-kajitori-query"
BACKEND_FACTS: tuple[Fact, ...] = ("backend", "backend_model")
# What is known of a request when it has ended, without anybody having been asked about it before.
LOGGED_FACTS: tuple[Fact, ...] = (
    *BACKEND_FACTS,
    "route",
    "rule",
    "model",
    "key",
    "tenant",
    "client",
    "method",
    "path",
)
REQUESTS = "requests"
TOKENS = "tokens"
USD = "usd"
COST_PREFIX = "cost:"
CEL_PREFIX = "cel:"
HEADER_STATES = ("limit", "remaining", "reset")
LIMIT_HEADERS: tuple[str, ...] = (
    *(f"x-ratelimit-{state}" for state in HEADER_STATES),
    *(f"x-ratelimit-{state}-{unit}" for state in HEADER_STATES for unit in (REQUESTS, TOKENS)),
    *(
        f"anthropic-ratelimit-{unit}-{state}"
        for unit in (REQUESTS, TOKENS, "input-tokens", "output-tokens")
        for state in HEADER_STATES
    ),
)
"""Every header in which a limit is told, ours or a provider's."""
DEFAULT_OUTPUT_TOKENS = 4096


class Selector(msgspec.Struct, frozen=True):
    """One condition of a limit; a limit holds where all of its selectors do.

    kind: `Exact`, `Regex`, `Prefix` (of a path, by segments), `Cidr` and `OneOf` (words between commas) compare with
    value; `Distinct` holds for any value and counts each apart; `Present` holds for any value and counts all as
    one. A fact that a request lacks (no key, no such header) holds for none of them, so for all inverted ones.
    """

    fact: Fact
    kind: Literal["Exact", "Regex", "Prefix", "Cidr", "OneOf", "Distinct", "Present"]
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

    name: stable and for people, such as `Budget team/monthly`.
    counts: `requests`, `tokens` (input and output), `usd`, `cost:KEY` (of the route's costs), or `cel:EXPRESSION`.
    request_amount: taken for each request besides; None is 1 where requests are counted, else 0.
    strict: reserved before a request passes; else a request passes as long as anything is left, and is counted
    when it ends.
    clip: a reservation takes no more than what is left, so that a request passes as long as anything is.
    output_tokens: reserved at most for the output of a request, and where it names no bound itself.
    group: limits of one group let a request pass if any of them does; empty: each stands for itself.
    deny_without_store: what happens while the store cannot be asked. shadow: counted and told, never refused.
    headers: whether answers tell how the limit stands; told: whether all must, also those of requests that would else pass
    unasked.
    unpriced: whether requests pass whose model has no known price, where US dollars are counted.
    """

    name: str
    counts: str
    amount: float
    window: Window
    selectors: tuple[Selector, ...] = ()
    strict: bool = True
    deny_without_store: bool = False
    shadow: bool = False
    request_amount: int | None = None
    clip: bool = False
    output_tokens: int = DEFAULT_OUTPUT_TOKENS
    group: str = ""
    headers: bool = True
    told: bool = False
    unpriced: Literal["Allow", "Deny"] = "Deny"


def is_pushed(limit: Limit) -> bool:
    """Whether requests pass unasked as long as a limit is not used up; it is counted when they end.

    One that is not strict is, unless it must be looked up each time, or be told, or selects by what is forgotten when a
    request ends.
    """
    return (
        not limit.strict
        and not limit.deny_without_store
        and not limit.told
        and all(selector.fact in LOGGED_FACTS for selector in limit.selectors)
    )


def selects_by_path(limit: Limit) -> bool:
    """Whether a limit does."""
    return any(selector.fact == "path" for selector in limit.selectors)
