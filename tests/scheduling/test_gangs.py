"""Gangs: all or none, as close as can be, never wrong."""

from __future__ import annotations

import os

import msgspec
import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from kajitori.model.gang import Gang, gang_annotations, gang_labels
from kajitori.scheduling.demand import Demand
from kajitori.scheduling.filters import filters_for
from kajitori.scheduling.gangs.mixed import pack
from kajitori.scheduling.gangs.plan import place_gang
from kajitori.scheduling.gangs.table import NodeTable, table_of
from kajitori.scheduling.plan import plan
from kajitori.scheduling.state import ClusterState

from .objects import cluster, node, pod
from .oracle import HOST, closest

GPU = "nvidia.com/gpu"
RACK, ZONE = "kajitori.dev/rack", "topology.kubernetes.io/zone"
EXAMPLES = int(os.environ.get("KAJITORI_EXAMPLES", "250"))


def member(gang: Gang, number: int, requests: dict[str, str], **parts) -> Demand:
    labels = {**gang_labels(gang), **parts.pop("labels", {})}
    return pod(f"{gang.name}-{number}", requests, labels=labels, annotations=gang_annotations(gang), **parts)


def gang_of_pods(name: str, size: int, gpus: int = 1, required: str = "", preferred=(RACK, ZONE), **parts):
    gang = Gang(name=name, size=size, required_topology=required, preferred_topology=preferred)
    return [member(gang, number, {GPU: str(gpus)}, **parts) for number in range(size)]


# Never wrong: against every assignment tried.

TAINT = [{"key": "gpu", "value": "", "effect": "NoSchedule"}]


@st.composite
def clusters(draw) -> ClusterState:
    nodes = []
    for number in range(draw(st.integers(1, 6))):
        labels = {"size": draw(st.sampled_from("sl"))}
        if draw(st.integers(0, 5)):
            labels[RACK] = draw(st.sampled_from("abc"))
        if draw(st.integers(0, 5)):
            labels[ZONE] = draw(st.sampled_from("12"))
        offered = {
            GPU: str(draw(st.sampled_from([0, 1, 2, 3, 4, 6]))),
            "cpu": str(draw(st.integers(1, 8))),
            "pods": str(draw(st.integers(1, 6))),
        }
        taints = TAINT if not draw(st.integers(0, 7)) else []
        nodes.append(node(f"n{number}", labels, taints, **offered))
    state = cluster(*nodes)
    for number in range(draw(st.integers(0, 3))):
        team = draw(st.sampled_from("xyz"))
        # Nobody sends away whom it wants to be near to.
        existing = pod(f"there-{number}", {"cpu": "1"}, labels={"team": team}, priority=9 * (team == "x"))
        state.place(existing, f"n{draw(st.integers(0, len(nodes) - 1))}")
    return state


def exclusive(label: str, own: str, topology: str) -> dict:
    """One group, one domain, and no other group there, as LeaderWorkerSets have it."""
    kinds = {
        "podAffinity": [{"key": label, "operator": "In", "values": [own]}],
        "podAntiAffinity": [
            {"key": label, "operator": "Exists"},
            {"key": label, "operator": "NotIn", "values": [own]},
        ],
    }
    return {
        kind: {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": topology, "labelSelector": {"matchExpressions": expressions}}
            ]
        }
        for kind, expressions in kinds.items()
    }


APART = {
    "podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": HOST, "labelSelector": {"matchLabels": {"part": "w"}}}
        ]
    }
}
REQUESTS = st.fixed_dictionaries({GPU: st.sampled_from("01123"), "cpu": st.sampled_from("0123")})


