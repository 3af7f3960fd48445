"""Counts by label say what asking every pod says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kajitori.scheduling.demand import Demand

from .objects import cluster, node, pod

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
HOST = "kubernetes.io/hostname"
EXPRESSIONS = st.sampled_from(
    [
        [{"key": "team", "operator": "In", "values": ["x"]}],
        [{"key": "team", "operator": "In", "values": ["x", "y"]}],
        [{"key": "team", "operator": "NotIn", "values": ["x"]}],
        *(
            [{"key": key, "operator": "Exists"}, {"key": key, "operator": "NotIn", "values": [value]}]
            for key in ("team", "other")
            for value in "xy"
        ),
        [{"key": "team", "operator": "Exists"}, {"key": "other", "operator": "NotIn", "values": ["x"]}],
    ]
)


@st.composite
def pods(draw) -> list[tuple[Demand, str]]:
    made = []
    for number in range(draw(st.integers(0, 7))):
        terms = [
            {
                "topologyKey": draw(st.sampled_from([HOST, "zone"])),
                "labelSelector": {"matchExpressions": draw(EXPRESSIONS)},
                **draw(st.sampled_from([{}, {"namespaces": ["default", "b"]}, {"namespaceSelector": {}}])),
            }
            for _ in range(draw(st.integers(0, 2)))
        ]
        labels = draw(st.dictionaries(st.sampled_from(["team", "other"]), st.sampled_from("xyz")))
        demand = pod(
            f"p{number}",
            labels=labels,
            namespace=draw(st.sampled_from(["default", "b"])),
            affinity={"podAntiAffinity": {REQUIRED: terms}},
        )
        made.append((demand, draw(st.sampled_from("mno"))))
    return made


@given(pods(), st.sets(st.integers(0, 6)))
def test_who_keeps_whom_away_and_who_is_chosen_is_what_asking_every_pod_says(placed, gone):
    state = cluster(*(node(name, {"zone": zone}) for name, zone in (("m", "1"), ("n", "1"), ("o", "2"))))
    for demand, name in placed:
        for term in demand.anti_affinity:
            # From here on it is counted step by step.
            state.count(term.selection)
        state.place(demand, name)
    for number in gone & set(range(len(placed))):
        state.remove(placed[number][0].uid)
    there = [(demand, one.name) for one in state.nodes.values() for demand in one.pods.values()]
    for asked, _ in placed:
        expected = {
            (term.topology_key, name)
            for demand, name in there
            for term in demand.anti_affinity
            if state.chooses(term.selection, asked)
        }
        found = {
            (term.topology_key, name) for term, nodes in state.keep_away.against(asked) for name in nodes
        }
        assert found == expected
        for term in asked.anti_affinity:
            counted = [name for demand, name in there if state.chooses(term.selection, demand)]
            assert dict(state.count(term.selection)) == {name: counted.count(name) for name in set(counted)}
    alike: dict[object, object] = {}
    for asked, _ in placed:
        key = (asked.namespace, state.keep_away.relevant_labels(asked))
        answer = [(term, dict(nodes)) for term, nodes in state.keep_away.against(asked)]
        if key in alike:
            assert {repr(each) for each in answer} == alike[key]
        alike[key] = {repr(each) for each in answer}
    assert bool(state.keep_away) == any(demand.anti_affinity for demand, _ in there)
