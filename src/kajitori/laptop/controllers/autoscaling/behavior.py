"""How fast and how far a recommendation is followed: windows, policies, limits. Pure.

Without `behavior` a size at most doubles (or goes to 4) in one step and shrinks to no less than what was
recommended within five minutes. Source: Kubernetes' documentation of configurable scaling behavior.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from kajitori.laptop.controllers.autoscaling.views import Object

STABILIZATION_SECONDS = 300
_LONGEST_SECONDS = 3600
_STABLE = ("ReadyForNewScale", "recommended size matches current size")
_WITHIN = ("DesiredWithinRange", "the desired count is within the acceptable range")
_LIMITS = {
    "ScaleUpLimit": "the desired replica count is increasing faster than the maximum scale rate",
    "TooManyReplicas": "the desired replica count is more than the maximum replica count",
    "ScaleDownLimit": "the desired replica count is decreasing faster than the maximum scale rate",
    "TooFewReplicas": "the desired replica count is less than the minimum replica count",
}
_STABILIZED = {
    "ScaleUpStabilized": "recent recommendations were lower than current one, applying the lowest recent recommendation",
    "ScaleDownStabilized": "recent recommendations were higher than current one, applying the highest recent recommendation",
}  # fmt: skip


class Memory(msgspec.Struct, frozen=True):
    """What was recommended, and by how much the size was changed, each as (amount, time)."""

    recommended: list[tuple[int, float]] = []
    grown: list[tuple[int, float]] = []
    shrunk: list[tuple[int, float]] = []

    def with_recommendation(self, replicas: int, now: float) -> Memory:
        recent = [one for one in self.recommended if one[1] >= now - _LONGEST_SECONDS]
        return msgspec.structs.replace(self, recommended=[*recent, (replicas, now)])

    def with_change(self, change: int, now: float) -> Memory:
        """change: positive for growth."""
        field = "grown" if change > 0 else "shrunk"
        recent = [one for one in getattr(self, field) if one[1] >= now - _LONGEST_SECONDS]
        return msgspec.structs.replace(self, **{field: [*recent, (abs(change), now)]})


class Limited(NamedTuple):
    """stable, limit: reasons and messages of AbleToScale and ScalingLimited. is_limited: the latter's status."""

    replicas: int
    stable: tuple[str, str]
    is_limited: bool
    limit: tuple[str, str]


def follow(
    behavior: Object | None, memory: Memory, current: int, wanted: int, least: int, most: int, now: float
) -> Limited:
    """The size to set. wanted: what the metrics ask for, not yet in `memory`."""
    if behavior is None:
        recent = [one for one, time in memory.recommended if time >= now - STABILIZATION_SECONDS]
        stabilized = max([wanted, *recent])
        stable = ("ScaleDownStabilized", _STABILIZED["ScaleDownStabilized"])
        replicas, reason = _by_default(current, stabilized, least, most)
    else:
        stabilized = _stabilize(behavior, memory, current, wanted, now)
        name = "ScaleUpStabilized" if wanted >= current else "ScaleDownStabilized"
        stable = (name, _STABILIZED[name])
        replicas, reason = _by_policies(behavior, memory, current, stabilized, least, most, now)
    limit = (reason, _LIMITS[reason]) if reason else _WITHIN
    stable = stable if stabilized != wanted else _STABLE
    return Limited(replicas, stable, replicas != stabilized, limit)


def _by_default(current: int, wanted: int, least: int, most: int) -> tuple[int, str]:
    fastest = max(2 * current, 4)
    if wanted < least:
        return least, "TooFewReplicas"
    if wanted > min(fastest, most):
        return min(fastest, most), "ScaleUpLimit" if most > fastest else "TooManyReplicas"
    return wanted, ""


def _rules(behavior: Object, direction: str) -> Object:
    return behavior.get(direction) or {}


def _stabilize(behavior: Object, memory: Memory, current: int, wanted: int, now: float) -> int:
    up_seconds = _rules(behavior, "scaleUp").get("stabilizationWindowSeconds") or 0
    down_seconds = _rules(behavior, "scaleDown").get("stabilizationWindowSeconds")
    down_seconds = STABILIZATION_SECONDS if down_seconds is None else down_seconds
    lowest = min([wanted, *(one for one, time in memory.recommended if time > now - up_seconds)])
    highest = max([wanted, *(one for one, time in memory.recommended if time > now - down_seconds)])
    return min(max(current, lowest), highest)


def _by_policies(
    behavior: Object, memory: Memory, current: int, wanted: int, least: int, most: int, now: float
) -> tuple[int, str]:
    if wanted > current:
        fastest = max(current, _growth_limit(_rules(behavior, "scaleUp"), memory, current, now))
        if wanted > min(fastest, most):
            return min(fastest, most), "ScaleUpLimit" if most > fastest else "TooManyReplicas"
    elif wanted < current:
        lowest = min(current, _shrink_limit(_rules(behavior, "scaleDown"), memory, current, now))
        if wanted < max(lowest, least):
            return max(lowest, least), "ScaleDownLimit" if least < lowest else "TooFewReplicas"
    return wanted, ""


def _size_before(memory: Memory, current: int, period_seconds: float, now: float) -> int:
    """The size that a policy's period began with."""
    return (
        current - _changed(memory.grown, period_seconds, now) + _changed(memory.shrunk, period_seconds, now)
    )


def _changed(changes: Sequence[tuple[int, float]], period_seconds: float, now: float) -> int:
    return sum(amount for amount, time in changes if time > now - period_seconds)


def _growth_limit(rules: Object, memory: Memory, current: int, now: float) -> int:
    limits = [
        before + value if in_pods else math.ceil(before * (1 + value / 100))
        for before, value, in_pods in _policies(rules, memory, current, now)
    ]
    return (min if rules.get("selectPolicy") == "Min" else max)(limits, default=current)


def _shrink_limit(rules: Object, memory: Memory, current: int, now: float) -> int:
    limits = [
        before - value if in_pods else int(before * (1 - value / 100))
        for before, value, in_pods in _policies(rules, memory, current, now)
    ]
    return (max if rules.get("selectPolicy") == "Min" else min)(limits, default=current)


def _policies(rules: Object, memory: Memory, current: int, now: float) -> Iterator[tuple[int, int, bool]]:
    """Of each policy the size that its period began with, its value, and whether that is in pods, not in percent."""
    if rules.get("selectPolicy") != "Disabled":
        for policy in rules.get("policies") or ():
            before = _size_before(memory, current, policy["periodSeconds"], now)
            yield before, policy["value"], policy["type"] == "Pods"
