"""A group that fails again and again waits longer, and in the end is left for inspection, until its user lifts that."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.groups.leader_worker_sets.conftest import PlannedCluster, a_set, container, template

from kajitori.groups.leader_worker_sets.budget import (
    FAILED_ANNOTATION,
    LONGEST_DELAY_SECONDS,
    delay_seconds,
)
from kajitori.groups.leader_worker_sets.history import MOST_RECORDS
from kajitori.groups.leader_worker_sets.options import MAX_RESTARTS

FAILED = "kajitori.dev/GroupsFailed"


def fail(cluster: PlannedCluster, pod: str = "x-0-1") -> None:
    cluster.run(pod, restarts=1, exit_code=1)
    cluster.reconcile()


def failed_cluster(budget: int = 2, **fields: object) -> PlannedCluster:
    """Group 0 has failed for good."""
    fields.setdefault("replicas", 2)
    cluster = PlannedCluster(a_set(size=2, annotations={MAX_RESTARTS: str(budget)}, **fields)).settle()
    for _ in range(budget):
        fail(cluster)
        cluster.settle()
    fail(cluster)
    return cluster


def restarts_of(cluster: PlannedCluster, pod: str = "x-0") -> str:
    return cluster.pods[pod]["metadata"]["annotations"].get("groups.kajitori.dev/restarts", "")


def condition(cluster: PlannedCluster, kind: str) -> dict[str, str]:
    return next((one for one in cluster.lws["status"]["conditions"] if one["type"] == kind), {})


@pytest.mark.parametrize("budget", [0, 1, 3])
def test_a_group_that_has_spent_its_restarts_is_left_as_it_is_and_the_others_serve(budget: int) -> None:
    cluster = failed_cluster(budget)
    before, other = cluster.uids(0), cluster.uids(1)
    assert restarts_of(cluster) == (str(budget) if budget else "0")
    for _ in range(3):
        cluster.now += 3600
        plan = cluster.reconcile()
        assert not (plan.before or plan.deletes or plan.creates or plan.after)
        cluster.bury()
    assert cluster.uids(0) == before
    assert cluster.uids(1) == other
    assert cluster.lws["status"]["readyReplicas"] == 1
    told = condition(cluster, FAILED)
    assert told["status"] == "True"
    assert "group 0: container engine of pod x-0-1 on node-1 restarted: exit code 1" in told["message"]
    assert "delete its leader pod" in told["message"]
    assert cluster.reasons().count("GroupFailed") == 1
    assert cluster.lws["status"]["restarts"][-1]["outcome"] == "Failed"


def test_what_is_missing_of_a_failed_group_is_not_replaced() -> None:
    cluster = failed_cluster()
    del cluster.pods["x-0-1"]
    plan = cluster.reconcile()
    assert not (plan.deletes or plan.creates)
    assert condition(cluster, FAILED)["status"] == "True"


def test_a_pod_that_was_taken_away_never_fails_its_group() -> None:
    cluster = PlannedCluster(a_set(replicas=1, size=2, annotations={MAX_RESTARTS: "0"})).settle()
    before = cluster.uids(0)
    cluster.delete("x-0-1")
    cluster.settle()
    assert not set(cluster.uids(0).values()) & set(before.values())
    assert "GroupFailed" not in cluster.reasons()


@pytest.mark.parametrize("trace", [True, False])
def test_a_deleted_leader_lifts_the_failure_and_the_count_begins_at_nothing(trace: bool) -> None:
    cluster = failed_cluster()
    before = cluster.uids(0)
    if trace:
        cluster.delete("x-0")
    else:
        del cluster.pods["x-0"]
    cluster.reconcile()
    cluster.bury()
    assert len(cluster.reconcile().creates) == 2
    cluster.settle()
    assert not set(cluster.uids(0).values()) & set(before.values())
    assert restarts_of(cluster) == "0"
    assert condition(cluster, FAILED)["status"] == "False"
    fail(cluster)
    assert "GroupFailed" not in cluster.reasons()[-2:]


def test_a_raised_budget_lifts_the_failure_at_once() -> None:
    cluster = failed_cluster(budget=2)
    cluster.lws["metadata"]["annotations"][MAX_RESTARTS] = "3"
    assert len(cluster.reconcile().deletes) == 2
    cluster.bury()
    assert len(cluster.reconcile().creates) == 2
    cluster.run_all()
    assert restarts_of(cluster) == "3"
    cluster.settle()
    fail(cluster)
    assert "GroupFailed" in cluster.reasons()[-2:]


def test_a_lower_budget_fails_nobody_before_it_fails_again() -> None:
    cluster = failed_cluster(budget=2)
    del cluster.lws["metadata"]["annotations"][MAX_RESTARTS]
    cluster.settle()
    cluster.lws["metadata"]["annotations"][MAX_RESTARTS] = "1"
    cluster.settle()
    fail(cluster)
    assert "GroupFailed" in cluster.reasons()[-2:]


def test_a_changed_template_lifts_the_failure_and_begins_with_the_group_that_serves_nobody() -> None:
    cluster = failed_cluster(replicas=4)
    serving = {group: cluster.uids(group) for group in (1, 2, 3)}
    worker = template(container() | {"image": "busybox:2"})
    cluster.lws["spec"]["leaderWorkerTemplate"]["workerTemplate"] = worker
    plan = cluster.reconcile()
    assert {delete.pod.name for delete in plan.deletes} >= {"x-0", "x-0-1"}
    gone = {delete.pod.group for delete in plan.deletes if delete.pod.group}
    assert len(gone) <= 1
    cluster.bury()
    cluster.reconcile()
    assert cluster.pods["x-0"]["spec"]["containers"][0]["image"] == "busybox:2"
    assert sum(cluster.uids(group) == serving[group] for group in serving) >= 2
    cluster.settle()
    assert {pod["spec"]["containers"][0]["image"] for pod in cluster.pods.values()} == {"busybox:2"}
    assert condition(cluster, FAILED)["status"] == "False"


@pytest.mark.parametrize("hold", [{"partition": 2}, {}])
def test_a_failed_group_stays_where_a_rollout_may_not_reach_it(hold: dict[str, int]) -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdateConfiguration": {"maxUnavailable": 1, **hold}}
    cluster = failed_cluster(replicas=3, rolloutStrategy=rolling)
    if not hold:
        cluster.lws["metadata"]["annotations"]["groups.kajitori.dev/paused"] = "true"
    worker = template(container() | {"image": "busybox:2"})
    cluster.lws["spec"]["leaderWorkerTemplate"]["workerTemplate"] = worker
    for _ in range(4):
        cluster.reconcile()
        cluster.bury()
    assert FAILED_ANNOTATION in cluster.pods["x-0"]["metadata"]["annotations"]


def test_a_failed_group_that_is_scaled_away_goes() -> None:
    cluster = failed_cluster(replicas=1)
    cluster.lws["spec"]["replicas"] = 0
    cluster.settle()
    assert not cluster.pods
    assert condition(cluster, FAILED)["status"] == "False"


def test_a_controller_that_dies_around_the_failure_leaves_the_same_failure() -> None:
    for steps in range(3):
        cluster = PlannedCluster(a_set(replicas=1, size=2, annotations={MAX_RESTARTS: "0"})).settle()
        before = cluster.uids(0)
        cluster.run("x-0-1", restarts=1, exit_code=1)
        cluster.reconcile(steps)
        cluster.reconcile()
        assert cluster.uids(0) == before
        assert FAILED_ANNOTATION in cluster.pods["x-0"]["metadata"]["annotations"]
        assert condition(cluster, FAILED)["status"] == "True"


def test_a_worker_that_flaps_a_hundred_times_leaves_a_bounded_state_and_waits_at_most_five_minutes() -> None:
    cluster = PlannedCluster(a_set(replicas=2, size=2)).settle()
    waits: list[float] = []
    for number in range(1, 101):
        fail(cluster)
        cluster.bury()
        waits.append(cluster.reconcile().again_after_seconds or 0.0)
        cluster.settle()
        assert restarts_of(cluster) == str(number)
        assert len(msgspec.json.encode(cluster.memory["restarts"])) < 3000
        assert len(cluster.memory["lives"]) <= 2
        assert len(cluster.lws["status"]["restarts"]) <= MOST_RECORDS
    assert waits[:4] == [0, 1, 2, 4]
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_DELAY_SECONDS
    assert [record["attempt"] for record in cluster.lws["status"]["restarts"]] == list(range(91, 101))
    assert len(msgspec.json.encode(cluster.lws["status"])) < 8000
    sizes = [len(msgspec.json.encode(pod)) for pod in cluster.pods.values()]
    assert max(sizes) < 4000


def test_restarts_are_forgotten_once_the_group_was_ready_long_enough() -> None:
    cluster = PlannedCluster(a_set(replicas=1, size=2)).settle()
    fail(cluster)
    cluster.settle()
    cluster.now += 500
    fail(cluster)
    cluster.settle()
    assert restarts_of(cluster) == "2"
    cluster.now += 3600
    cluster.reconcile()
    fail(cluster)
    cluster.settle()
    assert restarts_of(cluster) == "1"


def test_time_in_which_a_group_was_never_ready_does_not_count_as_life() -> None:
    cluster = PlannedCluster(a_set(replicas=1, size=2)).settle()
    fail(cluster)
    cluster.bury()
    cluster.reconcile()
    for name in cluster.pods:
        cluster.run(name, ready=False)
    cluster.reconcile()
    cluster.now += 3600
    cluster.reconcile()
    fail(cluster)
    assert cluster.memory["restarts"][0].count == 2


def test_a_leader_and_a_worker_that_die_at_the_same_moment_are_one_restart_with_one_blame() -> None:
    for first, second in (("x-0", "x-0-2"), ("x-0-2", "x-0")):
        cluster = PlannedCluster(a_set(replicas=1, size=3)).settle()
        cluster.run(first, restarts=1, exit_code=1)
        cluster.now += 1
        cluster.run(second, restarts=1, exit_code=2)
        cluster.reconcile()
        cluster.bury()
        cluster.settle()
        assert cluster.reasons().count("RecreateGroup") == 1
        (record,) = cluster.lws["status"]["restarts"]
        assert (record["pod"], record["exitCode"], record["attempt"]) == (first, 1, 1)
        assert restarts_of(cluster) == "1"


def test_a_leader_that_dies_while_its_group_already_ends_is_not_counted_again() -> None:
    cluster = PlannedCluster(a_set(replicas=1, size=3)).settle()
    fail(cluster)
    cluster.pods["x-0"]["status"] = {"phase": "Failed"}
    cluster.reconcile()
    cluster.bury()
    cluster.settle()
    assert restarts_of(cluster) == "1"
    assert len(cluster.lws["status"]["restarts"]) == 1


def test_pods_carry_the_count_under_the_name_that_upstream_proposes_too() -> None:
    cluster = PlannedCluster(a_set(replicas=1, size=2)).settle()
    fail(cluster)
    cluster.settle()
    for pod in cluster.pods.values():
        count = pod["metadata"]["annotations"]["leaderworkerset.sigs.k8s.io/group-restart-count"]
        assert count == "1"


def test_groups_without_an_order_fail_are_lifted_and_are_scaled_away_first() -> None:
    annotations = {MAX_RESTARTS: "0"}
    cluster = PlannedCluster(a_set(size=2, annotations=annotations, groupIdentity="Hash")).settle()
    leaders = sorted(name for name in cluster.pods if name.count("-") == 1)
    failed, serving = leaders
    fail(cluster, f"{failed}-1")
    for _ in range(2):
        plan = cluster.reconcile()
        assert not (plan.deletes or plan.creates)
    assert f"group {failed.removeprefix('x-')}: container engine" in condition(cluster, FAILED)["message"]
    cluster.delete(failed)
    cluster.settle()
    fresh = next(name for name in cluster.pods if name.count("-") == 1 and name != serving)
    assert fresh != failed
    assert restarts_of(cluster, fresh) == "0"
    fail(cluster, f"{fresh}-1")
    cluster.lws["spec"]["replicas"] = 1
    cluster.settle()
    assert set(cluster.pods) == {serving, f"{serving}-1"}


@given(st.integers(0, 10_000))
def test_each_wait_is_as_long_as_the_last_or_longer_and_never_over_five_minutes(count: int) -> None:
    assert delay_seconds(count) <= delay_seconds(count + 1) <= LONGEST_DELAY_SECONDS
    assert list(itertools.accumulate(map(delay_seconds, range(3)))) == [0, 0, 1]
