import asyncio
import os
import shutil

import pytest

from kajitori.api.resource import CORE_EVENTS, DEPLOYMENTS, REPLICA_SETS, SERVICE_ACCOUNTS
from kajitori.laptop.controllers import deployments, garbage, replica_sets, service_accounts

REVISION = "deployment.kubernetes.io/revision"


def manifest(image="busybox:1", replicas=4, **spec):
    return {
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}},
            **spec,
        },
    }  # fmt: skip


@pytest.fixture
async def rolling(world):
    await world.start(service_accounts, replica_sets, deployments, garbage)
    await world.until(lambda: world.client.get(SERVICE_ACCOUNTS, "default", "default"))
    async with world.nodes_at_work():
        yield world


async def sets(world):
    found = (await world.client.list(REPLICA_SETS, "default")).items
    return {one["spec"]["template"]["spec"]["containers"][0]["image"]: one for one in found}


async def set_image(world, image):
    containers = [{"name": "c", "image": image}]
    patch = {"spec": {"template": {"spec": {"containers": containers}}}}
    await world.client.patch(DEPLOYMENTS, "web", patch, namespace="default", patch_type="strategic")


def complete(world, image, replicas=4):
    async def check():
        web = await world.client.get(DEPLOYMENTS, "web", "default")
        status = web["status"]
        assert status["observedGeneration"] == web["metadata"]["generation"]
        reasons = {c["type"]: c["reason"] for c in status["conditions"]}
        assert reasons["Progressing"] == "NewReplicaSetAvailable", reasons
        sizes = {name: one["spec"]["replicas"] for name, one in (await sets(world)).items()}
        assert sizes[image] == replicas and sum(sizes.values()) == replicas, sizes
        return status.get("availableReplicas", 0) == status.get("updatedReplicas", 0) == replicas

    return check


async def test_a_new_image_rolls_through_and_an_old_one_comes_back_with_a_new_revision(rolling):
    await rolling.client.create(DEPLOYMENTS, manifest())
    await rolling.until(complete(rolling, "busybox:1"))
    await set_image(rolling, "busybox:2")
    await rolling.until(complete(rolling, "busybox:2"))
    await set_image(rolling, "busybox:1")
    await rolling.until(complete(rolling, "busybox:1"))
    found = await sets(rolling)
    assert len(found) == 2
    back = found["busybox:1"]["metadata"]["annotations"]
    assert (back[REVISION], back["deployment.kubernetes.io/revision-history"]) == ("3", "1")
    web = await rolling.client.get(DEPLOYMENTS, "web", "default")
    assert web["metadata"]["annotations"][REVISION] == "3"
    notes = [
        e["message"]
        for e in (await rolling.client.list(CORE_EVENTS, "default")).items
        if e["reason"] == "ScalingReplicaSet"
    ]
    assert any("from 0 to 4" in note for note in notes)


async def test_during_a_roll_enough_pods_serve_and_never_too_many_exist(rolling):
    rolling_update = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}
    await rolling.client.create(DEPLOYMENTS, manifest(replicas=6, strategy=rolling_update))
    await rolling.until(complete(rolling, "busybox:1", 6))
    sampled = []

    async def sample():
        while True:
            pods = [p for p in await rolling.pods() if "deletionTimestamp" not in p["metadata"]]
            ready = [
                p
                for p in pods
                if any(
                    c["type"] == "Ready" and c["status"] == "True" for c in p["status"].get("conditions", [])
                )
            ]
            sampled.append((len(pods), len(ready)))
            await asyncio.sleep(0.01)

    sampling = asyncio.ensure_future(sample())
    await set_image(rolling, "busybox:2")
    await rolling.until(complete(rolling, "busybox:2", 6))
    sampling.cancel()
    await asyncio.gather(sampling, return_exceptions=True)
    assert max(total for total, _ in sampled) <= 7 and min(ready for _, ready in sampled) >= 5


async def test_recreate_starts_nothing_new_before_the_last_old_pod_is_gone(rolling):
    await rolling.client.create(DEPLOYMENTS, manifest(replicas=3, strategy={"type": "Recreate"}))
    await rolling.until(complete(rolling, "busybox:1", 3))
    images = []

    async def sample():
        while True:
            images.append({p["spec"]["containers"][0]["image"] for p in await rolling.pods()})
            await asyncio.sleep(0.005)

    sampling = asyncio.ensure_future(sample())
    await set_image(rolling, "busybox:2")
    await rolling.until(complete(rolling, "busybox:2", 3))
    sampling.cancel()
    await asyncio.gather(sampling, return_exceptions=True)
    assert all(len(together) <= 1 for together in images)


