"""The scheduler's plan: each rule in its own words, and what must hold for every cluster."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kajitori.scheduling.demand import requests_of
from kajitori.scheduling.plan import plan
from kajitori.scheduling.pods import decide
from kajitori.scheduling.state import ClusterState
from kajitori.scheduling.views import PodView

from .objects import cluster, node, pod

GPU = "nvidia.com/gpu"
HOST = "kubernetes.io/hostname"


def places(state: ClusterState, *demands) -> dict[str, str]:
    return {decision.demand.name: decision.node for decision in plan(demands, state)}


# What a pod holds.


def test_a_pod_holds_its_containers_or_what_its_start_needs_at_most():
    def container(cpu: str, **more) -> dict:
        return {"name": "c", "resources": {"requests": {"cpu": cpu}}, **more}

    body = {
        "metadata": {},
        "spec": {
            "containers": [container("100m"), container("0.2")],
            "initContainers": [
                container("50m", restartPolicy="Always"),
                container("1"),
                container("10m", restartPolicy="Always"),
            ],
            "overhead": {"cpu": "5m", "memory": "1Ki"},
        },
    }
    held = requests_of(msgspec.convert(body, PodView))
    assert held == {"cpu": 1050 + 5, "memory": 1024, "pods": 1}


def test_limits_stand_in_for_requests():
    demand = pod("a", containers=[{"name": "c", "resources": {"limits": {GPU: "2"}}}])
    assert demand.requests[GPU] == 2


def test_parts_of_a_unit_are_rounded_up():
    assert pod("a", {"cpu": "0.5m", "memory": "100m"}).requests == {"cpu": 1, "memory": 1, "pods": 1}


# Filters.


def test_a_pod_goes_where_there_is_room():
    state = cluster(node("a", cpu="1"), node("b", cpu="4"))
    assert places(state, pod("x", {"cpu": "2"})) == {"x": "b"}


def test_the_reasons_of_all_nodes_are_counted_as_kube_scheduler_does():
    state = cluster(
        node("a", cpu="1", memory="1Gi"),
        node("b", cpu="1"),
        node("c", taints=[{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]),
    )
    state.nodes["b"].unschedulable = True
    decision = decide(pod("x", {"cpu": "2", "memory": "2Gi"}), state)
    assert decision.node == ""
    assert decision.message.startswith(
        "0/3 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, "
        "1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }, 1 node(s) were unschedulable."
    )


def test_without_nodes_the_message_says_so():
    assert decide(pod("x"), ClusterState()).message == "no nodes available to schedule pods"


@pytest.mark.parametrize(
    ("demand", "hint"),
    [
        (pod("x", {GPU: "16"}), "it asks for 16 nvidia.com/gpu and no node has more than 8"),
        (pod("x", {"amd.com/gpu": "1"}), "no node has any amd.com/gpu"),
        (pod("x", {"cpu": "100"}), "it asks for 100 cpu and no node has more than 8"),
        (pod("x", {"memory": "1Ti"}), "no node has more than 16Gi"),
        (pod("x", nodeSelector={"disk": "ssd"}), "no node has the label disk=ssd"),
        (pod("x", nodeSelector={"zone": "z9"}), "no node has the label zone=z9; nodes have z1, z2"),
    ],
)
def test_a_pod_that_no_node_can_ever_take_is_told_what_would_have_to_change(demand, hint):
    state = cluster(node("a", {"zone": "z1"}, **{GPU: "8"}), node("b", {"zone": "z2"}))
    assert hint in decide(demand, state).message
    assert "No node will ever do" in decide(demand, state).message


def test_a_full_cluster_gives_no_such_hint():
    state = cluster(node("a", cpu="1"))
    assert places(state, pod("x", {"cpu": "1"})) == {"x": "a"}
    assert "ever" not in decide(pod("y", {"cpu": "1"}), state).message


def test_the_number_of_pods_is_a_resource_too():
    state = cluster(node("a", pods="1"))
    assert places(state, pod("x"), pod("y")) == {"x": "a", "y": ""}
    assert "1 Too many pods" in decide(pod("y"), state).message


@pytest.mark.parametrize(
    ("toleration", "goes"),
    [
        ({}, False),
        ({"key": "gpu", "operator": "Exists"}, True),
        ({"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}, True),
        ({"key": "gpu", "value": "no"}, False),
        ({"operator": "Exists"}, True),
        ({"key": "gpu", "operator": "Exists", "effect": "NoExecute"}, False),
    ],
)
def test_taints_keep_away_what_does_not_tolerate_them(toleration, goes):
    state = cluster(node("a", taints=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]))
    assert bool(decide(pod("x", tolerations=[toleration] if toleration else []), state).node) is goes


def test_a_cordoned_node_takes_only_what_tolerates_that():
    state = cluster(node("a"))
    state.nodes["a"].unschedulable = True
    assert decide(pod("x"), state).node == ""
    tolerant = pod("y", tolerations=[{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}])
    assert decide(tolerant, state).node == "a"


@pytest.mark.parametrize(
    ("requirement", "fits"),
    [
        ({"key": "gen", "operator": "In", "values": ["5", "6"]}, "b"),
        ({"key": "gen", "operator": "NotIn", "values": ["5"]}, "a"),
        ({"key": "gen", "operator": "Exists"}, "b"),
        ({"key": "gen", "operator": "DoesNotExist"}, "a"),
        ({"key": "gen", "operator": "Gt", "values": ["4"]}, "b"),
        ({"key": "gen", "operator": "Lt", "values": ["5"]}, ""),
        ({"key": "gen", "operator": "Gt", "values": ["x"]}, ""),
        ({"key": "gen", "operator": "Near", "values": ["5"]}, ""),
    ],
)
def test_required_node_affinity_chooses_by_labels(requirement, fits):
    state = cluster(node("a"), node("b", {"gen": "5"}))
    affinity = {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [requirement]}]
            }
        }
    }
    assert decide(pod("x", affinity=affinity), state).node == fits


def test_affinity_by_the_name_of_a_node_places_daemon_pods():
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]}
    affinity = {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    }
    assert decide(pod("x", affinity=affinity), cluster(node("a"), node("b"))).node == "b"


def test_preferred_node_affinity_is_followed_where_it_can_be():
    preference = {"matchExpressions": [{"key": "fast", "operator": "Exists"}]}
    affinity = {
        "nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": preference}]
        }
    }
    state = cluster(node("a"), node("b", {"fast": ""}, cpu="2"))
    demands = [pod(name, {"cpu": "2"}, affinity=affinity) for name in "xy"]
    assert places(state, *demands) == {"x": "b", "y": "a"}


def test_host_ports_do_not_clash_on_one_node():
    def on_port(name: str, port: int, **more) -> object:
        ports = [{"containerPort": port, "hostPort": port, **more}]
        return pod(name, containers=[{"name": "c", "ports": ports}])

    state = cluster(node("a"))
    assert places(state, on_port("x", 80), on_port("y", 80), on_port("z", 81)) == {
        "x": "a",
        "y": "",
        "z": "a",
    }
    assert decide(on_port("u", 80, protocol="UDP"), state).node == "a"
    assert decide(on_port("v", 81, hostIP="10.0.0.1"), state).node == ""


def terms(*topologies: str, **labels: str) -> list[dict]:
    return [{"labelSelector": {"matchLabels": labels}, "topologyKey": topology} for topology in topologies]


def together(*topologies: str, **labels: str) -> dict:
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms(*topologies, **labels)}}


def apart(*topologies: str, **labels: str) -> dict:
    return {
        "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms(*topologies, **labels)}
    }


def test_pods_that_want_to_be_together_are():
    state = cluster(node("a", {"rack": "1"}), node("b", {"rack": "2"}), node("c", {"rack": "2"}), node("d"))
    state.place(pod("db", labels={"app": "db"}), "b")
    assert decide(pod("x", affinity=together("rack", app="db")), state).node in ("b", "c")
    other_namespace = pod("y", namespace="other", affinity=together("rack", app="db"))
    assert "didn't match pod affinity rules" in decide(other_namespace, state).message


def test_the_first_of_pods_that_want_each_other_may_go_anywhere_in_a_domain():
    state = cluster(node("a"), node("b", {"rack": "1"}), node("c", {"rack": "2"}))
    group = [pod(name, labels={"g": "1"}, affinity=together("rack", g="1")) for name in "xyz"]
    found = set(places(state, *group).values())
    assert len(found) == 1
    assert found <= {"b", "c"}


def test_pods_that_want_to_be_apart_are_and_the_third_of_two_nodes_waits():
    state = cluster(node("a"), node("b"))
    group = [pod(name, labels={"g": "1"}, affinity=apart(HOST, g="1")) for name in "xyz"]
    found = places(state, *group)
    assert {found["x"], found["y"]} == {"a", "b"}
    assert found["z"] == ""
    assert "2 node(s) didn't match pod anti-affinity rules" in decide(group[2], state).message


def test_a_pod_that_is_there_keeps_away_those_it_does_not_want():
    state = cluster(node("a"))
    state.place(pod("hermit", affinity=apart(HOST, app="noisy")), "a")
    decision = decide(pod("x", labels={"app": "noisy"}), state)
    assert "1 node(s) didn't satisfy existing pods anti-affinity rules" in decision.message
    state.remove("uid-hermit")
    assert decide(pod("x", labels={"app": "noisy"}), state).node == "a"


def test_a_selector_of_namespaces_reaches_into_those_it_matches():
    state = cluster(node("a"), node("b"))
    state.set_namespace("prod", {"stage": "prod"})
    state.place(pod("db", namespace="prod", labels={"app": "db"}), "a")
    term = {**terms(HOST, app="db")[0], "namespaceSelector": {"matchLabels": {"stage": "prod"}}}
    affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    assert decide(pod("x", affinity=affinity), state).node == "b"
    state.set_namespace("prod", {"stage": "test"})
    assert {name for name, _ in decide(pod("x", affinity=affinity), state).candidates} == {"a", "b"}


def spread(topology: str, skew: int, when: str = "DoNotSchedule", **more) -> list[dict]:
    selector = {"matchLabels": {"g": "1"}}
    return [
        {
            "topologyKey": topology,
            "maxSkew": skew,
            "whenUnsatisfiable": when,
            "labelSelector": selector,
            **more,
        }
    ]


def test_pods_are_spread_over_zones_as_their_constraint_says():
    state = cluster(
        node("a", {"zone": "1"}), node("b", {"zone": "1"}), node("c", {"zone": "2"}, pods="2"), node("d")
    )
    group = [pod(f"p{n}", labels={"g": "1"}, topologySpreadConstraints=spread("zone", 1)) for n in range(6)]
    found = list(places(state, *group).values())
    assert sum(name in ("a", "b") for name in found) == 3
    assert found.count("c") == 2
    assert found.count("") == 1
    message = decide(group[5], state).message
    assert "1 node(s) didn't match pod topology spread constraints (missing required label)" in message
    assert "2 node(s) didn't match pod topology spread constraints" in message


def test_too_few_domains_count_as_an_empty_one():
    state = cluster(node("a", {"zone": "1"}))
    constraint = spread("zone", 1, minDomains=2)
    group = [pod(name, labels={"g": "1"}, topologySpreadConstraints=constraint) for name in "xy"]
    assert places(state, *group) == {"x": "a", "y": ""}


def test_a_soft_constraint_spreads_and_never_refuses():
    state = cluster(node("a", {"zone": "1"}, cpu="80"), node("b", {"zone": "2"}))
    constraint = spread("zone", 1, "ScheduleAnyway")
    group = [pod(f"p{n}", labels={"g": "1"}, topologySpreadConstraints=constraint) for n in range(4)]
    assert sorted(places(state, *group).values()) == ["a", "a", "b", "b"]


# Scores.


def test_ordinary_pods_are_spread_and_pods_of_one_owner_more_so():
    state = cluster(node("a"), node("b"), node("c"))
    found = places(state, *(pod(f"p{n}", owner="rs") for n in range(6)))
    assert sorted(found.values()) == ["a", "a", "b", "b", "c", "c"]


def test_pods_with_devices_are_packed_so_that_room_for_groups_stays_whole():
    state = cluster(node("a", **{GPU: "8"}), node("b", **{GPU: "8"}))
    found = places(state, *(pod(f"p{n}", {GPU: "1"}, owner="g") for n in range(8)))
    assert len(set(found.values())) == 1


def members(group: str, numbers: range, size: int, gpus: str = "1") -> list:
    return [
        pod(
            f"{group}-{number}",
            {GPU: gpus},
            labels={"leaderworkerset.sigs.k8s.io/group-key": group},
            annotations={"leaderworkerset.sigs.k8s.io/size": str(size)},
        )
        for number in numbers
    ]


@pytest.mark.parametrize("at_once", [True, False])
def test_each_group_with_devices_gets_a_node_of_its_own_however_their_pods_come(at_once):
    state = cluster(*(node(name, **{GPU: "8"}) for name in "abc"))
    leaders = [*members("g", range(1), 8), *members("h", range(1), 8), *members("i", range(1), 4)]
    workers = [*members("h", range(1, 8), 8), *members("i", range(1, 4), 4), *members("g", range(1, 8), 8)]
    batches = [[*leaders, *workers]] if at_once else [[demand] for demand in (*leaders, *workers)]
    found = {d.demand.name: d.node for batch in batches for d in plan(batch, state)}
    for group in "ghi":
        assert len({place for name, place in found.items() if name.startswith(group)}) == 1
    assert len(set(found.values())) == 3


def test_a_group_that_no_node_has_room_for_is_placed_nevertheless():
    state = cluster(node("a", **{GPU: "8"}), node("b", **{GPU: "8"}))
    found = [decision.node for decision in plan(members("g", range(12), 12), state)]
    assert sorted(found) == ["a"] * 4 + ["b"] * 8 or sorted(found) == ["a"] * 8 + ["b"] * 4


def test_a_node_that_asks_pods_to_stay_away_is_taken_last():
    disliked = [{"key": "old", "effect": "PreferNoSchedule"}]
    state = cluster(node("a", taints=disliked, cpu="64"), node("b", cpu="2"))
    assert places(state, pod("x", {"cpu": "1"})) == {"x": "b"}


def test_preferred_affinity_draws_near_and_preferred_anti_affinity_away():
    state = cluster(node("a"), node("b"))
    state.place(pod("db", labels={"app": "db"}), "b")
    for side, expected in (("podAffinity", "b"), ("podAntiAffinity", "a")):
        weighted = [{"weight": 100, "podAffinityTerm": terms(HOST, app="db")[0]}]
        affinity = {side: {"preferredDuringSchedulingIgnoredDuringExecution": weighted}}
        assert decide(pod("x", affinity=affinity), state).node == expected


def test_the_more_important_pod_is_placed_first():
    state = cluster(node("a", cpu="1"))
    low, high = pod("low", {"cpu": "1"}, priority=1), pod("high", {"cpu": "1"}, priority=5)
    assert places(state, low, high) == {"low": "", "high": "a"}


def test_a_decision_says_what_it_was_chosen_from():
    decision = decide(pod("x"), cluster(node("a"), node("b"), node("c", cpu="0", pods="0")))
    assert decision.node == decision.candidates[0][0]
    assert {name for name, _ in decision.candidates} == {"a", "b"}
    assert decision.refusals == {"Too many pods": 1}


# What must always hold.

AMOUNT = st.sampled_from(["0", "100m", "1", "2", "5"])
LABELS = st.dictionaries(st.sampled_from(["g", "h"]), st.sampled_from(["1", "2"]), max_size=2)


@st.composite
def demands(draw) -> list:
    made = []
    for number in range(draw(st.integers(1, 14))):
        parts: dict = {"labels": draw(LABELS), "priority": draw(st.integers(0, 2))}
        if draw(st.booleans()):
            parts["affinity"] = draw(
                st.sampled_from(
                    [apart(HOST, g="1"), apart("zone", h="2"), together("zone", g="1"), together(HOST, h="1")]
                )
            )
        if draw(st.booleans()):
            parts["topologySpreadConstraints"] = spread("zone", draw(st.integers(1, 2)))
        requests = {"cpu": draw(AMOUNT), GPU: draw(st.sampled_from(["0", "1", "3"]))}
        made.append(pod(f"p{number}", requests, **parts))
    return made


@st.composite
def clusters(draw) -> ClusterState:
    nodes = [
        node(
            f"n{number}",
            {"zone": draw(st.sampled_from("123"))},
            cpu=draw(AMOUNT),
            pods=str(draw(st.integers(1, 6))),
        )
        for number in range(draw(st.integers(1, 5)))
    ]
    state = cluster(*nodes)
    for each in state.nodes.values():
        each.allocatable[GPU] = draw(st.integers(0, 4))
    return state


@given(state=clusters(), batch=demands())
@settings(max_examples=150)
def test_no_node_is_ever_given_more_than_it_has_and_no_rule_is_broken(state, batch):
    decisions = plan(batch, state)
    assert len(decisions) == len(batch)
    for each in state.nodes.values():
        assert all(each.free(name) >= 0 for name in each.used)
    placed = {d.demand.uid: (d.demand, state.nodes[d.node]) for d in decisions if d.node}
    for demand, where in placed.values():
        for term in demand.anti_affinity:
            for other, elsewhere in placed.values():
                if other is not demand and state.chooses(term.selection, other):
                    assert where.labels[term.topology_key] != elsewhere.labels[term.topology_key]
        for term in demand.affinity:
            others = [place for other, place in placed.values() if state.chooses(term.selection, other)]
            assert any(where.labels[term.topology_key] == place.labels[term.topology_key] for place in others)


@given(state=clusters(), batch=demands())
def test_a_pod_is_refused_only_if_no_node_would_do(state, batch):
    for decision in plan(batch, state):
        if not decision.node:
            assert sum(decision.refusals.values()) >= len(state.nodes)
    waiting = [d.demand for d in decisions_without_node(batch, state)]
    for demand in waiting:
        if not (demand.affinity or demand.anti_affinity or demand.spread):
            assert decide(demand, state).node == ""


def decisions_without_node(batch, state) -> list:
    return [decision for decision in (decide(demand, state) for demand in batch) if not decision.node]


@given(state=clusters(), batch=demands(), gone=st.sets(st.integers(0, 13)), moved=st.sets(st.integers(0, 4)))
def test_counts_kept_step_by_step_are_those_of_counting_anew(state, batch, gone, moved):
    plan(batch, state)
    views = {f"n{n}": node(f"n{n}", {"zone": "9"}) for n in moved}
    for number in gone:
        state.remove(f"uid-p{number}")
    for name, view in views.items():
        if name in state.nodes:
            state.remove_node(name)
            state.set_node(view)
    fresh = ClusterState()
    for each in state.nodes.values():
        fresh.set_node(node(each.name, each.labels))
        for demand in each.pods.values():
            fresh.place(demand, each.name)
    for name, each in state.nodes.items():
        again = fresh.nodes[name]
        assert {k: v for k, v in each.used.items() if v} == {k: v for k, v in again.used.items() if v}
        assert each.owners == again.owners
    for demand in batch:
        for term in [*demand.affinity, *demand.anti_affinity]:
            assert dict(state.count(term.selection)) == dict(fresh.count(term.selection))
        # Which node comes first in a count says nothing.
        assert _by_term(state, demand) == _by_term(fresh, demand)


def _by_term(state: ClusterState, demand) -> dict:
    return {term: dict(nodes) for term, nodes in state.keep_away.against(demand)}


@given(state=clusters(), batch=demands())
def test_the_same_question_has_the_same_answer(state, batch):
    before = [decide(demand, state).node for demand in batch]
    assert [decide(demand, state).node for demand in batch] == before


def test_a_pod_on_a_node_that_is_not_known_yet_counts_when_it_comes():
    state = ClusterState()
    state.place(pod("early", {"cpu": "8"}), "a")
    state.set_node(node("a"))
    assert decide(pod("x", {"cpu": "1"}), state).node == ""
    state.remove_node("a")
    state.set_node(node("a"))
    assert decide(pod("x", {"cpu": "1"}), state).node == ""
    assert state.remove("uid-early")
    assert decide(pod("x", {"cpu": "1"}), state).node == "a"
