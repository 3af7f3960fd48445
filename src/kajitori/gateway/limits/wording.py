"""How a decision reads: the sentence of a refusal, and the headers that clients of each dialect look at. Pure.

OpenAI's clients know `x-ratelimit-limit-requests` and `-tokens` and their `-remaining-` and `-reset-`, Anthropic's
`anthropic-ratelimit-requests-limit` and so on; the tightest limit also stands in `x-ratelimit-limit`, `-remaining`
and `-reset` as Envoy writes them (IETF draft 03). Money is told in sentences only, since these headers hold whole
numbers.
"""

from __future__ import annotations

import math
from functools import lru_cache

import msgspec

from kajitori.base.clock import rfc3339
from kajitori.gateway.accounting.prices import NANO_USD
from kajitori.gateway.limits.limit import CEL_PREFIX, COST_PREFIX, HEADER_STATES, REQUESTS, TOKENS, USD, Limit
from kajitori.gateway.limits.request import Dialect, Verdict

# The clients of OpenAI and Anthropic heed it.
_DO_NOT_RETRY = ("x-should-retry", "false")


class Reading(msgspec.Struct, frozen=True, gc=False):
    """How a limit stands after a decision.

    capacity, used, open, taken, amount: in units; open is the part of used that requests under way have reserved, amount
    is what was wanted. resets: when all of it is free again.
    frees: when there is room; None if there never is. window_seconds: of the limit.
    """

    limit: Limit
    capacity: int
    used: int
    open: int
    taken: int
    amount: int
    resets: float
    frees: float | None
    window_seconds: int


def refusal(reading: Reading, now: float, headers: tuple[tuple[str, str], ...], of: str = "") -> Verdict:
    """A request that a limit stopped. of: whom the limit speaks of, if not of the request as a whole."""
    limit = reading.limit
    unit = unit_text(limit)
    allowed = amount_text(limit, reading.capacity)
    if reading.capacity == 0:
        return Verdict(
            allowed=False,
            status=429,
            message=f"{limit.name} allows nothing at all",
            limit=limit.name,
            headers=(*headers, _DO_NOT_RETRY),
        )
    if reading.frees is None:
        message = (
            f"{limit.name}: the request may take {amount_text(limit, reading.amount)}{unit}, and the limit is {allowed} in all; "
            "send less, or ask for fewer output tokens"
        )
        return Verdict(
            allowed=False, status=429, message=message, limit=limit.name, headers=(*headers, _DO_NOT_RETRY)
        )
    wait_seconds = max(1, math.ceil(reading.frees - now))
    left = max(reading.capacity - reading.used, 0)
    what = f"{amount_text(limit, left)} of {allowed}{unit} are left"
    if left and reading.amount > left:
        what += f" and the request may take {amount_text(limit, reading.amount)}"
    if waits_for_others(reading):
        # They will take less than they have reserved, or nothing; nobody knows when.
        wait_seconds = 1
        message = f"{limit.name}: {what}; requests under way have reserved {amount_text(limit, reading.open)}"
    else:
        message = f"{limit.name}: {what}; {frees_text(str(wait_seconds), reading.frees)}"
    return Verdict(
        allowed=False,
        status=429,
        message=f"{message}{of}",
        limit=limit.name,
        retry_after_seconds=float(wait_seconds),
        headers=headers,
    )


def frees_text(wait_seconds: str, frees: float) -> str:
    """When there is room again."""
    return f"it frees in {wait_seconds} s, at {rfc3339(frees)}"


def waits_for_others(reading: Reading) -> bool:
    """Whether there would be room if requests under way took nothing."""
    need = 1 if reading.limit.clip else max(reading.amount, 1)
    return reading.open > 0 and reading.used - reading.open + need <= reading.capacity


def unpriced(limit: Limit, model: str) -> Verdict:
    """No price is known for a model, and the limit counts money."""
    return Verdict(
        allowed=False,
        status=403,
        message=f"{limit.name} counts US dollars, and no price is known of model {model}; a PriceList can say it",
        limit=limit.name,
        headers=(_DO_NOT_RETRY,),
    )


