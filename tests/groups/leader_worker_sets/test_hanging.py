"""A pod whose deletion does not end is named, with what holds it, and nothing is forced."""

from __future__ import annotations

from tests.groups.leader_worker_sets.conftest import PlannedCluster, a_set

from kajitori.base.clock import rfc3339


def blocked(cluster: PlannedCluster) -> dict[str, str]:
    conditions = cluster.lws["status"]["conditions"]
    return next((one for one in conditions if one["type"] == "kajitori.dev/Blocked"), {"status": "False"})


def hanging(grace_seconds: int = 0) -> PlannedCluster:
    """Of group 0 only x-0-1 does not end."""
    cluster = PlannedCluster(a_set(replicas=2, size=2)).settle()
    cluster.delete("x-0-1")
    # As the API server writes it: the time when the grace period ends.
    cluster.pods["x-0-1"]["metadata"]["deletionTimestamp"] = rfc3339(cluster.now + grace_seconds)
    cluster.reconcile()
    del cluster.pods["x-0"]
    return cluster


def test_a_pod_that_stays_half_a_minute_after_its_grace_period_is_named_with_its_node() -> None:
    cluster = hanging(grace_seconds=60)
    cluster.now += 89
    plan = cluster.reconcile()
    assert blocked(cluster)["status"] == "False"
    assert plan.again_after_seconds is not None
    assert plan.again_after_seconds <= 1
    cluster.now += 1
    cluster.memory["node_states"] = {"node-1": "is NotReady since 2023-11-14T22:00:00Z"}
    plan = cluster.reconcile()
    told = blocked(cluster)
    assert (told["status"], told["reason"]) == ("True", "DeletionHangs")
    assert "pod x-0-1 on node-1 should have been gone since 2023-" in told["message"]
    assert "whose node is NotReady since 2023-11-14T22:00:00Z" in told["message"]
    assert "out-of-service" in told["message"]
    assert plan.again_after_seconds == 30
    assert not (plan.deletes or plan.creates)
    assert cluster.reasons().count("FailedCreate") == 0
    assert cluster.reasons().count("DeletionHangs") == 1


def test_a_finalizer_that_holds_it_is_named() -> None:
    cluster = hanging()
    cluster.pods["x-0-1"]["metadata"]["finalizers"] = ["example.com/hold"]
    cluster.now += 31
    cluster.reconcile()
    assert "held by finalizer example.com/hold" in blocked(cluster)["message"]


def test_the_condition_says_the_same_as_long_as_nothing_changes() -> None:
    cluster = hanging()
    cluster.now += 31
    cluster.reconcile()
    before = blocked(cluster)
    cluster.now += 3000
    cluster.reconcile()
    assert blocked(cluster) == before


def test_the_group_begins_anew_the_moment_the_pod_is_gone_and_others_do_not_wait() -> None:
    cluster = hanging()
    cluster.now += 3000
    cluster.reconcile()
    other = cluster.uids(1)
    cluster.run("x-1-1", restarts=1)
    cluster.reconcile()
    cluster.pods = {name: pod for name, pod in cluster.pods.items() if not name.startswith("x-1")}
    cluster.reconcile()
    assert not set(cluster.uids(1).values()) & set(other.values())
    assert len(cluster.uids(1)) == 2
    del cluster.pods["x-0-1"]
    assert len(cluster.reconcile().creates) == 2
    cluster.settle()
    assert blocked(cluster)["status"] == "False"


def test_a_hanging_pod_of_a_group_that_is_scaled_away_is_named_too() -> None:
    cluster = PlannedCluster(a_set(replicas=1, size=1)).settle()
    cluster.lws["spec"]["replicas"] = 0
    cluster.reconcile()
    cluster.now += 31
    cluster.reconcile()
    assert "pod x-0 on node-1" in blocked(cluster)["message"]
