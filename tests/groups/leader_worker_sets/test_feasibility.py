"""Whether a group could ever be placed, and how the set says that it cannot."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from tests.groups.leader_worker_sets.conftest import PlannedCluster, a_set, container, template
from tests.groups.leader_worker_sets.loop import Loop, condition, running_loop

from kajitori.api.leaderworkerset import v1
from kajitori.api.resource import NODES, PODS
from kajitori.groups.leader_worker_sets.feasibility import DOES_NOT_FIT, Node, Nodes
from kajitori.groups.leader_worker_sets.revisions import Templates

GPU = "nvidia.com/gpu"


def node(name: str, gpus: int = 8, *, taint: str = "", **labels: str) -> Node:
    return msgspec.convert(
        {
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **labels}},
            "spec": {"taints": [{"key": taint, "effect": "NoSchedule"}] if taint else []},
            "status": {"allocatable": {"cpu": "64", "memory": "256Gi", "pods": "110", GPU: str(gpus)}},
        },
        Node,
    )


def wants(gpus: int, **spec: Any) -> dict[str, Any]:
    return template(container(resources={"limits": {GPU: str(gpus)}}), **spec)


def reason(nodes: list[Node], *, size: int = 2, replicas: int = 1, **fields: Any) -> str:
    """Why it does not fit; empty if it does."""
    lws = msgspec.convert(a_set(size=size, replicas=replicas, **fields), v1.LeaderWorkerSet)
    found = Nodes(nodes).cannot_fit(lws, Templates("hash", lws.spec.leader_worker_template, "Shared"))
    return str(found) if found else ""


def racks(*counts: int, gpus: int = 8) -> list[Node]:
    """Racks of so many nodes each."""
    return [
        node(f"n-{rack}-{number}", gpus, rack=f"r{rack}")
        for rack, count in enumerate(counts)
        for number in range(count)
    ]


def exclusive(key: str = "rack") -> dict[str, Any]:
    return {"annotations": {v1.EXCLUSIVE_TOPOLOGY_ANNOTATION: key}}


def test_more_than_the_largest_node_has_is_named_with_both_numbers() -> None:
    told = reason([node("a", 4), node("b", 8)], workerTemplate=wants(9))
    assert "a leader asks for 9 nvidia.com/gpu and no node has more than 8 (2 nodes looked at)" in told
    assert "ask for less for each pod" in told


def test_a_device_that_no_node_has_is_named() -> None:
    told = reason([node("a", 0)], workerTemplate=wants(1), leaderTemplate=template())
    assert "a worker asks for 1 nvidia.com/gpu and no node has any" in told


def test_a_group_that_all_nodes_together_cannot_hold_is_named_with_what_they_hold() -> None:
    told = reason([node("a"), node("b")], size=3, workerTemplate=wants(8))
    assert (
        "a group has 3 pods of 8 nvidia.com/gpu, and all 2 nodes that could take them hold 2 such pods"
        in told
    )
    assert not reason([node("a"), node("b"), node("c")], size=3, workerTemplate=wants(8))


def test_a_leader_that_asks_for_little_takes_the_place_where_it_costs_least() -> None:
    nodes = [node("a", 8), node("b", 8)]
    assert not reason(nodes, size=3, leaderTemplate=template(), workerTemplate=wants(8))
    one_more = wants(8)
    leader = template(container(resources={"requests": {GPU: "1"}}))
    assert reason(nodes, size=3, leaderTemplate=leader, workerTemplate=one_more)
    assert not reason([*nodes, node("c", 1)], size=3, leaderTemplate=leader, workerTemplate=one_more)


def test_a_topology_that_no_node_has_is_named() -> None:
    assert "no node that could take the pods has the label rack" in reason(
        [node("a"), node("b")], **exclusive()
    )


def test_a_group_larger_than_any_domain_is_named_with_the_largest() -> None:
    told = reason(racks(2, 3), size=4, workerTemplate=wants(8), **exclusive())
    assert "4 pods of 8 nvidia.com/gpu that must share one value of rack" in told
    assert "the largest of 2 such domains holds 3 such pods" in told
    assert not reason(racks(2, 4), size=4, workerTemplate=wants(8), **exclusive())


def test_more_groups_than_domains_that_can_hold_one_are_named() -> None:
    told = reason(racks(2, 2, 1), size=2, replicas=3, workerTemplate=wants(8), **exclusive())
    assert "3 groups want a value of rack for each alone, and 2 of 3 domains can hold one" in told
    assert not reason(racks(2, 2, 2), size=2, replicas=3, workerTemplate=wants(8), **exclusive())


def test_a_subgroup_larger_than_any_domain_is_named() -> None:
    fields = {
        "annotations": {v1.SUBGROUP_EXCLUSIVE_TOPOLOGY_ANNOTATION: "rack"},
        "subGroupPolicy": {"subGroupSize": 4},
        "workerTemplate": wants(8),
    }
    assert "a subgroup has 4 pods of 8 nvidia.com/gpu" in reason(racks(2, 2, 2, 2), size=8, **fields)
    assert not reason(racks(4, 4), size=8, **fields)


def test_a_label_that_no_node_has_is_named_with_those_that_there_are() -> None:
    told = reason([node("a", gpu="h100")], workerTemplate=template(nodeSelector={"gpu": "h200"}))
    assert "wants a node with the label gpu=h200 and none of 1 node has it; nodes have h100" in told


def test_a_taint_that_is_not_tolerated_is_named_and_one_that_passes_is_not() -> None:
    assert "tolerates no taint of the 1 node that it may go to (gpu=:NoSchedule)" in reason(
        [node("a", taint="gpu")]
    )
    tolerant = template(tolerations=[{"key": "gpu", "operator": "Exists"}])
    assert not reason([node("a", taint="gpu")], workerTemplate=tolerant)
    assert not reason([node("a", taint="node.kubernetes.io/unschedulable")])
    assert not reason([node("a", taint="node.kubernetes.io/not-ready")])


def test_a_cluster_without_nodes_says_so() -> None:
    assert "the cluster has no nodes" in reason([])


def test_pods_that_ask_for_nothing_fit_anywhere() -> None:
    assert not reason([msgspec.convert({"metadata": {"name": "bare"}}, Node)], size=9)


def test_the_set_says_so_while_pods_of_it_find_no_node_and_not_longer() -> None:
    cluster = PlannedCluster(a_set(replicas=1, size=2, workerTemplate=wants(9)))
    nodes = Nodes([node("a")])
    cluster.memory["nodes"] = nodes
    cluster.reconcile()
    assert DOES_NOT_FIT not in cluster.conditions()
    for pod in cluster.pods.values():
        pod["status"] = {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False"}]}
    plan = cluster.reconcile()
    assert cluster.conditions()[DOES_NOT_FIT] == "True"
    assert plan.again_after_seconds is not None
    assert cluster.reasons().count("DoesNotFit") == 1
    cluster.run_all()
    cluster.reconcile()
    assert cluster.conditions()[DOES_NOT_FIT] == "False"


@pytest.fixture
async def loop() -> AsyncIterator[Loop]:
    async with running_loop() as loop:
        yield loop


async def test_the_controller_says_it_within_a_look_and_takes_it_back_when_pods_are_placed(
    loop: Loop,
) -> None:
    loop.node.paused |= {"x-0", "x-0-1"}
    sizes = {"status": {"allocatable": {"cpu": "8", GPU: "8"}, "capacity": {"cpu": "8", GPU: "8"}}}

    async def nodes() -> Any:
        return (await loop.client.list(NODES)).items

    await loop.until(nodes)
    await loop.client.patch(NODES, "fake", sizes, subresource="status")
    await loop.apply(
        {
            **a_set(replicas=1, size=2, workerTemplate=wants(9)),
            "metadata": {"name": "x", "namespace": "default"},
        }
    )
    unplaced = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}

    async def refused() -> bool:
        pods = await loop.pods()
        for name in pods:
            await loop.client.patch(
                PODS, name, {"status": {"conditions": [unplaced]}}, namespace="default", subresource="status"
            )
        return len(pods) == 2

    await loop.until(refused)

    async def said() -> bool:
        return condition(await loop.set(), DOES_NOT_FIT) == "True"

    await loop.until(said)

    async def noted() -> Any:
        return await loop.events("DoesNotFit")  # written after the status

    await loop.until(noted)
    (told,) = await loop.events("DoesNotFit")
    assert "9 nvidia.com/gpu and no node has more than 8" in told["note"]
    loop.node.resume()
    lws = await loop.available()
    assert condition(lws, DOES_NOT_FIT) == "False"
