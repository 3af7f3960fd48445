"""What a request takes of a limit, in the whole units that stores count: before it, by an estimate, and after it.

US dollars are counted in nano-dollars, everything else as it is. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from kajitori.base.errors import UserError
from kajitori.gateway.accounting.accountant_policy import TargetFacts
from kajitori.gateway.accounting.charges import Charger
from kajitori.gateway.accounting.costs import Usage
from kajitori.gateway.accounting.prices import NANO_USD
from kajitori.gateway.limits.limit import CEL_PREFIX, COST_PREFIX, REQUESTS, TOKENS, USD, Limit
from kajitori.gateway.limits.request import Request

NOTHING = Usage()
# No request takes more: stores count in 64 bits, and Lua has 53 of them.
MOST = 2**53


def capacity(limit: Limit) -> int:
    """The amount of a limit in units. Raises UserError for one below nothing."""
    units = round(limit.amount * NANO_USD) if limit.counts == USD else int(limit.amount)
    if units < 0:
        raise UserError(f"a limit cannot be {limit.amount}")
    return units


def check_counts(limit: Limit) -> None:
    """Raises UserError for what cannot be counted."""
    if limit.counts not in (REQUESTS, TOKENS, USD) and not limit.counts.startswith((COST_PREFIX, CEL_PREFIX)):
        raise UserError(f"limits cannot count {limit.counts!r}")


def real_amount(
    charger: Charger, limit: Limit, route: str, rule: str, backend: str, model: str, usage: Usage
) -> int | None:
    """What a request with this usage takes, up to `MOST`; None if its price is not known."""
    amount = _amount(charger, limit, route, rule, backend, model, usage)
    return amount if amount is None or amount <= MOST else MOST


def _amount(
    charger: Charger, limit: Limit, route: str, rule: str, backend: str, model: str, usage: Usage
) -> int | None:
    fixed = limit.request_amount
    if limit.counts == REQUESTS:
        return 1 if fixed is None else fixed
    fixed = fixed or 0
    if limit.counts == TOKENS:
        return fixed + usage.input_tokens + usage.output_tokens
    if limit.counts == USD:
        money = charger.nano_usd(backend, model, usage)
        return None if money is None else fixed * NANO_USD + money
    if limit.counts.startswith(CEL_PREFIX):
        text = limit.counts.removeprefix(CEL_PREFIX)
        return fixed + (charger.expression(text, route, rule, backend, model, usage) or 0)
    key = limit.counts.removeprefix(COST_PREFIX)
    return fixed + (charger.cost(key, route, rule, backend, model, usage) or 0)


def failed_amount(limit: Limit) -> int:
    """What a request takes that no backend answered: what is counted for each request, and nothing else."""
    if limit.counts == REQUESTS:
        return 1 if limit.request_amount is None else limit.request_amount
    return (limit.request_amount or 0) * (NANO_USD if limit.counts == USD else 1)


def estimated_usage(limit: Limit, request: Request) -> Usage:
    """The input as estimated, and the output at its bound; without a model there is none."""
    output = _estimated_output(limit, request)
    return Usage(request.input_tokens, output, request.input_tokens + output)


def _estimated_output(limit: Limit, request: Request) -> int:
    asked = request.output_tokens if request.model else 0
    return limit.output_tokens if asked is None or asked > limit.output_tokens else asked


def reserved_amount(
    charger: Charger, limit: Limit, request: Request, targets: Sequence[TargetFacts]
) -> int | None:
    """What is reserved: for the dearest of the backends that it may go to. None if a price is not known."""
    if limit.strict and limit.counts == TOKENS:
        tokens = (limit.request_amount or 0) + request.input_tokens + _estimated_output(limit, request)
        return tokens if tokens <= MOST else MOST
    usage = estimated_usage(limit, request)
    if not limit.strict:
        priced = limit.counts != USD or all(
            charger.nano_usd(target.backend, target.model or request.model, usage) is not None
            for target in targets
        )
        return failed_amount(limit) if priced else None
    if limit.counts == REQUESTS or not targets:
        return real_amount(charger, limit, request.route, request.rule, "", request.model, usage)
    dearest = 0
    for backend, model in {(target.backend, target.model or request.model) for target in targets}:
        amount = real_amount(charger, limit, request.route, request.rule, backend, model, usage)
        if amount is None:
            return None
        dearest = max(dearest, amount)
    return dearest