def store_lost(limit: Limit, why: str) -> Verdict:
    """The store cannot be asked, and the limit says to refuse then."""
    return Verdict(
        allowed=False,
        status=503,
        message=f"{limit.name} cannot be looked up now: {why}",
        limit=limit.name,
        retry_after_seconds=1.0,
    )


def limit_headers(readings: list[Reading], dialect: Dialect, now: float) -> tuple[tuple[str, str], ...]:
    """What clients are told of how the limits stand; of each unit the tightest. readings: of those that they are told of."""
    if not readings:
        return ()
    tightest = readings[0] if len(readings) == 1 else _tightest(readings)
    found = (
        ("x-ratelimit-limit", _limit_texts(tightest.capacity, tightest.window_seconds)[1]),
        ("x-ratelimit-remaining", str(_left(tightest))),
        ("x-ratelimit-reset", str(max(0, math.ceil(tightest.resets - now)))),
    )
    if len(readings) == 1:
        return found + _of_unit(_unit(tightest), tightest, dialect, now)
    for unit in (REQUESTS, TOKENS):
        of_unit = [each for each in readings if _unit(each) == unit]
        if of_unit:
            found += _of_unit(unit, _tightest(of_unit), dialect, now)
    return found


@lru_cache(maxsize=1_000)
def _limit_texts(capacity: int, window_seconds: int) -> tuple[str, str]:
    return str(capacity), f"{capacity}, {capacity};w={window_seconds}"


def _unit(reading: Reading) -> str:
    return REQUESTS if reading.limit.counts == REQUESTS else TOKENS


_OPENAI = {
    unit: tuple(f"x-ratelimit-{state}-{unit}" for state in HEADER_STATES) for unit in (REQUESTS, TOKENS)
}
_ANTHROPIC = {
    unit: tuple(f"anthropic-ratelimit-{unit}-{state}" for state in HEADER_STATES)
    for unit in (REQUESTS, TOKENS)
}


def _of_unit(unit: str, reading: Reading, dialect: Dialect, now: float) -> tuple[tuple[str, str], ...]:
    if dialect == "openai":
        limit, remaining, reset = _OPENAI[unit]
        resets = _go_duration(max(0.0, reading.resets - now))
    elif dialect == "anthropic":
        limit, remaining, reset = _ANTHROPIC[unit]
        resets = rfc3339(math.ceil(reading.resets))
    else:
        return ()
    text = _limit_texts(reading.capacity, reading.window_seconds)[0]
    return (limit, text), (remaining, str(_left(reading))), (reset, resets)


def _tightest(readings: list[Reading]) -> Reading:
    return readings[0] if len(readings) == 1 else min(readings, key=_left_fraction)


def _left(reading: Reading) -> int:
    left = reading.capacity - reading.used - reading.taken
    return left if left > 0 else 0


def _left_fraction(reading: Reading) -> float:
    return _left(reading) / reading.capacity if reading.capacity else 0.0


def unit_text(limit: Limit) -> str:
    """What a limit counts, to stand behind a number."""
    if limit.counts == USD:
        return ""
    if limit.counts.startswith(COST_PREFIX):
        return f" (cost {limit.counts.removeprefix(COST_PREFIX)})"
    return " units" if limit.counts.startswith(CEL_PREFIX) else f" {limit.counts}"


def amount_text(limit: Limit, units: int) -> str:
    """So many units of a limit, as people write them."""
    if limit.counts != USD:
        return f"{units:,}"
    dollars = units / NANO_USD
    return f"${dollars:,.2f}" if dollars >= 1 or not dollars else f"${dollars:.9f}".rstrip("0")


def _go_duration(seconds: float) -> str:
    """As OpenAI writes it: `6m0s`, `1h0m3s`, `120ms`."""
    return f"{math.ceil(seconds * 1000)}ms" if seconds < 1 else _whole_seconds(math.ceil(seconds))


@lru_cache(maxsize=1_000)
def _whole_seconds(whole: int) -> str:
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m{left}s"
    return f"{minutes}m{left}s" if minutes else f"{left}s"
