"""The controller may die between any two of its writes, asks for little, and stands back while its gate is closed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.groups.disaggregated_sets.conftest import EXTERNAL, a_role, a_set
from tests.groups.disaggregated_sets.loop import SetLoop, running, running_set_loop

from kajitori.api.disaggregatedset import v1
from kajitori.api.resource import DISAGGREGATED_SETS
from kajitori.base.reason import Reason
from kajitori.control.gate import Gate
from kajitori.control.runtime import Runtime
from kajitori.groups.disaggregated_sets import controller

Object = dict[str, Any]


@pytest.fixture
async def loop() -> AsyncIterator[SetLoop]:
    async with running_set_loop(with_controller=False) as cluster:
        yield cluster


async def die_and_go_on(loop: SetLoop, writes: int) -> None:
    """A controller that dies after so many writes, and one after it that makes things whole."""
    async with running(loop.server, [controller], writes) as dying:

        async def dead() -> bool:
            found = await loop.the_set()
            done = found.get("status", {}).get("observedGeneration") == found["metadata"]["generation"]
            return dying.writes_left <= 0 or (done and is_available(found))

        await loop.until(dead)
    async with running(loop.server, [controller]):
        await loop.available_set()


def is_available(found: Object) -> bool:
    conditions = found["status"].get("conditions", ())
    return any(one["type"] == v1.AVAILABLE and one["status"] == "True" for one in conditions)


async def shape(loop: SetLoop) -> dict[str, int]:
    """Groups of each LeaderWorkerSet; that it is there once follows from its name."""
    return {name: one["spec"]["replicas"] for name, one in (await loop.children()).items()}


def manifest(image: str, slices: int = 2) -> Object:
    return a_set(a_role("prefill", 2, image=image), a_role("decode", 1), slices=slices)


async def test_a_controller_that_dies_at_any_write_is_followed_by_one_that_finishes(loop: SetLoop) -> None:
    """Creation, rollout and fewer slices, cut off after the first write, the second, and so on."""
    writes, generations, found = 0, 0, {}
    while generations < 6 or writes < 14:
        image = f"engine:{generations}"
        slices = 2 - generations % 2
        await loop.apply_set(manifest(image, slices))
        await die_and_go_on(loop, writes)
        found = await shape(loop)
        roles = {name.rpartition("-")[2] for name in found}
        assert len(found) == 2 * slices, found
        assert roles == {"prefill", "decode"}
        assert sorted(found.values()) == sorted([2, 1] * slices)
        assert len(await services(loop)) == 2 * slices
        templates = {
            one["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]["containers"][0]["image"]
            for name, one in (await loop.children()).items()
            if name.endswith("prefill")
        }
        assert templates == {image}
        writes, generations = writes + 1 + generations // 4, generations + 1


async def services(loop: SetLoop) -> list[str]:
    return [name for name in await loop.services() if name.endswith("-prv")]


async def test_requests_grow_with_roles_and_slices_and_there_are_none_when_nothing_changes(
    loop: SetLoop,
) -> None:
    made: dict[int, int] = {}
    for slices in (1, 4):
        name = f"s{slices}"
        async with running(loop.server, [controller]) as transport:
            roles = [a_role("prefill", 1, scaling=None), a_role("decode", 1)]
            await loop.apply_set(a_set(*roles, name=name, slices=slices))
            await loop.available_set(name)

            async def serves(slices: int = slices, name: str = name) -> bool:
                return len([one for one in await services(loop) if one.startswith(f"{name}-")]) == 2 * slices

            await loop.until(serves)
            requests = transport.requests
            assert requests["POST leaderworkersets"] == requests["POST services"] == 2 * slices
            assert not requests["PATCH leaderworkersets"]
            # The status, as groups become ready one after another.
            assert requests[f"PATCH {name}"] <= 4 * slices + 2
            writes = {key: count for key, count in requests.items() if not key.startswith("GET")}
            made[slices] = sum(writes.values())
            before = dict(requests)
            await loop.client.patch(
                DISAGGREGATED_SETS, name, {"metadata": {"labels": {"look": "again"}}}, namespace="default"
            )
            await loop.apply_set(a_set(a_role("prefill", 1), a_role("decode", 1), name=f"other{slices}"))
            await loop.available_set(f"other{slices}")
            touched = {key for key, count in transport.requests.items() if count != before.get(key, 0)}
            assert f"PATCH {name}" not in touched, "a look that finds nothing to do writes nothing"
    assert made[4] <= 4 * made[1] + 4


async def test_scalers_are_made_once_whenever_the_controller_dies(loop: SetLoop) -> None:
    for writes in range(4):
        name = f"s{writes}"
        await loop.apply_set(a_set(a_role("prefill", None, scaling=EXTERNAL), a_role("decode", 1), name=name))
        async with running(loop.server, [controller], writes) as dying:

            async def dead(dying: Any = dying) -> bool:
                return dying.writes_left <= 0

            await loop.until(dead)
        async with running(loop.server, [controller]):
            found = await loop.available_set(name)
        assert [role["replicas"] for role in found["status"]["roleStatuses"]] == [1, 1]


async def test_while_the_gate_is_closed_nothing_is_made_and_when_it_opens_all_is(loop: SetLoop) -> None:
    gate = Gate()
    gate.set(Reason("ServedByUpstream", "another controller serves the kind"))

    class Gated:
        @staticmethod
        def register(runtime: Runtime) -> None:
            controller.register(runtime, gate)

    async with running(loop.server, [Gated]) as transport:
        await loop.apply_set(a_set())
        await loop.client.create(DISAGGREGATED_SETS, a_set(name="y"), namespace="default")

        async def seen() -> bool:
            return transport.requests["GET v1"] >= 4

        await loop.until(seen)
        gate.set(Reason("ServedByUpstream", "another controller still serves the kind"))
        assert not await loop.children()
        assert "status" not in await loop.the_set()
        gate.set(None)
        await loop.available_set("x")
        await loop.available_set("y")


async def test_what_the_server_refuses_is_told_on_the_set_until_its_author_mends_it(loop: SetLoop) -> None:
    async with running(loop.server, [controller]) as transport:
        bad = a_role("prefill", metadata={"labels": {"team": "not a label!"}})
        await loop.apply_set(a_set(bad, a_role("decode")))

        async def told() -> str:
            conditions = (await loop.the_set()).get("status", {}).get("conditions", ())
            return next((one["message"] for one in conditions if one["type"] == "kajitori.dev/Blocked"), "")

        assert "metadata.labels" in await loop.until(told)
        before = transport.requests["POST leaderworkersets"]
        await loop.apply_set(a_set())
        await loop.available_set()
        assert transport.requests["POST leaderworkersets"] <= before + 2
