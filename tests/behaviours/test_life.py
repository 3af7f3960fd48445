"""Sentences 1 to 7, 12 to 15, 38, 40 and 42: groups come, are found, counted, told of, and go."""

from __future__ import annotations

from typing import Any

import pytest

from kajitori.api.resource import LEADER_WORKER_SETS, PODS, SERVICES
from tests.behaviours.controllers import Controllers
from tests.behaviours.manifests import NEVER_READY, NEW, READY, a_set, rolling, template
from tests.behaviours.sight import Sight, annotation, condition, is_dying, label
from tests.wire import Object


def names(name: str, replicas: int, size: int) -> set[str]:
    """Of the pods of a set."""
    leaders = {f"{name}-{group}" for group in range(replicas)}
    return leaders | {f"{leader}-{worker}" for leader in leaders for worker in range(1, size)}


async def test_01_two_groups_of_four_are_eight_pods_and_nothing_else(sight: Sight) -> None:
    await sight.apply(a_set("l", replicas=2, size=4))
    await sight.available("l")
    assert set(sight.pods) == names("l", 2, 4)
    assert set(sight.services) == {"l"}
    assert len(sight.revisions) == 1
    assert not sight.claims


async def test_02_groups_of_one_are_leaders_alone(sight: Sight) -> None:
    await sight.apply(a_set("l", replicas=2, size=1))
    await sight.available("l")
    assert set(sight.pods) == {"l-0", "l-1"}
    assert {label(pod, "worker-index") for pod in sight.pods.values()} == {"0"}


async def test_03_no_replicas_are_no_pods_and_scaling_from_and_to_none_works(sight: Sight) -> None:
    await sight.apply(a_set("l", replicas=0, size=2))
    await sight.available("l")
    assert not sight.pods
    await sight.patch_set("l", {"replicas": 2})
    await sight.until(lambda: sight.ready_groups("l") == {0, 1}, "two groups")
    await sight.available("l")
    await sight.patch_set("l", {"replicas": 0})
    await sight.until(lambda: not sight.pods, "no pods")
    await sight.available("l")
    await sight.until(lambda: sight.sets["l"]["status"].get("replicas", 0) == 0, "none is counted any more")


async def test_04_scaling_changes_only_the_highest_groups_and_their_workers_go(sight: Sight) -> None:
    await sight.apply(a_set("l", replicas=2, size=3))
    await sight.available("l")
    first = sight.uids("l")
    await sight.patch_set("l", {"replicas": 4})
    await sight.until(lambda: sight.ready_groups("l") == {0, 1, 2, 3}, "four groups")
    await sight.available("l")
    await sight.patch_set("l", {"replicas": 2})
    await sight.until(lambda: set(sight.pods) == names("l", 2, 3), "two groups")
    await sight.available("l")
    assert sight.uids("l") == first


async def test_05_deleted_workers_leaders_and_services_come_back(sight: Sight) -> None:
    """There are no StatefulSets (decision 7): deleting one means deleting all the pods that it would have had."""
    await sight.apply(a_set("l", replicas=2, size=3, restartPolicy="None"))
    await sight.available("l")
    before = sight.uids("l")
    await sight.delete(PODS, "l-0-1", "l-0-2")

    def workers_are_back() -> bool:
        now = sight.uids("l")
        return sight.ready_groups("l") == {0, 1} and all(
            now[name] != before[name] for name in ("l-0-1", "l-0-2")
        )

    await sight.until(workers_are_back, "the workers are back")
    after = sight.uids("l")
    assert {name for name in after if after[name] == before[name]} == names("l", 2, 3) - {"l-0-1", "l-0-2"}
    await sight.delete(PODS, "l-0", "l-1")
    await sight.recreated("l", after, 0, 1)
    service = sight.services["l"]["metadata"]["uid"]
    await sight.delete(SERVICES, "l")
    await sight.until(
        lambda: sight.services.get("l", {}).get("metadata", {}).get("uid") not in (service, None),
        "the Service is back",
    )


async def test_06_all_groups_share_one_headless_service(sight: Sight) -> None:
    await sight.apply(a_set("l", replicas=2, size=2))
    await sight.available("l")
    (service,) = sight.services.values()
    assert service["metadata"]["name"] == "l"
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"] == {"leaderworkerset.sigs.k8s.io/name": "l"}
    assert {pod["spec"]["subdomain"] for pod in sight.pods.values()} == {"l"}


