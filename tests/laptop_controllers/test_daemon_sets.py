"""DaemonSets on the embedded server, with its scheduler and a stand-in for nodes."""

from __future__ import annotations

import pytest

from kajitori.api.resource import CONTROLLER_REVISIONS, CORE_EVENTS, DAEMON_SETS, NODES, SERVICE_ACCOUNTS
from kajitori.laptop.controllers import daemon_sets, garbage, nodes, service_accounts


def manifest(image="i:1", **spec):
    template = {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c", "image": image}]}}
    return {
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "d", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "d"}}, "template": template, **spec},
    }  # fmt: skip


@pytest.fixture
async def running(world):
    await world.start(service_accounts, daemon_sets, garbage, nodes)
    await world.until(lambda: world.client.get(SERVICE_ACCOUNTS, "default", "default"))
    for name in ("a", "b"):
        await world.add_node(name)
    async with world.nodes_at_work():
        yield world


def settled(world, image, count=2):
    async def check():
        the_set = await world.client.get(DAEMON_SETS, "d", "default")
        status = the_set["status"]
        assert status["observedGeneration"] == the_set["metadata"]["generation"]
        assert status["desiredNumberScheduled"] == status.get("numberAvailable", 0) == count, status
        assert status.get("updatedNumberScheduled", 0) == count, status
        return [one["spec"]["containers"][0]["image"] for one in await world.pods()] == [image] * count

    return check


async def set_image(world, image):
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}}
    await world.client.patch(DAEMON_SETS, "d", patch, namespace="default", patch_type="strategic")


async def test_pods_follow_the_nodes_and_a_new_template(running):
    await running.client.create(DAEMON_SETS, manifest())
    await running.until(settled(running, "i:1"))
    await running.add_node("c")
    await running.until(settled(running, "i:1", 3))
    await set_image(running, "i:2")
    await running.until(settled(running, "i:2", 3))
    labels = {one["metadata"]["labels"]["pod-template-generation"] for one in await running.pods()}
    assert labels == {"2"}
    await set_image(running, "i:1")
    await running.until(settled(running, "i:1", 3))
    revisions = (await running.client.list(CONTROLLER_REVISIONS, "default")).items
    assert sorted(one["revision"] for one in revisions) == [2, 3]
    taint = {"spec": {"taints": [{"key": "x", "effect": "NoExecute"}]}}
    await running.client.patch(NODES, "c", taint)
    await running.until(settled(running, "i:1", 2))


async def test_a_failed_daemon_is_replaced_and_told(running):
    await running.client.create(DAEMON_SETS, manifest())
    await running.until(settled(running, "i:1"))
    name = (await running.pods())[0]["metadata"]["name"]
    await running.set_pod(name, ready=False, phase="Failed")

    async def replaced():
        names = [one["metadata"]["name"] for one in await running.pods()]
        return name not in names and len(names) == 2

    await running.until(replaced)

    async def told():
        reasons = {e["reason"] for e in (await running.client.list(CORE_EVENTS)).items}
        return {"FailedDaemonPod", "SuccessfulDelete", "SuccessfulCreate"} <= reasons

    await running.until(told)


async def test_a_surging_update_ends_with_one_pod_a_node(running):
    update = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    await running.client.create(DAEMON_SETS, manifest(updateStrategy=update))
    await running.until(settled(running, "i:1"))
    await set_image(running, "i:2")
    await running.until(settled(running, "i:2"))


async def test_the_history_is_kept_to_its_limit(running):
    await running.client.create(DAEMON_SETS, manifest(revisionHistoryLimit=1))
    for number in range(1, 5):
        await set_image(running, f"i:{number}")
        await running.until(settled(running, f"i:{number}"))

    async def trimmed():
        return len((await running.client.list(CONTROLLER_REVISIONS, "default")).items) == 2

    await running.until(trimmed)
