import asyncio
import itertools
import random
import urllib.request

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kajitori.api.resource import CONFIG_MAPS, PODS
from kajitori.base.clock import LoopClock
from kajitori.base.errors import Conflict, Terminal
from kajitori.control.cache import Metadata, PartialObject
from kajitori.control.controller import After, Controller, Done, Key, keys_of_owner
from kajitori.control.runtime import Runtime
from kajitori.control.testing import DeadlockError, run_virtual
from kajitori.kube.objects import owner_reference


class ConfigMapView(msgspec.Struct, frozen=True, rename="camel"):
    metadata: Metadata
    data: dict[str, str] = {}
    kind: str = "ConfigMap"
    api_version: str = "v1"


def config_map(name, **data):
    return {"metadata": {"name": name, "namespace": "default"}, "data": data}


async def run_for(controller, seconds):
    task = asyncio.ensure_future(controller.run())
    await asyncio.sleep(seconds)
    controller.stop()
    await task


def test_a_terminal_error_is_not_tried_again_and_others_are_with_growing_delays():
    async def scenario():
        calls = []

        async def reconcile(key):
            calls.append((key.name, round(asyncio.get_running_loop().time(), 3)))
            if key.name == "terminal":
                raise Terminal("never")
            if key.name == "broken":
                raise ZeroDivisionError
            if key.name == "conflict":
                raise Conflict("stale")

        controller = Controller("c", reconcile)
        for name in ("terminal", "broken", "conflict", "fine"):
            controller.enqueue(Key("default", name))
        await run_for(controller, 0.05)
        assert calls.count(("terminal", 0)) == 1 and len([c for c in calls if c[0] == "terminal"]) == 1
        for name in ("broken", "conflict"):
            assert [time for called, time in calls if called == name] == [0, 0.005, 0.015, 0.035]
        assert len([c for c in calls if c[0] == "fine"]) == 1

    run_virtual(scenario())


def test_a_key_that_fails_again_and_again_is_tried_at_least_as_often_as_its_controller_says():
    async def scenario():
        calls = []

        async def reconcile(key):
            calls.append(asyncio.get_running_loop().time())
            raise ZeroDivisionError

        controller = Controller("c", reconcile, longest_backoff_seconds=60.0)
        controller.enqueue(Key("default", "refused"))
        await run_for(controller, 1000.0)
        assert calls[-1] > 900.0
        assert max(later - earlier for earlier, later in itertools.pairwise(calls)) == pytest.approx(60.0)

    run_virtual(scenario())


def test_after_comes_again_though_nothing_changes():
    async def scenario():
        times = []

        async def reconcile(key):
            times.append(asyncio.get_running_loop().time())
            return After(30) if len(times) < 3 else Done()

        controller = Controller("c", reconcile)
        controller.enqueue(Key("", "node"))
        await run_for(controller, 1000)
        assert times == pytest.approx([0, 30, 60])

    run_virtual(scenario())


def test_a_stop_lets_the_reconcile_in_progress_end_and_begins_no_other():
    async def scenario():
        ended = []

        async def reconcile(key):
            await asyncio.sleep(10)
            ended.append(key.name)

        controller = Controller("c", reconcile, workers=2)
        for name in "abc":
            controller.enqueue(Key("default", name))
        task = asyncio.ensure_future(controller.run())
        await asyncio.sleep(1)
        controller.stop()
        await task
        assert ended == ["a", "b"]
        assert asyncio.get_running_loop().time() == pytest.approx(10)

    run_virtual(scenario())


def test_something_cancelled_inside_a_reconcile_does_not_end_the_worker():
    async def scenario():
        calls = []

        async def reconcile(key):
            calls.append(key)
            if len(calls) == 1:
                inner = asyncio.ensure_future(asyncio.sleep(5))
                inner.cancel()
                await inner

        controller = Controller("c", reconcile)
        controller.enqueue(Key("default", "a"))
        await run_for(controller, 1)
        assert len(calls) == 2

    run_virtual(scenario())


async def owning_world(server, seed, trace, faults=True):
    """A controller that keeps `data.want` pods for each ConfigMap, made by hand as groups are, under faults."""
    client = server.client(seed)
    runtime = Runtime(client, clock=LoopClock(), seed=seed)
    maps = runtime.informer(CONFIG_MAPS, ConfigMapView)
    pods = runtime.informer(PODS, PartialObject)

    async def reconcile(key):
        trace.append((round(asyncio.get_running_loop().time(), 6), str(key)))
        owner = maps.get(*key)
        if owner is None:
            return
        mine = [pod for pod in pods.list(key.namespace) if pod.metadata.controller.uid == owner.metadata.uid]
        for number in range(len(mine), int(owner.data["want"])):
            pod = {
                # The number only makes the name; a second pod of it would show as another name.
                "metadata": {
                    "name": f"{key.name}-{number}-{runtime.random.getrandbits(24):x}",
                    "namespace": key.namespace,
                    "ownerReferences": [owner_reference(owner)],
                },
            }
            pods.remember(await client.create(PODS, pod, type=PartialObject))
        for pod in mine[int(owner.data["want"]) :]:
            await client.delete(PODS, pod.metadata.name, pod.metadata.namespace)
            pods.forget(pod)

    controller = runtime.controller("owner", reconcile, workers=3)
    controller.watch(maps)
    controller.watch(pods, keys_of_owner("ConfigMap"))
    stop = asyncio.Event()
    running = asyncio.ensure_future(runtime.run(stop))
    chance = random.Random(seed)
    for _step in range(12):
        name = chance.choice("abc")
        want = str(chance.randrange(6))
        key = f"api/v1/configmaps/default/{name}"
        if key in server.objects:
            await client.patch(CONFIG_MAPS, name, {"data": {"want": want}}, namespace="default")
        else:
            await client.create(CONFIG_MAPS, config_map(name, want=want))
        if faults:
            server.watch_delay_seconds = chance.choice([0, 0, 0.5, 3])
            if chance.random() < 0.3:
                server.cut_watches()
            if chance.random() < 0.2:
                server.compact()
                server.cut_watches()
        await asyncio.sleep(chance.random() * 4)
    await asyncio.sleep(60)
    stop.set()
    await running


