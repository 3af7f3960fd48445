import asyncio

import pytest

from kajitori.api.kubernetes.core_v1 import Taint, Toleration
from kajitori.api.resource import CORE_EVENTS, LEASES, NODES, PODS, SERVICE_ACCOUNTS
from kajitori.base.clock import rfc3339, rfc3339_micro
from kajitori.base.errors import NotFound
from kajitori.control.cache import Metadata
from kajitori.laptop.controllers import service_accounts
from kajitori.laptop.controllers.nodes.controller import Nodes
from kajitori.laptop.controllers.nodes.plan import plan_eviction, plan_taints
from kajitori.laptop.controllers.pod_cleanup import controller as pod_cleanup
from kajitori.laptop.controllers.pod_cleanup.controller import PodCleanup
from kajitori.laptop.controllers.views import NodeSpecView, NodeStatusView, NodeView
from kajitori.model.taints import tolerates

NOW = 1_700_000_000.0


def node(ready="True", taints=(), **conditions):
    listed = [{"type": "Ready", "status": ready}] + [{"type": t, "status": s} for t, s in conditions.items()]
    return NodeView(
        metadata=Metadata(name="n"),
        spec=NodeSpecView(taints=list(taints)),
        status=NodeStatusView(conditions=listed),
    )


def keys(taints):
    return {(t.key.removeprefix("node.kubernetes.io/"), t.effect) for t in taints}


def test_taints_follow_the_conditions_and_those_of_others_stay():
    mine = Taint(key="gpu", effect="NoSchedule")
    assert plan_taints(node(taints=[mine]), "t") is None
    down = plan_taints(node("Unknown", taints=[mine]), "t")
    assert keys(down) == {("gpu", "NoSchedule"), ("unreachable", "NoSchedule"), ("unreachable", "NoExecute")}
    assert keys(plan_taints(node("False", taints=down), "t")) == {
        ("gpu", "NoSchedule"),
        ("not-ready", "NoSchedule"),
        ("not-ready", "NoExecute"),
    }
    assert plan_taints(node(taints=down), "t") == [mine]
    assert keys(plan_taints(node(MemoryPressure="True"), "t")) == {("memory-pressure", "NoSchedule")}


def test_the_time_of_a_taint_is_kept_while_it_lasts():
    down = plan_taints(node("Unknown"), "first")
    assert plan_taints(node("Unknown", taints=down), "later") is None


@pytest.mark.parametrize(
    ("tolerations", "seconds"),
    [
        ([], 0),
        ([Toleration(operator="Exists")], None),
        ([Toleration(key="k", operator="Exists", effect="NoExecute", toleration_seconds=300)], 290),
        ([Toleration(key="k", operator="Equal", value="v", toleration_seconds=5)], -5),
        ([Toleration(key="k", operator="Equal", value="other")], 0),
        (
            [
                Toleration(key="k", operator="Exists"),
                Toleration(key="k", operator="Exists", toleration_seconds=60),
            ],
            50,
        ),
        ([Toleration(key="k", operator="Exists", effect="NoSchedule")], 0),
    ],
)
def test_a_pod_may_stay_for_as_long_as_it_tolerates(tolerations, seconds):
    taint = Taint(key="k", value="v", effect="NoExecute", time_added=rfc3339(NOW - 10))
    eviction = plan_eviction([taint, Taint(key="x", effect="NoSchedule")], tolerations, NOW)
    if seconds is None:
        assert eviction is None
    elif not tolerations or seconds == 0:
        assert eviction.seconds <= 0
    else:
        assert eviction.seconds == pytest.approx(seconds)
    assert not tolerates(Toleration(key="k", value=""), taint)


def pod(name, node_name, **spec):
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": node_name, "containers": [{"name": "c", "image": "busybox"}], **spec},
    }


async def taints(world, name):
    found = (await world.client.get(NODES, name))["spec"].get("taints") or ()
    return {(t["key"].removeprefix("node.kubernetes.io/"), t["effect"]) for t in found}


async def started(world, *modules, grace=0.6):
    await world.start(
        service_accounts, *modules, register=lambda runtime: Nodes(runtime, grace_seconds=grace)
    )
    await world.until(lambda: world.client.get(SERVICE_ACCOUNTS, "default", "default"))