@st.composite
def gangs(draw) -> tuple[list[Demand], str, tuple[str, ...]]:
    size = draw(st.integers(1, 5))
    shapes = draw(st.lists(REQUESTS, min_size=1, max_size=3))
    required = draw(st.sampled_from(["", "", RACK, ZONE]))
    preferred = draw(st.sampled_from([(RACK, ZONE), (RACK,), (ZONE,)]))
    gang = Gang(name="g", size=size, required_topology=required, preferred_topology=preferred)
    common: dict = {}
    rule = draw(st.sampled_from(["", "", "", "exclusive", "apart", "port"]))
    if rule == "exclusive":
        common["affinity"] = exclusive("team", "x", draw(st.sampled_from([RACK, ZONE])))
    if draw(st.booleans()):
        common["tolerations"] = [{"operator": "Exists"}]
    members = []
    for number in range(size):
        parts = {**common, "labels": {"team": "x"}}
        request = shapes[draw(st.integers(0, len(shapes) - 1))]
        if not draw(st.integers(0, 11)):
            parts["nodeSelector"] = {"size": "l"}
        if rule == "apart" and draw(st.integers(0, 3)):
            parts |= {"affinity": APART, "labels": {"team": "x", "part": "w"}}
        if rule == "port" and draw(st.booleans()):
            resources = {"requests": request}
            ports = [{"containerPort": 1, "hostPort": 1}]
            parts["containers"] = [{"name": "c", "resources": resources, "ports": ports}]
        members.append(member(gang, number, request, **parts))
    return members, required, preferred


def level_of(found: dict[str, str], state: ClusterState, preferred) -> int:
    """The closest level at which the gang is together."""
    for position, label in enumerate((HOST, *preferred)):
        values = {state.nodes[name].labels.get(label) for name in found.values()}
        if len(values) == 1 and None not in values:
            return position
    return len(preferred) + 1


@given(state=clusters(), asked=gangs())
@settings(max_examples=EXAMPLES, deadline=None)
def test_a_gang_is_placed_if_and_only_if_some_placement_exists_and_then_on_the_closest_level(state, asked):
    members, stated, preferred = asked
    required = [stated] if stated else []
    # Where company is already, members join it; else they share one domain.
    required += [
        term.topology_key
        for term in members[0].affinity
        if not state.by_domain(state.count(term.selection), term.topology_key)
    ]
    levels = [label for label in preferred if label not in required]
    expected = closest(members, state, required, levels)
    before = {name: dict(one.used) for name, one in state.nodes.items()}
    found = place_gang(members, state)
    assert (found is not None) == (expected is not None)
    assert {name: {k: v for k, v in one.used.items() if v} for name, one in state.nodes.items()} == {
        name: {k: v for k, v in used.items() if v} for name, used in before.items()
    }
    event(f"level {expected} shapes {len({demand.node_shape for demand in members})}")
    if found is None:
        return
    assert set(found) == {demand.uid for demand in members}
    assert level_of(found, state, levels) <= expected
    for label in required:
        (value,) = {state.nodes[name].labels.get(label) for name in found.values()}
        assert value is not None
    # One after the other, each of them is where the filters for one pod allow it.
    for demand in members:
        refusals = [refuse(state.nodes[found[demand.uid]]) for refuse in filters_for(demand, state)]
        assert not any(refusals), refusals
        state.place(demand, found[demand.uid])


# Packing pods of several shapes.


@st.composite
def full_nodes(draw) -> tuple[list[list[int]], list[int], list[list[int]]]:
    """Shapes, how many of each, and nodes that were cut to hold them exactly, but perhaps for one unit."""
    amounts = draw(st.lists(st.lists(st.integers(1, 5), min_size=2, max_size=2), min_size=2, max_size=3))
    counts = [draw(st.integers(1, 3)) for _ in amounts]
    free = [[0, 0] for _ in range(draw(st.integers(1, 3)))]
    for amount, count in zip(amounts, counts, strict=True):
        for _ in range(count):
            node = draw(st.integers(0, len(free) - 1))
            free[node] = [have + more for have, more in zip(free[node], amount, strict=True)]
    if draw(st.booleans()):
        free[0][0] = max(0, free[0][0] - 1)
    return amounts, counts, free


def brute_force(amounts: list[list[int]], counts: list[int], free: list[list[int]]) -> bool:
    pods = [amount for amount, count in zip(amounts, counts, strict=True) for _ in range(count)]

    def fits(position: int) -> bool:
        if position == len(pods):
            return True
        for left in free:
            if all(have >= wanted for have, wanted in zip(left, pods[position], strict=True)):
                left[:] = [have - wanted for have, wanted in zip(left, pods[position], strict=True)]
                found = fits(position + 1)
                left[:] = [have + wanted for have, wanted in zip(left, pods[position], strict=True)]
                if found:
                    return True
        return False

    return fits(0)