def pods_by_owner(server):
    counts = {}
    for key, pod in server.objects.items():
        if key.startswith("api/v1/pods/"):
            owner = pod["metadata"]["ownerReferences"][0]["name"]
            counts[owner] = counts.get(owner, 0) + 1
    return counts


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_however_late_the_cache_is_nothing_is_created_twice(new_memory_server, seed):
    async def scenario():
        server = new_memory_server()
        await owning_world(server, seed, [])
        maps = {k: v for k, v in server.objects.items() if k.startswith("api/v1/configmaps/")}
        wanted = {v["metadata"]["name"]: int(v["data"]["want"]) for v in maps.values()}
        assert pods_by_owner(server) == {name: want for name, want in wanted.items() if want}
        # Never more pods than wanted, at any moment: count along the history.
        alive, want = {}, {}
        for _, kind, collection, body in server.history:
            name = body["metadata"]["name"]
            if "configmaps" in collection:
                want[name] = max(int(body["data"]["want"]), want.get(name, 0))
            else:
                owner = body["metadata"]["ownerReferences"][0]["name"]
                alive[owner] = alive.get(owner, 0) + (1 if kind == "ADDED" else -1)
                assert alive[owner] <= want[owner]

    run_virtual(scenario())


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_same_seed_gives_the_same_run(new_memory_server, seed):
    def once():
        async def scenario():
            server, trace = new_memory_server(), []
            await owning_world(server, seed, trace)
            return trace, server.log, server.history

        return run_virtual(scenario())

    first, second = once(), once()
    assert len(first[0]) > 3
    assert first == second


def test_a_controller_waits_for_all_caches_but_optional_ones(new_memory_server):
    async def scenario():
        server = new_memory_server()
        client = server.client()
        await client.create(CONFIG_MAPS, config_map("a"))
        runtime = Runtime(client, seed=1)
        seen = []

        async def reconcile(key):
            seen.append((str(key), len(pods.list())))

        maps = runtime.informer(CONFIG_MAPS, PartialObject)
        pods = runtime.informer(PODS, PartialObject)
        assert runtime.informer(PODS, PartialObject) is pods, "shared"
        runtime.controller("c", reconcile).watch(maps)
        stop = asyncio.Event()
        running = asyncio.ensure_future(runtime.run(stop))
        await runtime.ready.wait()
        await asyncio.sleep(1)
        assert seen == [("default/a", 0)]
        stop.set()
        await running
        assert not runtime.ready.is_set()

    run_virtual(scenario())


def test_a_service_that_fails_is_started_again_and_touches_nothing_else(new_memory_server):
    async def scenario():
        runtime = Runtime(new_memory_server().client(), seed=1)
        starts, done = [], []

        async def flaky():
            starts.append(asyncio.get_running_loop().time())
            if len(starts) < 4:
                raise OSError("no")
            await asyncio.Event().wait()

        async def reconcile(key):
            done.append(key)

        runtime.service("flaky", flaky)
        runtime.controller("c", reconcile).enqueue(Key("", "a"))
        stop = asyncio.Event()
        running = asyncio.ensure_future(runtime.run(stop))
        await asyncio.sleep(100)
        assert starts == pytest.approx([0, 0.5, 1.5, 3.5]) and done == [Key("", "a")]
        stop.set()
        await running

    run_virtual(scenario())


async def test_metrics_and_health_are_served_on_a_free_port_and_on_a_socket(new_memory_server, tmp_path):
    for address in ("127.0.0.1:0", str(tmp_path / "metrics.sock")):
        runtime = Runtime(new_memory_server().client(), endpoint=address)

        async def reconcile(key):
            return None

        runtime.controller("c", reconcile).enqueue(Key("ns", "a"))
        stop = asyncio.Event()
        running = asyncio.ensure_future(runtime.run(stop))
        await runtime.ready.wait()
        if not address.startswith("/"):

            def fetch(path, at=runtime):
                with urllib.request.urlopen(f"http://{at.endpoint}{path}") as answer:
                    return answer.read().decode()

            assert await asyncio.to_thread(fetch, "/readyz") == "ok\n"
            text = await asyncio.to_thread(fetch, "/metrics")
            assert 'kaji_reconcile_total{controller="c",result="done"} 1.0' in text
            assert 'workqueue_depth{name="c"} 0.0' in text
        else:
            reader, writer = await asyncio.open_unix_connection(address)
            writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert b"200 OK" in await reader.read()
            writer.close()
            await writer.wait_closed()
        stop.set()
        await running


def test_a_world_in_which_nothing_can_happen_is_called_a_deadlock(monkeypatch):
    monkeypatch.setattr("kajitori.control.testing._DEADLOCK_SECONDS", 0.05)

    async def scenario():
        await asyncio.get_running_loop().create_future()

    with pytest.raises(DeadlockError):
        run_virtual(scenario())


def test_virtual_time_waits_for_threads():
    async def scenario():
        loop = asyncio.get_running_loop()
        import time

        async with asyncio.timeout(1):
            await asyncio.to_thread(time.sleep, 0.05)
        assert loop.time() < 1

    run_virtual(scenario())
