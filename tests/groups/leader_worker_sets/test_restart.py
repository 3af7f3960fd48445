"""A group ends and begins as one: what begins a restart, who is blamed, and what a restart never does."""

from __future__ import annotations

import pytest
from tests.groups.leader_worker_sets.conftest import PlannedCluster, a_set, template

AFTER_START = "RecreateGroupAfterStart"


def message_of(cluster: PlannedCluster, reason: str) -> str:
    return next(message for said, message in reversed(cluster.events) if said == reason)


def test_a_deleted_worker_recreates_its_whole_group_and_no_other() -> None:
    cluster = PlannedCluster(a_set(replicas=2, size=4)).settle()
    before, other = cluster.uids(0), cluster.uids(1)
    cluster.delete("x-0-3")
    cluster.settle()
    after = cluster.uids(0)
    assert after.keys() == before.keys()
    assert not set(after.values()) & set(before.values())
    assert cluster.uids(1) == other
    assert cluster.reasons().count("RecreateGroup") == 1
    assert message_of(cluster, "RecreateGroup") == (
        "Worker pod x-0-3 failed, deleted leader pod x-0 to recreate group 0: pod x-0-3 on node-1 was deleted"
    )


def test_a_deleted_leader_recreates_its_group() -> None:
    cluster = PlannedCluster(a_set()).settle()
    before = cluster.uids(1)
    cluster.delete("x-1")
    cluster.settle()
    assert not set(cluster.uids(1).values()) & set(before.values())
    assert "pod x-1 on node-1 was deleted" in message_of(cluster, "RecreateGroup")


def test_a_container_that_restarts_recreates_its_group_and_is_blamed() -> None:
    cluster = PlannedCluster(a_set()).settle()
    before = cluster.uids(0)
    cluster.run("x-0-1", restarts=1, exit_code=137)
    cluster.settle()
    assert not set(cluster.uids(0).values()) & set(before.values())
    assert message_of(cluster, "RecreateGroup").endswith(
        "container engine of pod x-0-1 on node-1 restarted: exit code 137, signal 9"
    )
    because = cluster.pods["x-0-2"]["metadata"]["annotations"]["groups.kajitori.dev/restarted-because"]
    assert because == "container engine of pod x-0-1 on node-1 restarted: exit code 137, signal 9"


def test_a_worker_that_vanished_unseen_recreates_its_group() -> None:
    cluster = PlannedCluster(a_set()).settle()
    before = cluster.uids(0)
    del cluster.pods["x-0-2"]
    cluster.settle()
    assert not set(cluster.uids(0).values()) & set(before.values())
    assert "pod x-0-2 is gone without a trace" in message_of(cluster, "RecreateGroup")


def test_a_failed_pod_recreates_its_group() -> None:
    cluster = PlannedCluster(a_set()).settle()
    before = cluster.uids(0)
    cluster.pods["x-0-2"]["status"] = {"phase": "Failed", "reason": "Evicted", "message": "low on memory"}
    cluster.settle()
    assert not set(cluster.uids(0).values()) & set(before.values())
    assert "pod x-0-2 on node-1 failed: Evicted: low on memory" in message_of(cluster, "RecreateGroup")


def test_the_first_to_fail_is_blamed_even_if_others_follow_before_anybody_looks() -> None:
    cluster = PlannedCluster(a_set(size=4, replicas=1)).settle()
    cluster.run("x-0-2", restarts=1, exit_code=1)
    cluster.now += 3
    cluster.run("x-0", restarts=1, exit_code=143)
    cluster.delete("x-0-1")
    cluster.settle()
    assert "x-0-2" in message_of(cluster, "RecreateGroup").rpartition(": container")[2]
    assert cluster.reasons().count("RecreateGroup") == 1


def test_nothing_of_a_new_incarnation_starts_before_all_of_the_old_is_gone() -> None:
    cluster = PlannedCluster(a_set(replicas=1, size=3)).settle()
    cluster.delete("x-0-1")
    cluster.reconcile()
    assert all("deletionTimestamp" in pod["metadata"] for pod in cluster.pods.values())
    del cluster.pods["x-0"], cluster.pods["x-0-1"]
    assert not cluster.reconcile().creates
    del cluster.pods["x-0-2"]
    assert len(cluster.reconcile().creates) == 3


def test_all_pods_of_a_group_are_of_one_incarnation() -> None:
    cluster = PlannedCluster(a_set(replicas=2)).settle()
    cluster.delete("x-0")
    cluster.settle()
    for group in (0, 1):
        found = {
            cluster.pods[name]["metadata"]["annotations"]["groups.kajitori.dev/incarnation"]
            for name in cluster.uids(group)
        }
        assert len(found) == 1


