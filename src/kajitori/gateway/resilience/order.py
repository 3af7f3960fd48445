"""In which order the backends of a rule are tried: each once, those of a priority before those of the next. Pure.

Envoy takes one number at random for a request and keeps it: attempt n finds its backend in the n-th group by that
number. So the groups of one priority have the same total weight and are cut into the same pieces, and each piece goes
through all backends of the priority. The first attempt spreads by the weights, the second by the weights of those
that are left.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from itertools import groupby, permutations
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kajitori.gateway.resilience.settings import Resilience

MOST_ATTEMPTS = 8
"""Attempts of one request, however many backends there are."""
_ALL_ORDERS_UP_TO = 4
_PIECES = 1_000_000

Group = list[tuple[str, int]]
Tier = tuple["Choice", ...]


class Choice(msgspec.Struct, frozen=True):
    """A backend of a rule.

    cluster: of Envoy. name: AIServiceBackend as namespace/name. model: override, or empty. keyless: requests go to it with
    the credentials that their clients sent.
    """

    cluster: str
    name: str
    model: str = ""
    weight: int = 1
    priority: int = 0
    keyless: bool = False


def tiers_of(choices: Iterable[Choice]) -> list[Tier]:
    """Backends by priority, the lowest number first; within one as the rule lists them."""
    ranked = sorted(choices, key=lambda choice: choice.priority)
    return [tuple(group) for _, group in groupby(ranked, key=lambda choice: choice.priority)]


def attempt_groups(tiers: Sequence[Tier], attempts_per_tier: int = 0) -> list[Group]:
    """The clusters of each attempt with their weights.

    attempts_per_tier: how often each priority is tried; 0 for once each of its backends, `MOST_ATTEMPTS` in all.
    """
    groups: list[Group] = []
    for tier in tiers:
        orders = _orders(tuple(choice.weight for choice in tier))
        for number in range(attempts_per_tier or len(tier)):
            pieces = ((tier[order[number % len(tier)]].cluster, weight) for order, weight in orders)
            groups.append(_joined(pieces))
    return groups if attempts_per_tier else groups[:MOST_ATTEMPTS]


def attempt_count(tiers: Sequence[Tier]) -> int:
    """How many attempts there are by default."""
    return min(sum(map(len, tiers)), MOST_ATTEMPTS)


def priority_groups(tiers: Sequence[Tier], attempts_per_tier: int = 0) -> list[dict[str, Any]]:
    """The same as Envoy's specifier has it."""
    return [
        {
            "name": f"attempt-{number}",
            "clusters": [{"cluster_name": cluster, "weight": weight} for cluster, weight in group],
        }
        for number, group in enumerate(attempt_groups(tiers, attempts_per_tier), 1)
    ]


def _joined(pieces: Iterable[tuple[str, int]]) -> Group:
    """Neighbours that go to the same cluster become one."""
    return [
        (cluster, sum(weight for _, weight in run))
        for cluster, run in groupby(pieces, lambda piece: piece[0])
    ]


@lru_cache(maxsize=4096)
def _orders(weights: tuple[int, ...]) -> list[tuple[tuple[int, ...], int]]:
    """Orders of so many backends, each with its share."""
    count = len(weights)
    if count == 1:
        return [((0,), weights[0])]
    if count == 2:
        return [((0, 1), weights[0]), ((1, 0), weights[1])]
    if count > _ALL_ORDERS_UP_TO:
        # Each order starts with another backend and goes round: all orders would be too many.
        return [
            (tuple((start + step) % count for step in range(count)), weights[start]) for start in range(count)
        ]
    total = sum(weights)
    found: list[tuple[tuple[int, ...], int]] = []
    for order in permutations(range(count)):
        share, left = 1.0, total
        for index in order:
            share *= weights[index] / left
            left -= weights[index]
            if left <= 0:
                break
        found.append((order, max(1, round(share * _PIECES))))
    return found


def is_remembered(backends: int, resilience: Resilience) -> bool:
    """Whether it is of use for a rule to know that a backend asked to be left alone."""
    return resilience.cooling is not None and (backends > 1 or resilience.refuse_cooled)


def hedge_of(tiers: Sequence[Tier], resilience: Resilience) -> tuple[float, int] | None:
    """After how long another backend is asked as well, and how many more; None where none is.

    Of a single backend it is another endpoint, which Envoy chooses by itself.
    """
    if not resilience.hedge_after_seconds or sum(map(len, tiers)) < 2:
        return None
    return resilience.hedge_after_seconds, resilience.hedge_extra


def order_metadata(tiers: Sequence[Tier], resilience: Resilience) -> dict[str, Any]:
    """What the request script must know of a rule to arrange its backends anew, or nothing. See lua/order.lua."""
    cooling = resilience.cooling
    remembered = is_remembered(sum(map(len, tiers)), resilience)
    told: dict[str, Any] = {}
    if cooling is not None and remembered:
        told["cooldown"] = {"default": cooling.default_seconds, "most": cooling.most_seconds}
    special = bool(
        resilience.chain_header
        or resilience.limit
        or resilience.limits
        or resilience.decision_headers != "Never"
    )
    if not (special or remembered or hedge_of(tiers, resilience)):
        return told
    table: dict[str, Any] = {"tiers": [[_choice(choice, resilience) for choice in tier] for tier in tiers]}
    if special:
        table["special"] = True
    if any(choice.keyless for tier in tiers for choice in tier):
        table["keyless"] = True
    if resilience.chain_header:
        names = resilience.allowed or dict.fromkeys(choice.name for tier in tiers for choice in tier)
        table["chain"] = {"header": resilience.chain_header, "allowed": list(names)}
    if resilience.refuse_cooled:
        table["refuse_cooled"] = True
    if resilience.refuse_saturated:
        table["refuse_saturated"] = True
    if resilience.decision_headers != "Never":
        table["tell"] = resilience.decision_headers
    text = json.dumps(table, sort_keys=True)
    return {**told, "order": hashlib.sha256(text.encode()).hexdigest()[:16], "order_table": table}


def _choice(choice: Choice, resilience: Resilience) -> dict[str, Any]:
    short = choice.name.partition("/")[2]
    found: dict[str, Any] = {
        "cluster": choice.cluster,
        "name": choice.name,
        "short": short,
        "target": choice.name,
        "weight": choice.weight,
    }
    if choice.model:
        found["model"] = choice.model
    limit = resilience.limit_of(choice.name, short)
    if limit:
        found["limit"] = limit
    return found


def unknown_backends(tiers: Sequence[Tier], resilience: Resilience) -> list[str]:
    """Names in a policy that are no backends of the rule."""
    known = {
        name for tier in tiers for choice in tier for name in (choice.name, choice.name.partition("/")[2])
    }
    named = (*resilience.allowed, *(name for name, _ in resilience.limits))
    return [name for name in dict.fromkeys(named) if name not in known]


def describe_order(tiers: Sequence[Tier]) -> str:
    """The order in words: `a (80 %) and b (20 %), then c`."""
    return ", then ".join(" and ".join(_shares(tier)) for tier in tiers)


def _shares(tier: Tier) -> list[str]:
    total = sum(choice.weight for choice in tier)
    shares: list[str] = []
    for choice in tier:
        name = choice.name.partition("/")[2] + (f" as {choice.model}" if choice.model else "")
        shares.append(name if len(tier) == 1 else f"{name} ({100 * choice.weight / total:.3g} %)")
    return shares
