"""Deployments and ReplicaSets behave alike on both servers."""

from __future__ import annotations

import pytest
from tests.contract.workloads import Workload, needs_kubectl, workload
from tests.servers import Server, without_volatile
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("nodes")


@pytest.fixture
def web(server: Server, namespace: str) -> Workload:
    return Workload(server, namespace, "deployments")


async def settled(web: Workload, image: str, replicas: int) -> None:
    async def done() -> bool:
        return await web.images() == [image] * replicas

    await web.until_status(updatedReplicas=replicas, availableReplicas=replicas, replicas=replicas)
    await eventually(done, f"{replicas} pods of {image}")


async def test_the_status_of_a_finished_deployment_has_these_fields_and_no_others(web: Workload) -> None:
    await web.create(workload("Deployment", replicas=2))
    await settled(web, "i:1", 2)

    async def complete() -> bool:
        reasons = {one["reason"] for one in (await web.get())["status"]["conditions"]}
        return "NewReplicaSetAvailable" in reasons

    await eventually(complete, "progress is complete")
    (replica_set,) = await web.list("apps/v1/replicasets")
    name = replica_set["metadata"]["name"]
    status = without_volatile((await web.get())["status"])
    for condition in status["conditions"]:
        condition.pop("lastUpdateTime")
    assert sorted(status.pop("conditions"), key=lambda one: one["type"]) == [
        {
            "message": "Deployment has minimum availability.",
            "reason": "MinimumReplicasAvailable",
            "status": "True",
            "type": "Available",
        },
        {
            "message": f'ReplicaSet "{name}" has successfully progressed.',
            "reason": "NewReplicaSetAvailable",
            "status": "True",
            "type": "Progressing",
        },
    ]
    assert status == {
        "availableReplicas": 2,
        "observedGeneration": 1,
        "readyReplicas": 2,
        "replicas": 2,
        "terminatingReplicas": 0,
        "updatedReplicas": 2,
    }
    assert replica_set["status"] == {
        "availableReplicas": 2,
        "fullyLabeledReplicas": 2,
        "observedGeneration": 1,
        "readyReplicas": 2,
        "replicas": 2,
        "terminatingReplicas": 0,
    }
    assert replica_set["metadata"]["annotations"] == {
        "deployment.kubernetes.io/desired-replicas": "2",
        "deployment.kubernetes.io/max-replicas": "3",
        "deployment.kubernetes.io/revision": "1",
    }
    await web.told(("Normal", "ScalingReplicaSet", f"Scaled up replica set {name} from 0 to 2"))


async def test_a_deployment_of_nothing_leaves_zeros_out(web: Workload) -> None:
    await web.create(workload("Deployment", replicas=0))
    status = await web.until_status(replicas=None, unavailableReplicas=None, availableReplicas=None)
    assert status.keys() <= {"conditions", "observedGeneration", "terminatingReplicas"}


async def test_a_roll_goes_through_and_an_old_template_gets_a_new_revision(web: Workload) -> None:
    await web.create(workload("Deployment", replicas=2))
    await settled(web, "i:1", 2)
    for image in ("i:2", "i:1"):
        await web.set_image(image)
        await settled(web, image, 2)
    sets = await web.list("apps/v1/replicasets")
    back = next(one for one in sets if one["spec"]["replicas"] == 2)["metadata"]["annotations"]
    assert back["deployment.kubernetes.io/revision"] == "3"
    assert back["deployment.kubernetes.io/revision-history"] == "1"
    assert (await web.get())["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"
    assert len(sets) == 2


async def test_a_stuck_roll_says_so_and_keeps_what_serves(web: Workload) -> None:
    await web.create(workload("Deployment", replicas=1, progressDeadlineSeconds=2))
    await settled(web, "i:1", 1)
    held = {"metadata": {"annotations": {"kajitori.dev/test-ready": "false"}}}
    await web.patch({"spec": {"template": {**held, "spec": {"containers": [{"name": "c", "image": "i:2"}]}}}})

    async def stuck() -> bool:
        conditions = {one["type"]: one for one in (await web.get())["status"]["conditions"]}
        progressing = conditions["Progressing"]
        return (progressing["status"], progressing["reason"]) == ("False", "ProgressDeadlineExceeded")

    await eventually(stuck, "the deadline is told")
    status = (await web.get())["status"]
    assert (status["replicas"], status["availableReplicas"], status["unavailableReplicas"]) == (2, 1, 1)


async def test_recreate_ends_the_old_pods_first(web: Workload) -> None:
    await web.create(workload("Deployment", replicas=2, strategy={"type": "Recreate"}))
    await settled(web, "i:1", 2)
    await web.set_image("i:2")
    await settled(web, "i:2", 2)


async def test_pods_that_are_refused_are_told_in_a_condition(web: Workload) -> None:
    refused = workload("Deployment", replicas=1)
    refused["spec"]["template"]["spec"]["serviceAccountName"] = "nobody"
    await web.create(refused)

    async def told() -> str:
        conditions = {one["type"]: one for one in (await web.get())["status"].get("conditions", [])}
        failure = conditions.get("ReplicaFailure", {})
        return failure.get("message", "") if failure.get("reason") == "FailedCreate" else ""

    message = await eventually(told, "the failure is told")
    assert "is forbidden: error looking up service account" in message


@needs_kubectl
async def test_kubectl_rolls_out_pauses_resumes_undoes_and_restarts(web: Workload) -> None:
    await web.create(workload("Deployment", replicas=1))
    await settled(web, "i:1", 1)
    await web.kubectl("rollout", "pause", "deployment/w")
    await web.kubectl("set", "image", "deployment/w", "c=i:2")

    async def paused() -> bool:
        reasons = {one["reason"] for one in (await web.get())["status"]["conditions"]}
        return "DeploymentPaused" in reasons and await web.images() == ["i:1"]

    await eventually(paused, "the pause is told")
    await web.kubectl("rollout", "resume", "deployment/w")
    done = 'deployment "w" successfully rolled out'
    assert done in await web.kubectl("rollout", "status", "deployment/w")
    assert await web.kubectl("rollout", "history", "deployment/w") == (
        "deployment.apps/w \nREVISION  CHANGE-CAUSE\n1         <none>\n2         <none>\n\n"
    )
    await web.kubectl("rollout", "undo", "deployment/w")
    await settled(web, "i:1", 1)
    await web.kubectl("rollout", "restart", "deployment/w")
    assert done in await web.kubectl("rollout", "status", "deployment/w")
