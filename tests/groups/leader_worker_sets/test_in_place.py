"""A group restarts in place: its containers begin anew, its pods stay; what cannot be done so is done with new pods."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.groups.leader_worker_sets.conftest import PlannedCluster, a_set

from kajitori.base.clock import rfc3339
from kajitori.groups.leader_worker_sets.actions import Plan
from kajitori.groups.leader_worker_sets.container_commands import failure_of
from kajitori.groups.leader_worker_sets.in_place import ACCEPTED_ANNOTATION, MARKER_ANNOTATION
from kajitori.groups.leader_worker_sets.options import IN_PLACE_COMMAND, MAX_RESTARTS, RESTART
from kajitori.kube.exec import Executed

IN_PLACE = {RESTART: "InPlace"}


def cluster_of(size: int = 3, **annotations: str) -> PlannedCluster:
    return PlannedCluster(a_set(replicas=2, size=size, annotations={**IN_PLACE, **annotations})).settle()


def counts(cluster: PlannedCluster) -> dict[str, int]:
    return {
        name: pod["status"]["containerStatuses"][0]["restartCount"]
        for name, pod in cluster.pods.items()
        if name.startswith("x-0")
    }


def restart(cluster: PlannedCluster, name: str, exit_code: int = 143) -> None:
    """The kubelet starts the container again."""
    cluster.run(name, restarts=counts(cluster)[name] + 1, exit_code=exit_code)


def obey(cluster: PlannedCluster, plan: Plan) -> list[str]:
    """Commands do what they shall."""
    asked = [command.pod.name for command in plan.restart_containers]
    for command in plan.restart_containers:
        if counts(cluster)[command.pod.name] == command.restarts:
            restart(cluster, command.pod.name)
    return asked


def finish(cluster: PlannedCluster) -> None:
    """Until nothing more is asked for."""
    for _ in range(20):
        plan = cluster.reconcile()
        obey(cluster, plan)
        gone = [name for name, pod in cluster.pods.items() if "deletionTimestamp" in pod["metadata"]]
        for name in gone:
            del cluster.pods[name]
        for name, pod in cluster.pods.items():
            if "status" not in pod:
                cluster.run(name)
        cluster.now += max(1.0, plan.again_after_seconds or 0.0)
        idle = not (gone or plan.deletes or plan.creates or plan.after or plan.restart_containers)
        if idle and plan.status.ready_replicas == 2:
            return
    raise AssertionError("never settles")


def marker(cluster: PlannedCluster) -> str | None:
    return cluster.pods["x-0"]["metadata"]["annotations"].get(MARKER_ANNOTATION)


def test_a_restarted_container_has_the_others_restarted_and_every_pod_stays() -> None:
    cluster = cluster_of(size=4, **{IN_PLACE_COMMAND: '["pkill", "python"]'})
    before = cluster.uids(0) | cluster.uids(1)
    restart(cluster, "x-0-2", exit_code=139)
    cluster.reconcile()
    assert marker(cluster) is not None
    plan = cluster.reconcile()
    assert not (plan.deletes or plan.creates)
    assert {command.pod.name for command in plan.restart_containers} == {"x-0", "x-0-1", "x-0-3"}
    assert {command.command for command in plan.restart_containers} == {("pkill", "python")}
    assert cluster.lws["status"]["readyReplicas"] == 1
    obey(cluster, plan)
    finish(cluster)
    assert cluster.uids(0) | cluster.uids(1) == before
    assert set(counts(cluster).values()) == {1}
    assert marker(cluster) is None
    assert cluster.reasons().count("RestartingInPlace") == cluster.reasons().count("RestartedInPlace") == 1
    told = next(text for reason, text in cluster.events if reason == "RestartedInPlace")
    assert told.endswith("container engine of pod x-0-2 on node-1 restarted: exit code 139, signal 11")
    (record,) = cluster.lws["status"]["restarts"]
    assert (record["outcome"], record["pod"], record["attempt"]) == ("InPlace", "x-0-2", 1)


def test_restarts_that_were_accepted_begin_nothing_and_the_next_one_begins_again() -> None:
    cluster = cluster_of()
    restart(cluster, "x-0-1")
    finish(cluster)
    for _ in range(3):
        plan = cluster.reconcile()
        assert not (plan.before or plan.deletes or plan.after or plan.restart_containers)
    before = cluster.uids(0)
    restart(cluster, "x-0")
    finish(cluster)
    assert cluster.uids(0) == before
    assert set(counts(cluster).values()) == {2}
    assert cluster.reasons().count("RestartedInPlace") == 2
    assert cluster.pods["x-0"]["metadata"]["annotations"]["groups.kajitori.dev/restarts"] == "2"


def test_containers_that_fail_at_the_same_time_are_not_restarted_twice() -> None:
    cluster = cluster_of()
    restart(cluster, "x-0-1")
    restart(cluster, "x-0-2")
    cluster.reconcile()
    assert obey(cluster, cluster.reconcile()) == ["x-0"]
    finish(cluster)
    assert set(counts(cluster).values()) == {1}


def test_a_container_that_the_kubelet_restarts_meanwhile_is_left_alone() -> None:
    cluster = cluster_of()
    restart(cluster, "x-0-1")
    cluster.reconcile()
    status = cluster.pods["x-0-2"]["status"]["containerStatuses"][0]
    status["state"] = {"terminated": {"exitCode": 1, "finishedAt": rfc3339(cluster.now)}}
    assert [command.pod.name for command in cluster.reconcile().restart_containers] == ["x-0"]


def test_what_does_not_come_about_within_a_minute_is_done_with_new_pods() -> None:
    cluster = cluster_of()
    before = cluster.uids(0)
    restart(cluster, "x-0-1")
    cluster.reconcile()
    restart(cluster, "x-0")
    cluster.now += 59
    plan = cluster.reconcile()
    assert not plan.deletes
    assert plan.again_after_seconds is not None
    assert plan.again_after_seconds <= 1
    cluster.now += 1
    assert len(cluster.reconcile().deletes) == 3
    finish(cluster)
    assert not set(cluster.uids(0).values()) & set(before.values())
    told = next(text for reason, text in cluster.events if reason == "RecreateGroup")
    assert "(container engine of pod x-0-2 did not restart within 60 s), recreating it" in told
    assert "container engine of pod x-0-1 on node-1 restarted" in told
    records = cluster.lws["status"]["restarts"]
    assert [(record["outcome"], record["attempt"]) for record in records] == [
        ("InPlace", 1),
        ("Recreated", 1),
    ]


def test_a_command_that_fails_leads_to_new_pods_at_once_and_says_why() -> None:
    cluster = cluster_of()
    restart(cluster, "x-0-1")
    cluster.reconcile()
    cluster.reconcile()
    cluster.memory["command_failures"] = {0: "kill 1 ended with exit code 127 in container engine of pod x-0"}
    assert len(cluster.reconcile().deletes) == 3
    assert "kill 1 ended with exit code 127" in cluster.events[-1][1]
    finish(cluster)


def test_without_the_right_to_run_commands_pods_are_recreated_and_the_set_says_so() -> None:
    cluster = cluster_of()
    cluster.memory["commands_refused"] = "the controller may not run commands in containers (pods/exec)"
    restart(cluster, "x-0-1")
    assert len(cluster.reconcile().deletes) == 3
    condition = next(
        one for one in cluster.lws["status"]["conditions"] if one["type"] == "kajitori.dev/FieldsNotHonoured"
    )
    assert condition["status"] == "True"
    assert "may not run commands in containers (pods/exec); groups are recreated" in condition["message"]
    assert cluster.reasons().count("FieldsNotHonoured") == 1


@pytest.mark.parametrize("during", [False, True])
@pytest.mark.parametrize("what", ["delete worker", "delete leader", "vanish", "fail"])
def test_pods_that_go_always_mean_new_pods(what: str, during: bool) -> None:
    cluster = cluster_of()
    before = cluster.uids(0)
    if during:
        restart(cluster, "x-0-1")
        cluster.reconcile()
    match what:
        case "delete worker":
            cluster.delete("x-0-2")
        case "delete leader":
            cluster.delete("x-0")
        case "vanish":
            del cluster.pods["x-0-2"]
        case _:
            cluster.pods["x-0-2"]["status"] = {"phase": "Failed"}
    finish(cluster)
    assert not set(cluster.uids(0).values()) & set(before.values())
    assert set(counts(cluster).values()) == {0}
    assert cluster.reasons().count("RecreateGroup") == 1
    assert "RestartedInPlace" not in cluster.reasons()


def test_what_fails_again_and_again_in_place_gets_new_pods() -> None:
    cluster = cluster_of(size=2)
    before = cluster.uids(0)
    for _ in range(3):
        restart(cluster, "x-0-1")
        finish(cluster)
        assert cluster.uids(0) == before
    restart(cluster, "x-0-1")
    finish(cluster)
    assert not set(cluster.uids(0).values()) & set(before.values())


def test_a_long_life_is_forgotten_with_the_restart_that_ended_it() -> None:
    cluster = cluster_of(size=2)
    cluster.delete("x-0-1")
    finish(cluster)
    cluster.now += 7200
    cluster.reconcile()
    for count in ("1", "2", "3"):
        restart(cluster, "x-0-1")
        finish(cluster)
        assert cluster.pods["x-0"]["metadata"]["annotations"]["groups.kajitori.dev/restarts"] == count


def test_restarts_in_place_spend_the_budget_too() -> None:
    cluster = cluster_of(size=2, **{MAX_RESTARTS: "1"})
    before = cluster.uids(0)
    restart(cluster, "x-0-1")
    finish(cluster)
    restart(cluster, "x-0-1")
    cluster.reconcile()
    assert cluster.reasons().count("GroupFailed") == 1
    assert cluster.uids(0) == before
    assert not cluster.reconcile().restart_containers


def test_an_init_container_that_restarts_means_new_pods() -> None:
    cluster = cluster_of()
    status = cluster.pods["x-0-1"]["status"]
    status["initContainerStatuses"] = [{"name": "load", "restartCount": 1}]
    assert len(cluster.reconcile().deletes) == 3


def test_a_group_that_was_never_whole_is_recreated() -> None:
    cluster = cluster_of()
    cluster.pods["x-0-2"]["status"] = {"phase": "Pending"}
    cluster.run("x-0-1", restarts=1)
    assert len(cluster.reconcile().deletes) == 3


def test_other_policies_have_their_way() -> None:
    cluster = PlannedCluster(a_set(replicas=1, size=2, restartPolicy="None", annotations=IN_PLACE)).settle()
    cluster.run("x-0-1", restarts=1)
    plan = cluster.reconcile()
    assert not (plan.deletes or plan.after or plan.restart_containers)


def test_a_changed_template_replaces_a_group_that_restarts_in_place() -> None:
    cluster = cluster_of()
    restart(cluster, "x-0-1")
    cluster.reconcile()
    cluster.lws["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]["containers"][0]["image"] = "b:2"
    finish(cluster)
    assert {pod["spec"]["containers"][0]["image"] for pod in cluster.pods.values()} == {"b:2"}


def test_a_marker_that_nobody_can_read_leads_to_new_pods() -> None:
    cluster = cluster_of()
    cluster.pods["x-0"]["metadata"]["annotations"] |= {MARKER_ANNOTATION: "?", ACCEPTED_ANNOTATION: "?"}
    finish(cluster)
    assert MARKER_ANNOTATION not in cluster.pods["x-0"]["metadata"]["annotations"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["reconcile", "crash", "obey", "restart", "late"]), max_size=12), st.data())
def test_a_controller_that_dies_at_any_point_is_followed_by_one_that_finishes(
    happens: list[str], data: Any
) -> None:
    cluster = cluster_of()
    restart(cluster, "x-0-1")
    for what in happens:
        if what == "crash":
            cluster.reconcile(steps=data.draw(st.integers(0, 2)))
            cluster.memory = {"restarts": {}, "taken": {}}
        elif what == "obey":
            obey(cluster, cluster.reconcile())
        elif what == "restart" and {"x-0", "x-0-1", "x-0-2"} <= cluster.pods.keys():
            name = data.draw(st.sampled_from(["x-0", "x-0-1", "x-0-2"]))
            if "status" in cluster.pods[name] and "deletionTimestamp" not in cluster.pods[name]["metadata"]:
                restart(cluster, name)
        else:
            cluster.reconcile()
        cluster.now += 70 if what == "late" else 1
    finish(cluster)
    assert len(cluster.pods) == 6
    assert marker(cluster) is None
    lives = [
        {pod["metadata"]["annotations"]["groups.kajitori.dev/incarnation"] for pod in group}
        for _, group in itertools.groupby(
            cluster.pods.values(),
            key=lambda pod: pod["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/group-key"],
        )
    ]
    assert all(len(found) == 1 for found in lives)


def test_what_a_failed_command_wrote_is_told_without_secrets() -> None:
    cluster = cluster_of()
    restart(cluster, "x-0-1")
    cluster.reconcile()
    command = cluster.reconcile().restart_containers[0]
    told = failure_of(command, Executed(1, "", "trying\nlogin with password=hunter2hunter2 failed\n"))
    assert "ended with exit code 1" in told
    assert "login with password=*** failed" in told
    assert failure_of(command, Executed(137, "", "")) == ""
