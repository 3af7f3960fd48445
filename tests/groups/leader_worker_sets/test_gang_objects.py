"""Objects of other schedulers, on both servers; and kube-scheduler's own gangs on one that has them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.groups.leader_worker_sets.podgroups import COSCHEDULING, VOLCANO, WORKLOADS, served
from tests.scheduling.gates.racks import GPU, RACK, racks_of, running_racks
from tests.servers import Place, Server, make_namespace
from tests.waiting import eventually
from tests.wire import Api, tls_context
from tools.kubernetes.build import have_go
from tools.kubernetes.control_plane import APISERVER, CONTROLLERS, SCHEDULER, running_control_plane

from kajitori.api.crds import all_crds
from kajitori.api.resource import CUSTOM_RESOURCE_DEFINITIONS, LEADER_WORKER_SETS, PODS, Resource
from kajitori.base.errors import AlreadyExists, NotFound
from kajitori.control.runtime import Runtime
from kajitori.groups.leader_worker_sets import controller
from kajitori.kube.client import Client
from kajitori.kube.config import load_config

TOPOLOGY = "leaderworkerset.sigs.k8s.io/exclusive-topology"
NATIVE = Resource("scheduling.k8s.io", "v1alpha2", "podgroups", "PodGroup")


@contextlib.asynccontextmanager
async def groups(server: Server) -> AsyncIterator[None]:
    """The controller; on the embedded server it runs already."""
    if server.name == "embedded":
        yield
        return
    async with Client(load_config(str(server.kubeconfig)), user_agent="kajitori-controllers") as client:
        runtime = Runtime(client, grace_seconds=2.0)
        controller.register(runtime, audit=False, gang_default="Gate")
        stop = asyncio.Event()
        running = asyncio.ensure_future(runtime.run(stop))
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(running, return_exceptions=True)


def a_set(namespace: str, method: str, *, replicas: int = 2, size: int = 3, **fields: Any) -> dict[str, Any]:
    engine = {
        "name": "engine",
        "image": "busybox:1",
        "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}},
    }
    annotations = fields.pop("annotations", {})
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {
            "name": "x",
            "namespace": namespace,
            "annotations": {"groups.kajitori.dev/gang": method, **annotations},
        },
        "spec": {
            "replicas": replicas,
            "leaderWorkerTemplate": {"size": size, "workerTemplate": {"spec": {"containers": [engine]}}},
            **fields,
        },
    }


async def objects(server: Server, resource: Resource, namespace: str) -> list[dict[str, Any]]:
    with contextlib.suppress(NotFound):
        return (await server.client.list(resource, namespace)).items
    return []


async def pods(server: Server, namespace: str) -> list[dict[str, Any]]:
    return (await server.client.list(PODS, namespace)).items


async def blocked(server: Server, namespace: str, name: str = "x") -> str:
    found = await server.client.get(LEADER_WORKER_SETS, name, namespace)
    said = [
        condition["message"]
        for condition in found.get("status", {}).get("conditions", ())
        if condition["type"] == "kajitori.dev/Blocked" and condition["status"] == "True"
    ]
    return said[0] if said else ""


async def test_no_group_is_begun_while_its_scheduler_is_absent_and_each_has_its_podgroup_once_it_is_there(
    server: Server, namespace: str
) -> None:
    async with groups(server):
        asked = a_set(namespace, "Volcano", annotations={"scheduling.volcano.sh/queue-name": "gold"})
        await server.client.create(LEADER_WORKER_SETS, asked)
        said = await eventually(lambda: blocked(server, namespace), "the set says what is missing")
        assert "serves no PodGroup of scheduling.volcano.sh (v1beta1)" in said
        assert "install Volcano" in said
        assert not await pods(server, namespace)
        async with served(server, VOLCANO):

            async def begun() -> bool:
                return len(await pods(server, namespace)) == 6

            await eventually(begun, "both groups are made")
            found = {one["metadata"]["name"]: one for one in await objects(server, VOLCANO, namespace)}
            for pod in await pods(server, namespace):
                one = found[pod["metadata"]["annotations"]["scheduling.k8s.io/group-name"]]
                assert pod["spec"]["schedulerName"] == "volcano"
                assert one["spec"] == {
                    "minMember": 3,
                    "minResources": {"cpu": "1500m", "memory": "3Gi"},
                    "queue": "gold",
                }
                (owner,) = one["metadata"]["ownerReferences"]
                assert (owner["kind"], owner["name"], owner["controller"]) == ("LeaderWorkerSet", "x", True)
            assert len(found) == 2

            async def free() -> bool:
                return not await blocked(server, namespace)

            await eventually(free, "the set is not blocked any more")
            await server.client.patch(LEADER_WORKER_SETS, "x", {"spec": {"replicas": 1}}, namespace=namespace)

            async def one_left() -> bool:
                return len(await objects(server, VOLCANO, namespace)) == 1

            await eventually(one_left, "the PodGroup of the group that went is gone")
            (before,) = await objects(server, VOLCANO, namespace)
            bigger = {"spec": {"leaderWorkerTemplate": {"size": 2}}}
            await server.client.patch(LEADER_WORKER_SETS, "x", bigger, namespace=namespace)

            async def anew() -> dict[str, Any] | None:
                now = await objects(server, VOLCANO, namespace)
                return now[0] if len(now) == 1 and now[0]["spec"]["minMember"] == 2 else None

            now = await eventually(anew, "the new revision has a PodGroup of its size, the old one none")
            assert now["metadata"]["name"] != before["metadata"]["name"]
            await server.client.delete(LEADER_WORKER_SETS, "x", namespace)
            if server.name == "real":
                # Its garbage collector looks for new kinds every half minute.
                return

            async def none() -> bool:
                return not await objects(server, VOLCANO, namespace)

            await eventually(none, "PodGroups go with their set")


async def test_a_kind_that_is_taken_away_again_is_missed_and_said_to_be(
    server: Server, namespace: str
) -> None:
    async with groups(server):
        async with served(server, VOLCANO):
            await server.client.create(LEADER_WORKER_SETS, a_set(namespace, "Volcano", replicas=1))

            async def begun() -> bool:
                return len(await pods(server, namespace)) == 3

            await eventually(begun, "the group is made")
        await server.client.patch(LEADER_WORKER_SETS, "x", {"spec": {"replicas": 2}}, namespace=namespace)

        async def missed() -> bool:
            return "serves no PodGroup of scheduling.volcano.sh" in await blocked(server, namespace)

        await eventually(missed, "the set says what is missing")
        assert len(await pods(server, namespace)) == 3


async def test_a_podgroup_of_somebody_else_is_left_alone_and_named(server: Server, namespace: str) -> None:
    async with groups(server), served(server, COSCHEDULING):
        asked = a_set(namespace, "Coscheduling", replicas=1, startupPolicy="LeaderReady")
        await server.client.create(LEADER_WORKER_SETS, asked)

        async def made() -> dict[str, Any] | None:
            found = await objects(server, COSCHEDULING, namespace)
            return found[0] if found else None

        first = await eventually(made, "the PodGroup is made")
        # The leader goes first, alone; the two workers are the gang.
        assert first["spec"]["minMember"] == 2
        assert first["spec"]["minResources"] == {"cpu": "1", "memory": "2Gi"}
        # Of equal templates the revision is the same.
        name = "y" + first["metadata"]["name"].removeprefix("x")
        foreign = {
            "apiVersion": COSCHEDULING.api_version,
            "kind": "PodGroup",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"minMember": 7},
        }
        await server.client.create(COSCHEDULING, foreign)
        asked["metadata"]["name"] = "y"
        await server.client.create(LEADER_WORKER_SETS, asked)
        said = await eventually(lambda: blocked(server, namespace, "y"), "the set says whose it is")
        assert f"PodGroup {name}" in said
        assert not [pod for pod in await pods(server, namespace) if pod["metadata"]["name"].startswith("y")]
        there = await server.client.get(COSCHEDULING, name, namespace)
        assert there["spec"]["minMember"] == 7


async def test_kueues_record_of_a_group_that_ends_is_deleted_so_that_its_pods_can_go(
    server: Server, namespace: str
) -> None:
    """Kueue's part is played here: a finalizer on each pod, as long as the Workload is there."""
    async with groups(server), served(server, WORKLOADS):
        queued = a_set(namespace, "Kueue", replicas=1, size=2)
        queued["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "team"}
        await server.client.create(LEADER_WORKER_SETS, queued)

        async def group() -> str:
            found = await pods(server, namespace)
            names = {pod["metadata"]["labels"].get("kueue.x-k8s.io/pod-group-name", "") for pod in found}
            return names.pop() if len(found) == 2 and len(names) == 1 else ""

        first = await eventually(group, "both pods are made")
        await admit(server, namespace, first)
        await server.client.delete(PODS, "x-0-1", namespace)
        await eventually(lambda: let_go(server, namespace, first), "the Workload is deleted")

        async def again() -> str:
            now = await group()
            return now if now != first else ""

        second = await eventually(again, "the group is begun anew under another name")
        await admit(server, namespace, second)
        await server.client.delete(LEADER_WORKER_SETS, "x", namespace)
        await eventually(lambda: let_go(server, namespace, second), "the Workload is deleted after its set")


async def admit(server: Server, namespace: str, group: str) -> None:
    body = {
        "apiVersion": WORKLOADS.api_version,
        "kind": "Workload",
        "metadata": {"name": group, "namespace": namespace},
        "spec": {"queueName": "team"},
    }
    await server.client.create(WORKLOADS, body)
    for pod in await pods(server, namespace):
        held = {"metadata": {"finalizers": ["kueue.x-k8s.io/managed"]}}
        await server.client.patch(PODS, pod["metadata"]["name"], held, namespace=namespace)


async def let_go(server: Server, namespace: str, group: str) -> bool:
    """Whether the Workload is gone; the pods' finalizers then go as well."""
    if any(one["metadata"]["name"] == group for one in await objects(server, WORKLOADS, namespace)):
        return False
    for pod in await pods(server, namespace):
        with contextlib.suppress(NotFound):
            await server.client.patch(
                PODS, pod["metadata"]["name"], {"metadata": {"finalizers": None}}, namespace=namespace
            )
    return True


GATES = "--feature-gates=GenericWorkload=true,GangScheduling=true,TopologyAwareWorkloadScheduling=true"


@pytest.fixture
async def native(tmp_path: Path) -> AsyncIterator[Server]:
    """A real control plane whose own scheduler knows gangs."""
    if not have_go():
        pytest.skip("NOT TESTED: Go is not installed, so nothing was tried on a real kube-scheduler")
    flags = {
        APISERVER: [GATES, "--runtime-config=scheduling.k8s.io/v1alpha2=true"],
        SCHEDULER: [GATES],
        CONTROLLERS: [GATES],
    }
    with running_control_plane(tmp_path, flags=flags) as plane:
        place = Place("real", tmp_path, plane.server, plane.kubeconfig, plane.processes)
        async with Client(load_config(str(plane.kubeconfig)), user_agent="test") as client:
            server = Server(place, client, Api(plane.server, tls_context(plane.kubeconfig)))
            (crd,) = [crd for crd in all_crds() if crd["spec"]["names"]["kind"] == "LeaderWorkerSet"]
            with contextlib.suppress(AlreadyExists):
                await client.create(CUSTOM_RESOURCE_DEFINITIONS, crd)
            try:
                yield server
            finally:
                await server.close()


async def test_kube_schedulers_own_gangs_place_two_groups_in_racks_of_their_own_and_none_of_the_third(
    native: Server,
) -> None:
    await make_namespace(native, "gangs")
    async with running_racks(native, "gangs", racks=2, nodes=2, gpus=2), groups(native):
        asked = a_set("gangs", "Native", replicas=3, size=3, annotations={TOPOLOGY: RACK})
        template = asked["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]
        template["containers"][0]["resources"] = {"requests": {GPU: "1"}, "limits": {GPU: "1"}}
        await native.client.create(LEADER_WORKER_SETS, asked)

        async def placed() -> list[str]:
            found = [pod for pod in await pods(native, "gangs") if pod["spec"].get("nodeName")]
            return [pod["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/group-index"] for pod in found]

        async def two_whole() -> bool:
            return len(await placed()) == 6

        await eventually(two_whole, "two groups are placed")

        async def refused() -> bool:
            waiting = [pod for pod in await pods(native, "gangs") if not pod["spec"].get("nodeName")]
            return len(waiting) == 3 and all(
                any(one.get("reason") == "Unschedulable" for one in pod["status"].get("conditions", ()))
                for pod in waiting
            )

        await eventually(refused, "the third one is refused as a whole")
        racks: dict[str, set[str]] = {}
        for pod in await pods(native, "gangs"):
            group = pod["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/group-index"]
            if node := pod["spec"].get("nodeName"):
                racks.setdefault(group, set()).update(racks_of("gangs", [node]))
        assert sorted(map(sorted, racks.values())) == [["r1"], ["r2"]]
        found = {one["metadata"]["name"]: one["spec"] for one in await objects(native, NATIVE, "gangs")}
        for pod in await pods(native, "gangs"):
            spec = found[pod["spec"]["schedulingGroup"]["podGroupName"]]
            assert spec["schedulingPolicy"] == {"gang": {"minCount": 3}}
            assert spec["schedulingConstraints"] == {"topology": [{"key": RACK}]}