@given(full_nodes())
@settings(max_examples=EXAMPLES, deadline=None)
def test_pods_of_several_shapes_fit_if_and_only_if_some_packing_exists(asked):
    amounts, counts, free = asked
    masks = np.ones((len(free), len(counts)), np.bool_)
    packed = pack(np.array(free, np.int64), counts, np.array(amounts, np.int64), masks)
    assert (packed is not None) == brute_force(amounts, counts, free)
    if packed is not None:
        assert packed.sum(axis=0).tolist() == counts
        assert (packed @ np.array(amounts) <= np.array(free)).all()


# What a gang can count on.


def racks(**gpus: list[int]) -> ClusterState:
    """Nodes by rack; numbers are their GPUs."""
    return cluster(
        *(
            node(f"{rack}n{number}", {RACK: rack, ZONE: rack[0]}, **{GPU: str(count)})
            for rack, counts in gpus.items()
            for number, count in enumerate(counts)
        )
    )


def nodes_of(decisions) -> dict[str, str]:
    return {decision.demand.name: decision.node for decision in decisions}


def test_of_two_gangs_that_do_not_fit_together_one_runs_whole_and_the_other_waits_whole():
    state = racks(a1=[8], a2=[4])
    first, second = gang_of_pods("f", 8), gang_of_pods("s", 8)
    mixed = [demand for pair in zip(first, second, strict=True) for demand in pair]
    found = nodes_of(plan(mixed, state))
    assert {found[demand.name] for demand in first} == {"a1n0"}
    assert {found[demand.name] for demand in second} == {""}
    for demand in first:
        state.remove(demand.uid)
    assert all(nodes_of(plan(second, state)).values())


def test_nothing_of_a_gang_is_placed_before_all_its_pods_are_there():
    state = racks(a1=[8])
    members = gang_of_pods("g", 4)
    for decision in plan(members[:3], state):
        assert decision.node == ""
        assert decision.message == "gang g has 3 of its 4 pods; none is placed before all are there"
    assert all(nodes_of(plan(members, state)).values())


def test_pods_that_have_done_their_work_are_not_waited_for():
    members = gang_of_pods("g", 4)
    assert all(nodes_of(plan(members[:3], racks(a1=[8]), done={"default/g": 1})).values())


def test_a_gang_takes_the_tightest_rack_that_holds_it_and_leaves_the_roomy_one_whole():
    state = racks(a1=[8, 8, 8], a2=[8, 8])
    found = nodes_of(plan(gang_of_pods("g", 2, gpus=8), state))
    assert set(found.values()) == {"a2n0", "a2n1"}


def test_a_gang_that_no_rack_holds_takes_the_next_wider_domain():
    state = racks(a1=[8], a2=[8], b1=[8])
    found = nodes_of(plan(gang_of_pods("g", 2, gpus=8), state))
    assert {name[0] for name in found.values()} == {"a"}
    state = racks(a1=[8], b1=[8], c1=[8])
    assert all(nodes_of(plan(gang_of_pods("g", 3, gpus=8), state)).values())


def test_inside_a_zone_a_gang_spreads_over_as_few_racks_as_it_must():
    state = racks(a1=[4, 4], a2=[8, 8], a3=[8, 8], a4=[4])
    found = nodes_of(plan(gang_of_pods("g", 20), state))
    assert {name[:2] for name in found.values()} == {"a2", "a4"} or len({n[:2] for n in found.values()}) == 2


def test_neighbouring_ranks_are_on_the_same_node():
    found = nodes_of(plan(gang_of_pods("g", 12), racks(a1=[4, 4, 4])))
    for start in (0, 4, 8):
        assert len({found[f"g-{number}"] for number in range(start, start + 4)}) == 1


