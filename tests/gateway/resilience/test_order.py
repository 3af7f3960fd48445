"""The order of attempts as Envoy gets it, for every rule: pure."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.gateway.resilience.order import (
    MOST_ATTEMPTS,
    Choice,
    Group,
    attempt_groups,
    describe_order,
    tiers_of,
)

CHOICES = st.lists(
    st.tuples(st.integers(1, 1000), st.integers(0, 3)), min_size=1, max_size=12
).map(lambda pairs: [Choice(f"c{n}", f"default/b{n}", "", weight, priority) for n, (weight, priority) in enumerate(pairs)])  # fmt: skip


def cluster_at(group: Group, number: int) -> str:
    """As Envoy finds it: by the remainder of one random number, the same for all attempts."""
    left = number % sum(weight for _, weight in group)
    for cluster, weight in group:
        if left < weight:
            return cluster
        left -= weight
    raise AssertionError


@given(CHOICES, st.integers(0, 2**64 - 1))
def test_each_backend_is_tried_once_and_those_of_a_priority_before_those_of_the_next(
    choices: list[Choice], number: int
) -> None:
    tiers = tiers_of(choices)
    tried = [cluster_at(group, number) for group in attempt_groups(tiers)]
    assert len(tried) == len(set(tried)) == min(len(choices), MOST_ATTEMPTS)
    priority = {choice.cluster: choice.priority for choice in choices}
    ranks = [priority[cluster] for cluster in tried]
    assert ranks == sorted(priority.values())[: len(tried)]


@given(CHOICES)
def test_the_first_attempt_spreads_by_the_weights_and_no_share_is_lost(choices: list[Choice]) -> None:
    tier = tiers_of(choices)[0]
    shares: Counter[str] = Counter()
    for cluster, weight in attempt_groups([tier])[0]:
        shares[cluster] += weight
    total, whole = shares.total(), sum(choice.weight for choice in tier)
    for choice in tier:
        assert shares[choice.cluster] / total == pytest.approx(choice.weight / whole, abs=1e-4)


def test_the_second_attempt_spreads_by_the_weights_of_those_that_are_left() -> None:
    tier = tuple(
        Choice(name, f"default/{name}", "", weight) for name, weight in (("a", 2), ("b", 1), ("c", 1))
    )
    first, second, _ = attempt_groups([tier])
    total = sum(weight for _, weight in first)
    after_b: Counter[str] = Counter(
        cluster_at(second, number) for number in range(0, total, 997) if cluster_at(first, number) == "b"
    )
    assert after_b["a"] / after_b.total() == pytest.approx(2 / 3, abs=0.02)


def test_a_number_of_attempts_for_each_priority_is_kept_to() -> None:
    choices = [Choice("a", "default/a"), Choice("b", "default/b"), Choice("c", "default/c", priority=1)]
    groups = attempt_groups(tiers_of(choices), 3)
    assert [len(group) for group in groups] == [2, 2, 2, 1, 1, 1]
    assert cluster_at(groups[0], 0) == cluster_at(groups[2], 0) != cluster_at(groups[1], 0)


def test_an_order_is_told_in_words() -> None:
    choices = [
        Choice("x", "default/a", weight=4),
        Choice("y", "default/b", "small"),
        Choice("z", "other/c", priority=7),
    ]
    assert describe_order(tiers_of(choices)) == "a (80 %) and b as small (20 %), then c"
