"""StatefulSets behave alike on both servers."""

from __future__ import annotations

import pytest
from tests.contract.workloads import Workload, needs_kubectl, workload
from tests.servers import Server
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("nodes")
CLAIM = {
    "metadata": {"name": "data"},
    "spec": {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "nowhere",
        "resources": {"requests": {"storage": "1Gi"}},
    },
}


@pytest.fixture
def db(server: Server, namespace: str) -> Workload:
    return Workload(server, namespace, "statefulsets")


async def settled(db: Workload, image: str, replicas: int) -> None:
    async def done() -> bool:
        status = (await db.get())["status"]
        same = status.get("currentRevision") == status.get("updateRevision")
        return same and await db.images() == [image] * replicas

    await db.until_status(replicas=replicas, availableReplicas=replicas)
    await eventually(done, f"{replicas} pods of {image}")


async def test_pods_have_names_labels_and_hosts_of_their_own(db: Workload) -> None:
    await db.create(workload("StatefulSet", serviceName="dbs", replicas=2, ordinals={"start": 3}))
    await settled(db, "i:1", 2)
    pods = await db.pods()
    revision = (await db.get())["status"]["currentRevision"]
    assert [pod["metadata"]["name"] for pod in pods] == ["w-3", "w-4"]
    zone = "topology.kubernetes.io/zone"
    assert pods[0]["metadata"]["labels"] == {
        "app": "w",
        zone: pods[0]["spec"]["nodeName"].replace("fake", "zone"),
        "apps.kubernetes.io/pod-index": "3",
        "controller-revision-hash": revision,
        "statefulset.kubernetes.io/pod-name": "w-3",
    }
    assert (pods[0]["metadata"]["generateName"], pods[0]["spec"]["hostname"]) == ("w-", "w-3")
    assert pods[0]["spec"]["subdomain"] == "dbs"
    await db.told(("Normal", "SuccessfulCreate", "Create Pod w-3 in StatefulSet w successful"))


async def test_the_status_has_these_fields_and_no_others(db: Workload) -> None:
    await db.create(workload("StatefulSet", serviceName="", replicas=1))
    await settled(db, "i:1", 1)
    status = (await db.get())["status"]
    revision = status["currentRevision"]
    assert status == {
        "availableReplicas": 1,
        "collisionCount": 0,
        "currentReplicas": 1,
        "currentRevision": revision,
        "observedGeneration": 1,
        "readyReplicas": 1,
        "replicas": 1,
        "updateRevision": revision,
        "updatedReplicas": 1,
    }
    (kept,) = await db.list("apps/v1/controllerrevisions")
    assert kept["metadata"]["name"] == revision and kept["revision"] == 1
    assert kept["metadata"]["labels"] == {
        "app": "w",
        "controller.kubernetes.io/hash": revision.removeprefix("w-"),
    }
    assert kept["data"]["spec"]["template"]["$patch"] == "replace"
    await db.patch({"spec": {"replicas": 0}})
    status = await db.until_status(replicas=0, availableReplicas=0, readyReplicas=None)
    assert "currentReplicas" not in status or status["currentReplicas"] == 0


async def test_both_servers_give_a_template_s_revision_the_same_name(db: Workload) -> None:
    await db.create(workload("StatefulSet", serviceName="", replicas=0))
    await db.until_status(replicas=0)
    assert (await db.get())["status"]["updateRevision"] == "w-5ff8c5d9f8"


async def test_an_ordered_set_waits_for_each_pod(db: Workload) -> None:
    held = workload("StatefulSet", serviceName="", replicas=2)
    held["spec"]["template"]["metadata"]["annotations"] = {"kajitori.dev/test-ready": "false"}
    await db.create(held)
    await db.until_status(replicas=1, readyReplicas=None)
    assert [pod["metadata"]["name"] for pod in await db.pods()] == ["w-0"]
    pod = f"/api/v1/namespaces/{db.namespace}/pods/w-0"
    await db.server.http.merge(pod, {"metadata": {"annotations": {"kajitori.dev/test-ready": None}}})
    await db.until_status(replicas=2, readyReplicas=1)


async def test_a_parallel_set_does_not(db: Workload) -> None:
    held = workload("StatefulSet", serviceName="", replicas=3, podManagementPolicy="Parallel")
    held["spec"]["template"]["metadata"]["annotations"] = {"kajitori.dev/test-ready": "false"}
    await db.create(held)
    await db.until_status(replicas=3, readyReplicas=None)


async def test_an_update_stops_at_the_partition(db: Workload) -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
    await db.create(workload("StatefulSet", serviceName="", replicas=3, updateStrategy=rolling))
    await settled(db, "i:1", 3)
    await db.set_image("i:2")

    async def partly() -> bool:
        return await db.images() == ["i:1", "i:2", "i:2"]

    await eventually(partly, "two pods are new")
    status = await db.until_status(updatedReplicas=2, currentReplicas=1, availableReplicas=3)
    assert status["currentRevision"] != status["updateRevision"]
    await db.told(("Normal", "SuccessfulDelete", "Delete Pod w-2 in StatefulSet w successful"))
    await db.patch({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}})
    await settled(db, "i:2", 3)


