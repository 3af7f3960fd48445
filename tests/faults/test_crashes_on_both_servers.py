"""The group controller dies at each of its writes, and what it manages dies in its hands: ours and a real server.

After every death another controller takes over from what the server knows, and ends where an undisturbed one would
have. At no moment are there pods of two lives in one group. On the embedded server every write is tried, on the
real one some.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import pytest
from tests.behaviours.manifests import a_set, rolling, template
from tests.behaviours.sight import Sight, label, sight_of
from tests.faults.bare_servers import BareServer, bare_loop, bare_server, prepare
from tests.groups.leader_worker_sets.loop import Loop, running_controller
from tools.kubernetes.build import have_go

from kajitori.api.resource import CONTROLLER_REVISIONS, LEADER_WORKER_SETS, PODS, SERVICES
from kajitori.groups.leader_worker_sets.observed import INCARNATION_ANNOTATION

# A connection that is given up during its TLS handshake is left to the collector by the event loop.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
SIZE = 3
# More writes than any of these takes; a crash that never comes ends the series.
MOST_WRITES = 60


@pytest.fixture(scope="module", params=["embedded", "real"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareServer]:
    if request.param == "real" and not have_go():
        pytest.skip("NOT TESTED: Go is not installed, so nothing was tried on a real kube-apiserver")
    with bare_server(request.param, tmp_path_factory.mktemp(request.param)) as running:
        asyncio.run(prepare(running))
        yield running


@pytest.fixture(autouse=True)
def nothing_left_for_others() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture
async def loop(server: BareServer) -> AsyncIterator[Loop]:
    async with bare_loop(server) as made:
        yield made


@pytest.fixture
async def sight(loop: Loop) -> AsyncIterator[Sight]:
    async with sight_of(loop.client, "default") as found:
        found.always(lambda: two_lives(found))
        yield found


def two_lives(sight: Sight) -> str:
    """Which group has pods of two incarnations at once."""
    for index, members in sight.groups("x").items():
        lives = {pod["metadata"]["annotations"][INCARNATION_ANNOTATION] for pod in members.values()}
        if len(lives) > 1:
            return f"group {index} has {sorted(members)} of {lives}"
    return ""


def crashes(server: BareServer) -> Iterable[int]:
    return range(MOST_WRITES) if server.name == "embedded" else (1, 4, 8)


async def until_it_dies_or(server: BareServer, writes: int, sight: Sight, done: Callable[[], Any]) -> bool:
    """Let a controller live for so many writes; whether it died before it was done."""
    async with running_controller(server, writes) as dying:
        while dying.writes_left > 0 and not done():
            await asyncio.sleep(0.005)
        return dying.writes_left <= 0


async def test_a_controller_that_dies_while_groups_are_made_is_followed_by_one_that_finishes(
    server: BareServer, sight: Sight
) -> None:
    for writes in crashes(server):
        await sight.apply(a_set("x", 2, SIZE))
        died = await until_it_dies_or(server, writes, sight, lambda: sight.is_available("x"))
        async with running_controller(server):
            await sight.available("x")
            assert len(sight.pods) == 2 * SIZE
            assert all(len(uids) == 1 for uids in sight.past_pods.values()), "no pod was made twice"
        await sight.delete(LEADER_WORKER_SETS, "x")
        # There is no garbage collector.
        for kind in (PODS, CONTROLLER_REVISIONS):
            await sight.client.delete_collection(kind, "default", grace_period_seconds=0)
        await sight.delete(SERVICES, "x")
        await sight.until(
            lambda: not sight.pods and not sight.revisions and "x" not in {*sight.sets, *sight.services}
        )
        sight.past_pods.clear()
        if not died:
            return
    assert server.name == "real", "it never stopped writing"


async def test_a_controller_that_dies_in_a_roll_is_followed_by_one_that_finishes(
    server: BareServer, sight: Sight
) -> None:
    await sight.apply(a_set("x", 2, SIZE, rolloutStrategy=rolling(1, 1)))
    async with running_controller(server):
        await sight.available("x")
    sight.always(lambda: "" if sight.ready_groups("x") else "no group is ready")
    for writes in crashes(server):
        image = f"engine:{writes + 2}"
        await sight.patch_set("x", {"leaderWorkerTemplate": {"workerTemplate": template(image)}})

        def rolled(image: str = image) -> bool:
            return sight.updated("x", image) == {0, 1} and len(sight.groups("x")) == 2

        died = await until_it_dies_or(server, writes, sight, lambda: rolled() and sight.is_available("x"))
        async with running_controller(server):
            await sight.until(rolled, f"all groups are of {image}")
            await sight.available("x")
        if not died:
            return
    assert server.name == "real", "it never stopped writing"


async def test_a_controller_that_dies_in_a_restart_is_followed_by_one_that_finishes(
    server: BareServer, sight: Sight
) -> None:
    """Each time another group: one that fails again and again would wait before it begins anew."""
    steps = list(crashes(server))
    number = 24 if server.name == "embedded" else len(steps)
    await sight.apply(a_set("x", number, SIZE))
    async with running_controller(server):
        await sight.available("x")
    for group, writes in zip(itertools.count(), steps, strict=False):
        assert group < number, "it never stopped writing"
        before = sight.uids("x", group)
        others = {name: uid for name, uid in sight.uids("x").items() if name not in before}
        await sight.delete(PODS, f"x-{group}-1")

        def recreated(group: int = group, before: dict[str, str] = before) -> bool:
            now = sight.uids("x", group)
            fresh = now.keys() == before.keys() and not set(now.values()) & set(before.values())
            return fresh and group in sight.ready_groups("x") and sight.is_available("x")

        died = await until_it_dies_or(server, writes, sight, recreated)
        async with running_controller(server):
            await sight.until(recreated, f"group {group} is made anew")
        assert {name: uid for name, uid in sight.uids("x").items() if name not in before} == others
        assert all(len(sight.past_pods[name]) == 2 for name in before), "it was made anew once"
        if not died:
            return
    assert server.name == "real"


async def test_a_leader_and_a_worker_that_die_together_are_one_restart(
    server: BareServer, sight: Sight
) -> None:
    await sight.apply(a_set("x", 2, SIZE))
    async with running_controller(server):
        await sight.available("x")
        before, other = sight.uids("x", 0), sight.uids("x", 1)
        said = len(sight.notes("RecreateGroup"))
        await asyncio.gather(*(sight.delete(PODS, name, grace_period_seconds=0) for name in ("x-0", "x-0-2")))
        await sight.recreated("x", before, 0)
        await sight.available("x")
        await sight.settled()
    assert sight.uids("x", 1) == other
    assert all(len(sight.past_pods[name]) == 2 for name in before)
    assert len(sight.notes("RecreateGroup")) == said + 1


async def test_a_node_that_is_lost_in_the_middle_of_a_roll_holds_up_only_what_was_on_it(
    server: BareServer, sight: Sight, loop: Loop
) -> None:
    """Its pods are unready, then deleted, and nobody ends them; at last they are removed by force."""
    lost = ["x-0", "x-0-1", "x-0-2"]
    await sight.apply(a_set("x", 4, SIZE, rolloutStrategy=rolling(2, 1)))
    async with running_controller(server):
        await sight.available("x")
        sight.always(lambda: "" if len(sight.ready_groups("x")) >= 2 else "fewer than two are ready")
        loop.node.paused = set(lost)
        for name in lost:
            await loop.node.report(name, ready=False)
        await sight.until(lambda: 0 not in sight.ready_groups("x"))
        await sight.patch_set("x", {"leaderWorkerTemplate": {"workerTemplate": template("engine:2")}})
        await sight.until(lambda: {1, 2, 3} <= sight.updated("x", "engine:2"), "the others roll")
        await sight.until(lambda: all("deletionTimestamp" in sight.pods[name]["metadata"] for name in lost))
        await sight.settled()
        assert {label(pod, "worker-index") for pod in sight.group("x", 0).values()} == {"0", "1", "2"}
        # Pods of these names that come later have a node that lives.
        loop.node.paused.clear()
        await sight.delete(PODS, *lost, grace_period_seconds=0)
        await sight.until(
            lambda: sight.updated("x", "engine:2") == {0, 1, 2, 3} and len(sight.groups("x")) == 4
        )
        await sight.available("x")
    assert all(len(sight.past_pods[name]) == 2 for name in lost)
