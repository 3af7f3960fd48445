"""Restarts on a running API server: a spent budget and its lifting, a controller that dies around both, sick nodes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.groups.leader_worker_sets.conftest import a_set
from tests.groups.leader_worker_sets.loop import Loop, condition, running_controller, running_loop

from kajitori.api.resource import NODES, PODS
from kajitori.base.clock import SystemClock
from kajitori.groups.leader_worker_sets.node_states import NodeStates

FAILED = "kajitori.dev/GroupsFailed"


def manifest(budget: int) -> dict[str, Any]:
    lws = a_set(replicas=2, size=2)
    annotations = {"groups.kajitori.dev/max-restarts": str(budget)}
    return {**lws, "metadata": {"name": "x", "namespace": "default", "annotations": annotations}}


@pytest.fixture
async def loop() -> AsyncIterator[Loop]:
    async with running_loop(with_controller=False) as running:
        yield running


async def until_failed(loop: Loop) -> dict[str, Any]:
    async def failed() -> dict[str, Any] | None:
        lws = await loop.set()
        return lws if condition(lws, FAILED) == "True" else None

    return await loop.until(failed)


async def until_anew(loop: Loop, before: dict[str, str]) -> None:
    async def anew() -> bool:
        now = await loop.uids(0)
        return now.keys() == before.keys() and not set(now.values()) & set(before.values())

    await loop.until(anew)
    await loop.available()


async def test_a_group_with_a_spent_budget_is_left_until_its_leader_is_deleted(loop: Loop) -> None:
    async with running_controller(loop.server):
        await loop.apply(manifest(1))
        await loop.available()
        before, other = await loop.uids(0), await loop.uids(1)
        await loop.node.report("x-0-1", restarts=1)
        await until_anew(loop, before)
        before = await loop.uids(0)
        await loop.node.report("x-0-1", restarts=1)
        lws = await until_failed(loop)
        assert await loop.uids(0) == before
        assert [record["outcome"] for record in lws["status"]["restarts"]] == ["Recreated", "Failed"]
        assert lws["status"]["readyReplicas"] == 1
        (event,) = await loop.until(lambda: loop.events("GroupFailed"))
        assert event["type"] == "Warning"
        assert event["related"]["name"] == "x-0-1"
        await loop.client.delete(PODS, "x-0", "default")
        await until_anew(loop, before)
        lws = await loop.available()
        assert condition(lws, FAILED) == "False"
        assert lws["status"]["restarts"][-1]["by"] == "kubernetes-admin (kubectl/test)"
        assert await loop.uids(1) == other
        pods = await loop.pods()
        assert pods["x-0"]["metadata"]["annotations"]["groups.kajitori.dev/restarts"] == "0"


@pytest.mark.parametrize("writes", [0, 1, 2])
async def test_a_controller_that_dies_while_a_group_fails_is_followed_by_one_that_leaves_it_so(
    loop: Loop, writes: int
) -> None:
    async with running_controller(loop.server):
        await loop.apply(manifest(0))
        await loop.available()
    before = await loop.uids(0)
    async with running_controller(loop.server, writes) as dying:
        await loop.node.report("x-0-1", restarts=1)

        async def dead() -> bool:
            return dying.writes_left <= 0

        await loop.until(dead)
    async with running_controller(loop.server):
        lws = await until_failed(loop)
        assert await loop.uids(0) == before
        assert "group 0: container engine of pod x-0-1" in str(lws["status"]["conditions"])


class LaterClock(SystemClock):
    """Of a controller that sees what a minute has come to."""

    def now(self) -> float:
        return super().now() + 60.0


async def test_a_pod_that_a_finalizer_holds_is_named_and_its_group_begins_anew_once_it_is_gone(
    loop: Loop,
) -> None:
    async with running_controller(loop.server, clock=LaterClock()):
        await loop.apply(manifest(0))
        await loop.available()
        before, other = await loop.uids(0), await loop.uids(1)
        held = {"metadata": {"finalizers": ["example.com/hold"]}}
        await loop.client.patch(PODS, "x-0-1", held, namespace="default")
        await loop.client.delete(PODS, "x-0-1", "default")

        async def blocked() -> str:
            found = (await loop.set())["status"]["conditions"]
            told = [one["message"] for one in found if one["type"] == "kajitori.dev/Blocked"]
            return told[0] if condition(await loop.set(), "kajitori.dev/Blocked") == "True" else ""

        message = await loop.until(blocked)
        assert message.startswith("pod x-0-1 on fake should have been gone since 20")
        assert "held by finalizer example.com/hold" in message
        assert list(await loop.uids(0)) == ["x-0-1"]
        assert await loop.uids(1) == other
        assert (await loop.until(lambda: loop.events("DeletionHangs")))[0]["type"] == "Warning"
        free = {"metadata": {"finalizers": None}}
        await loop.client.patch(PODS, "x-0-1", free, namespace="default")
        await until_anew(loop, before)
        assert condition(await loop.set(), "kajitori.dev/Blocked") == "False"
        assert await loop.uids(1) == other


async def test_a_node_is_told_to_be_sick_or_gone_and_nothing_is_said_of_a_well_one(loop: Loop) -> None:
    for name, status, isolated in (
        ("well", "True", "True"),
        ("sick", "False", "True"),
        ("silent", "Unknown", "False"),
    ):
        conditions = [
            {"type": "Ready", "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "kajitori.dev/PodsIsolated", "status": isolated},
        ]
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
        await loop.client.create(NODES, node)
        await loop.client.patch(NODES, name, {"status": {"conditions": conditions}}, subresource="status")
    nodes = NodeStates(loop.client, SystemClock())
    assert await nodes.of(["well", "sick", "silent", "missing", "", "sick"]) == {
        "sick": "is NotReady since 2026-01-01T00:00:00Z",
        "silent": "does not report since 2026-01-01T00:00:00Z",
        "missing": "does not exist any more",
    }
    assert await nodes.shares_processes("silent")
    assert not await nodes.shares_processes("well")
