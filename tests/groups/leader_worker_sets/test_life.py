"""Drains, hashes and scale-downs on a real API server, and controllers that die in the middle of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.groups.leader_worker_sets.conftest import a_set, container, template
from tests.groups.leader_worker_sets.loop import Loop, condition, running_controller, running_loop

from kajitori.api.resource import LEADER_WORKER_SETS, PODS, SERVICES

SINCE = "groups.kajitori.dev/draining-since"
INCARNATION = "groups.kajitori.dev/incarnation"
GROUP = "leaderworkerset.sigs.k8s.io/group-index"
DRAIN_SECONDS = 1


def lws(**fields: Any) -> dict[str, Any]:
    annotations = fields.pop("annotations", {})
    return {
        **a_set(**fields),
        "metadata": {"name": "x", "namespace": "default", "annotations": annotations},
    }


def drained(**fields: Any) -> dict[str, Any]:
    return lws(annotations={"groups.kajitori.dev/drain-seconds": str(DRAIN_SECONDS)}, **fields)


async def scale(loop: Loop, replicas: int) -> None:
    await loop.client.set_scale(LEADER_WORKER_SETS, "x", replicas, "default")


def conditions(pod: dict[str, Any]) -> dict[str, str]:
    return {one["type"]: one["status"] for one in pod.get("status", {}).get("conditions", ())}


async def serving(loop: Loop) -> set[str]:
    """Leaders that are in the endpoints of a Service, and would be on any cluster."""
    return {
        name
        for name, pod in (await loop.pods()).items()
        if name.count("-") == 1
        and conditions(pod).get("Ready") == "True"
        and "deletionTimestamp" not in pod["metadata"]
    }


async def groups(loop: Loop) -> dict[str, Counter[str]]:
    """Per group how many pods each of its incarnations has that are not on their way out."""
    found: dict[str, Counter[str]] = {}
    for pod in (await loop.pods()).values():
        metadata = pod["metadata"]
        if "deletionTimestamp" not in metadata:
            found.setdefault(metadata["labels"][GROUP], Counter())[metadata["annotations"][INCARNATION]] += 1
    return found


async def settled(loop: Loop, count: int, size: int) -> bool:
    """So many whole groups of one incarnation each, and nothing else."""
    pods = await loop.pods()
    found = await groups(loop)
    return (
        len(pods) == count * size
        and len(found) == count
        and all(list(lives.values()) == [size] for lives in found.values())
    )


async def test_a_drained_group_leaves_the_endpoints_first_and_is_deleted_later() -> None:
    async with running_loop() as loop:
        await loop.apply(drained(replicas=2, size=2))
        await loop.available()
        assert await serving(loop) == {"x-0", "x-1"}
        await scale(loop, 1)

        async def out() -> dict[str, Any] | None:
            leader = (await loop.pods())["x-1"]
            return leader if conditions(leader)["Ready"] == "False" else None

        leader = await loop.until(out)
        assert SINCE in leader["metadata"]["annotations"]
        assert "deletionTimestamp" not in leader["metadata"]
        assert set(await loop.pods()) == {"x-0", "x-0-1", "x-1", "x-1-1"}
        assert await loop.events("GroupDraining")

        async def gone() -> bool:
            return set(await loop.pods()) == {"x-0", "x-0-1"}

        await loop.until(gone)


async def test_readiness_costs_one_write_for_each_change() -> None:
    async with running_loop() as loop:
        await loop.apply(lws(replicas=2, size=3, annotations={"groups.kajitori.dev/group-ready": "true"}))
        await loop.available()
        # Whole groups are noted, and both are ready; with the first writes of the condition, which say that they are not.
        patches = loop.requests["PATCH pods"] + loop.requests["PATCH x-0"] + loop.requests["PATCH x-1"]
        assert patches <= 6


async def test_scaled_away_groups_go_at_once_and_in_parallel_leader_and_workers() -> None:
    async with running_loop() as loop:
        await loop.apply(lws(replicas=4, size=3))
        await loop.available()
        kept = await loop.uids(0)
        # The node ends nothing: all pods are asked to go before any of them is gone.
        loop.node.paused.update(await loop.pods())
        await scale(loop, 1)

        async def dying() -> bool:
            pods = (await loop.pods()).values()
            return sum("deletionTimestamp" in pod["metadata"] for pod in pods) == 9

        await loop.until(dying)
        loop.node.resume()

        async def gone() -> bool:
            return await loop.uids(0) == kept and len(await loop.pods()) == 3

        await loop.until(gone)


async def test_workers_of_a_group_that_is_not_wanted_go_though_their_leader_is_gone() -> None:
    async with running_loop(with_controller=False) as loop:
        await loop.apply(lws(replicas=2, size=3))
        async with running_controller(loop.server):
            await loop.available()
        await scale(loop, 1)
        await loop.client.delete(PODS, "x-1", "default")
        async with running_controller(loop.server):

            async def gone() -> bool:
                return await settled(loop, 1, 3)

            await loop.until(gone)


async def test_the_group_that_is_not_ready_is_scaled_away_where_groups_are_interchangeable() -> None:
    async with running_loop() as loop:
        await loop.apply(lws(replicas=3, size=2, groupIdentity="Hash"))
        await loop.available()
        leaders = sorted(await serving(loop))
        await loop.node.report(f"{leaders[0]}-1", ready=False)

        async def unready() -> bool:
            return len(await serving(loop)) == 2

        await loop.until(unready)
        await scale(loop, 2)
        await loop.available()

        async def gone() -> bool:
            return await serving(loop) == set(leaders[1:]) and await settled(loop, 2, 2)

        await loop.until(gone)


@contextlib.asynccontextmanager
async def killed_after(loop: Loop, writes: int) -> AsyncIterator[None]:
    """A controller that dies at a write, then what the test looks at, then one that lives."""
    async with running_controller(loop.server, writes) as dying:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3):
                while dying.writes_left > 0:
                    await asyncio.sleep(0.02)
    async with running_controller(loop.server):
        yield


# Note, condition, event, two deletes: every one of them, and those in between.
@pytest.mark.parametrize("writes", [0, 1, 2, 3, 4])
async def test_a_controller_that_dies_in_a_drain_is_followed_by_one_that_ends_it(writes: int) -> None:
    async with running_loop(with_controller=False) as loop:
        await loop.apply(drained(replicas=2, size=2))
        async with running_controller(loop.server):
            await loop.available()
        kept = await loop.uids(0)
        await scale(loop, 1)
        async with killed_after(loop, writes):

            async def gone() -> bool:
                return await settled(loop, 1, 2)

            await loop.until(gone)
            await loop.available()
        assert await loop.uids(0) == kept


@pytest.mark.parametrize("writes", [0, 1, 2, 4, 6, 9])
async def test_a_controller_that_dies_while_it_makes_hash_groups_leaves_no_group_twice(writes: int) -> None:
    async with running_loop(with_controller=False) as loop:
        await loop.apply(lws(replicas=2, size=3, groupIdentity="Hash"))
        async with killed_after(loop, writes):
            await loop.available()
            assert await settled(loop, 2, 3)


@pytest.mark.parametrize("writes", [0, 1, 2, 3, 4])
async def test_a_controller_that_dies_in_a_scale_down_of_hash_groups_takes_no_group_too_many(
    writes: int,
) -> None:
    async with running_loop(with_controller=False) as loop:
        await loop.apply(lws(replicas=3, size=2, groupIdentity="Hash"))
        async with running_controller(loop.server):
            await loop.available()
        before = set(await groups(loop))
        await scale(loop, 2)
        async with killed_after(loop, writes):

            async def gone() -> bool:
                return await settled(loop, 2, 2)

            await loop.until(gone)
            await loop.available()
        assert set(await groups(loop)) < before


async def test_an_update_of_drained_groups_keeps_as_many_in_the_endpoints_as_it_must() -> None:
    async with running_loop() as loop:
        rolling = {"partition": 0, "maxUnavailable": 1, "maxSurge": 0}
        rollout = {"type": "RollingUpdate", "rollingUpdateConfiguration": rolling}
        manifest = lws(
            annotations={"groups.kajitori.dev/drain-seconds": "1"},
            replicas=3,
            size=2,
            rolloutStrategy=rollout,
        )
        await loop.apply(manifest)
        await loop.available()
        manifest["spec"]["leaderWorkerTemplate"]["workerTemplate"] = template(
            container() | {"image": "busybox:2"}
        )
        await loop.apply(manifest)
        fewest = 3

        async def updated() -> bool:
            nonlocal fewest
            fewest = min(fewest, len(await serving(loop)))
            images = {pod["spec"]["containers"][0]["image"] for pod in (await loop.pods()).values()}
            return images == {"busybox:2"}

        await loop.until(updated)
        await loop.available()
        assert fewest == 2


async def test_no_pod_is_made_whose_name_would_lead_to_somebody_else_s_service() -> None:
    async with running_loop() as loop:
        foreign = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "x", "namespace": "default"},
            "spec": {"clusterIP": "None", "selector": {"app": "other"}},
        }
        await loop.client.create(SERVICES, foreign)
        await loop.apply(lws(replicas=2, size=2))

        async def blocked() -> bool:
            return condition(await loop.set(), "kajitori.dev/Blocked") == "True"

        await loop.until(blocked)
        assert not await loop.pods()
        assert (await loop.client.get(SERVICES, "x", "default"))["spec"]["selector"] == {"app": "other"}
