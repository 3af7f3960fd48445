"""What the group controller makes of an API server that fails it: ours and a real one, at every step."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.faults.bare_servers import BareServer, Real, bare_loop, bare_server, prepare
from tests.faults.transports import FaultyTransport
from tests.groups.leader_worker_sets.conftest import a_set
from tests.groups.leader_worker_sets.loop import Loop
from tests.waiting import eventually
from tools.kubernetes.build import have_go
from tools.kubernetes.control_plane import ETCD

from kajitori.api.resource import LEADER_WORKER_SETS, LEASES, NAMESPACES, PODS, SERVICES
from kajitori.base.clock import SystemClock
from kajitori.base.errors import ApiError, Conflict, NotFound, Unreachable
from kajitori.control.runtime import Runtime
from kajitori.groups.leader_worker_sets import controller
from kajitori.kube.client import Client
from kajitori.kube.config import load_config
from kajitori.kube.lease import LeaderElection, LeaseSettings

# A connection whose server is killed during its TLS handshake is left to the collector by the event loop.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(300),  # a server dies and comes back a dozen times
]
INCARNATION = "groups.kajitori.dev/incarnation"
GROUPS, SIZE = 2, 3
Object = dict[str, Any]


@pytest.fixture(scope="module", params=["embedded", "real"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareServer]:
    if request.param == "real" and not have_go():
        pytest.skip("NOT TESTED: Go is not installed, so nothing was tried on a real kube-apiserver")
    with bare_server(request.param, tmp_path_factory.mktemp(request.param)) as running:
        asyncio.run(prepare(running))
        yield running


@pytest.fixture
async def loop(server: BareServer) -> AsyncIterator[Loop]:
    async with bare_loop(server) as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_left_for_others() -> Iterator[None]:
    yield
    gc.collect()


class ShiftedClock:
    """The machine's clock, wrong by so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def now(self) -> float:
        return SystemClock().now() + self._seconds


@contextlib.asynccontextmanager
async def acting(
    server: BareServer, *, election: bool = False, clock_shift_seconds: float = 0.0
) -> AsyncIterator[FaultyTransport]:
    """The group controller with its own rights, behind a transport that a test can make fail."""
    config = load_config(str(server.kubeconfig if election else server.kubeconfig_of("controllers")))
    transport = FaultyTransport(config, user_agent="kajitori-controllers")
    clock = ShiftedClock(clock_shift_seconds)
    async with Client(config, transport=transport, user_agent="kajitori-controllers") as client:
        quick = LeaseSettings(lease_seconds=5.0, renew_deadline_seconds=4.0, retry_seconds=0.5)
        contender = (
            LeaderElection(client, "default", "groups", f"c{time.monotonic()}", settings=quick, clock=clock)
            if election
            else None
        )
        runtime = Runtime(client, grace_seconds=0.0, clock=clock, election=contender)
        controller.register(runtime)
        stop = asyncio.Event()
        running = asyncio.ensure_future(runtime.run(stop))
        try:
            yield transport
        finally:
            stop.set()
            transport.cut = False
            await asyncio.gather(running, return_exceptions=True)


def the_set(**fields: Any) -> Object:
    return {
        **a_set(replicas=GROUPS, size=SIZE, **fields),
        "metadata": {"name": "x", "namespace": "default"},
    }


async def whole(loop: Loop, groups: int = GROUPS) -> bool:
    """Each pod is there once, none is on its way out, and each group is of one incarnation."""
    pods = await loop.pods()
    wanted = {f"x-{group}" for group in range(groups)}
    wanted |= {f"x-{group}-{worker}" for group in range(groups) for worker in range(1, SIZE)}
    if set(pods) != wanted or any("deletionTimestamp" in pod["metadata"] for pod in pods.values()):
        return False
    lives = {(name.split("-")[1], pod["metadata"]["annotations"][INCARNATION]) for name, pod in pods.items()}
    return len(lives) == groups


async def until_whole(loop: Loop, groups: int = GROUPS, seconds: float = 60) -> None:
    async def is_whole() -> bool:
        return (
            await whole(loop, groups) and (await loop.set()).get("status", {}).get("readyReplicas") == groups
        )

    await eventually(
        is_whole, f"{groups} groups are whole", seconds, despite=(ApiError, Unreachable, NotFound)
    )


def steps(server: BareServer) -> range | tuple[int, ...]:
    # A restart of the real one takes seconds: it is sampled.
    return range(1, 13) if server.name == "embedded" else (1, 5, 9)


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_server_that_dies_at_a_write_of_a_groups_creation_is_survived(
    server: BareServer, loop: Loop, moment: str
) -> None:
    for step in steps(server):
        async with acting(server) as transport:

            async def die(number: int, step: int = step) -> None:
                if number != step:
                    return
                server.kill()
                await server.start()
                if moment == "after":
                    raise Unreachable("the connection was cut before the answer came")

            setattr(transport, moment, die)
            await _apply_for_sure(loop, the_set())
            await until_whole(loop)
            assert transport.writes >= step, "the server never died"
        await _remove(loop)


async def _apply_for_sure(loop: Loop, lws: Object) -> None:
    """The controller may act, and the server die of it, before the answer to the apply is out."""

    async def applied() -> bool:
        await loop.apply(lws)
        return True

    await eventually(applied, "the server is back", despite=(Unreachable,))