def test_gangs_without_devices_go_where_most_room_is():
    state = cluster(node("a"), node("b"))
    gangs = []
    for name in "fgh":
        gang = Gang(name=name, size=3)
        gangs.append([member(gang, number, {"cpu": "1"}) for number in range(3)])
    found = [set(nodes_of(plan(members, state)).values()) for members in gangs]
    assert found[0] != found[1]
    assert len(found[0]) == len(found[1]) == 1


def test_a_pod_that_replaces_one_of_a_gang_goes_near_the_others():
    state = racks(a1=[4, 4, 4], a2=[4])
    members = gang_of_pods("g", 8)
    found = nodes_of(plan(members, state))
    assert {name[:2] for name in found.values()} == {"a1"}
    state.remove(members[3].uid)
    (again,) = plan([members[3]], state)
    assert again.node == found["g-3"]


def test_workers_go_near_a_leader_that_came_first():
    kin = {"leaderworkerset.sigs.k8s.io/group-key": "k"}
    state = racks(a1=[4], a2=[2, 4], b1=[4])
    state.place(pod("leader", {GPU: "1"}, labels=kin), "a2n0")
    found = nodes_of(plan(gang_of_pods("g", 4, labels=kin), state))
    assert {name[:2] for name in found.values()} == {"a2"}


def test_pods_that_are_leaving_do_not_count_as_the_gang():
    state = racks(a1=[8])
    old = [
        msgspec.structs.replace(demand, uid=f"old-{demand.uid}", leaving=True)
        for demand in gang_of_pods("g", 2)
    ]
    for demand in old:
        state.place(demand, "a1n0")
    new = gang_of_pods("g", 2)
    assert not any(nodes_of(plan(new[:1], state)).values())
    assert all(nodes_of(plan(new, state)).values())


def test_nodes_that_ask_pods_to_stay_away_are_taken_only_if_the_gang_needs_them():
    state = racks(a1=[8], a2=[8, 8])
    shy = [{"key": "old", "effect": "PreferNoSchedule"}]
    state.set_node(node("a1n0", {RACK: "a1", ZONE: "a"}, shy, **{GPU: "8"}))
    assert nodes_of(plan(gang_of_pods("f", 1, gpus=8), state))["f-0"] == "a2n0"
    assert all(nodes_of(plan(gang_of_pods("g", 2, gpus=8), state)).values())


def test_pods_that_spread_over_zones_are_placed_all_or_none_too():
    constraint = [
        {
            "topologyKey": ZONE,
            "maxSkew": 1,
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "s"}},
        }
    ]
    members = gang_of_pods("g", 4, labels={"app": "s"}, topologySpreadConstraints=constraint)
    state = racks(a1=[8], b1=[2])
    found = nodes_of(plan(members, state))
    assert sorted(found.values()) == ["a1n0", "a1n0", "b1n0", "b1n0"]
    state = racks(a1=[8], b1=[1])
    assert not any(nodes_of(plan(members, state)).values())
    assert not any(one.pods for one in state.nodes.values())


# Why one waits.


def test_every_member_is_told_the_same_with_the_numbers_of_the_gang():
    state = racks(a1=[3], a2=[5])
    decisions = plan(gang_of_pods("g", 8, required=RACK), state)
    (message,) = {decision.message for decision in decisions}
    assert message == (
        "0/2 nodes are available: 2 node(s) had room for only a part of the gang. gang g needs 8 places of 1 "
        "nvidia.com/gpu each in one rack; the best rack (a2) has 5. No rack will ever do: the largest has 5 when it is "
        "empty."
    )


def test_a_gang_that_fits_once_others_have_ended_is_told_how_much_is_missing():
    state = racks(a1=[8], a2=[8])
    plan(gang_of_pods("f", 3, required=RACK) + gang_of_pods("h", 6, required=RACK), state)
    (message,) = {decision.message for decision in plan(gang_of_pods("g", 8, required=RACK), state)}
    assert message.endswith("; the best rack (a1) has 5. 3 more places there would do.")


