"""A leader is in the endpoints only while its whole group is ready."""

from __future__ import annotations

from typing import Any

import pytest
from tests.groups.leader_worker_sets.conftest import PlannedCluster, a_set, container, template

from kajitori.groups.leader_worker_sets.actions import SetGroupReady

GATE = "groups.kajitori.dev/group-ready"
WANTED = {"annotations": {GATE: "true"}}


def ready(cluster: PlannedCluster, name: str) -> bool:
    conditions = cluster.pods[name]["status"]["conditions"]
    return {one["type"]: one["status"] for one in conditions}["Ready"] == "True"


def gates(cluster: PlannedCluster, name: str) -> list[dict[str, Any]]:
    return cluster.pods[name]["spec"].get("readinessGates", [])


def test_a_plain_set_has_no_gate_and_costs_nothing_more() -> None:
    cluster = PlannedCluster(a_set())
    cluster.settle()
    assert not any(gates(cluster, name) for name in cluster.pods)


def test_only_leaders_have_the_gate_and_the_user_s_own_stays() -> None:
    own = template(readinessGates=[{"conditionType": "example.com/warm"}])
    cluster = PlannedCluster(a_set(replicas=1, size=2, workerTemplate=own, **WANTED))
    cluster.reconcile()
    assert gates(cluster, "x-0") == [{"conditionType": "example.com/warm"}, {"conditionType": GATE}]
    assert gates(cluster, "x-0-1") == [{"conditionType": "example.com/warm"}]


def test_a_group_of_one_needs_no_gate_but_to_be_drained() -> None:
    cluster = PlannedCluster(a_set(replicas=1, size=1, **WANTED))
    cluster.reconcile()
    assert not gates(cluster, "x-0")
    cluster = PlannedCluster(
        a_set(replicas=1, size=1, annotations={"groups.kajitori.dev/drain-seconds": "5"})
    )
    cluster.reconcile()
    assert gates(cluster, "x-0") == [{"conditionType": GATE}]
    cluster.settle()


def test_a_leader_is_ready_when_the_last_worker_is_and_not_before() -> None:
    cluster = PlannedCluster(a_set(replicas=1, size=3, **WANTED))
    cluster.reconcile()
    for name in ("x-0", "x-0-1"):
        cluster.run(name)
        cluster.reconcile()
        assert not ready(cluster, "x-0")
        assert not cluster.lws["status"].get("readyReplicas")
    cluster.run("x-0-2")
    cluster.reconcile()
    assert ready(cluster, "x-0")
    cluster.reconcile()
    assert cluster.lws["status"]["readyReplicas"] == 1


def test_a_worker_that_is_not_ready_takes_its_leader_out_of_the_endpoints_by_one_write() -> None:
    cluster = PlannedCluster(a_set(replicas=1, size=3, **WANTED)).settle()
    cluster.run("x-0-1", ready=False)
    (change,) = cluster.reconcile().after
    assert isinstance(change, SetGroupReady)
    assert not change.ready
    assert change.message == "pod x-0-1 is not ready"
    assert not ready(cluster, "x-0")
    cluster.run("x-0-2", ready=False)
    assert not cluster.reconcile().after
    cluster.run("x-0-1")
    cluster.run("x-0-2")
    assert len(cluster.reconcile().after) == 1
    assert ready(cluster, "x-0")


@pytest.mark.parametrize("size", [2, 4])
def test_workers_that_wait_for_their_leader_are_started_by_its_containers(size: int) -> None:
    cluster = PlannedCluster(a_set(replicas=2, size=size, startupPolicy="LeaderReady", **WANTED))
    cluster.reconcile()
    assert set(cluster.pods) == {"x-0", "x-1"}
    cluster.run("x-0", ready=False)
    cluster.reconcile()
    assert set(cluster.pods) == {"x-0", "x-1"}
    cluster.run("x-0")
    cluster.reconcile()
    assert "x-0-1" in cluster.pods
    cluster.settle()
    assert ready(cluster, "x-0")


def test_groups_that_are_there_go_on_without_the_gate_and_those_made_later_have_it() -> None:
    cluster = PlannedCluster(a_set(replicas=2, size=2)).settle()
    before = {name: pod["metadata"]["uid"] for name, pod in cluster.pods.items()}
    cluster.lws["metadata"]["annotations"] = {GATE: "true"}
    cluster.settle()
    assert {name: pod["metadata"]["uid"] for name, pod in cluster.pods.items()} == before
    cluster.delete("x-1-1")
    cluster.settle()
    assert not gates(cluster, "x-0")
    assert gates(cluster, "x-1")


def test_an_update_of_groups_with_gates_goes_through() -> None:
    cluster = PlannedCluster(a_set(replicas=3, size=2, **WANTED)).settle()
    worker = template(container() | {"image": "busybox:2"})
    cluster.lws["spec"]["leaderWorkerTemplate"]["workerTemplate"] = worker
    cluster.settle(rounds=100)
    assert {pod["spec"]["containers"][0]["image"] for pod in cluster.pods.values()} == {"busybox:2"}