async def _remove(loop: Loop) -> None:
    await loop.client.delete(LEADER_WORKER_SETS, "x", "default")
    await loop.client.delete_collection(PODS, "default", grace_period_seconds=0)
    for name in await loop.services():
        await loop.client.delete(SERVICES, name, "default")

    async def empty() -> bool:
        return not await loop.pods()

    await loop.until(empty)


async def test_nothing_is_written_twice_when_only_the_watches_are_lost(
    server: BareServer, loop: Loop
) -> None:
    async with acting(server) as transport:
        await loop.apply(the_set())
        await until_whole(loop)
        await asyncio.sleep(0.3)
        writes = transport.writes
        before = {name: pod["metadata"]["uid"] for name, pod in (await loop.pods()).items()}
        server.kill()
        await server.start()
        await asyncio.sleep(1.5)
        assert {name: pod["metadata"]["uid"] for name, pod in (await loop.pods()).items()} == before
        assert transport.writes == writes


async def test_a_version_that_was_compacted_away_is_followed_by_a_new_list(
    server: BareServer, loop: Loop
) -> None:
    async with acting(server) as transport:
        await loop.apply(the_set())
        await until_whole(loop)
        transport.cut = True
        await loop.client.delete(PODS, "x-1-1", "default", grace_period_seconds=0)
        await _forget_history(server, loop.client)
        transport.cut = False
        await until_whole(loop)
        assert (await loop.pods())["x-1-1"]["status"]["phase"] == "Running"


async def _forget_history(server: BareServer, client: Client) -> None:
    """Make the version that a watch would resume at too old."""
    for number in range(30):
        patch = {"metadata": {"annotations": {"n": str(number)}}}
        await client.patch(NAMESPACES, "default", patch)
    if isinstance(server, Real):
        url = f"http://127.0.0.1:{server.plane.ports[ETCD]}/v3/kv"
        revision = _post(f"{url}/range", {"key": "AA=="})["header"]["revision"]
        _post(f"{url}/compaction", {"revision": revision, "physical": True})
    # A server that starts anew keeps no history in memory.
    server.kill()
    await server.start()


def _post(url: str, body: Object) -> Object:
    with urllib.request.urlopen(url, data=json.dumps(body).encode(), timeout=10) as answer:
        return json.load(answer)


async def test_who_is_cut_off_stops_acting_and_another_takes_over(server: BareServer, loop: Loop) -> None:
    async with acting(server, election=True) as first:
        await loop.apply(the_set())
        await until_whole(loop)
        async with acting(server, election=True) as second:
            await asyncio.sleep(1.0)
            assert second.writes == 0, "two act"
            first.cut = True
            writes = first.writes
            before = await loop.uids(1)
            await loop.client.delete(PODS, "x-0-1", "default", grace_period_seconds=0)
            await until_whole(loop)
            assert second.writes > 0
            assert await loop.uids(1) == before
            # Longer than the lease: whoever was cut off has noticed.
            await asyncio.sleep(5.5)
            first.cut = False
            await asyncio.sleep(2.0)
            assert first.writes == writes, "who lost the lease went on writing"
            assert await whole(loop)
    await loop.client.delete(LEASES, "groups", "default")


@pytest.mark.parametrize("shift_seconds", [-3600.0, 3600.0])
async def test_a_clock_that_is_an_hour_off_changes_nothing(
    server: BareServer, loop: Loop, shift_seconds: float
) -> None:
    async with acting(server, clock_shift_seconds=shift_seconds):
        await loop.apply(the_set())
        await until_whole(loop)
        before, other = await loop.uids(0), await loop.uids(1)
        await loop.client.delete(PODS, "x-0-1", "default", grace_period_seconds=0)

        async def recreated() -> bool:
            now = await loop.uids(0)
            return len(now) == SIZE and not set(now.values()) & set(before.values())

        await loop.until(recreated)
        await until_whole(loop)
        assert await loop.uids(1) == other


async def test_refusals_with_429_are_waited_out(server: BareServer, loop: Loop) -> None:
    async with acting(server) as transport:
        transport.refused = lambda number: number % 3 == 0
        began = time.monotonic()
        await loop.apply(the_set())
        await until_whole(loop)
        # Retry-After says one second, and at least one wait lies on the way to any pod of the second half.
        assert time.monotonic() - began >= 1.0


async def test_other_writers_of_what_is_ours_are_overruled(server: BareServer, loop: Loop) -> None:
    """Each field that we own is overwritten again and again; nothing is recreated for it, and it ends as it shall be."""
    async with acting(server):
        await loop.apply(the_set())
        await until_whole(loop)
        before = {name: pod["metadata"]["uid"] for name, pod in (await loop.pods()).items()}
        (service,) = await loop.services()
        right = (await loop.client.get(SERVICES, service, "default"))["spec"]["selector"]
        for number in range(5):
            with contextlib.suppress(Conflict):
                await loop.client.patch(
                    SERVICES, service, {"spec": {"selector": {"hostile": str(number)}}}, namespace="default"
                )
                await loop.client.patch(
                    LEADER_WORKER_SETS,
                    "x",
                    {"status": {"readyReplicas": number + 7, "replicas": 99}},
                    namespace="default",
                    subresource="status",
                )
            await asyncio.sleep(0.05)

        async def mended() -> bool:
            status = (await loop.set())["status"]
            selector = (await loop.client.get(SERVICES, service, "default"))["spec"]["selector"]
            return status["readyReplicas"] == GROUPS and status["replicas"] == GROUPS and selector == right

        await loop.until(mended)
        assert {name: pod["metadata"]["uid"] for name, pod in (await loop.pods()).items()} == before
