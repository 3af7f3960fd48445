"""A set that asks for StatefulSets: the same pods, labels, restarts and rollouts, made by the cluster's own controllers."""

from __future__ import annotations

from typing import Any

from kajitori.api.resource import PODS, STATEFUL_SETS
from kajitori.groups.leader_worker_sets.options import COMPATIBILITY, GROUP_READY
from tests.behaviours.manifests import NEW, OLD, a_set, rolling, template
from tests.behaviours.sight import Sight, image_of, label
from tests.wire import Object

ASKED = {COMPATIBILITY: "StatefulSet"}


def variables(pod: Object) -> dict[str, Any]:
    return {one["name"]: one for one in pod["spec"]["containers"][0]["env"]}


def said(sight: Sight, kind: str) -> str:
    conditions = (sight.sets["l"].get("status") or {}).get("conditions") or ()
    return next((one["message"] for one in conditions if one["type"] == kind and one["status"] == "True"), "")


async def test_one_stateful_set_makes_the_leaders_and_one_for_each_leader_its_workers(sight: Sight) -> None:
    await sight.apply(a_set("l", replicas=2, size=3, annotations=ASKED))
    await sight.available("l")
    assert set(sight.pods) == {"l-0", "l-0-1", "l-0-2", "l-1", "l-1-1", "l-1-2"}
    found = {
        each["metadata"]["name"]: each
        for each in (await sight.client.list(STATEFUL_SETS, sight.namespace)).items
    }
    assert {name: each["spec"]["replicas"] for name, each in found.items()} == {"l": 2, "l-0": 2, "l-1": 2}
    owner = found["l-1"]["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["name"], owner["uid"]) == (
        "Pod",
        "l-1",
        sight.pods["l-1"]["metadata"]["uid"],
    )
    await sight.until(lambda: label(sight.pods["l-1-2"], "worker-index") == "2", "labels")
    for name, group, worker in (("l-1", "1", "0"), ("l-1-2", "1", "2")):
        pod = sight.pods[name]
        assert (label(pod, "group-index"), label(pod, "worker-index")) == (group, worker)
        assert label(pod, "group-key") == label(sight.pods["l-1-1"], "group-key")
    assert variables(sight.pods["l-1-2"])["LWS_LEADER_ADDRESS"]["value"] == f"l-1.l.{sight.namespace}"
    assert (
        variables(sight.pods["l-1"])["LWS_LEADER_ADDRESS"]["value"] == f"$(LWS_POD_NAME).l.{sight.namespace}"
    )
    index = variables(sight.pods["l-1-2"])["LWS_WORKER_INDEX"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert sight.pods["l-1-2"]["metadata"]["labels"][index.split("'")[1]] == "2"


async def test_a_deleted_worker_recreates_its_whole_group_workers_first(sight: Sight) -> None:
    await sight.apply(a_set("l", replicas=2, size=3, annotations=ASKED))
    await sight.available("l")
    before, other = sight.uids("l", 0), sight.uids("l", 1)
    await sight.delete(PODS, "l-0-2")
    await sight.recreated("l", before, 0)
    assert sight.uids("l", 1) == other
    assert (
        "Worker pod l-0-2 failed, deleted leader pod l-0 to recreate group 0"
        in sight.notes("RecreateGroup")[0]
    )


async def test_a_changed_template_rolls_down_to_the_partition_and_on_when_it_is_lowered(sight: Sight) -> None:
    await sight.apply(a_set("l", replicas=3, size=2, annotations=ASKED))
    await sight.available("l")
    changed = a_set("l", 3, 2, template(NEW), ASKED, rolloutStrategy=rolling(partition=2))
    await sight.apply(changed)
    await sight.until(
        lambda: sight.updated("l", NEW) == {2} and sight.is_available("l"), "group 2 alone is new"
    )
    assert image_of(sight.pods["l-0-1"]) == OLD
    await sight.apply(a_set("l", 3, 2, template(NEW), ASKED))
    await sight.until(lambda: sight.updated("l", NEW) == {0, 1, 2} and sight.is_available("l"), "all are new")


async def test_scaling_and_deletion_take_what_they_made_along(sight: Sight) -> None:
    await sight.apply(a_set("l", replicas=2, size=2, annotations=ASKED))
    await sight.available("l")
    await sight.patch_set("l", {"replicas": 1})
    await sight.until(lambda: set(sight.pods) == {"l-0", "l-0-1"}, "one group is left")
    await sight.available("l")


async def test_what_stateful_sets_cannot_give_is_named(sight: Sight) -> None:
    unique = {"subdomainPolicy": "UniquePerReplica"}
    worker = template()
    worker["spec"]["containers"][0]["resources"] = {"limits": {"google.com/tpu": "0"}}
    annotations = {**ASKED, GROUP_READY: "true"}
    await sight.apply(a_set("l", 1, 1, worker, annotations, networkConfig=unique))
    await sight.available("l")
    assert set(sight.services) == {"l"}
    named = said(sight, "kajitori.dev/FieldsNotHonoured")
    assert "spec.networkConfig.subdomainPolicy: a StatefulSet gives all leaders one subdomain" in named
    assert "google.com/tpu: the TPU_* variables differ from pod to pod" in named
    assert not [name for name in variables(sight.pods["l-0"]) if name.startswith("TPU_")]
    assert f"annotation {GROUP_READY}: it needs pods that we make ourselves" in named


async def test_a_set_keeps_the_way_in_which_it_was_begun(sight: Sight) -> None:
    await sight.apply(a_set("l", replicas=1, size=2))
    await sight.available("l")
    before = sight.uids("l")
    await sight.apply(a_set("l", replicas=1, size=2, annotations=ASKED))
    await sight.until(lambda: COMPATIBILITY in said(sight, "kajitori.dev/FieldsNotHonoured"), "it says so")
    assert sight.uids("l") == before
    assert not (await sight.client.list(STATEFUL_SETS, sight.namespace)).items
