"""Gangs: all or none, as close as can be, never wrong."""

from __future__ import annotations

import os

from hypothesis import event, given, settings
from hypothesis import strategies as st

from kajitori.model.gang import Gang, gang_annotations, gang_labels
from kajitori.scheduling.demand import Demand
from kajitori.scheduling.gangs.plan import place_gang
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
        existing = pod(f"there-{number}", {"cpu": "1"}, labels={"team": draw(st.sampled_from("xyz"))})
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
    for term in members[0].affinity:
        # Where company is already, members join it; else they share one domain.
        if not state.by_domain(state.count(term.selection), term.topology_key):
            required.append(term.topology_key)
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
    from kajitori.scheduling.filters import filters_for

    for demand in members:
        refusals = [refuse(state.nodes[found[demand.uid]]) for refuse in filters_for(demand, state)]
        assert not any(refusals), refusals
        state.place(demand, found[demand.uid])
