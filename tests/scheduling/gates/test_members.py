"""How a gang stands, what is written on its pods, and when it is given up: pure."""

from __future__ import annotations

from typing import Any

import msgspec

from kajitori.base.clock import rfc3339
from kajitori.model.gang import GATE, RELEASED_ANNOTATION, Gang, gang_annotations, gang_labels
from kajitori.scheduling.gates.members import (
    HOLDING_SECONDS,
    HOLDS,
    REFUSED_SECONDS,
    Standing,
    facts_of,
    failure_of,
    standing_of,
)
from kajitori.scheduling.gates.opening import opening_patch, tied_to
from kajitori.scheduling.gates.records import PlacedPod
from kajitori.scheduling.views import PodView

NOW = 1_700_000_000.0


def member(
    number: int, *, size: int = 3, node: str = "", tie: str = "", deadline: float | None = None, **parts: Any
) -> PodView:
    gang = Gang(name="g", size=size, deadline_seconds=deadline)
    spec: dict[str, Any] = {"containers": [{"name": "c"}], "nodeName": node}
    if tie:
        spec["affinity"] = affinity([{"matchFields": [name_is(tie)]}])
    elif not node:
        spec["schedulingGates"] = [{"name": GATE}]
    metadata = {
        "name": f"g-{number}",
        "namespace": "default",
        "uid": f"uid-{number}",
        "labels": gang_labels(gang),
        "annotations": {**gang_annotations(gang), **parts.pop("annotations", {})},
        "creationTimestamp": rfc3339(NOW - parts.pop("age", 10)),
    }
    status = {"conditions": parts.pop("conditions", []), "phase": parts.pop("phase", "Pending")}
    return msgspec.convert(
        {"metadata": metadata | parts.pop("metadata", {}), "spec": spec | parts, "status": status}, PodView
    )


def name_is(node: str) -> dict[str, Any]:
    return {"key": "metadata.name", "operator": "In", "values": [node]}


def affinity(terms: list[dict[str, Any]]) -> dict[str, Any]:
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


def standing(*pods: PodView) -> Standing:
    found = standing_of(pods)
    assert found is not None
    return found


REFUSED = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]


def test_a_gang_is_placed_when_all_of_it_is_there_and_nothing_else_holds_it() -> None:
    assert not standing(member(0), member(1)).ready_to_place
    assert standing(member(0), member(1), member(2)).ready_to_place
    other_gate = member(2, schedulingGates=[{"name": GATE}, {"name": "kueue.x-k8s.io/admission"}])
    assert not standing(member(0), member(1), other_gate).ready_to_place


def test_pods_that_have_done_their_work_are_not_waited_for_but_those_that_failed_are() -> None:
    assert standing(member(0, node="a", phase="Succeeded"), member(1), member(2)).ready_to_place
    assert not standing(member(0, node="a", phase="Failed"), member(1), member(2)).ready_to_place


def test_a_gang_that_is_being_taken_back_is_left_alone() -> None:
    dying = member(2, metadata={"deletionTimestamp": rfc3339(NOW)})
    assert standing(member(0), member(1), dying).settled
    released = member(2, annotations={RELEASED_ANNOTATION: "why"})
    assert standing(member(0), member(1), released).settled


def test_pods_that_say_nothing_sensible_are_no_gang() -> None:
    assert standing_of([member(0, annotations={"scheduling.kajitori.dev/gang-size": "many"})]) is None


def test_a_refusal_counts_when_it_stays() -> None:
    gang = standing(member(0, tie="a", conditions=REFUSED), member(1, node="b"), member(2, node="b"))
    since = dict.fromkeys(facts_of(gang), NOW)
    assert since.keys() == {"uid-0", HOLDS}
    failure, again = failure_of(gang, NOW + 1, since, lambda name: True)
    assert failure is None
    assert again == NOW + REFUSED_SECONDS
    failure, _ = failure_of(gang, NOW + REFUSED_SECONDS, since, lambda name: True)
    assert failure is not None
    assert failure.reason == "the scheduler refuses a: 0/1 nodes"


def test_a_node_that_is_being_cleared_for_the_pod_is_waited_for() -> None:
    pod = member(0, tie="a", conditions=REFUSED)
    pod = msgspec.structs.replace(pod, status=msgspec.structs.replace(pod.status, nominated_node_name="a"))
    gang = standing(pod, member(1, node="b"), member(2, node="b"))
    failure, _ = failure_of(
        gang, NOW + REFUSED_SECONDS + 1, dict.fromkeys(facts_of(gang), NOW), lambda name: True
    )
    assert failure is None


