"""A group that gets a part of what it needs gives it back after its deadline, and tries again later."""

from __future__ import annotations

from typing import Any

from tests.groups.leader_worker_sets.conftest import PlannedCluster, a_set

from kajitori.base.clock import parse_rfc3339
from kajitori.groups.leader_worker_sets.memory import Memory
from kajitori.groups.leader_worker_sets.observed import Refusal

UNSCHEDULABLE = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."
QUOTA = 'pods "x-0-2" is forbidden: exceeded quota: few, requested: pods=1, used: pods=2, limited: pods=2'


def a_cluster(replicas: int = 1, size: int = 3, deadline: str = "30", **fields: Any) -> PlannedCluster:
    annotations = {"groups.kajitori.dev/gang-deadline-seconds": deadline, "groups.kajitori.dev/gang": "None"}
    annotations |= fields.pop("annotations", {})
    return PlannedCluster(a_set(replicas=replicas, size=size, annotations=annotations, **fields))


def no_node(cluster: PlannedCluster, *names: str) -> None:
    for name in names:
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": UNSCHEDULABLE,
        }
        cluster.pods[name]["status"] = {"phase": "Pending", "conditions": [condition]}


def blocked(cluster: PlannedCluster) -> str:
    conditions = cluster.lws["status"]["conditions"]
    return next(
        (one["message"] for one in conditions if one["type"].endswith("Blocked") and one["status"] == "True"),
        "",
    )


def half_placed() -> PlannedCluster:
    cluster = a_cluster()
    cluster.reconcile()
    cluster.run("x-0", ready=False)
    cluster.run("x-0-1", ready=False)
    no_node(cluster, "x-0-2")
    return cluster


def test_a_group_that_waits_for_a_node_says_how_many_pods_have_one_and_what_the_scheduler_says() -> None:
    cluster = half_placed()
    assert cluster.reconcile().again_after_seconds == 30.0
    expected = f"group 0: 2 of 3 pods were placed; of pod x-0-2 the scheduler says: {UNSCHEDULABLE}"
    assert blocked(cluster).startswith(expected)
    assert cluster.conditions()["kajitori.dev/Blocked"] == "True"


def test_it_gives_back_what_it_holds_at_its_deadline_and_waits_longer_each_time() -> None:
    cluster = half_placed()
    waits: list[float] = []
    for _ in range(4):
        cluster.now += 30
        assert {delete.pod.name for delete in cluster.reconcile().deletes} == {"x-0", "x-0-1", "x-0-2"}
        cluster.bury()
        waits.append(cluster.reconcile().again_after_seconds or 0.0)
        assert "2 of 3 pods were placed" in blocked(cluster)
        cluster.now += waits[-1]
        cluster.reconcile()
        assert len(cluster.pods) == 3
        assert blocked(cluster)
        cluster.run("x-0", ready=False)
        cluster.run("x-0-1", ready=False)
        no_node(cluster, "x-0-2")
    assert [2 <= waits[0] <= 3, 4 <= waits[1] <= 6, 8 <= waits[2] <= 12, 16 <= waits[3] <= 24] == [True] * 4


def test_what_is_placed_late_but_in_time_stays_and_the_condition_goes() -> None:
    cluster = half_placed()
    before = cluster.uids(0)
    cluster.reconcile()
    cluster.now += 29
    cluster.run_all()
    cluster.settle()
    assert cluster.uids(0) == before
    assert not blocked(cluster)
    cluster.now += 100
    assert not cluster.reconcile().deletes


def test_attempts_are_no_restarts_and_restarts_are_not_forgotten_over_them() -> None:
    cluster = a_cluster(annotations={"groups.kajitori.dev/max-restarts": "1"}).settle()
    cluster.run("x-0-1", restarts=1, exit_code=1)
    cluster.reconcile()
    cluster.bury()
    cluster.reconcile()
    restarts = "groups.kajitori.dev/restarts"
    assert cluster.pods["x-0"]["metadata"]["annotations"][restarts] == "1"
    for attempt in ("1", "2"):
        cluster.run("x-0", ready=False)
        no_node(cluster, "x-0-1", "x-0-2")
        cluster.now += 30
        cluster.reconcile()
        cluster.bury()
        cluster.now += cluster.reconcile().again_after_seconds or 0.0
        cluster.reconcile()
        annotations = cluster.pods["x-0"]["metadata"]["annotations"]
        assert annotations[restarts] == "1"
        assert annotations["groups.kajitori.dev/releases"] == attempt
    cluster.settle()
    assert cluster.conditions()["Available"] == "True"


