"""A changed template reaches the groups in the order and the numbers that the set allows."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.groups.leader_worker_sets.conftest import PlannedCluster, a_set, container, template


def image(cluster: PlannedCluster, name: str) -> str:
    return cluster.pods[name]["spec"]["containers"][0]["image"]


def change_image(cluster: PlannedCluster, image: str) -> None:
    group = cluster.lws["spec"]["leaderWorkerTemplate"]
    group["workerTemplate"] = template(container() | {"image": image})


def strategy(**rolling: object) -> dict[str, object]:
    defaults = {"partition": 0, "maxUnavailable": 1, "maxSurge": 0}
    return {"type": "RollingUpdate", "rollingUpdateConfiguration": defaults | rolling}


def roll(cluster: PlannedCluster, rounds: int = 100) -> list[int]:
    """Nodes and controller take turns until it settles; returns how many groups were ready at each look."""
    ready = []
    for _ in range(rounds):
        plan = cluster.reconcile()
        ready.append(cluster.lws["status"].get("readyReplicas", 0))
        idle = not (plan.before or plan.deletes or plan.creates or plan.after)
        dying = any("deletionTimestamp" in pod["metadata"] for pod in cluster.pods.values())
        if idle and not dying and all("status" in pod for pod in cluster.pods.values()):
            return ready
        cluster.bury()
        cluster.run_all()
    raise AssertionError("never settles")


def test_groups_are_replaced_one_by_one_from_the_highest_index() -> None:
    cluster = PlannedCluster(a_set(replicas=3)).settle()
    cluster.created.clear()
    change_image(cluster, "busybox:2")
    ready = roll(cluster)
    leaders = [name for name in cluster.created if name.count("-") == 1]
    assert leaders == ["x-2", "x-1", "x-0"]
    assert min(ready) == 2
    assert {image(cluster, name) for name in cluster.pods} == {"busybox:2"}
    assert len(cluster.revisions) == 1
    assert cluster.conditions() == {"Available": "True", "Progressing": "False", "UpdateInProgress": "False"}
    assert ("GroupsUpdating", "Updating replica 2") in cluster.events


def test_update_in_progress_shows_while_old_groups_are_left() -> None:
    cluster = PlannedCluster(a_set(replicas=2)).settle()
    change_image(cluster, "busybox:2")
    cluster.reconcile()
    assert cluster.conditions() == {"Available": "False", "Progressing": "True", "UpdateInProgress": "True"}


def test_each_group_is_replaced_exactly_once() -> None:
    cluster = PlannedCluster(a_set(replicas=3)).settle()
    cluster.created.clear()
    change_image(cluster, "busybox:2")
    roll(cluster)
    assert len(cluster.created) == len(set(cluster.created)) == 9


def test_max_unavailable_groups_go_at_once() -> None:
    cluster = PlannedCluster(a_set(replicas=4, rolloutStrategy=strategy(maxUnavailable=2))).settle()
    change_image(cluster, "busybox:2")
    assert min(roll(cluster)) == 2
    everything = PlannedCluster(a_set(replicas=3, rolloutStrategy=strategy(maxUnavailable=9))).settle()
    change_image(everything, "busybox:2")
    assert min(roll(everything)) == 0


def test_surge_groups_come_first_and_vanish_afterwards() -> None:
    cluster = PlannedCluster(
        a_set(replicas=3, rolloutStrategy=strategy(maxUnavailable=0, maxSurge=1))
    ).settle()
    cluster.created.clear()
    change_image(cluster, "busybox:2")
    ready = roll(cluster)
    assert cluster.created[0] == "x-3"
    assert min(ready) >= 3
    assert sorted(cluster.pods) == sorted(
        f"x-{group}{worker}" for group in range(3) for worker in ("", "-1", "-2")
    )
    assert ("GroupsProgressing", "deleting surge replica x-3") in cluster.events


def test_a_partition_keeps_the_lower_groups_and_is_available() -> None:
    cluster = PlannedCluster(a_set(replicas=4, rolloutStrategy=strategy(partition=3))).settle()
    change_image(cluster, "busybox:2")
    roll(cluster)
    assert [image(cluster, f"x-{group}") for group in range(4)] == ["busybox:1"] * 3 + ["busybox:2"]
    assert cluster.lws["status"]["updatedReplicas"] == 1
    assert cluster.conditions()["Available"] == "True"
    cluster.lws["spec"]["rolloutStrategy"] = strategy()
    roll(cluster)
    assert {image(cluster, name) for name in cluster.pods} == {"busybox:2"}


def test_a_group_that_is_not_due_comes_back_as_it_was() -> None:
    cluster = PlannedCluster(a_set(replicas=3, rolloutStrategy=strategy(partition=2))).settle()
    change_image(cluster, "busybox:2")
    cluster.lws["spec"]["leaderWorkerTemplate"]["size"] = 4
    roll(cluster)
    cluster.delete("x-0-1")
    roll(cluster)
    assert sorted(cluster.uids(0)) == ["x-0", "x-0-1", "x-0-2"]
    assert image(cluster, "x-0-1") == "busybox:1"
    # Even if nobody remembers how it was.
    for name in cluster.uids(0):
        del cluster.pods[name]
    cluster.memory["restarts"] = {}
    roll(cluster)
    assert sorted(cluster.uids(0)) == ["x-0", "x-0-1", "x-0-2"]
    assert len(cluster.uids(2)) == 4


def test_a_resize_recreates_groups_with_the_new_size() -> None:
    cluster = PlannedCluster(a_set(replicas=2, size=3)).settle()
    cluster.lws["spec"]["leaderWorkerTemplate"]["size"] = 4
    roll(cluster)
    assert len(cluster.pods) == 8
    assert cluster.pods["x-1-3"]["metadata"]["annotations"]["leaderworkerset.sigs.k8s.io/size"] == "4"


def test_the_last_of_two_updates_wins() -> None:
    cluster = PlannedCluster(a_set(replicas=4, rolloutStrategy=strategy(maxSurge=2))).settle()
    change_image(cluster, "busybox:2")
    for _ in range(3):
        cluster.reconcile()
        cluster.bury()
        cluster.run_all()
    change_image(cluster, "busybox:3")
    roll(cluster)
    assert {image(cluster, name) for name in cluster.pods} == {"busybox:3"}
    assert len(cluster.pods) == 12


def test_going_back_uses_the_old_revision_again() -> None:
    cluster = PlannedCluster(a_set(replicas=2)).settle()
    (first,) = cluster.revisions
    change_image(cluster, "busybox:2")
    cluster.reconcile()
    change_image(cluster, "busybox:1")
    cluster.created.clear()
    roll(cluster)
    assert list(cluster.revisions) == [first]
    assert not cluster.created


def test_a_lost_revision_is_written_again_without_a_roll() -> None:
    cluster = PlannedCluster(a_set()).settle()
    before = cluster.uids(0) | cluster.uids(1)
    cluster.revisions.clear()
    cluster.settle()
    assert len(cluster.revisions) == 1
    assert cluster.uids(0) | cluster.uids(1) == before


def test_fields_that_say_nothing_do_not_roll() -> None:
    cluster = PlannedCluster(a_set()).settle()
    group = cluster.lws["spec"]["leaderWorkerTemplate"]
    group["workerTemplate"]["spec"] |= {"nodeSelector": {}, "volumes": []}
    group["workerTemplate"]["metadata"] = {"labels": None}
    plan = cluster.reconcile()
    assert not (plan.before or plan.deletes)


def test_replicas_and_template_change_together() -> None:
    cluster = PlannedCluster(a_set(replicas=2)).settle()
    change_image(cluster, "busybox:2")
    cluster.lws["spec"]["replicas"] = 4
    roll(cluster)
    assert len(cluster.pods) == 12
    assert {image(cluster, name) for name in cluster.pods} == {"busybox:2"}


def test_a_roll_goes_on_over_groups_that_were_never_ready() -> None:
    cluster = PlannedCluster(a_set(replicas=3))
    cluster.reconcile()
    for name in cluster.pods:
        cluster.run(name, ready=False)
    change_image(cluster, "busybox:2")
    roll(cluster)
    assert {image(cluster, name) for name in cluster.pods} == {"busybox:2"}


def ready_groups(cluster: PlannedCluster) -> int:
    size = cluster.lws["spec"]["leaderWorkerTemplate"]["size"]
    groups: dict[str, int] = {}
    for pod in cluster.world().pods:
        if pod.ready:
            index = pod.metadata.labels["leaderworkerset.sigs.k8s.io/group-index"]
            groups[index] = groups.get(index, 0) + 1
    return sum(count == size for count in groups.values())


@settings(max_examples=150, deadline=None)
@given(
    replicas=st.integers(1, 4),
    unavailable=st.integers(0, 2),
    surge=st.integers(0, 2),
    happens=st.lists(
        st.tuples(
            st.sampled_from(["reconcile", "reconcile", "bury", "run", "run", "unready", "update", "crash"]),
            st.integers(0, 20),
        ),
        max_size=40,
    ),
)
def test_a_roll_never_takes_down_more_than_the_set_allows(
    replicas: int, unavailable: int, surge: int, happens: list[tuple[str, int]]
) -> None:
    rolling = strategy(maxUnavailable=unavailable, maxSurge=surge)
    cluster = PlannedCluster(a_set(replicas=replicas, size=2, rolloutStrategy=rolling)).settle()
    allowed = max(unavailable, 1) if min(surge, replicas) == 0 else unavailable
    change_image(cluster, "busybox:2")
    for what, number in happens:
        names = list(cluster.pods)
        before = ready_groups(cluster)
        match what:
            case "reconcile":
                cluster.reconcile()
            case "crash":
                cluster.reconcile(steps=number)
            case "bury":
                cluster.bury()
            case "update":
                change_image(cluster, f"busybox:{number % 3}")
            case _ if names:
                cluster.run(names[number % len(names)], ready=what == "run")
            case _:
                pass
        if what in ("reconcile", "crash"):
            after = ready_groups(cluster)
            assert after >= min(before, replicas - allowed), (before, after)
    cluster.run_all()
    cluster.settle()
    images = {pod["spec"]["containers"][0]["image"] for pod in cluster.pods.values()}
    assert images == {
        cluster.lws["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]["containers"][0]["image"]
    }
    assert len(cluster.pods) == replicas * 2
