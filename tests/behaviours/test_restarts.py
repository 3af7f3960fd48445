"""Sentences 16 to 25: what a failure does to its group, what it does in the middle of an update, and who starts first.

18, a process killed in a container, needs pods that run (see the table in this folder's `__init__`); here its
container is said to have restarted.
"""

from __future__ import annotations

import pytest

from kajitori.api.resource import NODES, PODS
from tests.behaviours.manifests import EXIT, NEVER_READY, NEW, OLD, READY, a_set, rolling, template
from tests.behaviours.sight import Sight, annotation, is_ready, label
from tests.wire import Object

AFTER_START = "leaderworkerset.sigs.k8s.io/experimental-recreate-group-after-start"


def restarts(pod: Object) -> int:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return sum(one["restartCount"] for one in statuses)


async def test_16_restart_policy_none_leaves_the_leader_and_the_other_workers_alone(sight: Sight) -> None:
    await sight.apply(a_set("l", replicas=2, size=4, restartPolicy="None"))
    await sight.available("l")
    before = sight.uids("l")
    await sight.delete(PODS, "l-0-2")
    await sight.until(lambda: len(sight.past_pods["l-0-2"]) == 2, "the worker is made anew")
    await sight.available("l")
    await sight.until(lambda: sight.ready_groups("l") == {0, 1})
    after = sight.uids("l")
    assert {name for name in before if before[name] != after[name]} == {"l-0-2"}


async def test_17_a_deleted_worker_recreates_its_group_and_no_other(sight: Sight) -> None:
    await sight.apply(a_set("l", replicas=2, size=4))
    await sight.available("l")
    before, other = sight.uids("l", 0), sight.uids("l", 1)
    await sight.delete(PODS, "l-0-2")
    await sight.recreated("l", before, 0)
    await sight.available("l")
    assert sight.uids("l", 1) == other
    told = "Worker pod l-0-2 failed, deleted leader pod l-0 to recreate group 0"
    await sight.until(lambda: any(note.startswith(told) for note in sight.notes("RecreateGroup")))
    assert all(len(sight.past_pods[name]) == 2 for name in before), "once"


@pytest.mark.parametrize("culprit", ["l-0", "l-0-1"])
async def test_18_a_restarted_container_recreates_its_group_and_no_other(sight: Sight, culprit: str) -> None:
    await sight.apply(a_set("l", replicas=2, size=2))
    await sight.available("l")
    before, other = sight.uids("l", 0), sight.uids("l", 1)
    await sight.annotate([culprit], {EXIT: "137"})
    await sight.recreated("l", before, 0)
    await sight.available("l")
    assert sight.uids("l", 1) == other
    await sight.until(lambda: sight.notes("RecreateGroup"))


async def test_19_a_deleted_leader_recreates_its_group_and_no_other(sight: Sight) -> None:
    await sight.apply(a_set("l", replicas=2, size=3))
    await sight.available("l")
    before, other = sight.uids("l", 0), sight.uids("l", 1)
    await sight.delete(PODS, "l-0")
    await sight.recreated("l", before, 0)
    await sight.available("l")
    assert sight.uids("l", 1) == other


@pytest.mark.parametrize("way", ["20 the policy", "21 the annotation"])
async def test_20_21_after_start_a_failure_counts_once_nothing_is_pending(
    sight: Sight, nodes: list[str], way: str
) -> None:
    room = "kajitori.dev/room"
    softened = way.startswith("21")
    # As a gang, none of its pods would be placed before all can be.
    annotations = {"groups.kajitori.dev/gang": "None"} | ({AFTER_START: "true"} if softened else {})
    worker = template()
    worker["spec"]["nodeSelector"] = {room: sight.namespace}
    lws = a_set(
        "l",
        replicas=1,
        size=3,
        worker=worker,
        leaderTemplate=template(),
        restartPolicy="RecreateGroupOnPodRestart" if softened else "RecreateGroupAfterStart",
        annotations=annotations,
    )
    await sight.apply(lws)
    await sight.until(lambda: len(sight.pods) == 3 and is_ready(sight.pods["l-0"]), "the leader runs")
    before = sight.uids("l")
    await sight.annotate(["l-0"], {EXIT: "1"})
    await sight.until(lambda: restarts(sight.pods["l-0"]) >= 2, "the leader restarts")
    assert sight.uids("l") == before, "its workers are pending"
    try:
        await sight.client.patch(NODES, nodes[0], {"metadata": {"labels": {room: sight.namespace}}})
        await sight.recreated("l", before, 0)
        await sight.available("l")
    finally:
        await sight.client.patch(NODES, nodes[0], {"metadata": {"labels": {room: None}}})


async def test_22_an_update_makes_every_group_anew_exactly_once(sight: Sight) -> None:
    await sight.apply(a_set("l", replicas=3, size=2))
    await sight.available("l")
    await sight.patch_set("l", {"leaderWorkerTemplate": {"workerTemplate": template(NEW)}})
    await sight.until(lambda: sight.updated("l", NEW) == {0, 1, 2}, "all groups are new")
    await sight.available("l")
    await sight.settled()
    assert {name: len(uids) for name, uids in sight.past_pods.items()} == dict.fromkeys(sight.pods, 2)
    assert not sight.notes("RecreateGroup")


@pytest.mark.parametrize("change", ["23 worker template", "24 size"])
async def test_23_24_a_group_that_restarts_before_its_turn_comes_back_as_it_was(
    sight: Sight, change: str
) -> None:
    await sight.apply(a_set("l", replicas=2, size=3, rolloutStrategy=rolling(partition=1)))
    await sight.available("l")
    resized = change.endswith("size")
    new: Object = {"size": 4} if resized else {"workerTemplate": template(NEW)}
    await sight.patch_set("l", {"leaderWorkerTemplate": new})
    first, rest = sight.uids("l", 0), sight.past_pods["l-1"]
    await sight.until(lambda: len(rest) == 2 and sight.ready_groups("l") == {0, 1}, "group 1 is new")
    old = label(sight.pods["l-0"], "template-revision-hash")
    await sight.delete(PODS, "l-0-1")
    await sight.recreated("l", first, 0)
    await sight.available("l")
    for pod in sight.group("l", 0).values():
        assert label(pod, "template-revision-hash") == old
        assert annotation(pod, "size") == "3"
    assert sight.images("l") == ({0: {OLD}, 1: {OLD}} if resized else {0: {OLD}, 1: {NEW}})
    assert len(sight.group("l", 0)) == 3
    assert len(sight.group("l", 1)) == (4 if resized else 3)


async def test_25_workers_start_with_their_leader_or_once_it_is_ready(sight: Sight) -> None:
    leader = template(annotations=NEVER_READY)
    await sight.apply(a_set("after", replicas=1, size=3, leaderTemplate=leader, startupPolicy="LeaderReady"))
    await sight.apply(a_set("with", replicas=1, size=3, leaderTemplate=leader, startupPolicy="LeaderCreated"))
    await sight.until(lambda: len(sight.group("with", 0)) == 3, "workers beside a leader that is not ready")
    await sight.until(
        lambda: sight.pods.get("after-0", {}).get("status", {}).get("phase") == "Running", "the leader runs"
    )
    await sight.settled()
    assert set(sight.group("after", 0)) == {"after-0"}
    await sight.annotate(["after-0", "with-0"], {READY: "true"})
    await sight.available("after", "with")
    assert len(sight.group("after", 0)) == 3
