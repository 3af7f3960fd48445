"""Sets that name their groups by hashes: interchangeable groups, the useless ones of which go first."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.groups.leader_worker_sets.conftest import PlannedCluster, a_set, container, template
from tests.groups.leader_worker_sets.test_convergence import check_incarnations, happen, happenings

from kajitori.groups.leader_worker_sets.stateful_sets.plan import plan_any_set

GATE = "leaderworkerset.sigs.k8s.io/group-ready"


def a_cluster(replicas: int = 3, size: int = 2, **fields: Any) -> PlannedCluster:
    return PlannedCluster(a_set(replicas=replicas, size=size, groupIdentity="Hash", **fields))


def rolling(unavailable: int, surge: int) -> dict[str, Any]:
    config = {"partition": 0, "maxUnavailable": unavailable, "maxSurge": surge}
    return {"type": "RollingUpdate", "rollingUpdateConfiguration": config}


def groups(cluster: PlannedCluster) -> dict[str, list[str]]:
    """Names of pods by their leader's."""
    found: dict[str, list[str]] = {}
    for name in cluster.pods:
        found.setdefault("-".join(name.split("-")[:2]), []).append(name)
    return found


def update(cluster: PlannedCluster, image: str = "busybox:2") -> None:
    worker = template(container() | {"image": image})
    cluster.lws["spec"]["leaderWorkerTemplate"]["workerTemplate"] = worker


def images(cluster: PlannedCluster) -> set[str]:
    return {pod["spec"]["containers"][0]["image"] for pod in cluster.pods.values()}


def test_names_labels_and_addresses_are_those_of_upstream() -> None:
    cluster = a_cluster(replicas=1)
    cluster.reconcile()
    (leader,) = groups(cluster)
    assert re.fullmatch("x-[0-9a-f]{8}", leader)
    assert set(cluster.pods) == {leader, f"{leader}-1"}
    key = cluster.labels(leader)["group-index"]
    assert re.fullmatch("[0-9a-f]{40}", key)
    assert key.startswith(leader.removeprefix("x-"))
    for name in cluster.pods:
        assert cluster.labels(name)["group-index"] == cluster.labels(name)["group-key"] == key
        assert cluster.env(name)["LWS_LEADER_ADDRESS"] == f"{leader}.x.default"
    worker = cluster.pods[f"{leader}-1"]
    assert worker["spec"]["hostname"] == f"{leader}-1"
    assert worker["metadata"]["annotations"]["leaderworkerset.sigs.k8s.io/leader-name"] == leader
    address = worker["metadata"]["annotations"]["leaderworkerset.sigs.k8s.io/leader-address"]
    assert address == f"{leader}.x.default"
    assert cluster.pods[leader]["spec"]["readinessGates"] == [{"conditionType": GATE}]
    assert "statefulset.kubernetes.io/pod-name" not in cluster.pods[leader]["metadata"]["labels"]
    cluster.settle()


def test_a_group_of_one_has_no_gate() -> None:
    cluster = a_cluster(replicas=1, size=1)
    cluster.reconcile()
    (pod,) = cluster.pods.values()
    assert "readinessGates" not in pod["spec"]
    cluster.settle()


def test_with_services_of_their_own_groups_have_them_before_their_pods() -> None:
    cluster = a_cluster(replicas=2, networkConfig={"subdomainPolicy": "UniquePerReplica"})
    plan = cluster.reconcile()
    assert len(plan.before) == 3
    assert set(cluster.services) == set(groups(cluster))
    for name, service in cluster.services.items():
        selector = service["spec"]["selector"]["leaderworkerset.sigs.k8s.io/group-index"]
        assert selector == cluster.labels(name)["group-index"]
    cluster.settle()
    cluster.lws["spec"]["replicas"] = 1
    cluster.settle()
    assert set(cluster.services) == set(groups(cluster))


def test_scale_down_takes_the_group_that_is_not_ready() -> None:
    cluster = a_cluster().settle()
    broken = sorted(groups(cluster))[1]
    cluster.run(f"{broken}-1", ready=False)
    cluster.reconcile()
    others = set(groups(cluster)) - {broken}
    cluster.lws["spec"]["replicas"] = 2
    cluster.settle()
    assert set(groups(cluster)) == others


def test_scale_down_takes_the_group_that_has_no_node() -> None:
    cluster = a_cluster().settle()
    others = set(groups(cluster))
    cluster.lws["spec"]["replicas"] = 4
    cluster.reconcile()
    cluster.lws["spec"]["replicas"] = 3
    cluster.reconcile()
    assert set(groups(cluster)) == others


def test_a_group_that_fails_comes_back_under_another_name_and_says_why() -> None:
    cluster = a_cluster(replicas=2).settle()
    failed, other = sorted(groups(cluster))
    cluster.pods[f"{failed}-1"]["status"] = {"phase": "Failed"}
    cluster.settle()
    assert failed not in groups(cluster)
    assert other in groups(cluster)
    (new,) = set(groups(cluster)) - {other}
    because = cluster.pods[new]["metadata"]["annotations"]["groups.kajitori.dev/restarted-because"]
    assert because == f"pod {failed}-1 on node-1 failed"
    assert cluster.reasons().count("RecreateGroup") == 1


def test_a_group_that_keeps_failing_waits_longer_though_its_name_changes() -> None:
    cluster = a_cluster(replicas=1).settle()
    waits: list[float] = []
    for _ in range(4):
        (leader,) = groups(cluster)
        cluster.pods[f"{leader}-1"]["status"] = {"phase": "Failed"}
        cluster.reconcile()
        cluster.bury()
        waits.append(cluster.reconcile().again_after_seconds or 0.0)
        cluster.now += waits[-1]
        cluster.reconcile()
        cluster.run_all()
    assert waits == [0.0, 1.0, 2.0, 4.0]


