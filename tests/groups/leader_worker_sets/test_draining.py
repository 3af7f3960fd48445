"""A group leaves the endpoints before it is stopped on purpose, and is stopped when what it began has ended."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.groups.leader_worker_sets.conftest import PlannedCluster, a_set, container, template
from tests.groups.leader_worker_sets.test_convergence import check_incarnations, happen, happenings
from tests.groups.leader_worker_sets.test_readiness import ready

SINCE = "groups.kajitori.dev/draining-since"
DRAINED = {"groups.kajitori.dev/drain-seconds": "30"}


def draining(cluster: PlannedCluster) -> set[str]:
    return {name for name, pod in cluster.pods.items() if SINCE in pod["metadata"]["annotations"]}


def a_cluster(replicas: int = 3, size: int = 2, **fields: object) -> PlannedCluster:
    return PlannedCluster(a_set(replicas=replicas, size=size, annotations=DRAINED, **fields)).settle()


def scale(cluster: PlannedCluster, replicas: int) -> None:
    cluster.lws["spec"]["replicas"] = replicas


def update(cluster: PlannedCluster, image: str = "busybox:2") -> None:
    worker = template(container() | {"image": image})
    cluster.lws["spec"]["leaderWorkerTemplate"]["workerTemplate"] = worker


def idle(cluster: PlannedCluster, *names: str) -> None:
    cluster.memory["idle"] = [cluster.pods[name]["metadata"]["uid"] for name in names]


def test_a_group_that_is_scaled_away_leaves_the_endpoints_and_goes_when_its_time_is_over() -> None:
    cluster = a_cluster()
    scale(cluster, 2)
    plan = cluster.reconcile()
    assert not plan.deletes
    assert draining(cluster) == {"x-2"}
    assert not ready(cluster, "x-2")
    assert ("GroupDraining", "Group 2 gets no new requests, and is deleted within 30 s") in cluster.events
    cluster.now += 29
    assert not cluster.reconcile().deletes
    assert cluster.lws["status"]["readyReplicas"] == 2
    cluster.now += 1
    assert {delete.pod.name for delete in cluster.reconcile().deletes} == {"x-2", "x-2-1"}
    cluster.settle()
    assert cluster.reasons().count("GroupDraining") == 1


def test_a_drain_ends_as_soon_as_the_engine_is_idle_but_not_before_endpoints_know_of_it() -> None:
    cluster = a_cluster()
    scale(cluster, 2)
    plan = cluster.reconcile()
    assert plan.again_after_seconds == 2.0
    idle(cluster, "x-2")
    cluster.now += 1
    plan = cluster.reconcile()
    assert not plan.deletes
    assert plan.again_after_seconds == pytest.approx(1.0)
    cluster.now += 1
    assert len(cluster.reconcile().deletes) == 2


def test_whoever_comes_after_a_controller_that_died_goes_on_with_the_drain() -> None:
    cluster = a_cluster()
    scale(cluster, 2)
    cluster.reconcile()
    since = cluster.pods["x-2"]["metadata"]["annotations"][SINCE]
    cluster.memory = {"restarts": {}, "taken": {}}
    cluster.now += 20
    cluster.reconcile()
    assert cluster.pods["x-2"]["metadata"]["annotations"][SINCE] == since
    cluster.now += 10
    assert cluster.reconcile().deletes


def test_a_condition_that_was_not_written_with_the_note_is_written_after_it() -> None:
    cluster = a_cluster()
    scale(cluster, 2)
    cluster.reconcile()
    cluster.pods["x-2"]["gates"] = dict.fromkeys(cluster.pods["x-2"]["gates"], True)
    cluster.run("x-2")
    assert ready(cluster, "x-2")
    cluster.reconcile()
    assert not ready(cluster, "x-2")
    assert not cluster.reconcile().after


def test_a_group_that_is_wanted_after_all_comes_back_as_it_was() -> None:
    cluster = a_cluster()
    before = cluster.uids(2)
    scale(cluster, 2)
    cluster.reconcile()
    scale(cluster, 3)
    cluster.settle()
    assert cluster.uids(2) == before
    assert not draining(cluster)
    assert ready(cluster, "x-2")


def test_a_draining_group_that_fails_goes_at_once_and_is_not_said_to_restart() -> None:
    cluster = a_cluster()
    scale(cluster, 2)
    cluster.reconcile()
    cluster.pods["x-2-1"]["status"] = {"phase": "Failed"}
    assert cluster.reconcile().deletes
    cluster.settle()
    assert "RecreateGroup" not in cluster.reasons()


def test_a_group_that_fails_is_not_drained() -> None:
    cluster = a_cluster()
    cluster.pods["x-1-1"]["status"] = {"phase": "Failed"}
    assert {delete.pod.name for delete in cluster.reconcile().deletes} == {"x-1", "x-1-1"}


def test_a_group_that_serves_nobody_is_not_drained() -> None:
    cluster = a_cluster()
    cluster.run("x-2-1", ready=False)
    cluster.reconcile()
    scale(cluster, 2)
    assert len(cluster.reconcile().deletes) == 2


def test_groups_without_the_gate_go_at_once() -> None:
    cluster = PlannedCluster(a_set(replicas=2, size=2)).settle()
    cluster.lws["metadata"]["annotations"] = DRAINED
    scale(cluster, 1)
    assert len(cluster.reconcile().deletes) == 2


def test_a_drain_ends_when_nobody_asks_for_it_any_more() -> None:
    cluster = a_cluster()
    scale(cluster, 2)
    cluster.reconcile()
    cluster.lws["metadata"]["annotations"] = {}
    assert len(cluster.reconcile().deletes) == 2


def test_an_update_drains_each_group_before_it_is_replaced() -> None:
    cluster = a_cluster()
    update(cluster)
    deleted: list[set[str]] = []
    for _ in range(400):
        plan = cluster.reconcile()
        if plan.deletes:
            deleted.append({delete.pod.name for delete in plan.deletes})
            assert deleted[-1] & draining(cluster)
        cluster.now += 1
        cluster.bury()
        cluster.run_all()
    assert deleted == [{"x-2", "x-2-1"}, {"x-1", "x-1-1"}, {"x-0", "x-0-1"}]
    assert cluster.conditions()["Available"] == "True"


@settings(max_examples=60, deadline=None)
@given(
    replicas=st.integers(1, 4),
    unavailable=st.integers(0, 2),
    surge=st.integers(0, 2),
    pace=st.lists(st.integers(0, 20), min_size=5, max_size=40),
    identity=st.sampled_from(["Ordinal", "Hash"]),
)
def test_no_drain_makes_more_groups_unavailable_than_may_be(
    replicas: int, unavailable: int, surge: int, pace: list[int], identity: str
) -> None:
    if not unavailable and not surge:
        unavailable = 1
    rolling = {"partition": 0, "maxUnavailable": unavailable, "maxSurge": surge}
    cluster = a_cluster(
        replicas=replicas,
        groupIdentity=identity,
        rolloutStrategy={"type": "RollingUpdate", "rollingUpdateConfiguration": rolling},
    )
    cluster.slow_nodes = True
    update(cluster)
    for number in pace:
        cluster.reconcile()
        leaders = {name for name in cluster.pods if name.count("-") == 1 and alive(cluster, name)}
        serving = sum(ready(cluster, name) for name in leaders - draining(cluster))
        assert serving >= replicas - unavailable
        cluster.now += number
        if number % 3 == 0:
            cluster.bury()
        for name in list(cluster.pods):
            if number % 2 == 0:
                cluster.run(name)
    cluster.settle(rounds=600)
    assert {pod["spec"]["containers"][0]["image"] for pod in cluster.pods.values()} == {"busybox:2"}
    assert len(cluster.pods) == 2 * replicas
    assert not draining(cluster)


def alive(cluster: PlannedCluster, name: str) -> bool:
    pod = cluster.pods[name]
    return "status" in pod and "deletionTimestamp" not in pod["metadata"]


@settings(max_examples=60, deadline=None)
@given(
    replicas=st.integers(0, 3),
    size=st.integers(1, 3),
    startup=st.sampled_from(["LeaderCreated", "LeaderReady"]),
    surge=st.integers(0, 2),
    happens=happenings,
)
def test_whatever_happens_drained_groups_end_as_it_was_asked_for(
    replicas: int, size: int, startup: str, surge: int, happens: list[tuple[str, int]]
) -> None:
    rolling = {"partition": 0, "maxUnavailable": 1, "maxSurge": surge}
    cluster = PlannedCluster(
        a_set(
            replicas=replicas,
            size=size,
            startupPolicy=startup,
            annotations={**DRAINED, "groups.kajitori.dev/group-ready": "true"},
            rolloutStrategy={"type": "RollingUpdate", "rollingUpdateConfiguration": rolling},
        )
    )
    for what, number in happens:
        cluster.now += 1
        if what == "scale":
            scale(cluster, number % 4)
        elif what == "resize":
            size = 1 + number % 3
            cluster.lws["spec"]["leaderWorkerTemplate"]["size"] = size
        elif what == "update":
            update(cluster, f"busybox:{number % 3}")
        else:
            happen(cluster, what, number)
        check_incarnations(cluster)
    cluster.settle(rounds=600)
    assert len(cluster.pods) == cluster.wanted_groups * size
    assert not draining(cluster)
    assert cluster.conditions()["Available"] == "True"