def test_a_stale_pod_is_removed_and_begins_no_restart() -> None:
    cluster = PlannedCluster(a_set(replicas=1, size=3)).settle()
    leader = cluster.pods["x-0"]["metadata"]["uid"]
    stale = cluster.pods["x-0-2"]
    stale["metadata"]["annotations"]["groups.kajitori.dev/incarnation"] = "of-old"
    stale["status"]["containerStatuses"][0]["restartCount"] = 3
    cluster.pods["x-0"]["metadata"]["annotations"].pop("groups.kajitori.dev/complete")
    plan = cluster.reconcile()
    assert [delete.pod.name for delete in plan.deletes] == ["x-0-2"]
    cluster.settle()
    assert cluster.pods["x-0"]["metadata"]["uid"] == leader
    assert "RecreateGroup" not in cluster.reasons()


def test_none_replaces_a_deleted_worker_alone() -> None:
    cluster = PlannedCluster(a_set(restartPolicy="None")).settle()
    before = cluster.uids(0)
    cluster.delete("x-0-1")
    cluster.settle()
    after = cluster.uids(0)
    assert after["x-0"] == before["x-0"]
    assert after["x-0-2"] == before["x-0-2"]
    assert after["x-0-1"] != before["x-0-1"]
    cluster.run("x-0-2", restarts=5)
    cluster.settle()
    assert cluster.uids(0) == after


def test_default_means_none() -> None:
    cluster = PlannedCluster(a_set(restartPolicy="Default")).settle()
    cluster.lws["spec"]["leaderWorkerTemplate"]["restartPolicy"] = "None"
    plan = cluster.reconcile()
    assert not (plan.before or plan.deletes)


def test_without_their_leader_workers_are_not_kept_under_any_policy() -> None:
    cluster = PlannedCluster(a_set(restartPolicy="None")).settle()
    before = cluster.uids(0)
    cluster.delete("x-0")
    cluster.settle()
    assert not set(cluster.uids(0).values()) & set(before.values())


@pytest.mark.parametrize(
    "fields",
    [
        {"restartPolicy": AFTER_START},
        {"annotations": {"leaderworkerset.sigs.k8s.io/experimental-recreate-group-after-start": "true"}},
    ],
)
def test_after_start_a_failure_counts_only_once_no_pod_is_pending(fields: dict[str, object]) -> None:
    cluster = PlannedCluster(a_set(replicas=1, **fields))
    cluster.reconcile()
    cluster.run("x-0", restarts=1)
    cluster.run("x-0-1")
    cluster.pods["x-0-2"]["status"] = {"phase": "Pending"}
    plan = cluster.reconcile()
    assert not plan.deletes
    leader = cluster.pods["x-0"]["metadata"]["uid"]
    cluster.run("x-0-2")
    cluster.settle()
    assert cluster.pods["x-0"]["metadata"]["uid"] != leader


def test_a_group_that_keeps_failing_waits_longer_each_time() -> None:
    cluster = PlannedCluster(a_set(replicas=1, size=2)).settle()
    waits = []
    for _ in range(5):
        cluster.run("x-0-1", restarts=1, exit_code=1)
        cluster.reconcile()
        cluster.bury()
        waits.append(cluster.reconcile().again_after_seconds or 0)
        cluster.settle()
    assert waits == [0, 1, 2, 4, 8]
    assert "restart 5 in a row" in message_of(cluster, "RecreateGroup")
    cluster.now += 3600
    cluster.run("x-0-1", restarts=1, exit_code=1)
    cluster.reconcile()
    cluster.bury()
    assert cluster.reconcile().creates


def test_a_controller_that_dies_at_any_write_leaves_nothing_that_the_next_one_cannot_mend() -> None:
    for steps in range(20):
        cluster = PlannedCluster(a_set(replicas=2, size=3))
        cluster.reconcile(steps)
        cluster.settle()
        assert len(cluster.pods) == 6, steps
        before = cluster.uids(1)
        cluster.delete("x-0-1")
        cluster.reconcile(steps)
        cluster.bury()
        cluster.reconcile(steps)
        cluster.settle()
        assert len(cluster.pods) == 6, steps
        assert cluster.uids(1) == before
        for group in (0, 1):
            pods = [cluster.pods[name]["metadata"]["annotations"] for name in cluster.uids(group)]
            assert len({pod["groups.kajitori.dev/incarnation"] for pod in pods}) == 1


def test_an_update_and_a_scale_down_blame_nobody() -> None:
    cluster = PlannedCluster(a_set(replicas=2)).settle()
    cluster.lws["spec"]["leaderWorkerTemplate"]["workerTemplate"] = template({"name": "new"})
    cluster.settle()
    cluster.lws["spec"]["replicas"] = 1
    cluster.reconcile()
    cluster.lws["spec"]["replicas"] = 2
    cluster.settle()
    assert "RecreateGroup" not in cluster.reasons()
    assert len(cluster.pods) == 6


def test_a_group_whose_templates_are_lost_before_it_was_whole_comes_back_as_the_set_has_it() -> None:
    cluster = PlannedCluster(a_set(replicas=2, size=2, startupPolicy="LeaderReady"))
    cluster.reconcile()
    cluster.run("x-1")
    cluster.reconcile()
    cluster.revisions.clear()
    cluster.lws["spec"]["leaderWorkerTemplate"]["size"] = 3
    cluster.settle()
    assert len(cluster.pods) == 6
