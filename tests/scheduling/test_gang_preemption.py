"""Room for a gang: who goes, as a whole and never in vain."""

from __future__ import annotations

import msgspec
from hypothesis import event, given, settings
from hypothesis import strategies as st

from kajitori.scheduling.demand import Demand
from kajitori.scheduling.gangs.plan import place_gang
from kajitori.scheduling.gangs.victims import make_room
from kajitori.scheduling.plan import plan
from kajitori.scheduling.preemption import preempt
from kajitori.scheduling.state import ClusterState

from .objects import budget, pod
from .oracle import closest
from .test_gangs import EXAMPLES, GPU, RACK, clusters, exclusive, gang_of_pods, gangs, nodes_of, racks


def placed(
    state: ClusterState, name: str, nodes: list[str], priority: int, gpus: int = 1, **parts
) -> list[Demand]:
    """A gang that runs on these nodes, one pod each."""
    members = gang_of_pods(name, len(nodes), gpus, priority=priority, **parts)
    for demand, where in zip(members, nodes, strict=True):
        state.place(demand, where)
    return members


def goers(found) -> set[str]:
    return {victim.name for victim in found.victims}


def test_a_pod_takes_the_place_of_a_whole_gang_or_of_none():
    state = racks(a1=[4], a2=[4])
    placed(state, "g", ["a1n0", "a2n0"], 1, gpus=4)
    found = preempt(pod("new", {GPU: "4"}, priority=5), state)
    assert found is not None
    assert goers(found) == {"g-0", "g-1"}
    # One of them is as important: none may go.
    state.place(msgspec.structs.replace(gang_of_pods("g", 2, gpus=4)[1], priority=9), "a2n0")
    assert preempt(pod("new", {GPU: "4"}, priority=5), state) is None


def test_a_pod_rather_sends_one_pod_away_than_a_gang():
    state = racks(a1=[4], a2=[4], a3=[4])
    placed(state, "g", ["a1n0", "a2n0"], 1, gpus=4)
    state.place(pod("single", {GPU: "4"}, priority=1), "a3n0")
    found = preempt(pod("new", {GPU: "4"}, priority=5), state)
    assert found is not None
    assert goers(found) == {"single"}


def test_a_gang_makes_room_in_the_rack_that_loses_the_least_important():
    state = racks(a1=[8], a2=[8])
    placed(state, "f", ["a1n0"], 3, gpus=8)
    placed(state, "s", ["a2n0"], 1, gpus=8)
    found = make_room(gang_of_pods("g", 4, priority=5, required=RACK), state)
    assert found is not None
    assert goers(found) == {"s-0"}
    assert set(found.nodes.values()) == {"a2n0"}


def test_a_gang_never_sends_its_equals_away():
    state = racks(a1=[8])
    placed(state, "f", ["a1n0"], 5, gpus=8)
    assert make_room(gang_of_pods("g", 4, priority=5), state) is None


def test_a_gang_that_never_preempts_waits():
    state = racks(a1=[8])
    placed(state, "f", ["a1n0"], 1, gpus=8)
    assert make_room(gang_of_pods("g", 4, priority=5, preemptionPolicy="Never"), state) is None


def test_disruption_budgets_are_kept_where_another_rack_will_do():
    state = racks(a1=[8], a2=[8])
    placed(state, "f", ["a1n0"], 1, gpus=8, labels={"app": "guarded"})
    placed(state, "s", ["a2n0"], 3, gpus=8)
    found = make_room(gang_of_pods("g", 4, priority=5), state, [budget("guarded", 0)])
    assert found is not None
    assert (goers(found), found.violations) == ({"s-0"}, 0)


def test_an_exclusive_gang_makes_the_other_group_in_its_rack_go():
    state = racks(a1=[8, 8])
    other = exclusive("team", "y", RACK)
    placed(state, "f", ["a1n0"], 1, gpus=1, labels={"team": "y"}, affinity=other)
    members = gang_of_pods("g", 2, priority=5, labels={"team": "x"}, affinity=exclusive("team", "x", RACK))
    assert place_gang(members, state) is None
    found = make_room(members, state)
    assert found is not None
    assert goers(found) == {"f-0"}


def test_a_group_that_only_keeps_the_gang_out_of_one_rack_stays_where_another_rack_is_free_without_it():
    state = racks(a1=[8], b1=[8])
    placed(state, "f", ["a1n0"], 1, gpus=1, labels={"team": "y"})
    placed(state, "s", ["a1n0", "b1n0"], 1, gpus=1, labels={"team": "y"})
    members = gang_of_pods("g", 2, priority=5, labels={"team": "x"}, affinity=exclusive("team", "x", RACK))
    assert place_gang(members, state) is None
    found = make_room(members, state)
    assert found is not None
    assert goers(found) == {"s-0", "s-1"}
    assert set(found.nodes.values()) == {"b1n0"}


