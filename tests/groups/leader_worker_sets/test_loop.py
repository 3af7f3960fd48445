"""The behaviours of LeaderWorkerSets, seen from outside: objects go in through the API, pods come out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from tests.groups.leader_worker_sets.conftest import a_set, container, template
from tests.groups.leader_worker_sets.loop import Loop, condition, running_loop

from kajitori.api.resource import LEADER_WORKER_SETS, PERSISTENT_VOLUME_CLAIMS, PODS, SERVICES
from kajitori.control.runtime import Runtime
from kajitori.kube.client import Client
from kajitori.kube.config import load_config
from kajitori.laptop.controllers import garbage


def manifest(**fields: object) -> dict[str, object]:
    """As a user writes it."""
    lws = a_set(**fields)
    metadata = {"name": "x", "namespace": "default", "annotations": lws["metadata"]["annotations"]}
    return {**lws, "metadata": metadata}


@pytest.fixture
async def loop() -> AsyncIterator[Loop]:
    async with running_loop() as running:
        yield running


async def test_two_groups_of_four_become_ready_and_nothing_else_is_made(loop: Loop) -> None:
    await loop.apply(manifest(replicas=2, size=4))
    lws = await loop.available()
    names = sorted(f"x-{group}{worker}" for group in (0, 1) for worker in ("", "-1", "-2", "-3"))
    assert sorted(await loop.pods()) == names
    assert await loop.services() == ["x"]
    status = lws["status"]
    assert (status["replicas"], status["readyReplicas"], status["updatedReplicas"]) == (2, 2, 2)
    assert [event["note"] for event in await loop.until(lambda: loop.events("AllGroupsReady"))] == [
        "All replicas are ready, with 2 groups ready of total 2 groups"
    ]
    scale = await loop.client.get_scale(LEADER_WORKER_SETS, "x", "default")
    assert scale["status"]["selector"] == lws["status"]["hpaPodSelector"]


async def test_a_deleted_worker_recreates_its_whole_group_and_says_who_did_it(loop: Loop) -> None:
    await loop.apply(manifest(replicas=2, size=4))
    await loop.available()
    before, other = await loop.uids(0), await loop.uids(1)
    await loop.client.delete(PODS, "x-0-3", "default")

    async def recreated() -> bool:
        now = await loop.uids(0)
        return now.keys() == before.keys() and not set(now.values()) & set(before.values())

    await loop.until(recreated)
    await loop.available()
    assert await loop.uids(1) == other
    (event,) = await loop.until(lambda: loop.events("RecreateGroup"))
    assert event["regarding"]["kind"] == "LeaderWorkerSet"
    assert event["related"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": "default",
        "name": "x-0-3",
        "uid": before["x-0-3"],
    }
    assert event["note"].startswith(
        "Worker pod x-0-3 failed, deleted leader pod x-0 to recreate group 0: "
        "pod x-0-3 on fake was deleted by kubernetes-admin (kubectl/test)"
    )

    async def told() -> bool:
        return len(await loop.events("GroupRestarted")) == 4

    await loop.until(told)
    regarding = {
        event["regarding"]["name"]: event["regarding"]["uid"] for event in await loop.events("GroupRestarted")
    }
    assert regarding == await loop.uids(0)


async def test_a_restarted_container_recreates_its_group(loop: Loop) -> None:
    await loop.apply(manifest(replicas=1, size=2))
    await loop.available()
    before = await loop.uids(0)
    await loop.node.report("x-0-1", restarts=1)

    async def recreated() -> bool:
        now = await loop.uids(0)
        return now.keys() == before.keys() and not set(now.values()) & set(before.values())

    await loop.until(recreated)
    await loop.available()
    (event,) = await loop.until(lambda: loop.events("RecreateGroup"))
    assert event["note"].endswith("container engine of pod x-0-1 on fake restarted: exit code 137, signal 9")


async def test_restart_policy_none_replaces_only_the_deleted_worker(loop: Loop) -> None:
    await loop.apply(manifest(replicas=1, size=3, restartPolicy="None"))
    await loop.available()
    before = await loop.uids(0)
    await loop.client.delete(PODS, "x-0-1", "default")

    async def replaced() -> bool:
        return (await loop.uids(0)).get("x-0-1", before["x-0-1"]) != before["x-0-1"]

    await loop.until(replaced)
    await loop.available()
    after = await loop.uids(0)
    assert {name for name in after if after[name] == before[name]} == {"x-0", "x-0-2"}


async def test_the_scale_subresource_changes_the_number_of_groups(loop: Loop) -> None:
    await loop.apply(manifest(replicas=1, size=2))
    await loop.available()
    first = await loop.uids(0)
    await loop.client.set_scale(LEADER_WORKER_SETS, "x", 3, "default")
    await loop.available()
    assert len(await loop.pods()) == 6
    await loop.client.set_scale(LEADER_WORKER_SETS, "x", 1, "default")

    async def shrunk() -> bool:
        return set(await loop.pods()) == set(first)

    await loop.until(shrunk)
    assert await loop.uids(0) == first


async def test_leader_ready_starts_workers_after_the_leader(loop: Loop) -> None:
    loop.node.paused = {"x-0"}
    await loop.apply(manifest(replicas=1, size=3, startupPolicy="LeaderReady"))

    async def progressing() -> bool:
        return condition(await loop.set(), "Progressing") == "True"

    await loop.until(progressing)
    assert list(await loop.pods()) == ["x-0"]
    loop.node.resume()
    await loop.available()
    assert len(await loop.pods()) == 3


async def test_a_template_change_rolls_from_the_highest_group(loop: Loop) -> None:
    await loop.apply(manifest(replicas=2, size=2))
    await loop.available()
    changed = template(container() | {"image": "busybox:2"})
    await loop.apply(manifest(replicas=2, size=2, workerTemplate=changed))

    async def rolled() -> bool:
        pods = (await loop.pods()).values()
        return len(pods) == 4 and {pod["spec"]["containers"][0]["image"] for pod in pods} == {"busybox:2"}

    await loop.until(rolled)
    lws = await loop.available()
    assert condition(lws, "UpdateInProgress") == "False"
    assert lws["status"]["updatedReplicas"] == 2


async def test_a_deleted_service_comes_back(loop: Loop) -> None:
    await loop.apply(manifest())
    await loop.available()
    await loop.client.delete(SERVICES, "x", "default")

    async def back() -> bool:
        return await loop.services() == ["x"]

    await loop.until(back)


async def test_pods_get_their_volume_claims(loop: Loop) -> None:
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    await loop.apply(manifest(replicas=1, size=2, volumeClaimTemplates=[claim]))
    await loop.available()
    claims = await loop.client.list(PERSISTENT_VOLUME_CLAIMS, "default")
    assert sorted(one["metadata"]["name"] for one in claims.items) == ["data-x-0", "data-x-0-1"]


async def test_foreign_objects_of_the_same_name_are_left_alone_and_named(loop: Loop) -> None:
    foreign = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "x-0-1", "namespace": "default"},
        "spec": {"containers": [{"name": "a", "image": "busybox:1"}]},
    }
    made = await loop.client.create(PODS, foreign)
    await loop.apply(manifest(replicas=1, size=2))

    async def blocked() -> bool:
        return condition(await loop.set(), "kajitori.dev/Blocked") == "True"

    await loop.until(blocked)
    (event,) = await loop.until(lambda: loop.events("FailedCreate"))
    assert "Pod x-0-1 is of somebody else" in event["note"]
    pods = await loop.pods()
    assert pods["x-0-1"]["metadata"]["uid"] == made["metadata"]["uid"]


async def test_a_pod_template_that_the_server_refuses_is_shown_on_the_set(loop: Loop) -> None:
    broken = template(restartPolicy="Sometimes")
    await loop.apply(manifest(replicas=1, size=1, workerTemplate=broken))

    async def told() -> bool:
        return condition(await loop.set(), "kajitori.dev/Blocked") == "True"

    await loop.until(told)


async def test_requests_stay_in_proportion_to_the_pods(loop: Loop) -> None:
    loop.requests.clear()
    await loop.apply(manifest(replicas=2, size=8))
    await loop.available()
    assert loop.requests["POST pods"] == 16
    assert loop.requests.total() <= 2 * 16 + 10, loop.requests


async def test_the_missions_manifest_comes_up_unmodified(loop: Loop) -> None:
    path = Path(__file__).parents[3] / "examples" / "leader-worker-set" / "leader-worker-set.yaml"
    lws = yaml.safe_load(path.read_text())
    await loop.client.apply(
        LEADER_WORKER_SETS, lws, namespace="default", field_manager="t", field_validation="Strict"
    )
    await loop.available("deepseek-r1-inference")
    pods = await loop.pods()
    assert len(pods) == 16
    worker = pods["deepseek-r1-inference-1-7"]["spec"]["containers"][0]
    assert worker["env"][0] == {
        "name": "LWS_LEADER_ADDRESS",
        "value": "deepseek-r1-inference-1.deepseek-r1-inference.default",
    }
    assert worker["resources"]["limits"] == {"nvidia.com/gpu": "1"}


async def test_deleting_the_set_in_the_foreground_waits_for_every_pod(loop: Loop) -> None:
    await loop.apply(manifest(replicas=2, size=2))
    await loop.available()
    config = load_config(str(loop.server.kubeconfig))
    async with Client(config, user_agent="collector") as client:
        runtime = Runtime(client, grace_seconds=0.0)
        garbage.register(runtime)
        stop = asyncio.Event()
        collecting = asyncio.ensure_future(runtime.run(stop))
        loop.node.paused = {"x-1-1"}
        await loop.client.delete(LEADER_WORKER_SETS, "x", "default", propagation_policy="Foreground")

        async def one_left() -> bool:
            return list(await loop.pods()) == ["x-1-1"]

        await loop.until(one_left)
        assert (await loop.set())["metadata"]["finalizers"] == ["foregroundDeletion"]
        loop.node.resume()

        async def gone() -> bool:
            sets = await loop.client.list(LEADER_WORKER_SETS, "default")
            return not sets.items and not await loop.pods() and not await loop.services()

        await loop.until(gone)
        stop.set()
        await asyncio.gather(collecting, return_exceptions=True)
    assert not await loop.events("RecreateGroup")


async def test_a_set_of_the_same_name_begins_when_the_old_ones_pods_are_gone(loop: Loop) -> None:
    await loop.apply(manifest(replicas=1, size=2))
    await loop.available()
    before = await loop.uids(0)
    config = load_config(str(loop.server.kubeconfig))
    async with Client(config, user_agent="collector") as client:
        runtime = Runtime(client, grace_seconds=0.0)
        garbage.register(runtime)
        stop = asyncio.Event()
        collecting = asyncio.ensure_future(runtime.run(stop))
        await loop.client.delete(LEADER_WORKER_SETS, "x", "default")
        await loop.apply(manifest(replicas=1, size=2))
        await loop.available()
        stop.set()
        await asyncio.gather(collecting, return_exceptions=True)
    assert not set((await loop.uids(0)).values()) & set(before.values())
    assert not await loop.events("FailedCreate")
