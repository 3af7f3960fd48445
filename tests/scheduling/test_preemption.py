"""Less important pods make way: which ones, where, and never in vain."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from kajitori.scheduling.demand import Demand
from kajitori.scheduling.plan import plan
from kajitori.scheduling.preemption import preempt
from kajitori.scheduling.state import ClusterState

from .objects import budget, cluster, node, pod

GPU = "nvidia.com/gpu"


def gpus(name: str, count: int, priority: int, **parts: Any) -> Demand:
    return pod(name, {GPU: str(count)}, priority=priority, **parts)


def filled(*pods: tuple[str, Demand], nodes: int = 2) -> ClusterState:
    state = cluster(*(node(f"n{number}", **{GPU: "8"}) for number in range(1, nodes + 1)))
    for place, demand in pods:
        state.place(demand, place)
    return state


def victims(found: Any) -> list[str]:
    return [victim.name for victim in found.victims]


def test_only_less_important_pods_go() -> None:
    state = filled(("n1", gpus("same", 8, 10)), ("n2", gpus("less", 8, 9)))
    found = preempt(gpus("new", 8, 10), state)
    assert found is not None
    assert (found.node, victims(found)) == ("n2", ["less"])
    assert preempt(gpus("new", 8, 9), state) is None


def test_no_more_go_than_must() -> None:
    state = filled(("n1", gpus("a", 2, 1)), ("n1", gpus("b", 2, 2)), ("n1", gpus("c", 4, 3)), nodes=1)
    found = preempt(gpus("new", 2, 10), state)
    assert found is not None
    assert victims(found) == ["a"]


def test_the_node_that_loses_the_least_important_is_chosen() -> None:
    state = filled(("n1", gpus("a", 8, 5)), ("n2", gpus("b", 4, 1)), ("n2", gpus("c", 4, 1)))
    found = preempt(gpus("new", 8, 10), state)
    assert found is not None
    assert found.node == "n2"


def test_disruption_budgets_are_kept_where_another_node_will_do() -> None:
    guarded = gpus("a", 8, 1, labels={"app": "guarded"})
    state = filled(("n1", guarded), ("n2", gpus("b", 8, 5)))
    found = preempt(gpus("new", 8, 10), state, [budget("guarded", 0)])
    assert found is not None
    assert (found.node, found.violations) == ("n2", 0)
    found = preempt(gpus("new", 8, 10), filled(("n1", guarded), nodes=1), [budget("guarded", 0)])
    assert found is not None
    assert (found.node, found.violations) == ("n1", 1)


def test_the_younger_ones_go_where_all_else_is_equal() -> None:
    state = filled(
        ("n1", gpus("old", 8, 1, created="2026-01-01T00:00:00Z")),
        ("n2", gpus("young", 8, 1, created="2026-01-02T00:00:00Z")),
    )
    found = preempt(gpus("new", 8, 10), state)
    assert found is not None
    assert victims(found) == ["young"]


def test_a_pod_that_never_preempts_waits() -> None:
    state = filled(("n1", gpus("a", 8, 1)), nodes=1)
    assert preempt(gpus("new", 8, 10, preemptionPolicy="Never"), state) is None


def test_nobody_goes_where_it_would_not_help() -> None:
    state = filled(("n1", gpus("a", 8, 1)), nodes=1)
    assert preempt(gpus("new", 9, 10), state) is None
    assert preempt(gpus("new", 8, 10, nodeSelector={"no": "such"}), state) is None
    state.nodes["n1"].unschedulable = True
    assert preempt(gpus("new", 8, 10), state) is None


def test_what_becomes_free_is_kept_for_the_pod_that_others_went_for() -> None:
    state = filled(("n1", gpus("a", 8, 1)), nodes=1)
    (first,) = plan([gpus("first", 8, 10)], state)
    assert first.preemption is not None
    (second,) = plan([gpus("second", 8, 10)], state)
    assert second.node == "" and second.preemption is None
    state.remove("uid-a")
    (second,) = plan([gpus("second", 8, 10)], state)
    assert second.node == "" and second.preemption is None
    (first,) = plan([gpus("first", 8, 10)], state)
    assert first.node == "n1"


def test_a_pod_waits_for_its_victims_and_takes_no_more_meanwhile() -> None:
    state = filled(("n1", gpus("a", 8, 1)), ("n2", gpus("b", 8, 1)))
    (decision,) = plan([gpus("new", 8, 10)], state)
    assert decision.preemption is not None
    nominated = msgspec.structs.replace(decision.demand, nominated_node=decision.preemption.node)
    (again,) = plan([nominated], state)
    assert again.node == "" and again.preemption is None


def test_a_more_important_one_takes_the_place_that_was_cleared() -> None:
    state = filled(("n1", gpus("a", 8, 1)), nodes=1)
    plan([gpus("first", 8, 10)], state)
    (decision,) = plan([gpus("boss", 8, 20)], state)
    assert decision.preemption is not None
    assert set(victims(decision.preemption)) == {"a", "first"}


PODS = st.lists(st.tuples(st.integers(1, 8), st.integers(0, 3), st.integers(1, 3)), max_size=12)


@given(PODS, st.integers(1, 8), st.integers(0, 4))
def test_after_the_victims_have_gone_the_pod_fits_and_the_state_was_not_touched(
    placed: list[tuple[int, int, int]], wanted: int, priority: int
) -> None:
    state = filled(nodes=3)
    for number, (count, level, place) in enumerate(placed):
        if state.nodes[f"n{place}"].free(GPU) >= count:
            state.place(gpus(f"p{number}", count, level), f"n{place}")
    before = {name: (dict(one.used), set(one.pods)) for name, one in state.nodes.items()}
    found = preempt(gpus("new", wanted, priority), state)
    assert {name: (dict(one.used), set(one.pods)) for name, one in state.nodes.items()} == before
    possible = any(
        one.free(GPU) + sum(other.requests[GPU] for other in one.pods.values() if other.priority < priority)
        >= wanted
        and any(other.priority < priority for other in one.pods.values())
        for one in state.nodes.values()
    )
    assert (found is not None) == possible
    if found is None:
        return
    cleared = state.nodes[found.node]
    for victim in found.victims:
        assert victim.priority < priority
        state.remove(victim.uid)
    assert cleared.free(GPU) >= wanted
    for victim in found.victims:
        # Each of them had to go.
        assert cleared.free(GPU) - victim.requests[GPU] < wanted