async def test_on_delete_leaves_it_to_the_user(db: Workload) -> None:
    await db.create(workload("StatefulSet", serviceName="", replicas=2, updateStrategy={"type": "OnDelete"}))
    await settled(db, "i:1", 2)
    await db.set_image("i:2")
    await db.until_status(updatedReplicas=None, currentReplicas=2)
    (await db.server.http.delete(f"/api/v1/namespaces/{db.namespace}/pods/w-1")).ok()

    async def renewed() -> bool:
        return await db.images() == ["i:1", "i:2"]

    await eventually(renewed, "the deleted pod is new")
    await db.until_status(updatedReplicas=1, currentReplicas=1)


async def test_history_is_kept_to_its_limit_and_numbers_grow(db: Workload) -> None:
    await db.create(workload("StatefulSet", serviceName="", replicas=1, revisionHistoryLimit=1))
    for number in range(1, 5):
        await db.set_image(f"i:{number}")
        await settled(db, f"i:{number}", 1)
    await db.set_image("i:3")
    await settled(db, "i:3", 1)

    async def trimmed() -> bool:
        kept = await db.list("apps/v1/controllerrevisions")
        return sorted(one["revision"] for one in kept) == [4, 5]

    await eventually(trimmed, "two revisions are left")


@pytest.mark.parametrize(
    ("policy", "kept", "owner"),
    [
        ({}, ["data-w-0", "data-w-1"], None),
        ({"whenDeleted": "Delete"}, ["data-w-0", "data-w-1"], "StatefulSet"),
        ({"whenScaled": "Delete"}, ["data-w-0"], None),
        ({"whenDeleted": "Delete", "whenScaled": "Delete"}, ["data-w-0"], "StatefulSet"),
    ],
)
async def test_claims_go_or_stay_as_the_retention_policy_says(
    db: Workload, policy: dict[str, str], kept: list[str], owner: str | None
) -> None:
    spec = {"volumeClaimTemplates": [CLAIM], "persistentVolumeClaimRetentionPolicy": policy}
    await db.create(
        workload("StatefulSet", serviceName="", podManagementPolicy="Parallel", replicas=2, **spec)
    )
    await db.until_status(replicas=2)
    claims = await db.list("v1/persistentvolumeclaims")
    assert [one["metadata"]["labels"] for one in claims] == [{"app": "w"}, {"app": "w"}]
    await db.told(("Normal", "SuccessfulCreate", "Create Claim data-w-0 Pod w-0 in StatefulSet w success"))
    await db.patch({"spec": {"replicas": 1}})
    await db.until_status(replicas=1)

    async def left() -> bool:
        found = await db.list("v1/persistentvolumeclaims")
        owners = found[0]["metadata"].get("ownerReferences", [])
        names = [one["metadata"]["name"] for one in found]
        return names == kept and [one["kind"] for one in owners] == ([owner] if owner else [])

    await eventually(left, f"claims are {kept}")


async def test_a_refused_pod_is_told(db: Workload) -> None:
    refused = workload("StatefulSet", serviceName="", replicas=1)
    refused["spec"]["template"]["spec"]["serviceAccountName"] = "nobody"
    await db.create(refused)
    text = (
        'Create Pod w-0 in StatefulSet w failed error: pods "w-0" is forbidden: error looking up service account'
        f' {db.namespace}/nobody: serviceaccount "nobody" not found'
    )
    await db.told(("Warning", "FailedCreate", text))


async def test_a_failed_pod_is_made_again(db: Workload) -> None:
    await db.create(workload("StatefulSet", serviceName="", replicas=1))
    await settled(db, "i:1", 1)
    (before,) = await db.pods()
    path = f"/api/v1/namespaces/{db.namespace}/pods/w-0/status"
    await db.server.http.merge(path, {"status": {"phase": "Failed", "reason": "Evicted"}})

    async def renewed() -> bool:
        pods = await db.pods()
        return bool(pods) and pods[0]["metadata"]["uid"] != before["metadata"]["uid"]

    await eventually(renewed, "a new pod")
    await settled(db, "i:1", 1)


async def test_orphans_are_taken_back(db: Workload) -> None:
    await db.create(workload("StatefulSet", serviceName="", replicas=1))
    await settled(db, "i:1", 1)
    (before,) = await db.pods()
    await db.server.http.delete(db.path, propagationPolicy="Orphan")

    async def gone() -> bool:
        return (await db.server.http.get(db.path)).code == 404

    await eventually(gone, "the set is gone")
    made = await db.create(workload("StatefulSet", serviceName="", replicas=1))
    await db.until_status(replicas=1, availableReplicas=1)
    (after,) = await db.pods()
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]


@needs_kubectl
async def test_kubectl_rolls_out_shows_history_undoes_and_restarts(db: Workload) -> None:
    await db.create(workload("StatefulSet", serviceName="", replicas=1))
    await settled(db, "i:1", 1)
    await db.kubectl("set", "image", "statefulset/w", "c=i:2")
    assert "roll out complete: 1 new pods" in await db.kubectl("rollout", "status", "statefulset/w")
    assert await db.kubectl("rollout", "history", "statefulset/w") == (
        "statefulset.apps/w \nREVISION  CHANGE-CAUSE\n1         <none>\n2         <none>\n\n"
    )
    await db.kubectl("rollout", "undo", "statefulset/w")
    await settled(db, "i:1", 1)
    await db.kubectl("rollout", "restart", "statefulset/w")
    assert "roll out complete: 1 new pods" in await db.kubectl("rollout", "status", "statefulset/w")
