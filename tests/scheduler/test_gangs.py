"""Gangs on the embedded API server: bound all or none, and never half for long."""

from __future__ import annotations

import asyncio

from kajitori.api.resource import NODES, PODS, Resource
from kajitori.base.errors import Conflict
from kajitori.laptop.scheduler.gathering import PATIENCE_SECONDS, Gathering
from kajitori.model.gang import Gang

from ..scheduling.test_gangs import gang_of_pods

GPU = "nvidia.com/gpu"
RACK = "kajitori.dev/rack"
PRIORITY_CLASSES = Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", namespaced=False)


async def test_a_gang_is_bound_once_its_last_pod_is_there(world):
    await world.add_node("a", **{GPU: "8"})
    await world.start()
    gang = Gang(name="g", size=4)
    await world.add_gang(gang, range(3), {GPU: "1"})
    await world.waits("g-0", "gang g has 3 of its 4 pods")
    assert set(await world.nodes_of(gang)) == {""}
    await world.add_gang(gang, [3], {GPU: "1"})
    assert set(await world.all_bound(gang)) == {"a"}


async def test_of_two_gangs_that_do_not_fit_together_one_waits_whole_until_the_other_has_gone(world):
    for name in "ab":
        await world.add_node(name, **{GPU: "4"})
    first, second = Gang(name="f", size=6), Gang(name="s", size=6)
    # They come mixed, and before anybody looks.
    for number in range(6):
        await world.add_gang(first, [number], {GPU: "1"})
        await world.add_gang(second, [number], {GPU: "1"})
    await world.start()
    await world.all_bound(first)
    condition = await world.waits("s-5", "gang s needs 6 places of 1 nvidia.com/gpu each")
    assert "all nodes together have 2. 4 more places there would do." in condition["message"]
    for number in range(6):
        await world.waits(f"s-{number}", condition["message"])
    assert set(await world.nodes_of(second)) == {""}
    for number in range(6):
        await world.client.delete(PODS, f"f-{number}", "default", grace_period_seconds=0)
    await world.all_bound(second)


async def test_a_gang_stays_in_one_rack_and_says_which_comes_closest_where_none_holds_it(world):
    for number in range(4):
        await world.add_node(f"n{number}", {RACK: f"r{number // 2}"}, **{GPU: "4"})
    await world.start()
    gang = Gang(name="g", size=8, required_topology=RACK)
    await world.add_gang(gang, range(8), {GPU: "1"})
    assert set(await world.all_bound(gang)) in ({"n0", "n1"}, {"n2", "n3"})
    larger = Gang(name="l", size=9, required_topology=RACK)
    await world.add_gang(larger, range(9), {GPU: "1"})
    condition = await world.waits("l-0", "in one rack; the best rack (r")
    assert "No rack will ever do: the largest has 8 when it is empty." in condition["message"]


async def test_a_gated_pod_is_not_there_yet(world):
    await world.add_node("a", **{GPU: "8"})
    await world.start()
    gang = Gang(name="g", size=2)
    await world.add_gang(gang, [0], {GPU: "1"}, schedulingGates=[{"name": "example.com/hold"}])
    await world.add_gang(gang, [1], {GPU: "1"})
    await world.waits("g-1", "gang g has 1 of its 2 pods")
    await world.client.patch(PODS, "g-0", {"spec": {"schedulingGates": []}}, namespace="default")
    await world.all_bound(gang)


async def test_what_could_not_be_bound_in_the_middle_follows_the_others(world, monkeypatch):
    for number in range(4):
        await world.add_node(f"n{number}", {RACK: f"r{number // 2}"}, **{GPU: "2"})
    scheduler = await world.start()
    client, refused = scheduler._errands._client, []
    create = client.create

    async def refuse_some(resource, body, **options):
        name = body["metadata"].get("name", "")
        if options.get("subresource") == "binding" and name in ("g-1", "g-2") and refused.count(name) < 2:
            refused.append(name)
            raise Conflict("as if it had been bound")
        return await create(resource, body, **options)

    monkeypatch.setattr(client, "create", refuse_some)
    gang = Gang(name="g", size=4)
    await world.add_gang(gang, range(4), {GPU: "1"})
    nodes = await world.all_bound(gang)
    assert set(nodes) in ({"n0", "n1"}, {"n2", "n3"})
    assert len(refused) == 4


async def test_a_pod_that_replaces_one_of_a_gang_is_bound_beside_the_others(world):
    for number in range(4):
        await world.add_node(f"n{number}", {RACK: f"r{number // 2}"}, **{GPU: "2"})
    await world.start()
    gang = Gang(name="g", size=4)
    await world.add_gang(gang, range(4), {GPU: "1"})
    nodes = await world.all_bound(gang)
    gone = await world.bound("g-2")
    await world.client.delete(PODS, "g-2", "default", grace_period_seconds=0)
    await world.add_gang(gang, [2], {GPU: "1"})
    assert await world.bound("g-2") == gone
    assert sorted(await world.all_bound(gang)) == sorted(nodes)


