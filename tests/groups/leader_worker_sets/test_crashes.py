"""The controller may die between any two of its writes; whoever comes after it makes things whole."""

from __future__ import annotations

import pytest
from tests.groups.leader_worker_sets.conftest import a_set
from tests.groups.leader_worker_sets.loop import Loop, running_controller, running_loop

from kajitori.api.resource import PODS

INCARNATION = "groups.kajitori.dev/incarnation"


async def whole(loop: Loop, groups: int, size: int) -> bool:
    """All pods are there, none is on its way out, and each group is of one incarnation."""
    pods = await loop.pods()
    if len(pods) != groups * size or any("deletionTimestamp" in pod["metadata"] for pod in pods.values()):
        return False
    lives = {(name.split("-")[1], pod["metadata"]["annotations"][INCARNATION]) for name, pod in pods.items()}
    return len(lives) == groups


@pytest.mark.parametrize("writes", [0, 1, 2, 3, 4, 6, 8, 9, 10, 12])
async def test_a_controller_that_dies_at_a_write_is_followed_by_one_that_finishes(writes: int) -> None:
    lws = {**a_set(replicas=2, size=3), "metadata": {"name": "x", "namespace": "default"}}
    async with running_loop(with_controller=False) as loop:
        await loop.apply(lws)
        async with running_controller(loop.server, writes) as dying:

            async def dead() -> bool:
                return dying.writes_left <= 0

            await loop.until(dead)
        async with running_controller(loop.server):
            await loop.available()
            assert await whole(loop, 2, 3)
        before, other = await loop.uids(0), await loop.uids(1)
        await loop.client.delete(PODS, "x-0-2", "default")
        async with running_controller(loop.server, writes) as dying:
            await loop.until(dead)
        async with running_controller(loop.server):

            async def recreated() -> bool:
                now = await loop.uids(0)
                return not set(now.values()) & set(before.values()) and await whole(loop, 2, 3)

            await loop.until(recreated)
            await loop.available()
        assert await loop.uids(1) == other
