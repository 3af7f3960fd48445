"""The scheduler on the embedded API server, with the rights that it says it needs."""

from __future__ import annotations

import asyncio

from kajitori.api.resource import NODES, PODS
from kajitori.base.errors import Conflict

GPU = "nvidia.com/gpu"


async def test_a_pod_is_bound_and_an_event_says_where(world):
    await world.add_node("a")
    await world.start()
    await world.add_pod("x")
    assert await world.bound("x") == "a"
    assert (await world.scheduled_condition("x"))["status"] == "True"
    (event,) = await world.until(lambda: world.events("x", "Scheduled"), "the event")
    assert event["note"] == "Successfully assigned default/x to a"
    assert event["type"] == "Normal"


async def test_pods_that_were_there_before_the_scheduler_are_bound(world):
    await world.add_node("a")
    await world.add_pod("x")
    await world.start()
    assert await world.bound("x") == "a"


async def test_a_pod_that_no_node_can_take_is_told_why_and_goes_when_one_comes(world):
    await world.add_node("a")
    await world.start()
    await world.add_pod("x", {GPU: "8"})
    condition = await world.waits("x", "no node has any nvidia.com/gpu")
    assert (condition["status"], condition["reason"]) == ("False", "Unschedulable")
    assert condition["message"].startswith("0/1 nodes are available: 1 Insufficient nvidia.com/gpu.")
    (event,) = await world.until(lambda: world.events("x", "FailedScheduling"), "the event")
    assert event["type"] == "Warning"
    assert event["note"] == condition["message"]
    await world.add_node("b", **{GPU: "8"})
    assert await world.bound("x") == "b"
    assert (await world.scheduled_condition("x"))["status"] == "True"


async def test_room_that_a_pod_leaves_is_used(world):
    await world.add_node("a", cpu="1")
    await world.start()
    await world.add_pod("first", {"cpu": "1"})
    await world.bound("first")
    await world.add_pod("deleted", {"cpu": "1"})
    await world.waits("deleted", "Insufficient cpu")
    await world.client.delete(PODS, "first", "default", grace_period_seconds=0)
    assert await world.bound("deleted") == "a"
    await world.add_pod("ended", {"cpu": "1"})
    await world.waits("ended", "Insufficient cpu")
    await world.client.patch(
        PODS, "deleted", {"status": {"phase": "Succeeded"}}, namespace="default", subresource="status"
    )
    assert await world.bound("ended") == "a"


async def test_a_change_of_a_node_is_noticed(world):
    await world.add_node("a")
    await world.client.patch(NODES, "a", {"spec": {"unschedulable": True}})
    await world.start()
    await world.add_pod("x", nodeSelector={"disk": "ssd"})
    await world.waits("x", "node(s) were unschedulable")
    await world.client.patch(NODES, "a", {"spec": {"unschedulable": None}})
    await world.waits("x", "no node has the label disk=ssd")
    await world.client.patch(NODES, "a", {"metadata": {"labels": {"disk": "ssd"}}})
    assert await world.bound("x") == "a"


async def test_a_gated_pod_waits_until_its_gates_are_gone(world):
    await world.add_node("a")
    await world.start()
    await world.add_pod("x", schedulingGates=[{"name": "example.com/hold"}])
    condition = await world.waits("x", "example.com/hold")
    assert condition["reason"] == "SchedulingGated"
    await world.client.patch(PODS, "x", {"spec": {"schedulingGates": []}}, namespace="default")
    assert await world.bound("x") == "a"


async def test_pods_of_another_scheduler_are_left_alone(world):
    await world.add_node("a")
    await world.start()
    await world.add_pod("theirs", schedulerName="volcano")
    await world.add_pod("ours", schedulerName="kajitori")
    await world.bound("ours")
    assert await world.node_of("theirs") == ""
    assert await world.scheduled_condition("theirs") == {}


async def test_many_pods_at_once_fill_the_nodes_exactly(world):
    for name in ("a", "b"):
        await world.add_node(name, **{GPU: "8"})
    scheduler = await world.start()
    await asyncio.gather(*(world.add_pod(f"p{number}", {GPU: "1"}) for number in range(20)))

    async def placed() -> bool:
        pods = (await world.client.list(PODS, "default")).items
        return sum(bool(pod["spec"].get("nodeName")) for pod in pods) == 16

    await world.until(placed, "16 of 20 pods on nodes")
    await world.until(lambda: all_told(world, 4), "4 pods told that they wait")
    pods = (await world.client.list(PODS, "default")).items
    nodes = [pod["spec"].get("nodeName") for pod in pods]
    assert (nodes.count("a"), nodes.count("b")) == (8, 8)
    assert {node.used[GPU] for node in scheduler.state.nodes.values()} == {8}


async def all_told(world, count: int) -> bool:
    pods = (await world.client.list(PODS, "default")).items
    told = [
        c for pod in pods for c in pod["status"].get("conditions", []) if c.get("reason") == "Unschedulable"
    ]
    return len(told) == count


async def test_a_pod_that_someone_else_binds_is_counted_where_it_is(world):
    await world.add_node("a", cpu="1")
    await world.add_node("b", cpu="1")
    scheduler = await world.start()
    await world.add_pod("by-hand", {"cpu": "1"}, schedulerName="by-hand")
    binding = {"metadata": {"name": "by-hand"}, "target": {"kind": "Node", "name": "a"}}
    await world.client.create(PODS, binding, namespace="default", subresource="binding")
    await world.until(lambda: counted(scheduler, "a"), "the scheduler to count the pod")
    await world.add_pod("x", {"cpu": "1"})
    assert await world.bound("x") == "b"


async def counted(scheduler, node: str) -> bool:
    return bool(scheduler.state.nodes[node].pods)


async def test_a_binding_that_is_refused_gives_its_room_back(world, monkeypatch):
    await world.add_node("a", cpu="1")
    scheduler = await world.start()
    create, refused = scheduler._errands._client.create, []

    async def refuse_once(resource, body, **options):
        if options.get("subresource") == "binding" and not refused:
            refused.append(body)
            raise Conflict("as if it had been bound")
        return await create(resource, body, **options)

    monkeypatch.setattr(scheduler._errands._client, "create", refuse_once)
    await world.add_pod("x", {"cpu": "1"})
    assert await world.bound("x") == "a"
    assert refused
    assert scheduler.state.nodes["a"].used["cpu"] == 1000


async def test_after_a_restart_nothing_is_placed_twice(world):
    await world.add_node("a", cpu="2")
    await world.start()
    await world.add_pod("x", {"cpu": "1"})
    await world.bound("x")
    await world.stop()
    await world.add_pod("y", {"cpu": "2"})
    await world.add_pod("z", {"cpu": "1"})
    scheduler = await world.start()
    await world.bound("z")
    await world.waits("y", "Insufficient cpu")
    assert scheduler.state.nodes["a"].used["cpu"] == 2000