async def test_a_new_node_loses_its_taint_when_it_is_ready(world):
    await started(world, grace=30)
    await world.client.create(NODES, {"metadata": {"name": "n"}})
    assert ("not-ready", "NoSchedule") in await taints(world, "n")
    await world.set_node_ready("n", "True")

    async def clear():
        return not await taints(world, "n")

    await world.until(clear)


async def test_a_silent_node_becomes_unknown_its_pods_unready_and_the_intolerant_go(world):
    await started(world)
    lease = {"metadata": {"name": "n", "namespace": "kube-node-lease"}, "spec": {"holderIdentity": "n"}}
    await world.client.create(LEASES, lease)
    await world.add_node("n")

    async def renew():
        while True:
            renewed = {"spec": {"renewTime": rfc3339_micro(world.clock.now())}}
            await world.client.patch(LEASES, "n", renewed, namespace="kube-node-lease")
            await asyncio.sleep(0.1)

    renewing = asyncio.ensure_future(renew())
    short = [{"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0}
             for key in ("node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready")]  # fmt: skip
    await world.client.create(PODS, pod("patient", "n"))
    await world.client.create(PODS, pod("impatient", "n", tolerations=short))
    for name in ("patient", "impatient"):
        await world.set_pod(name, ready=True)
    await asyncio.sleep(1.5)
    status = (await world.client.get(NODES, "n"))["status"]
    assert status["conditions"][0]["status"] == "True", "its lease speaks for it"
    renewing.cancel()
    await asyncio.gather(renewing, return_exceptions=True)

    async def unknown():
        ready = (await world.client.get(NODES, "n"))["status"]["conditions"][0]
        assert (ready["status"], ready["reason"]) == ("Unknown", "NodeStatusUnknown")
        return {("unreachable", "NoSchedule"), ("unreachable", "NoExecute")} <= await taints(world, "n")

    await world.until(unknown)

    async def pods_follow():
        patient = await world.client.get(PODS, "patient", "default")
        impatient = await world.client.get(PODS, "impatient", "default")
        assert "deletionTimestamp" not in patient["metadata"]
        assert "deletionTimestamp" in impatient["metadata"]
        return patient["status"]["conditions"][0]["status"] == "False"

    await world.until(pods_follow)

    async def told():
        events = {e["reason"] for e in (await world.client.list(CORE_EVENTS)).items}
        return {"NodeNotReady", "TaintManagerEviction"} <= events

    await world.until(told)
    await world.set_node_ready("n", "True")

    async def back():
        return not await taints(world, "n")

    await world.until(back)


async def test_pods_of_a_node_that_does_not_exist_are_cleared_away(world, monkeypatch):
    monkeypatch.setattr(pod_cleanup, "MISSING_NODE_SECONDS", 0.3)
    await started(world, pod_cleanup, grace=60)
    await world.add_node("n")
    await world.client.create(PODS, pod("stays", "n"))
    await world.client.create(PODS, pod("lost", "nowhere"))
    await world.client.create(PODS, pod("orphaned", "n2"))
    await world.add_node("n2")

    async def lost_gone():
        try:
            await world.client.get(PODS, "lost", "default")
        except NotFound:
            return True

    await world.until(lost_gone)
    assert {p["metadata"]["name"] for p in await world.pods()} == {"stays", "orphaned"}
    await world.client.delete(NODES, "n2")

    async def orphan_gone():
        return {p["metadata"]["name"] for p in await world.pods()} == {"stays"}

    await world.until(orphan_gone)


async def test_ended_pods_beyond_the_limit_go_oldest_first(world):
    await world.start(service_accounts, register=lambda runtime: PodCleanup(runtime, most_ended=2))
    await world.until(lambda: world.client.get(SERVICE_ACCOUNTS, "default", "default"))
    await world.add_node("n")
    for number in range(4):
        await world.client.create(PODS, pod(f"p{number}", "n"))
        await world.set_pod(f"p{number}", ready=False, phase="Succeeded")

    async def two_left():
        return {p["metadata"]["name"] for p in await world.pods()} == {"p2", "p3"}

    await world.until(two_left)
