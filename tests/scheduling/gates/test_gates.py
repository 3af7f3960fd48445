"""Gangs behind gates, on both servers: placed as a whole, by whatever scheduler binds them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kajitori.api.resource import LEADER_WORKER_SETS, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS
from kajitori.model.gang import GATE, RELEASED_ANNOTATION, Gang
from tests.groups.leader_worker_sets.loop import condition
from tests.scheduling.gates.racks import (
    GPU,
    OWNER,
    RACK,
    all_placed,
    delete_all,
    gang_pod,
    make,
    places,
    pods_of,
    racks_of,
    running_gates,
    running_racks,
    told,
)
from tests.servers import Server
from tests.waiting import eventually


def gang(name: str, size: int = 8) -> Gang:
    return Gang(name=name, size=size, required_topology=RACK)


def gates_of(pod: dict[str, Any]) -> list[str]:
    return [gate["name"] for gate in pod["spec"].get("schedulingGates", ())]


async def test_a_gang_of_eight_goes_to_the_one_rack_that_holds_all_of_it_and_the_next_waits_as_one(
    server: Server, namespace: str
) -> None:
    async with running_racks(server, namespace), running_gates(server):
        stray = gang_pod(namespace, gang("stray", 1), 0, gated=False, nodeName=f"{namespace}-r1-1")
        stray["metadata"] |= {"labels": {}, "annotations": {}}
        await make(server, stray)
        await make(server, *(gang_pod(namespace, gang("a"), number) for number in range(7)))
        # Seven of eight are no gang.
        await asyncio.sleep(0.3)
        assert places_known(await places(server, namespace, "a-")) == 0
        await make(server, gang_pod(namespace, gang("a"), 7))
        nodes = await eventually(lambda: all_placed(server, namespace, "a-", 8), "gang a is placed")
        assert racks_of(namespace, nodes) == {"r2"}
        assert sorted(nodes) == sorted(
            f"{namespace}-r2-{number}" for number in (1, 2, 3, 4) for _ in range(2)
        )

        await make(server, *(gang_pod(namespace, gang("b"), number) for number in range(8)))
        events = await eventually(
            lambda: told(server, namespace, "FailedScheduling"), "b is told why it waits"
        )
        event = next(event for event in events if event["regarding"]["name"] == "b-0")
        assert GPU in event["note"]
        assert all(gates_of(pod) == [GATE] for pod in await pods_of(server, namespace, "b-"))
        await delete_all(server, namespace, "a-")
        nodes = await eventually(lambda: all_placed(server, namespace, "b-", 8), "gang b is placed")
        assert racks_of(namespace, nodes) == {"r2"}


def places_known(nodes: list[str]) -> int:
    return sum(bool(node) for node in nodes)


async def test_two_gangs_that_contend_for_one_rack_get_it_one_after_the_other(
    server: Server, namespace: str
) -> None:
    async with running_racks(server, namespace, racks=1), running_gates(server):
        pods = [gang_pod(namespace, gang(name), number) for number in range(8) for name in ("a", "b")]
        await asyncio.gather(*(server.client.create(PODS, pod) for pod in pods))

        async def winner() -> str:
            found = [name for name in "ab" if await all_placed(server, namespace, f"{name}-", 8)]
            return found[0] if found else ""

        first = await eventually(winner, "one gang is placed")
        second = "b" if first == "a" else "a"
        assert places_known(await places(server, namespace, f"{second}-")) == 0
        await delete_all(server, namespace, f"{first}-")
        await eventually(lambda: all_placed(server, namespace, f"{second}-", 8), "the other one is placed")


async def test_what_a_killed_process_opened_in_part_is_finished_in_the_same_rack(
    server: Server, namespace: str
) -> None:
    if server.name == "embedded":
        pytest.skip("its gates run in a process of their own that tests do not kill")
    async with running_racks(server, namespace):
        for writes in (1, 4, 7):
            await make(server, *(gang_pod(namespace, gang("a"), number) for number in range(8)))
            async with running_gates(server, writes=writes):

                async def opened(writes: int = writes) -> bool:
                    return sum(not gates_of(pod) for pod in await pods_of(server, namespace, "a-")) == writes

                await eventually(opened, f"{writes} gates are open")
            async with running_gates(server):
                nodes = await eventually(lambda: all_placed(server, namespace, "a-", 8), "the gang is placed")
                assert len(racks_of(namespace, nodes)) == 1
            await delete_all(server, namespace, "a-")

            async def gone() -> bool:
                return not await pods_of(server, namespace, "a-")

            await eventually(gone, "the pods are gone")


def lws(namespace: str, size: int, **template: Any) -> dict[str, Any]:
    pod = {
        "containers": [
            {
                "name": "engine",
                "image": "busybox:1",
                "resources": {"requests": {GPU: "1"}, "limits": {GPU: "1"}},
            }
        ],
        "nodeSelector": {OWNER: namespace},
        **template,
    }
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {
            "name": "deepseek",
            "namespace": namespace,
            "annotations": {
                "leaderworkerset.sigs.k8s.io/exclusive-topology": RACK,
                "groups.kajitori.dev/gang": "Gate",
            },
        },
        "spec": {"replicas": 2, "leaderWorkerTemplate": {"size": size, "workerTemplate": {"spec": pod}}},
    }


async def available(server: Server, namespace: str) -> bool:
    found = await server.client.get(LEADER_WORKER_SETS, "deepseek", namespace)
    return condition(found, "Available") == "True"


@pytest.mark.parametrize("startup", ["LeaderCreated", "LeaderReady"])
async def test_groups_with_exclusive_racks_are_placed_in_racks_of_their_own(
    server: Server, namespace: str, startup: str
) -> None:
    async with running_racks(server, namespace), running_gates(server, with_groups=True):
        wanted = lws(namespace, 4)
        wanted["spec"]["startupPolicy"] = startup
        await server.client.create(LEADER_WORKER_SETS, wanted)
        await eventually(lambda: available(server, namespace), "the set is available")
        racks = [
            racks_of(namespace, await places(server, namespace, f"deepseek-{group}")) for group in (0, 1)
        ]
        assert sorted(map(tuple, racks)) == [("r1",), ("r2",)]
        gated = [
            pod
            for pod in await pods_of(server, namespace)
            if "scheduling.kajitori.dev/gang" in pod["metadata"]["labels"]
        ]
        assert len(gated) == (8 if startup == "LeaderCreated" else 6)


async def test_a_group_whose_place_the_scheduler_refuses_lets_go_of_all_and_is_begun_anew(
    server: Server, namespace: str
) -> None:
    if server.name == "embedded":
        pytest.skip("our scheduler does not look at volumes, by which the real one refuses here")
    async with running_racks(server, namespace), running_gates(server, with_groups=True):
        volume = {"name": "weights", "persistentVolumeClaim": {"claimName": "weights"}}
        wanted = lws(namespace, 2, volumes=[volume])
        wanted["spec"]["replicas"] = 1
        wanted["spec"]["leaderWorkerTemplate"]["leaderTemplate"] = {
            "spec": {**wanted["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"], "volumes": []}
        }
        await server.client.create(LEADER_WORKER_SETS, wanted)
        first = await eventually(lambda: pods_of(server, namespace, "deepseek-0"), "the group is made")
        (event, *_) = await eventually(
            lambda: told(server, namespace, "GangReleased"), "the gang is given up"
        )
        assert "the scheduler refuses" in event["note"]
        assert "not found" in event["note"]
        await eventually(lambda: told(server, namespace, "RecreateGroup"), "the group is begun anew")
        claim = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "weights", "namespace": namespace},
            "spec": {
                "accessModes": ["ReadWriteMany"],
                "storageClassName": "",
                "volumeName": f"weights-{namespace}",
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"weights-{namespace}"},
            "spec": {
                "accessModes": ["ReadWriteMany"],
                "storageClassName": "",
                "capacity": {"storage": "1Gi"},
                "hostPath": {"path": "/tmp"},
                "claimRef": {"namespace": namespace, "name": "weights"},
            },
        }
        await server.client.create(PERSISTENT_VOLUMES, volume)
        try:
            await server.client.create(PERSISTENT_VOLUME_CLAIMS, claim)
            await eventually(lambda: available(server, namespace), "the set is available", 60)
            now = await pods_of(server, namespace, "deepseek-0")
            assert {pod["metadata"]["uid"] for pod in now}.isdisjoint(pod["metadata"]["uid"] for pod in first)
        finally:
            await server.client.delete(PERSISTENT_VOLUMES, f"weights-{namespace}")


async def test_a_set_whose_group_waits_says_so_with_the_numbers(server: Server, namespace: str) -> None:
    async with running_racks(server, namespace, racks=1), running_gates(server, with_groups=True):
        stray = gang_pod(namespace, gang("stray", 1), 0, gated=False, nodeName=f"{namespace}-r1-1")
        stray["metadata"] |= {"labels": {}, "annotations": {}}
        await make(server, stray)
        wanted = lws(namespace, 8)
        wanted["spec"]["replicas"] = 1
        await server.client.create(LEADER_WORKER_SETS, wanted)

        async def said() -> list[dict[str, Any]]:
            events = await told(server, namespace, "FailedScheduling")
            return [event for event in events if event["regarding"]["kind"] == "LeaderWorkerSet"]

        (event, *_) = await eventually(said, "the set has an event")
        assert f"needs 8 places of 1 {GPU} each in one rack" in event["note"]
        assert "has 7" in event["note"]
        assert not any(await places(server, namespace, "deepseek"))
        await server.client.delete(PODS, "stray-0", namespace)
        await eventually(lambda: available(server, namespace), "the set is available")


async def test_a_gang_whose_node_is_gone_before_it_is_bound_is_given_up(
    server: Server, namespace: str
) -> None:
    async with running_racks(server, namespace, racks=1, nodes=1), running_gates(server):
        gone = {"key": "metadata.name", "operator": "In", "values": ["no-such-node"]}
        terms = {"nodeSelectorTerms": [{"matchFields": [gone]}]}
        tied = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
        await make(
            server,
            gang_pod(namespace, gang("a", 2), 0, gated=False, affinity=tied),
            gang_pod(namespace, gang("a", 2), 1),
        )

        async def given_up() -> str:
            (first, second) = await pods_of(server, namespace, "a-")
            assert gates_of(second)
            return first["metadata"]["annotations"].get(RELEASED_ANNOTATION, "")

        why = await eventually(given_up, "the gang is given up")
        assert why == "node no-such-node, which was chosen for it, is gone"
        assert await eventually(lambda: told(server, namespace, "GangReleased"), "an event says so")


async def test_a_gang_that_waited_for_a_pod_to_go_is_placed_when_it_is_gone(
    server: Server, namespace: str
) -> None:
    async with running_racks(server, namespace, racks=1, nodes=1), running_gates(server):
        leaving = gang_pod(namespace, gang("a", 2), 0)
        leaving["metadata"]["finalizers"] = ["example.com/held"]
        await make(server, leaving)
        await server.client.delete(PODS, "a-0", namespace)
        await make(server, *(gang_pod(namespace, gang("a", 2), number) for number in (1, 2)))
        await asyncio.sleep(0.3)
        placed = places_known(await places(server, namespace, "a-"))
        # The real collector of pods, which comes by every 20 s, says of such a pod that it has failed: then it is gone.
        left = await server.client.get(PODS, "a-0", namespace)
        assert placed == 0 or left["status"].get("phase") == "Failed"
        await server.client.patch(PODS, "a-0", {"metadata": {"finalizers": None}}, namespace=namespace)
        await eventually(lambda: all_placed(server, namespace, "a-", 2), "the other two are placed")