def test_a_group_that_is_refused_pods_keeps_the_words_gives_back_and_begins_when_there_is_room() -> None:
    cluster = a_cluster()
    cluster.reconcile(steps=4)
    assert set(cluster.pods) == {"x-0", "x-0-1"}
    cluster.memory["refused"] = {0: Refusal(QUOTA, cluster.now + 1)}
    plan = cluster.reconcile()
    assert not plan.creates
    assert plan.again_after_seconds == 1.0
    assert f"0 of 3 pods were placed and 1 refused: {QUOTA}" in blocked(cluster)
    # Pods without a node use the quota up all the same.
    cluster.now += 30
    cluster.memory["refused"] = {0: Refusal(QUOTA, cluster.now + 8)}
    assert len(cluster.reconcile().deletes) == 2
    cluster.bury()
    cluster.reconcile()
    assert not cluster.pods
    assert QUOTA in blocked(cluster)
    cluster.memory["refused"] = {}
    cluster.settle()
    assert not blocked(cluster)
    assert cluster.conditions()["Available"] == "True"


def test_a_set_none_of_whose_pods_are_taken_says_so_and_asks_no_sooner_than_it_may() -> None:
    for identity in ("Ordinal", "Hash"):
        cluster = a_cluster(groupIdentity=identity)
        group = 0 if identity == "Ordinal" else 1 << 32
        cluster.memory["refused"] = {group: Refusal(QUOTA, cluster.now + 4)}
        plan = cluster.reconcile()
        assert not plan.creates
        assert plan.again_after_seconds == 4.0
        assert f"none of its pods were made: {QUOTA}" in blocked(cluster)
        cluster.now += 4
        assert len(cluster.reconcile().creates) == 3


def test_a_hash_group_that_gave_back_what_it_held_tries_again_under_another_name() -> None:
    cluster = a_cluster(groupIdentity="Hash")
    cluster.reconcile()
    first = set(cluster.pods)
    leader = min(first, key=len)
    cluster.run(leader, ready=False)
    no_node(cluster, f"{leader}-1", f"{leader}-2")
    cluster.now += 30
    cluster.reconcile()
    cluster.bury()
    wait = cluster.reconcile().again_after_seconds
    assert wait is not None
    assert wait >= 2
    cluster.now += wait
    cluster.reconcile()
    assert not first & set(cluster.pods)
    annotations = [pod["metadata"]["annotations"] for pod in cluster.pods.values()]
    assert {one["groups.kajitori.dev/releases"] for one in annotations} == {"1"}


def test_a_set_without_a_deadline_waits_for_as_long_as_it_takes() -> None:
    cluster = half_placed()
    cluster.lws["metadata"]["annotations"] = {}
    cluster.now += 1000
    assert not cluster.reconcile().deletes


def test_refusals_in_a_row_are_left_alone_for_longer_and_forgotten_after_a_minute() -> None:
    memory = Memory("uid")
    now = parse_rfc3339("2026-01-01T00:00:00Z")
    for wait in (1.0, 2.0, 4.0):
        memory.note_refused(0, "no", now)
        assert memory.refused(now)[0].until == now + wait
        # Of one look the first counts.
        memory.note_refused(0, "no", now)
        assert memory.take_news()
        assert not memory.take_news()
        now += wait
    assert memory.refused(now + 59)
    assert not memory.refused(now + 61)
    # A hash group has another name each time.
    memory = Memory("uid")
    for number, wait in enumerate((1.0, 2.0, 4.0)):
        group = (1 << 32) + number
        memory.note_refused(group, "no", now)
        assert memory.refused(now)[group].until == now + wait
        now += wait