def test_what_is_cleared_is_kept_for_the_whole_gang_until_it_is_free():
    state = racks(a1=[8])
    victim = placed(state, "low", ["a1n0"], 1, gpus=8)[0]
    members = gang_of_pods("g", 4, gpus=2, priority=5)
    first, *others = plan(members, state)
    assert first.preemption is not None
    assert [found.name for found in first.preemption.victims] == ["low-0"]
    assert all(each.preemption is not None and not each.preemption.victims for each in others)
    # Nobody of the same importance gets in between, and the gang does not ask for more.
    assert not any(nodes_of(plan(gang_of_pods("h", 4, gpus=2, priority=5), state)).values())
    nominated = [msgspec.structs.replace(each, nominated_node="a1n0") for each in members]
    again = plan(nominated, state)
    assert not any(decision.node or decision.preemption for decision in again)
    state.remove(victim.uid)
    assert not any(nodes_of(plan(gang_of_pods("h", 4, gpus=2, priority=5), state)).values())
    assert set(nodes_of(plan(nominated, state)).values()) == {"a1n0"}


def test_a_gang_that_only_holds_its_place_loses_it_as_a_whole_to_a_more_important_one():
    state = racks(a1=[8])
    placed(state, "low", ["a1n0"], 1, gpus=8)
    plan(gang_of_pods("g", 4, gpus=2, priority=5), state)
    first, *_ = plan(gang_of_pods("boss", 4, gpus=2, priority=9), state)
    assert first.preemption is not None
    assert goers(first.preemption) >= {"g-0", "g-1", "g-2", "g-3"}
    assert {demand.name[0] for demand in state.nodes["a1n0"].pods.values()} == {"b", "l"}


@given(state=clusters(), asked=gangs(), data=st.data())
@settings(max_examples=EXAMPLES // 2, deadline=None)
def test_room_is_found_if_and_only_if_the_gang_fits_without_all_that_is_less_important(state, asked, data):
    members, stated, preferred = asked
    members = [msgspec.structs.replace(demand, priority=2) for demand in members]
    names = list(state.nodes)
    for number in range(data.draw(st.integers(0, 3))):
        where = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=3))
        parts = {"labels": {"team": "y"}} if data.draw(st.booleans()) else {}
        placed(state, f"other{number}", where, data.draw(st.integers(0, 3)), **parts)
    for number in range(data.draw(st.integers(0, 4))):
        single = pod(f"single{number}", {"cpu": "1", GPU: "1"}, priority=data.draw(st.integers(0, 3)))
        state.place(single, data.draw(st.sampled_from(names)))
    if place_gang(members, state) is not None:
        return
    before = holdings(state)
    found = make_room(members, state)
    assert holdings(state) == before
    lower = less_important(state, 2)
    if not lower:
        assert found is None
        return
    expected = fits_without(lower, members, state, stated, preferred)
    event(f"room {expected}, victims {len(found.victims) if found else 0}")
    assert (found is not None) == expected
    if found is None:
        return
    victims = {victim.uid for victim in found.victims}
    assert victims <= lower
    for victim in found.victims:
        if victim.gang is not None:
            assert set(state.group_pods(victim.group)) <= victims
    assert fits_without(victims, members, state, stated, preferred)
    units = {victim.group if victim.gang is not None else victim.uid for victim in found.victims}
    for unit in units:
        spared = {v.uid for v in found.victims if unit == (v.group if v.gang is not None else v.uid)}
        assert not fits_without(victims - spared, members, state, stated, preferred), "one went in vain"


def holdings(state: ClusterState) -> dict[str, set[str]]:
    return {name: set(one.pods) for name, one in state.nodes.items()}


def less_important(state: ClusterState, priority: int) -> set[str]:
    chosen: set[str] = set()
    for one in state.nodes.values():
        for demand in one.pods.values():
            mates = state.group_pods(demand.group).values() if demand.gang is not None else [demand]
            if all(mate.priority < priority for mate in mates):
                chosen.add(demand.uid)
    return chosen


def fits_without(uids: set[str], members, state: ClusterState, stated: str, preferred) -> bool:
    away = [(state.nodes[state.node_of(uid)].pods[uid], state.node_of(uid)) for uid in uids]
    for uid in uids:
        state.remove(uid)
    required = [stated] if stated else []
    required += [
        term.topology_key
        for term in members[0].affinity
        if not state.by_domain(state.count(term.selection), term.topology_key)
    ]
    answer = closest(members, state, required, []) is not None
    for demand, name in away:
        state.place(demand, name)
    return answer