def test_a_node_that_goes_before_its_pod_is_bound_ends_the_gang_at_once() -> None:
    gang = standing(member(0, tie="a"), member(1, node="b"), member(2, node="b"))
    failure, _ = failure_of(gang, NOW, {HOLDS: NOW}, lambda name: name != "a")
    assert failure is not None
    assert failure.reason == "node a, which was chosen for it, is gone"


def test_a_gang_that_came_apart_on_its_way_does_not_hold_for_ever() -> None:
    gang = standing(member(0), member(1, node="b"), member(2, node="b"))
    assert failure_of(gang, NOW + HOLDING_SECONDS - 1, {HOLDS: NOW}, lambda name: True)[0] is None
    failure, _ = failure_of(gang, NOW + HOLDING_SECONDS, {HOLDS: NOW}, lambda name: True)
    assert failure is not None
    assert failure.reason == "2 of 3 pods of gang g have held nodes for 60 s without the rest"


def test_a_gang_at_work_that_waits_for_one_replaced_pod_is_not_ended_for_it() -> None:
    gang = standing(member(0), member(1, node="b", age=3600), member(2, node="b", age=3600))
    assert failure_of(gang, NOW + 86_400, {HOLDS: NOW}, lambda name: True) == (None, None)


def test_the_gangs_own_deadline_counts_in_either_case() -> None:
    old = [member(number, node="b", age=3600, deadline=5) for number in (1, 2)]
    gang = standing(member(0, deadline=5), *old)
    assert failure_of(gang, NOW + 5, {HOLDS: NOW}, lambda name: True)[0] is not None


def test_a_gang_that_holds_nothing_waits() -> None:
    gang = standing(member(0), member(1), member(2))
    assert failure_of(gang, NOW + 86_400, {}, lambda name: True) == (None, None)


def test_an_opened_pod_goes_to_its_node_and_keeps_what_it_asked_for() -> None:
    zone = {"key": "zone", "operator": "In", "values": ["z"]}
    spot = {"key": "spot", "operator": "DoesNotExist"}
    pod = member(0, affinity=affinity([{"matchExpressions": [zone]}, {"matchExpressions": [spot]}]))
    patch = opening_patch(pod, "n7")
    terms = patch["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert [term["matchFields"] for term in terms["nodeSelectorTerms"]] == [[name_is("n7")]] * 2
    assert [term["matchExpressions"][0]["key"] for term in terms["nodeSelectorTerms"]] == ["zone", "spot"]
    assert patch["spec"]["schedulingGates"] is None
    assert patch["metadata"]["uid"] == "uid-0"


def test_gates_of_others_stay() -> None:
    pod = member(0, schedulingGates=[{"name": GATE}, {"name": "other"}])
    assert opening_patch(pod, "n")["spec"]["schedulingGates"] == [{"name": "other"}]


def test_a_tie_is_read_back() -> None:
    assert tied_to(member(0, tie="n7")) == "n7"
    assert tied_to(member(0)) == ""
    two = affinity([{"matchFields": [name_is("a")]}, {"matchFields": [name_is("b")]}])
    assert tied_to(member(0, affinity=two)) == ""


def test_a_pod_of_others_is_kept_as_what_it_holds() -> None:
    body = {
        "metadata": {
            "name": "p",
            "namespace": "n",
            "uid": "u",
            "labels": {"app": "a"},
            "annotations": {"long": "x" * 1000},
            "managedFields": [{"manager": "m"}],
        },
        "spec": {
            "nodeName": "n1",
            "containers": [
                {"name": "c", "env": [{"name": "A", "value": "B"}], "resources": {"requests": {"cpu": "2"}}}
            ],
        },
    }
    pods = [msgspec.convert(body, PlacedPod) for _ in range(2)]
    assert pods[0].demand.requests == {"cpu": 2000, "pods": 1}
    assert pods[0].demand.requests is pods[1].demand.requests
    assert pods[0].demand.labels == {"app": "a"}
    assert pods[0].spec.node_name == "n1"
    assert not pods[0].metadata.annotations
    assert not pods[0].spec.containers