def leader_address(pod: Object) -> str:
    return next(
        one["value"] for one in pod["spec"]["containers"][0]["env"] if one["name"] == "LWS_LEADER_ADDRESS"
    )


async def test_07_each_group_may_have_a_service_and_changing_the_policy_rolls(sight: Sight) -> None:
    unique = {"subdomainPolicy": "UniquePerReplica"}
    await sight.apply(
        a_set("l", replicas=2, size=2, networkConfig=unique, rolloutStrategy=rolling(max_surge=1))
    )
    await sight.available("l")
    assert set(sight.services) == {"l-0", "l-1"}
    for index in (0, 1):
        assert sight.services[f"l-{index}"]["spec"]["selector"] == {
            "leaderworkerset.sigs.k8s.io/name": "l",
            "leaderworkerset.sigs.k8s.io/group-index": str(index),
        }
        for pod in sight.group("l", index).values():
            assert pod["spec"]["subdomain"] == f"l-{index}"
            assert leader_address(pod) == f"l-{index}.l-{index}.{sight.namespace}"
    assert annotation(sight.pods["l-0"], "subdomainPolicy") == "UniquePerReplica"
    assert annotation(sight.pods["l-0-1"], "subdomainPolicy") is None
    most: list[set[str]] = []
    sight.always(lambda: most.append(set(sight.services)) or "")
    before = set(sight.uids("l").values())
    await sight.patch_set("l", {"leaderWorkerTemplate": {"workerTemplate": template(NEW)}})
    await sight.until(lambda: not before & set(sight.uids("l").values()), "all groups are new")
    await sight.available("l")
    await sight.until(lambda: set(sight.services) == {"l-0", "l-1"}, "the surge's Service is gone")
    assert {"l-0", "l-1", "l-2"} in most
    before = set(sight.uids("l").values())
    await sight.patch_set("l", {"networkConfig": {"subdomainPolicy": "Shared"}})
    await sight.until(lambda: not before & set(sight.uids("l").values()), "all groups are new")
    await sight.available("l")
    await sight.until(lambda: set(sight.services) == {"l"}, "one Service is left")
    assert leader_address(sight.pods["l-1-1"]) == f"l-1.l.{sight.namespace}"
    assert sight.pods["l-1-1"]["spec"]["subdomain"] == "l"


async def test_12_the_scale_subresource_tells_and_changes_the_number_of_groups(sight: Sight) -> None:
    await sight.apply(a_set("l", replicas=1, size=2))
    await sight.available("l")
    scale = await sight.client.get_scale(LEADER_WORKER_SETS, "l", sight.namespace)
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (1, 1)
    selector = "leaderworkerset.sigs.k8s.io/name=l,leaderworkerset.sigs.k8s.io/worker-index=0"
    assert scale["status"]["selector"] == selector
    leaders = await sight.client.list(PODS, sight.namespace, label_selector=selector)
    assert [pod["metadata"]["name"] for pod in leaders.items] == ["l-0"]
    await sight.client.set_scale(LEADER_WORKER_SETS, "l", 3, sight.namespace)
    await sight.until(lambda: sight.ready_groups("l") == {0, 1, 2}, "three groups")
    await sight.until(lambda: sight.sets["l"]["status"]["replicas"] == 3, "the status says so")


async def test_13_it_progresses_from_the_first_and_is_not_updated_while_it_is_created(sight: Sight) -> None:
    await sight.apply(a_set("l", replicas=2, size=2, worker=template(annotations=NEVER_READY)))
    await sight.until(lambda: condition(sight.sets.get("l", {}), "Progressing") == "True", "it progresses")
    conditions = {one["type"]: one for one in sight.sets["l"]["status"]["conditions"]}
    assert conditions["Progressing"]["reason"] == "GroupsProgressing"
    assert conditions["Progressing"]["message"] == "Replicas are progressing"
    told = "Replicas are progressing, with 0 groups ready of total 2 groups"
    await sight.until(lambda: told in sight.notes("GroupsProgressing"), "an event says so")
    await sight.until(lambda: len(sight.pods) == 4)
    await sight.annotate(sight.pods, {READY: "true"})
    await sight.available("l")
    assert all(condition(one, "UpdateInProgress") != "True" for one in sight.past_sets)


