"""StatefulSets on the embedded server, with a stand-in for nodes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil

import pytest

from kajitori.api.resource import (
    CONTROLLER_REVISIONS,
    CORE_EVENTS,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    SERVICE_ACCOUNTS,
    STATEFUL_SETS,
)
from kajitori.base.errors import NotFound
from kajitori.laptop.controllers import garbage, service_accounts, stateful_sets


def manifest(image="i:1", replicas=2, **spec):
    template = {
        "metadata": {"labels": {"app": "db"}},
        "spec": {"containers": [{"name": "c", "image": image}]},
    }
    return {
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "namespace": "default"},
        "spec": {"replicas": replicas, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
                 "template": template, **spec},
    }  # fmt: skip


CLAIM = {
    "metadata": {"name": "data"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}


@pytest.fixture
async def running(world):
    await world.start(service_accounts, stateful_sets, garbage)
    await world.until(lambda: world.client.get(SERVICE_ACCOUNTS, "default", "default"))
    async with world.nodes_at_work():
        yield world


def settled(world, image, replicas=2):
    async def check():
        db = await world.client.get(STATEFUL_SETS, "db", "default")
        status = db["status"]
        assert status["observedGeneration"] == db["metadata"]["generation"]
        assert status["replicas"] == status["availableReplicas"] == replicas, status
        assert status["currentRevision"] == status["updateRevision"], status
        images = [pod["spec"]["containers"][0]["image"] for pod in await world.pods()]
        return images == [image] * replicas

    return check


async def set_image(world, image):
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}}
    await world.client.patch(STATEFUL_SETS, "db", patch, namespace="default", patch_type="strategic")


async def test_pods_come_in_order_and_an_update_and_its_undoing_go_through(running):
    await running.client.create(STATEFUL_SETS, manifest(replicas=3))
    await running.until(settled(running, "i:1", 3))
    pods = await running.pods()
    assert [pod["metadata"]["name"] for pod in pods] == ["db-0", "db-1", "db-2"]
    assert [pod["spec"]["hostname"] for pod in pods] == ["db-0", "db-1", "db-2"]
    await set_image(running, "i:2")
    await running.until(settled(running, "i:2", 3))
    await set_image(running, "i:1")
    await running.until(settled(running, "i:1", 3))
    revisions = (await running.client.list(CONTROLLER_REVISIONS, "default")).items
    assert sorted(one["revision"] for one in revisions) == [2, 3]

    async def told():
        events = {(e["reason"], e["message"]) for e in (await running.client.list(CORE_EVENTS)).items}
        return {
            ("SuccessfulCreate", "Create Pod db-0 in StatefulSet db successful"),
            ("SuccessfulDelete", "Delete Pod db-2 in StatefulSet db successful"),
        } <= events

    await running.until(told)


async def unprotected_claims(world):
    """The claims, after letting go of those that are to be deleted, as the storage controllers do."""
    found = (await world.client.list(PERSISTENT_VOLUME_CLAIMS, "default")).items
    for claim in found:
        if "deletionTimestamp" in claim["metadata"]:
            free = {"metadata": {"finalizers": None}}
            with contextlib.suppress(NotFound):
                name = claim["metadata"]["name"]
                await world.client.patch(PERSISTENT_VOLUME_CLAIMS, name, free, namespace="default")
    return found


async def test_claims_outlive_a_scaling_and_go_with_the_set_if_its_policy_says_so(running):
    policy = {"whenDeleted": "Delete", "whenScaled": "Retain"}
    spec = {"volumeClaimTemplates": [CLAIM], "persistentVolumeClaimRetentionPolicy": policy}
    await running.client.create(STATEFUL_SETS, manifest(**spec))
    await running.until(settled(running, "i:1"))
    (pod, _) = await running.pods()
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "data-db-0"}} in pod["spec"]["volumes"]
    await running.client.set_scale(STATEFUL_SETS, "db", 1, "default")
    await running.until(settled(running, "i:1", 1))

    async def claims():
        return await unprotected_claims(running)

    async def owned():
        found = await claims()
        owners = [[o["kind"] for o in one["metadata"].get("ownerReferences", [])] for one in found]
        return owners == [["StatefulSet"], ["StatefulSet"]]

    await running.until(owned)
    await running.client.delete(STATEFUL_SETS, "db", "default")

    async def gone():
        return not await claims() and not await running.pods()

    await running.until(gone)


async def test_a_claim_goes_with_a_pod_that_is_scaled_away_and_comes_anew(running):
    policy = {"whenDeleted": "Retain", "whenScaled": "Delete"}
    spec = {"volumeClaimTemplates": [CLAIM], "persistentVolumeClaimRetentionPolicy": policy}
    await running.client.create(STATEFUL_SETS, manifest(**spec))
    await running.until(settled(running, "i:1"))
    before = await running.client.get(PERSISTENT_VOLUME_CLAIMS, "data-db-1", "default")
    await running.client.set_scale(STATEFUL_SETS, "db", 1, "default")

    async def gone():
        return [one["metadata"]["name"] for one in await unprotected_claims(running)] == ["data-db-0"]

    await running.until(gone)
    await running.client.set_scale(STATEFUL_SETS, "db", 2, "default")
    await running.until(settled(running, "i:1"))
    after = await running.client.get(PERSISTENT_VOLUME_CLAIMS, "data-db-1", "default")
    assert after["metadata"]["uid"] != before["metadata"]["uid"]


async def test_a_failed_pod_is_made_again(running):
    await running.client.create(STATEFUL_SETS, manifest(replicas=1))
    await running.until(settled(running, "i:1", 1))
    (pod,) = await running.pods()
    await running.set_pod("db-0", ready=False, phase="Failed")

    async def renewed():
        found = [(now["metadata"]["uid"], now["status"]["phase"]) for now in await running.pods()]
        return len(found) == 1 and found[0][0] != pod["metadata"]["uid"] and found[0][1] == "Running"

    await running.until(renewed)


async def test_orphaned_pods_and_revisions_are_taken_back(running):
    await running.client.create(STATEFUL_SETS, manifest())
    await running.until(settled(running, "i:1"))
    uids = [pod["metadata"]["uid"] for pod in await running.pods()]
    await running.client.delete(STATEFUL_SETS, "db", "default", propagation_policy="Orphan")

    async def orphaned():
        owned = any("ownerReferences" in pod["metadata"] for pod in await running.pods())
        return not owned and not (await running.client.list(STATEFUL_SETS, "default")).items

    await running.until(orphaned)
    made = await running.client.create(STATEFUL_SETS, manifest())
    await running.until(settled(running, "i:1"))
    pods = await running.pods()
    assert [pod["metadata"]["uid"] for pod in pods] == uids
    assert {o["uid"] for pod in pods for o in pod["metadata"]["ownerReferences"]} == {made["metadata"]["uid"]}
    (revision,) = (await running.client.list(CONTROLLER_REVISIONS, "default")).items
    assert revision["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]


async def test_a_refused_pod_is_told_as_an_event(running):
    await running.client.create(STATEFUL_SETS, manifest(replicas=1))
    await running.until(settled(running, "i:1", 1))
    patch = {"spec": {"template": {"spec": {"serviceAccountName": "nobody"}}}}
    await running.client.patch(STATEFUL_SETS, "db", patch, namespace="default")

    async def told():
        messages = [
            e["message"]
            for e in (await running.client.list(CORE_EVENTS)).items
            if e["reason"] == "FailedCreate"
        ]
        return any(
            m.startswith('Create Pod db-0 in StatefulSet db failed error: pods "db-0" is forbidden')
            for m in messages
        )

    await running.until(told)


async def test_a_settled_set_is_written_no_more(running):
    await running.client.create(STATEFUL_SETS, manifest(volumeClaimTemplates=[CLAIM]))
    await running.until(settled(running, "i:1"))
    await asyncio.sleep(0.3)
    before = (await running.client.get(STATEFUL_SETS, "db", "default"))["metadata"]["resourceVersion"]
    await asyncio.sleep(0.5)
    after = await running.client.get(STATEFUL_SETS, "db", "default")
    assert after["metadata"]["resourceVersion"] == before
    assert set(after["status"]) == {
        "availableReplicas", "collisionCount", "currentReplicas", "currentRevision", "observedGeneration",
        "readyReplicas", "replicas", "updateRevision", "updatedReplicas",
    }  # fmt: skip


async def test_pods_are_made_once_though_the_controller_starts_anew_in_the_middle(running):
    await running.client.create(STATEFUL_SETS, manifest(replicas=4, podManagementPolicy="Parallel"))
    await running.until(lambda: running.client.get(PODS, "db-1", "default"))
    await running.stop()
    await running.start(service_accounts, stateful_sets, garbage)
    await running.until(settled(running, "i:1", 4))


async def kubectl(world, *words):
    environment = {**os.environ, "KUBECONFIG": str(world.server.kubeconfig)}
    process = await asyncio.create_subprocess_exec(
        "kubectl", *words, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, output.decode()
    return output.decode()


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
async def test_kubectl_follows_undoes_and_restarts_a_rollout(running):
    await running.client.create(STATEFUL_SETS, manifest())
    await running.until(settled(running, "i:1"))
    await kubectl(running, "set", "image", "statefulset/db", "c=i:2")
    followed = await kubectl(running, "rollout", "status", "statefulset/db", "--timeout=30s")
    assert "roll out complete: 2 new pods" in followed
    history = await kubectl(running, "rollout", "history", "statefulset/db")
    assert "1 " in history and "2 " in history
    await kubectl(running, "rollout", "undo", "statefulset/db")
    await running.until(settled(running, "i:1"))
    await kubectl(running, "rollout", "restart", "statefulset/db")
    await kubectl(running, "rollout", "status", "statefulset/db", "--timeout=30s")
    assert len((await running.client.list(CONTROLLER_REVISIONS, "default")).items) == 3
