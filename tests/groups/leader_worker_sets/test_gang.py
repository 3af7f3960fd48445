"""How pods of a group are marked for whoever places them, and when a group lets go."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.groups.leader_worker_sets.conftest import START, PlannedCluster, a_set, container, template

from kajitori.api.resource import Resource
from kajitori.groups.leader_worker_sets.actions import CreateGangObject, DeleteGangObject, Plan
from kajitori.groups.leader_worker_sets.gang import fitting_name
from kajitori.groups.leader_worker_sets.gang_objects import with_gang_objects
from kajitori.groups.leader_worker_sets.observed import GangObject, OtherSchedulers
from kajitori.groups.leader_worker_sets.plan import plan_set
from kajitori.model.gang import GATE, RELEASED_ANNOTATION, Gang, gang_of

GPUS = {"resources": {"requests": {"nvidia.com/gpu": "8", "cpu": "4"}}}
RACK = "leaderworkerset.sigs.k8s.io/exclusive-topology"


def with_gpus(**fields: Any) -> dict[str, Any]:
    return a_set(workerTemplate=template(container(**GPUS)), **fields)


def bodies(lws: dict[str, Any], default: str = "Gate", **world: Any) -> dict[str, dict[str, Any]]:
    cluster = PlannedCluster(lws)
    plan = plan_set(cluster.world(gang_default=default, **world))
    return {create.name: create.body for create in plan.creates}


def gang(body: dict[str, Any]) -> Gang | None:
    return gang_of(body["metadata"]["labels"], body["metadata"]["annotations"])


def is_gated(body: dict[str, Any]) -> bool:
    return {"name": GATE} in body["spec"].get("schedulingGates", [])


def test_a_group_that_asks_for_devices_is_gated_as_one_on_a_real_cluster() -> None:
    pods = bodies(
        with_gpus(replicas=2, size=3, annotations={"groups.kajitori.dev/preferred-topology": "a, b"})
    )
    assert all(is_gated(pod) for pod in pods.values())
    first = gang(pods["x-0"])
    assert first == Gang(name="x-0-token1", size=3, preferred_topology=("a", "b"))
    assert {gang(pods[name]) for name in ("x-0", "x-0-1", "x-0-2")} == {first}
    assert gang(pods["x-1"]) != first


def test_a_group_that_fits_anywhere_is_left_alone_on_a_real_cluster() -> None:
    pods = bodies(a_set(size=3))
    assert not any(is_gated(pod) or gang(pod) for pod in pods.values())


def test_exclusive_topology_is_what_the_gang_requires() -> None:
    pods = bodies(
        a_set(size=2, annotations={RACK: "rack", "groups.kajitori.dev/gang-deadline-seconds": "60"})
    )
    assert gang(pods["x-0"]) == Gang(
        name="x-0-token1", size=2, required_topology="rack", deadline_seconds=60.0
    )
    assert is_gated(pods["x-0-1"])


def test_our_own_scheduler_needs_no_gates() -> None:
    pods = bodies(with_gpus(size=2), default="Binder")
    assert all(gang(pod) for pod in pods.values())
    assert not any(is_gated(pod) for pod in pods.values())


@pytest.mark.parametrize("asked", ["None", "Gate"])
def test_the_annotation_counts_more_than_the_cluster(asked: str) -> None:
    pods = bodies(with_gpus(size=2, annotations={"groups.kajitori.dev/gang": asked}), default="Binder")
    assert all(is_gated(pod) == (asked == "Gate") for pod in pods.values())
    assert all(bool(gang(pod)) == (asked == "Gate") for pod in pods.values())


def test_nothing_is_gated_where_nobody_opens_gates_and_the_set_says_so() -> None:
    lws = with_gpus(size=2, annotations={"groups.kajitori.dev/gang": "Gate"})
    assert not any(is_gated(pod) for pod in bodies(lws, default="None").values())
    (said,) = [
        one
        for one in plan_set(PlannedCluster(lws).world(gang_default="None")).status.conditions
        if one.type == "kajitori.dev/FieldsNotHonoured"
    ]
    assert "this installation opens no gates" in said.message


def test_a_leader_alone_is_no_gang() -> None:
    pods = bodies(with_gpus(size=1, annotations={"groups.kajitori.dev/gang": "Gate"}))
    assert not any(gang(pod) or is_gated(pod) for pod in pods.values())


def test_with_leader_ready_the_workers_are_a_gang_among_themselves() -> None:
    cluster = PlannedCluster(with_gpus(replicas=1, size=4, startupPolicy="LeaderReady"))
    plan = plan_set(cluster.world(gang_default="Gate"))
    (leader,) = plan.creates
    assert not is_gated(leader.body)
    for action in (*plan.before, *plan.creates):
        cluster._do(action)
    cluster.run("x-0")
    plan = plan_set(cluster.world(gang_default="Gate"))
    workers = [create.body for create in plan.creates]
    assert len(workers) == 3
    assert {gang(body) for body in workers} == {Gang(name="x-0-token1", size=3)}
    assert all(is_gated(body) for body in workers)


def test_pods_that_are_made_later_follow_their_leader_whatever_the_set_says_by_then() -> None:
    cluster = PlannedCluster(with_gpus(replicas=1, size=3, restartPolicy="None"))
    for action in plan_set(cluster.world(gang_default="Gate")).creates:
        cluster._do(action)
    cluster.lws["metadata"]["annotations"]["groups.kajitori.dev/gang"] = "None"
    cluster.lingering = False
    cluster.delete("x-0-2")
    (create,) = plan_set(cluster.world(gang_default="Gate")).creates
    assert gang(create.body) == Gang(name="x-0-token1", size=3)
    assert is_gated(create.body)


def test_another_way_of_placing_rolls_nothing() -> None:
    cluster = PlannedCluster(with_gpus(size=2)).settle()
    before = {name: pod["metadata"]["uid"] for name, pod in cluster.pods.items()}
    cluster.lws["metadata"]["annotations"]["groups.kajitori.dev/gang"] = "Volcano"
    cluster.settle()
    assert {name: pod["metadata"]["uid"] for name, pod in cluster.pods.items()} == before


def test_volcano_is_told_the_group_and_what_the_set_says_to_it() -> None:
    annotations = {"groups.kajitori.dev/gang": "Volcano", "volcano.sh/preemptable": "true"}
    pods = bodies(with_gpus(size=2, annotations=annotations))
    leader = pods["x-0"]
    revision = leader["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/template-revision-hash"]
    assert leader["metadata"]["annotations"]["scheduling.k8s.io/group-name"] == f"x-0-{revision}"
    assert leader["metadata"]["annotations"]["volcano.sh/preemptable"] == "true"
    assert leader["spec"]["schedulerName"] == "volcano"


def test_a_scheduler_that_the_template_names_is_kept_and_chooses_the_way() -> None:
    named = a_set(size=2, workerTemplate=template(schedulerName="volcano"))
    assert "scheduling.k8s.io/group-name" in bodies(named)["x-0-1"]["metadata"]["annotations"]
    other = a_set(size=2, workerTemplate=template(container(**GPUS), schedulerName="mine"))
    assert not any(gang(pod) or is_gated(pod) for pod in bodies(other).values())
    asked = a_set(
        size=2,
        workerTemplate=template(schedulerName="volcano-2"),
        annotations={"groups.kajitori.dev/gang": "Volcano"},
    )
    assert bodies(asked)["x-0"]["spec"]["schedulerName"] == "volcano-2"


def test_kueue_takes_pods_of_a_group_as_a_group_of_plain_pods() -> None:
    queued = with_gpus(replicas=1, size=3, annotations={RACK: "rack"})
    queued["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "team"}
    pods = bodies(queued)
    for body in pods.values():
        assert body["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
        assert body["metadata"]["labels"]["kueue.x-k8s.io/pod-group-name"] == "x-0-token1"
        assert body["metadata"]["annotations"]["kueue.x-k8s.io/pod-group-total-count"] == "3"
        assert body["metadata"]["annotations"]["kueue.x-k8s.io/podset-required-topology"] == "rack"
        assert not is_gated(body)


def test_a_queue_without_kueue_is_named_and_the_group_placed_as_others_are() -> None:
    queued = with_gpus(replicas=1, size=2)
    queued["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "team"}
    absent = OtherSchedulers(absent=frozenset({"Kueue"}))
    assert all(is_gated(body) for body in bodies(queued, schedulers=absent).values())
    plan = plan_set(PlannedCluster(queued).world(gang_default="Gate", schedulers=absent))
    (said,) = [one for one in plan.status.conditions if one.type == "kajitori.dev/FieldsNotHonoured"]
    assert "kueue.x-k8s.io/queue-name: Kueue is not installed" in said.message


def test_marks_for_a_scheduler_that_does_not_place_the_groups_are_named() -> None:
    plan = plan_set(PlannedCluster(a_set(annotations={"kai.scheduler/topology": "t"})).world())
    (said,) = [one for one in plan.status.conditions if one.type == "kajitori.dev/FieldsNotHonoured"]
    assert "kai.scheduler/topology: KAI does not place these groups" in said.message


@pytest.mark.parametrize("method, where", [("KAI", "kai-scheduler"), ("Coscheduling", None)])
def test_other_schedulers_find_their_marks(method: str, where: str | None) -> None:
    pods = bodies(
        with_gpus(size=2, annotations={"groups.kajitori.dev/gang": method, "kai.scheduler/topology": "t"})
    )
    assert pods["x-0"]["spec"].get("schedulerName") == where
    marks = pods["x-0"]["metadata"]["labels"] | pods["x-0"]["metadata"]["annotations"]
    assert ("scheduling.x-k8s.io/pod-group" in marks) == (method == "Coscheduling")
    assert ("kai.scheduler/topology" in marks) == (method == "KAI")


def test_a_group_that_its_placer_gave_up_is_begun_anew_and_says_why() -> None:
    cluster = PlannedCluster(with_gpus(replicas=1, size=2)).settle()
    before = cluster.uids(0)
    cluster.pods["x-0-1"]["metadata"]["annotations"][RELEASED_ANNOTATION] = "the scheduler refuses node-7"
    cluster.settle()
    assert not set(before.values()) & set(cluster.uids(0).values())
    (said,) = [text for reason, text in cluster.events if reason == "RecreateGroup"]
    assert said.endswith("pod x-0-1 on node-1 has no place: the scheduler refuses node-7")


def test_a_group_that_holds_a_part_lets_go_at_its_deadline_and_not_before() -> None:
    lws = with_gpus(replicas=1, size=2, annotations={"groups.kajitori.dev/gang-deadline-seconds": "30"})
    cluster = PlannedCluster(lws)
    cluster.reconcile()
    cluster.run("x-0", ready=False)
    assert cluster.reconcile().again_after_seconds == 30.0
    assert len(cluster.pods) == 2
    cluster.now = START + 31
    assert len(cluster.reconcile().deletes) == 2
    assert any("1 of 2 pods were placed, and 30 s are over" in text for _, text in cluster.events)


def test_a_group_that_holds_nothing_waits_for_as_long_as_it_takes() -> None:
    lws = with_gpus(replicas=1, size=2, annotations={"groups.kajitori.dev/gang-deadline-seconds": "30"})
    cluster = PlannedCluster(lws)
    cluster.reconcile()
    cluster.now = START + 1000
    assert not cluster.reconcile().deletes


def test_long_names_of_gangs_stay_labels_and_stay_apart() -> None:
    long = "n" * 60
    names = {fitting_name(f"{long}-{group}", "0123456789") for group in range(3)}
    assert len(names) == 3
    assert all(len(name) <= 63 for name in names)


VOLCANO = OtherSchedulers(
    kinds={"Volcano": Resource("scheduling.volcano.sh", "v1beta1", "podgroups", "PodGroup")}
)


def volcano_cluster() -> PlannedCluster:
    return PlannedCluster(with_gpus(replicas=1, size=2, annotations={"groups.kajitori.dev/gang": "Volcano"}))


def made_objects(plan: Plan) -> list[str]:
    return [action.body["metadata"]["name"] for action in plan.before if isinstance(action, CreateGangObject)]


def test_an_object_that_somebody_deleted_is_made_anew_but_not_for_a_set_that_goes() -> None:
    cluster = volcano_cluster().settle()
    world = cluster.world(schedulers=VOLCANO)
    (name,) = made_objects(with_gang_objects(world, plan_set(world)))
    assert name.startswith("x-0-")
    cluster.lws["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    world = cluster.world(schedulers=VOLCANO)
    assert made_objects(with_gang_objects(world, plan_set(world))) == []


def test_an_object_that_says_something_else_is_replaced_before_its_group_is_begun() -> None:
    cluster = volcano_cluster()
    world = cluster.world(schedulers=VOLCANO)
    plan = with_gang_objects(world, plan_set(world))
    (create,) = [action for action in plan.before if isinstance(action, CreateGangObject)]
    metadata = create.body["metadata"] | {
        "uid": "old",
        "annotations": {"groups.kajitori.dev/gang-object": "x"},
    }
    there = msgspec.convert({"metadata": metadata}, GangObject)
    world = cluster.world(schedulers=msgspec.structs.replace(VOLCANO, objects={"Volcano": [there]}))
    plan = with_gang_objects(world, plan_set(world))
    assert not plan.creates
    assert [action.object.metadata.uid for action in plan.after if isinstance(action, DeleteGangObject)] == [
        "old"
    ]


def test_objects_of_others_are_never_deleted() -> None:
    cluster = volcano_cluster().settle()
    foreign = msgspec.convert({"metadata": {"name": "theirs", "uid": "u"}}, GangObject)
    world = cluster.world(schedulers=msgspec.structs.replace(VOLCANO, objects={"Volcano": [foreign]}))
    plan = with_gang_objects(world, plan_set(world))
    assert not any(isinstance(action, DeleteGangObject) for action in plan.after)


def spec_of(method: str, resource: Resource, **fields: Any) -> dict[str, Any]:
    """What the object of the first group says."""
    annotations = {
        "groups.kajitori.dev/gang": method,
        "groups.kajitori.dev/gang-deadline-seconds": "90",
        RACK: "rack",
        "scheduling.volcano.sh/queue-name": "gold",
    }
    lws = a_set(
        replicas=1,
        size=3,
        annotations=annotations,
        leaderTemplate=template(container(resources={"requests": {"cpu": "1"}})),
        workerTemplate=template(container(**GPUS), priorityClassName="high"),
        **fields,
    )
    world = PlannedCluster(lws).world(schedulers=OtherSchedulers(kinds={method: resource}))
    (action,) = [
        action
        for action in with_gang_objects(world, plan_set(world)).before
        if isinstance(action, CreateGangObject)
    ]
    assert action.body["apiVersion"] == resource.api_version
    return action.body["spec"]


def test_volcano_is_told_what_leader_and_workers_need_together() -> None:
    resource = Resource("scheduling.volcano.sh", "v1beta1", "podgroups", "PodGroup")
    expected = {
        "minMember": 3,
        "minResources": {"cpu": "9", "nvidia.com/gpu": "16"},
        "queue": "gold",
        "priorityClassName": "high",
    }
    assert spec_of("Volcano", resource) == expected
    assert spec_of("Volcano", resource, startupPolicy="LeaderReady") == expected | {"minMember": 1}


def test_coscheduling_is_told_of_the_deadline_and_of_workers_alone_where_the_leader_goes_first() -> None:
    resource = Resource("scheduling.x-k8s.io", "v1alpha1", "podgroups", "PodGroup")
    assert spec_of("Coscheduling", resource) == {
        "minMember": 3,
        "minResources": {"cpu": "9", "nvidia.com/gpu": "16"},
        "scheduleTimeoutSeconds": 90,
    }
    assert spec_of("Coscheduling", resource, startupPolicy="LeaderReady") == {
        "minMember": 2,
        "minResources": {"cpu": "8", "nvidia.com/gpu": "16"},
        "scheduleTimeoutSeconds": 90,
    }


def test_kube_scheduler_is_told_how_many_and_where() -> None:
    resource = Resource("scheduling.k8s.io", "v1alpha2", "podgroups", "PodGroup")
    assert spec_of("Native", resource) == {
        "schedulingPolicy": {"gang": {"minCount": 3}},
        "schedulingConstraints": {"topology": [{"key": "rack"}]},
        "priorityClassName": "high",
    }