def test_where_there_is_no_room_at_all_no_rack_is_called_the_best():
    state = racks(a1=[4], a2=[4])
    plan(gang_of_pods("f", 8), state)
    (message,) = {decision.message for decision in plan(gang_of_pods("g", 4, required=RACK), state)}
    assert message == (
        "0/2 nodes are available: 2 Insufficient nvidia.com/gpu. gang g needs 4 places of 1 nvidia.com/gpu each in one "
        "rack; no rack has any. 4 more places in one rack would do."
    )
    (message,) = {decision.message for decision in plan(gang_of_pods("g", 4), state)}
    assert message.endswith(
        "gang g needs 4 places of 1 nvidia.com/gpu each; no node has any. 4 more places would do."
    )


def test_a_gang_of_a_leader_and_workers_is_told_about_both():
    gang = Gang(name="g", size=3, required_topology=RACK)
    members = [member(gang, 0, {GPU: "2", "cpu": "4"}), *(member(gang, n, {GPU: "4"}) for n in (1, 2))]
    (message,) = {decision.message for decision in plan(members, racks(a1=[8]))}
    assert (
        "gang g needs 1 place of 2 nvidia.com/gpu and 2 places of 4 nvidia.com/gpu each in one rack"
        in message
    )
    assert "the best rack (a1) has 2 and 2, not beside each other." in message


def test_a_topology_that_no_node_knows_is_named():
    (decision,) = plan(gang_of_pods("g", 1, required="no/such"), racks(a1=[8]))
    assert "no node has the label no/such" in decision.message


def test_equal_gangs_that_wait_are_told_under_their_own_names():
    state = racks(a1=[2])
    decisions = plan([*gang_of_pods("f", 4), *gang_of_pods("g", 4)], state)
    assert {d.message.split(". gang ")[1][0] for d in decisions} == {"f", "g"}


# Keeping up with the cluster.


@given(
    state=clusters(),
    asked=gangs(),
    moves=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=8),
)
@settings(max_examples=100, deadline=None)
def test_a_table_that_follows_a_cluster_answers_like_a_new_one(state, asked, moves):
    members, _, _ = asked
    place_gang(members, state)
    for number, what in moves:
        name = f"n{number}"
        if what == 0:
            state.remove_node(name)
        elif what == 1:
            state.set_node(node(name, {RACK: "b", ZONE: "2"}, **{GPU: "3"}))
        elif what == 2:
            state.set_node(node(name, {RACK: "a"}, TAINT, **{GPU: "1"}))
        elif name in state.nodes:
            state.place(pod(f"more-{number}", {"cpu": "1", GPU: "1"}), name)
        place_gang(members, state)
    table = table_of(state)
    fresh = NodeTable(state)
    fresh.refresh()
    for demand in members:
        kept, new = table.shape(demand), fresh.shape(demand)
        for name in state.nodes:
            assert kept.mask[table.row[name]] == new.mask[fresh.row[name]]
            assert kept.fit[table.row[name]] == new.fit[fresh.row[name]]
    assert table.present.sum() == len(state.nodes)


@pytest.mark.parametrize("operator", ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"])
def test_node_affinity_means_the_same_for_gangs_as_for_pods(operator):
    values = {"In": ["5", "6"], "NotIn": ["5"], "Gt": ["4"], "Lt": ["4"]}.get(operator, [])
    requirement = {"key": "gen", "operator": operator, "values": values}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [requirement]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    state = cluster(node("a"), node("b", {"gen": "5"}), node("c", {"gen": "3"}), node("d", {"gen": "x"}))
    (demand,) = gang_of_pods("g", 1, gpus=0, affinity=affinity)
    table = table_of(state)
    for name, each in state.nodes.items():
        refused = any(refuse(each) for refuse in filters_for(demand, state))
        assert bool(table.shape(demand).mask[table.row[name]]) is not refused


def test_labels_that_nobody_asks_for_any_more_are_let_go_and_found_again() -> None:
    state = cluster(node("a", {"l0": "x", "l400": "y"}), node("b", {"l0": "z"}))
    table = NodeTable(state)
    table.refresh()
    first = list(table.domains(("l0",)))
    for number in range(1, 500):
        table.domains((f"l{number}",))
        table.column(f"l{number}")
    assert len(table._columns) <= 256 and len(table._domains) <= 64
    assert list(table.domains(("l0",))) == first
    assert table.column("l400").codes[table.row["a"]] != table.column("l400").codes[table.row["b"]]