async def test_a_node_that_vanishes_does_not_hold_the_rest_of_a_gang_up(world):
    await world.add_node("n0", {RACK: "r0"}, **{GPU: "2"})
    await world.add_node("n1", {RACK: "r0"}, **{GPU: "2"})
    await world.start()
    gang = Gang(name="g", size=4)
    await world.add_gang(gang, range(4), {GPU: "1"})
    await world.all_bound(gang)
    await world.client.delete(NODES, "n1")
    lost = [name for name in ("g-0", "g-1", "g-2", "g-3") if await world.node_of(name) == "n1"]
    for name in lost:
        await world.client.delete(PODS, name, "default", grace_period_seconds=0)
    await world.add_gang(gang, [int(name[-1]) for name in lost], {GPU: "1"})
    await world.waits(lost[0], "gang g needs 2 more places of 1 nvidia.com/gpu each")
    await world.add_node("n2", {RACK: "r0"}, **{GPU: "2"})
    await world.all_bound(gang)


async def test_a_gang_makes_way_for_a_more_important_one_as_a_whole(world):
    for name in "abc":
        await world.add_node(name, **{GPU: "4"})
    scheduler = await world.start()
    low, high = Gang(name="low", size=6), Gang(name="high", size=8)
    priorities = {"low": 1, "high": 5}
    for name, value in priorities.items():
        body = {"metadata": {"name": name}, "value": value}
        await world.client.create(PRIORITY_CLASSES, body)
    await world.add_gang(low, range(6), {GPU: "1"}, priorityClassName="low", terminationGracePeriodSeconds=0)
    await world.all_bound(low)
    await world.add_gang(high, range(8), {GPU: "1"}, priorityClassName="high")

    async def low_is_told_to_go() -> bool:
        pods = [await world.events(f"low-{number}", "Preempted") for number in range(6)]
        return all(pods)

    await world.until(low_is_told_to_go, "the whole gang to be told to go")
    await world.all_bound(high)
    assert scheduler.state.group_pods("default/low") == {}


async def test_half_a_gang_that_a_killed_scheduler_left_behind_is_completed(world):
    await world.add_node("a", **{GPU: "4"})
    gang = Gang(name="g", size=4)
    await world.add_gang(gang, range(4), {GPU: "1"})
    for number in range(2):
        binding = {"metadata": {"name": f"g-{number}"}, "target": {"kind": "Node", "name": "a"}}
        await world.client.create(PODS, binding, namespace="default", subresource="binding")
    await world.start()
    await world.all_bound(gang)


async def test_wherever_a_scheduler_is_killed_the_next_one_completes_the_gang_in_its_rack(world, monkeypatch):
    for number in range(4):
        await world.add_node(f"n{number}", {RACK: f"r{number // 2}"}, **{GPU: "2"})
    for bindings in range(4):
        gang = Gang(name=f"g{bindings}", size=4, required_topology=RACK)
        client, bound = world.scheduler_client, []
        create = client.create

        async def die_after(resource, body, create=create, bound=bound, bindings=bindings, **options):
            if options.get("subresource") == "binding":
                bound.append(body)
                if len(bound) > bindings:
                    await asyncio.Event().wait()
            return await create(resource, body, **options)

        with monkeypatch.context() as patched:
            patched.setattr(client, "create", die_after)
            await world.start()
            await world.add_gang(gang, range(4), {GPU: "1"})
            await world.until(
                lambda bound=bound, bindings=bindings: over(bound, bindings), "the fatal binding"
            )
            await world.stop()
        await world.start()
        assert set(await world.all_bound(gang)) in ({"n0", "n1"}, {"n2", "n3"})
        await world.stop()
        for number in range(4):
            await world.client.delete(PODS, f"{gang.name}-{number}", "default", grace_period_seconds=0)


async def over(bound, bindings) -> bool:
    return len(bound) > bindings


# Coming together.


def test_a_gang_is_due_when_all_are_there_or_after_a_moment_without_news():
    gathering, members = Gathering(), gang_of_pods("g", 3)
    group = members[0].group
    gathering.add(members[0], 0.0)
    gathering.add(members[1], 0.5)
    assert not gathering.is_due(group, 3, [], 1.0)
    assert gathering.is_due(group, 3, [members[2]], 1.0)
    assert gathering.is_due(group, 3, [], 0.5 + PATIENCE_SECONDS)
    gathering.set_done(group, "uid-g-2")
    assert gathering.is_due(group, 3, [], 1.0)
    gathering.forget_done(group, "uid-g-2")
    assert not gathering.is_due(group, 3, [], 1.0)
    for demand in members:
        gathering.remove(demand.uid)
    assert not gathering.waiting(group)
    assert gathering.patience(group, 0.0) == 0.0