async def test_a_paused_deployment_scales_but_does_not_roll_until_resumed(rolling):
    await rolling.client.create(DEPLOYMENTS, manifest())
    await rolling.until(complete(rolling, "busybox:1"))
    await rolling.client.patch(DEPLOYMENTS, "web", {"spec": {"paused": True}}, namespace="default")
    await set_image(rolling, "busybox:2")
    await rolling.client.set_scale(DEPLOYMENTS, "web", 6, "default")

    async def scaled():
        assert (await sets(rolling)).keys() == {"busybox:1"}
        return len(await rolling.pods()) == 6

    await rolling.until(scaled)
    await rolling.client.patch(DEPLOYMENTS, "web", {"spec": {"paused": False}}, namespace="default")
    await rolling.until(complete(rolling, "busybox:2", 6))


async def test_history_is_kept_to_its_limit(rolling):
    await rolling.client.create(DEPLOYMENTS, manifest("busybox:0", 1, revisionHistoryLimit=2))
    for number in range(5):
        await set_image(rolling, f"busybox:{number}")
        await rolling.until(complete(rolling, f"busybox:{number}", 1))

    async def trimmed():
        return set(await sets(rolling)) == {"busybox:2", "busybox:3", "busybox:4"}

    await rolling.until(trimmed)


async def test_a_roll_that_does_not_get_on_is_told_after_its_deadline(world):
    await world.start(service_accounts, replica_sets, deployments)
    await world.until(lambda: world.client.get(SERVICE_ACCOUNTS, "default", "default"))
    await world.client.create(DEPLOYMENTS, manifest(replicas=1, progressDeadlineSeconds=2))

    async def stuck():
        status = (await world.client.get(DEPLOYMENTS, "web", "default"))["status"]
        return any(
            c["reason"] == "ProgressDeadlineExceeded" and c["status"] == "False" for c in status["conditions"]
        )

    await world.until(stuck)


async def test_deleting_a_deployment_takes_its_sets_and_pods_along(rolling):
    await rolling.client.create(DEPLOYMENTS, manifest())
    await rolling.until(complete(rolling, "busybox:1"))
    await rolling.client.delete(DEPLOYMENTS, "web", "default", propagation_policy="Foreground")

    async def gone():
        return (
            not (await rolling.client.list(DEPLOYMENTS)).items
            and not await sets(rolling)
            and not await rolling.pods()
        )

    await rolling.until(gone)


async def test_a_settled_deployment_is_written_no_more(rolling):
    await rolling.client.create(DEPLOYMENTS, manifest())
    await rolling.until(complete(rolling, "busybox:1"))
    await asyncio.sleep(0.3)

    async def versions():
        found = [*(await sets(rolling)).values(), await rolling.client.get(DEPLOYMENTS, "web", "default")]
        return [one["metadata"]["resourceVersion"] for one in found]

    before = await versions()
    await asyncio.sleep(1)
    assert await versions() == before


async def kubectl(world, *words):
    environment = {**os.environ, "KUBECONFIG": str(world.server.kubeconfig)}
    process = await asyncio.create_subprocess_exec(
        "kubectl", *words, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, output.decode()
    return output.decode()


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
async def test_kubectl_follows_undoes_and_restarts_a_rollout(rolling):
    await rolling.client.create(DEPLOYMENTS, manifest())
    assert "successfully rolled out" in await kubectl(
        rolling, "rollout", "status", "deployment/web", "--timeout=30s"
    )
    await kubectl(rolling, "set", "image", "deployment/web", "c=busybox:2")
    assert "successfully rolled out" in await kubectl(
        rolling, "rollout", "status", "deployment/web", "--timeout=30s"
    )
    history = await kubectl(rolling, "rollout", "history", "deployment/web")
    assert "1 " in history and "2 " in history
    await kubectl(rolling, "rollout", "undo", "deployment/web")
    await rolling.until(complete(rolling, "busybox:1"))
    await kubectl(rolling, "rollout", "restart", "deployment/web")
    await kubectl(rolling, "rollout", "status", "deployment/web", "--timeout=30s")
    assert len((await rolling.client.list(REPLICA_SETS, "default")).items) == 3
