"""Paused rollouts, what is kept of earlier revisions, and dry runs, on plans alone."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from tests.groups.leader_worker_sets.conftest import PlannedCluster, a_set, container, template

from kajitori.api.leaderworkerset import v1
from kajitori.groups.leader_worker_sets.dry_run import DryRun, dry_run
from kajitori.groups.leader_worker_sets.observed import Revision
from kajitori.groups.leader_worker_sets.options import PAUSED
from kajitori.groups.leader_worker_sets.revision_history import (
    HISTORY_ANNOTATION,
    KEPT_REVISIONS,
    MOST_BYTES,
    history,
)

PAUSED_CONDITION = "kajitori.dev/Paused"


def change(cluster: PlannedCluster, image: str, **fields: Any) -> None:
    group = cluster.lws["spec"]["leaderWorkerTemplate"]
    group["workerTemplate"] = template(container(image=image))
    cluster.lws["spec"] |= fields
    cluster.lws["metadata"]["generation"] += 1


def pause(cluster: PlannedCluster, paused: bool = True) -> None:
    annotations = cluster.lws["metadata"]["annotations"]
    annotations.pop(PAUSED, None)
    if paused:
        annotations[PAUSED] = "true"


def images(cluster: PlannedCluster) -> dict[int, str]:
    return {
        int(pod["metadata"]["labels"][v1.GROUP_INDEX_LABEL]): pod["spec"]["containers"][0]["image"]
        for pod in cluster.pods.values()
    }


def turns(cluster: PlannedCluster, count: int = 8) -> None:
    for _ in range(count):
        cluster.reconcile()
        cluster.now += 1
        cluster.bury()
        cluster.run_all()


def rolling(**fields: Any) -> dict[str, Any]:
    return {"rolloutStrategy": {"rollingUpdateConfiguration": fields}}


def test_a_paused_rollout_replaces_no_group_that_was_not_due_and_goes_on_when_resumed() -> None:
    cluster = PlannedCluster(a_set(replicas=4, size=2)).settle()
    change(cluster, "new:1")
    cluster.reconcile()
    cluster.reconcile()
    pause(cluster)
    turns(cluster)
    assert images(cluster) == {0: "busybox:1", 1: "busybox:1", 2: "busybox:1", 3: "new:1"}
    conditions = cluster.conditions()
    assert (
        conditions[PAUSED_CONDITION] == conditions["UpdateInProgress"] == conditions["Progressing"] == "True"
    )
    (message,) = [
        one["message"] for one in cluster.lws["status"]["conditions"] if one["type"] == PAUSED_CONDITION
    ]
    assert "groups below 3 keep their revision" in message
    assert "kaji rollout resume lws/x" in message
    assert cluster.reasons().count("RolloutPaused") == 1
    pause(cluster, False)
    cluster.settle()
    assert set(images(cluster).values()) == {"new:1"}
    assert cluster.conditions()[PAUSED_CONDITION] == "False"


def test_a_paused_set_scales_and_restarts_with_each_group_as_it_was() -> None:
    cluster = PlannedCluster(a_set(replicas=4, size=2)).settle()
    change(cluster, "new:1")
    cluster.reconcile()
    cluster.reconcile()
    pause(cluster)
    turns(cluster)
    cluster.lws["spec"]["replicas"] = 5
    before = cluster.uids(0)
    cluster.delete("x-0-1")
    turns(cluster, 12)
    assert images(cluster) == {0: "busybox:1", 1: "busybox:1", 2: "busybox:1", 3: "new:1", 4: "new:1"}
    assert set(before.values()).isdisjoint(cluster.uids(0).values())
    cluster.lws["spec"]["replicas"] = 2
    turns(cluster)
    assert images(cluster) == {0: "busybox:1", 1: "busybox:1"}


def test_templates_that_change_while_a_set_is_paused_wait_without_a_surge() -> None:
    cluster = PlannedCluster(a_set(replicas=2, size=1, **rolling(maxSurge=1, maxUnavailable=0))).settle()
    pause(cluster)
    change(cluster, "new:1")
    turns(cluster)
    assert images(cluster) == {0: "busybox:1", 1: "busybox:1"}
    pause(cluster, False)
    cluster.settle()
    assert images(cluster) == {0: "new:1", 1: "new:1"}


def test_of_finished_updates_one_revision_is_left_that_tells_of_the_last_few() -> None:
    cluster = PlannedCluster(a_set(replicas=1, size=1)).settle()
    for number in range(1, 6):
        change(cluster, f"new:{number}")
        cluster.settle()
    (left,) = cluster.revisions.values()
    known = history([msgspec.convert(left, Revision)])
    assert len(known) == KEPT_REVISIONS + 1
    told = [
        past.data["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]["containers"][0]["image"]
        for past in known
    ]
    assert told == ["new:2", "new:3", "new:4", "new:5"]
    assert [past.number for past in known] == [3, 4, 5, 6]


def test_a_revision_that_is_returned_to_is_not_told_twice() -> None:
    cluster = PlannedCluster(a_set(replicas=1, size=1)).settle()
    change(cluster, "new:1")
    cluster.settle()
    change(cluster, "busybox:1")
    cluster.settle()
    (left,) = cluster.revisions.values()
    assert len(history([msgspec.convert(left, Revision)])) == 2


def test_templates_too_large_to_be_kept_beside_the_newest_are_forgotten_rather_than_refused() -> None:
    cluster = PlannedCluster(a_set(replicas=1, size=1)).settle()
    change(cluster, "new:1")
    cluster.lws["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]["containers"][0]["args"] = [
        "x" * MOST_BYTES
    ]
    cluster.settle()
    change(cluster, "new:2")
    cluster.settle()
    (left,) = cluster.revisions.values()
    assert json.loads(left["metadata"]["annotations"][HISTORY_ANNOTATION]) == []


def asked(cluster: PlannedCluster, image: str, **fields: Any) -> DryRun:
    wanted = PlannedCluster(cluster.lws)
    change(wanted, image, **fields)
    return dry_run(cluster.world(), msgspec.convert(wanted.lws, v1.LeaderWorkerSet))


def test_a_dry_run_tells_what_the_controller_then_does() -> None:
    cluster = PlannedCluster(a_set(replicas=4, size=2)).settle()
    limits = rolling(maxSurge=1, maxUnavailable=1)
    told = asked(cluster, "new:1", **limits)
    assert [str(one) for one in told.changes] == [
        "workerTemplate.containers[engine].image: busybox:1 → new:1"
    ]
    change(cluster, "new:1", **limits)
    seen: list[set[int]] = [set(images(cluster))]
    for _ in range(12):
        cluster.reconcile()
        cluster.bury()
        cluster.reconcile()
        seen.append({index for index, image in images(cluster).items() if image == "new:1"})
        cluster.run_all()
    expected: list[set[int]] = []
    new: set[int] = set()
    for step in told.steps:
        new = (new | {*step.created, *step.replaced}) - {*step.removed}
        expected.append(new)
    assert [one for one, before in zip(seen[1:], seen, strict=False) if one != before] == expected


def test_a_dry_run_says_that_nothing_rolls_where_no_template_changes() -> None:
    cluster = PlannedCluster(a_set(replicas=4, size=2)).settle()
    told = asked(cluster, "busybox:1", replicas=6)
    assert not told.changes
    assert [step.created for step in told.steps] == [(4, 5)]
    assert asked(cluster, "busybox:1").steps == []


def test_a_dry_run_of_a_rollout_that_is_under_way_tells_what_is_left() -> None:
    cluster = PlannedCluster(a_set(replicas=4, size=1)).settle()
    change(cluster, "new:1")
    for _ in range(2):
        cluster.reconcile()
        cluster.bury()
        cluster.reconcile()
        cluster.run_all()
    left = {index for index, image in images(cluster).items() if image != "new:1"}
    told = asked(cluster, "new:1")
    assert told.under_way
    assert 0 < len(left) < 4
    assert {index for step in told.steps for index in step.replaced} == left


def test_a_dry_run_names_the_group_that_is_in_the_way() -> None:
    cluster = PlannedCluster(a_set(replicas=3, size=1)).settle()
    cluster.run("x-1", ready=False)
    told = asked(cluster, "new:1")
    assert told.in_the_way == [1]
    assert told.steps == []


def test_a_dry_run_of_groups_without_order_counts_them() -> None:
    cluster = PlannedCluster(a_set(replicas=3, size=1, groupIdentity="Hash")).settle()
    told = asked(cluster, "new:1")
    assert told.by_hash
    assert [len(step.removed) for step in told.steps] == [1, 0, 1, 0, 1, 0]
    assert min(step.ready for step in told.steps) == 2