def test_the_place_of_a_group_that_waits_is_taken_by_no_other() -> None:
    cluster = a_cluster(replicas=2).settle()
    for _ in range(3):
        leader = sorted(groups(cluster))[-1]
        cluster.pods[f"{leader}-1"]["status"] = {"phase": "Failed"}
        cluster.reconcile()
        cluster.bury()
        plan = cluster.reconcile()
        if plan.again_after_seconds:
            assert len(groups(cluster)) == 1
            cluster.now += plan.again_after_seconds
            cluster.reconcile()
        cluster.run_all()
        cluster.reconcile()
    cluster.lws["spec"]["replicas"] = 1
    cluster.settle()
    assert len(groups(cluster)) == 1


def test_a_replacement_begins_only_when_all_pods_of_the_group_before_are_gone() -> None:
    cluster = a_cluster(replicas=1).settle()
    (leader,) = groups(cluster)
    cluster.delete(leader)
    cluster.reconcile()
    assert set(groups(cluster)) == {leader}
    del cluster.pods[leader]
    cluster.reconcile()
    assert set(groups(cluster)) == {leader}
    cluster.bury()
    cluster.reconcile()
    assert leader not in groups(cluster)
    assert len(groups(cluster)) == 1


def test_an_immediate_replacement_begins_beside_the_group_that_goes() -> None:
    cluster = a_cluster(replicas=1, groupReplacementPolicy="Immediate").settle()
    (leader,) = groups(cluster)
    cluster.delete(leader)
    cluster.reconcile()
    assert len(groups(cluster)) == 2


def test_an_update_begins_with_the_groups_that_are_not_ready() -> None:
    cluster = a_cluster(replicas=3).settle()
    broken = sorted(groups(cluster))[1]
    cluster.run(f"{broken}-1", ready=False)
    cluster.reconcile()
    update(cluster)
    assert {delete.pod.name for delete in cluster.reconcile().deletes} == {broken, f"{broken}-1"}
    assert cluster.conditions()["UpdateInProgress"] == "True"
    cluster.settle()
    assert images(cluster) == {"busybox:2"}
    assert cluster.conditions()["Available"] == "True"
    assert len(cluster.revisions) == 1


def test_an_update_with_surge_takes_nothing_away_before_another_is_ready() -> None:
    cluster = a_cluster(replicas=3, rolloutStrategy=rolling(0, 1)).settle()
    update(cluster)
    most = 0
    for _ in range(40):
        cluster.reconcile()
        most = max(most, len(groups(cluster)))
        assert cluster.lws["status"]["readyReplicas"] >= 3
        cluster.bury()
        cluster.run_all()
    assert most == 4
    assert images(cluster) == {"busybox:2"}
    assert len(groups(cluster)) == 3


def test_a_change_of_the_replacement_policy_rolls_nothing() -> None:
    cluster = a_cluster(replicas=2).settle()
    before = set(groups(cluster))
    cluster.lws["spec"]["groupReplacementPolicy"] = "Immediate"
    cluster.settle()
    assert set(groups(cluster)) == before


@settings(max_examples=100, deadline=None)
@given(
    replicas=st.integers(0, 3),
    size=st.integers(1, 3),
    policy=st.sampled_from(["RecreateGroupOnPodRestart", "RecreateGroupAfterStart", "None"]),
    startup=st.sampled_from(["LeaderCreated", "LeaderReady"]),
    replacement=st.sampled_from(["PostTermination", "Immediate"]),
    drain=st.sampled_from(["0", "20"]),
    surge=st.integers(0, 2),
    happens=happenings,
)
def test_whatever_happens_everything_ends_as_it_was_asked_for(
    replicas: int,
    size: int,
    policy: str,
    startup: str,
    replacement: str,
    drain: str,
    surge: int,
    happens: list[tuple[str, int]],
) -> None:
    cluster = a_cluster(
        replicas=replicas,
        size=size,
        restartPolicy=policy,
        startupPolicy=startup,
        groupReplacementPolicy=replacement,
        rolloutStrategy=rolling(1, surge),
        annotations={"groups.kajitori.dev/drain-seconds": drain},
    )
    for what, number in happens:
        cluster.now += 1
        if what == "scale":
            cluster.lws["spec"]["replicas"] = number % 4
        elif what == "resize":
            size = 1 + number % 3
            cluster.lws["spec"]["leaderWorkerTemplate"]["size"] = size
        elif what == "update":
            update(cluster, f"busybox:{number % 3}")
        else:
            happen(cluster, what, number)
        check_incarnations(cluster)
    cluster.settle(rounds=600)
    replicas = cluster.lws["spec"]["replicas"]
    assert len(groups(cluster)) == replicas
    assert all(len(names) == size for names in groups(cluster).values())
    assert cluster.conditions()["Available"] == "True"
    assert not any(pod["metadata"].get("deletionTimestamp") for pod in cluster.pods.values())


def test_a_set_of_hashes_that_asks_for_stateful_sets_is_told_that_there_are_none() -> None:
    lws = a_set(
        groupIdentity="Hash", annotations={"groups.kajitori.dev/compatibility": "StatefulSet"}, replicas=1
    )
    world = PlannedCluster(lws).world()
    plan = plan_any_set(world)
    assert len(plan.creates) == 3
    told = [one.message for one in plan.status.conditions if one.type == "kajitori.dev/FieldsNotHonoured"]
    assert "groups that are named by hashes have none" in told[0]
