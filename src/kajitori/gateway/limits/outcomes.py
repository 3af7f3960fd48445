"""From what a store answered to what it means: which limit refused, when it frees, which backends are exhausted. Pure."""

from __future__ import annotations

import math

from kajitori.gateway.limits.decision import Hold, Outcome, Standing
from kajitori.gateway.limits.matching import CompiledLimit
from kajitori.gateway.limits.request import Verdict
from kajitori.gateway.limits.wants import Asked
from kajitori.gateway.limits.windows import Span
from kajitori.gateway.limits.wording import Reading, refusal, waits_for_others

_NEVER = float("inf")


def readings(asked: Asked, outcome: Outcome) -> list[Reading]:
    """How each limit stands after a decision."""
    return list(map(_reading, asked.holds, asked.limits, asked.spans, outcome.standings))


def told_readings(asked: Asked, outcome: Outcome) -> list[Reading]:
    """The same of those that clients are told of in headers."""
    standings = outcome.standings
    return [
        _reading(asked.holds[number], asked.limits[number], asked.spans[number], standings[number])
        for number in asked.told
    ]


def _reading(hold: Hold, compiled: CompiledLimit, span: Span, standing: Standing) -> Reading:
    return Reading(
        compiled.limit,
        hold.capacity,
        standing.used,
        standing.open,
        standing.taken,
        hold.amount,
        span.resets,
        None if standing.frees_slot is None else span.frees(standing.frees_slot),
        span.window_seconds,
    )


def over_limits(asked: Asked, outcome: Outcome) -> list[str]:
    """Names of shadow limits that would have refused."""
    return [
        compiled.limit.name
        for hold, compiled, standing in zip(asked.holds, asked.limits, outcome.standings, strict=True)
        if hold.kind == "shadow" and standing.used + max(hold.amount, 1) > hold.capacity
    ]


def is_tight(asked: Asked, outcome: Outcome) -> bool:
    """Whether half of a limit is used or reserved, so that what others give back may matter."""
    return any(map(_is_tight, asked.holds, outcome.standings))


def _is_tight(hold: Hold, standing: Standing) -> bool:
    more = max(standing.taken, hold.amount)
    return 2 * (standing.used + more) > hold.capacity and hold.kind != "shadow"


def exhausted_backends(asked: Asked, outcome: Outcome, now: float) -> dict[str, int]:
    """Backends (namespace/name) that a request should not go to, since none of their limits lets it: with seconds to wait."""
    if len(outcome.candidates) == len(asked.candidates) or not outcome.candidates:
        return {}
    good = {asked.candidates[number].backend for number in outcome.candidates}
    found: dict[str, int] = {}
    for number, reading in _blocking(asked, outcome).items():
        name = asked.candidates[number].backend if number >= 0 else ""
        if name and name not in good:
            seconds = 0 if reading.frees is None else max(1, math.ceil(reading.frees - now))
            found[name] = min(filter(None, (seconds, found.get(name, 0))), default=0)
    return found


def used_up_limits(asked: Asked, outcome: Outcome) -> dict[str, float]:
    """Names of limits that keep this request from passing, or from a backend, and have less than a hundredth left, with
    when they free.
    """
    return {
        reading.limit.name: reading.frees
        for reading in _blocking(asked, outcome).values()
        if reading.frees is not None
        and not waits_for_others(reading)
        and 100 * (reading.capacity - reading.used) < reading.capacity
    }


def may_be_waited_for(asked: Asked, outcome: Outcome) -> bool:
    """Whether a request was refused only since others have reserved all that is left of limits that clip."""
    return not outcome.allowed and all(
        standing.room
        or (hold.kind == "clip" and standing.open and standing.used - standing.open < hold.capacity)
        for hold, standing in zip(asked.holds, outcome.standings, strict=True)
    )


def why_refused(asked: Asked, outcome: Outcome, now: float, headers: tuple[tuple[str, str], ...]) -> Verdict:
    """The limit that refuses: of those that all must pass the one that frees last, of backends the one that frees first."""
    by_candidate = _blocking(asked, outcome)
    whole = by_candidate.pop(-1, None)
    backends = [reading for _, reading in sorted(by_candidate.items())]
    first = min(backends, key=_frees) if backends and not outcome.candidates else None
    if whole is not None and (first is None or _frees(whole) >= _frees(first)):
        return refusal(whole, now, headers)
    assert first is not None
    return refusal(first, now, headers, of="" if len(backends) == 1 else "; no backend has any left")


def _blocking(asked: Asked, outcome: Outcome) -> dict[int, Reading]:
    """What closes each candidate that is closed, -1 for the request as a whole: of its groups the one that frees last."""
    every = readings(asked, outcome)
    blocking: dict[int, Reading] = {}  # group -> the first of its limits that frees
    for hold, reading, standing in zip(asked.holds, every, outcome.standings, strict=True):
        before = blocking.get(hold.group)
        if not standing.room and (before is None or _frees(reading) < _frees(before)):
            blocking[hold.group] = reading
    for hold, standing in zip(asked.holds, outcome.standings, strict=True):
        if standing.room:
            blocking.pop(hold.group, None)
    by_candidate: dict[int, Reading] = {}
    for group, reading in blocking.items():
        candidate = asked.groups[group]
        before = by_candidate.get(candidate)
        if before is None or _frees(reading) > _frees(before):
            by_candidate[candidate] = reading
    return by_candidate


def _frees(reading: Reading) -> float:
    return _NEVER if reading.frees is None else reading.frees