async def test_14_it_is_available_when_all_are_ready_and_progresses_when_one_is_not(sight: Sight) -> None:
    await sight.apply(a_set("l", replicas=2, size=2))
    await sight.available("l")
    conditions = {one["type"]: one for one in sight.sets["l"]["status"]["conditions"]}
    assert conditions["Available"]["reason"] == "AllGroupsReady"
    assert conditions["Available"]["message"] == "All replicas are ready"
    assert conditions["Progressing"]["status"] == "False"
    told = "All replicas are ready, with 2 groups ready of total 2 groups"
    await sight.until(lambda: told in sight.notes("AllGroupsReady"), "an event says so")
    await sight.annotate(["l-1-1"], NEVER_READY)
    await sight.until(lambda: condition(sight.sets["l"], "Available") == "False", "it is not available")
    assert condition(sight.sets["l"], "Progressing") == "True"
    assert sight.sets["l"]["status"]["readyReplicas"] == 1
    await sight.annotate(["l-1-1"], {READY: "true"})
    await sight.available("l")
    for lws in sight.past_sets:
        generation = lws["status"].get("observedGeneration") if lws.get("status") else None
        for one in (lws.get("status") or {}).get("conditions") or ():
            assert one["observedGeneration"] == generation


async def test_15_conditions_that_were_wiped_are_rebuilt(sight: Sight) -> None:
    await sight.apply(a_set("l", replicas=1, size=2))
    await sight.available("l")
    wipe: dict[str, Any] = {"status": {"conditions": None}}
    moments = len(sight.past_sets)
    await sight.client.patch(LEADER_WORKER_SETS, "l", wipe, namespace=sight.namespace, subresource="status")
    await sight.until(
        lambda: any(not condition(one, "Available") for one in sight.past_sets[moments:]), "they are gone"
    )
    await sight.available("l")


async def test_38_a_set_deleted_in_the_foreground_takes_everything_along(sight: Sight) -> None:
    unique = {"subdomainPolicy": "UniquePerReplica"}
    await sight.apply(a_set("l", replicas=2, size=3, networkConfig=unique))
    await sight.available("l")
    await sight.delete(LEADER_WORKER_SETS, "l", propagation_policy="Foreground")
    await sight.until(lambda: "l" not in sight.sets, "the set is gone", seconds=90)
    assert not sight.pods
    assert not sight.services
    assert not sight.revisions


@pytest.mark.parametrize("when_scaled", ["Delete", "Retain"])
async def test_40_claims_of_every_pod_follow_the_retention_policy(sight: Sight, when_scaled: str) -> None:
    claim = {
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "none",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    policy = {"whenScaled": when_scaled, "whenDeleted": "Delete"}
    lws = a_set(
        "l", replicas=2, size=2, volumeClaimTemplates=[claim], persistentVolumeClaimRetentionPolicy=policy
    )
    await sight.apply(lws)
    every = {f"data-{pod}" for pod in names("l", 2, 2)}
    await sight.until(lambda: set(sight.claims) == every, "a claim for each pod")
    await sight.until(lambda: len(sight.pods) == 4)
    for pod in sight.pods.values():
        volumes = {one["name"]: one for one in pod["spec"]["volumes"]}
        assert volumes["data"]["persistentVolumeClaim"]["claimName"] == f"data-{pod['metadata']['name']}"
    await sight.patch_set("l", {"replicas": 1})
    await sight.until(lambda: set(sight.pods) == {"l-0", "l-0-1"}, "one group is left")
    left = {"data-l-0", "data-l-0-1"} if when_scaled == "Delete" else every
    await sight.until(lambda: {name for name, one in sight.claims.items() if not is_dying(one)} == left)
    await sight.delete(LEADER_WORKER_SETS, "l")
    kept = set() if when_scaled == "Delete" else every - {"data-l-0", "data-l-0-1"}
    await sight.until(
        lambda: {name for name, one in sight.claims.items() if not is_dying(one)} <= kept, "claims go with it"
    )


async def test_42_the_metrics_endpoint_answers(controllers: Controllers) -> None:
    metrics = controllers.answer("/metrics")
    assert "kaji_leader 1.0" in metrics
    assert "leaderworkerset" in metrics
